"""What is not compiled is refused by name; layers of ours are read by what they say."""

from collections.abc import Callable

import pytest
import torch
from espalier.errors import ModelError
from espalier.kernels.block_grid import BlockGrid
from espalier.kernels.compiler.ir import Convolution, Recurrent
from espalier.kernels.compiler.reader.network import read_network
from torch import Tensor, nn

from tests.kernels.programs import Function
from tests.kernels.pruned import PrunedConv2d, PrunedRecurrent, prune


class _State(nn.Module):
    """Reads the last state of a recurrent layer in place of its last step."""

    def __init__(self, **settings: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, **settings)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.gru(inputs)[1][-1]


class _Steps(nn.Module):
    """A layer over what an LSTM gives at every step."""

    def __init__(self, layer: nn.Module, is_batch_first: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=is_batch_first)
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(self.lstm(inputs)[0])


def _of(function: Callable[[Tensor], Tensor]) -> nn.Module:
    return Function(function)


def _reflected(padding: int) -> nn.Module:
    return nn.Conv2d(3, 4, 3, padding=padding, padding_mode="circular")


_IMAGE, _SEQUENCE, _VECTOR = (3, 8, 8), (6, 4), (8,)

_REFUSED = [
    (
        nn.LayerNorm(8),
        _VECTOR,
        "operator aten.layer_norm.default cannot be compiled; compiled are: adaptive_avg_pool1d",
    ),
    (nn.ConvTranspose2d(3, 4, 3), _IMAGE, "operator aten.conv_transpose2d.input cannot be compiled"),
    (nn.GELU(), _IMAGE, "operator aten.gelu.default cannot be compiled"),
    (nn.Linear(8, 3), _IMAGE, r"a linear layer over the last axis of image \(3, 8, 8\) cannot be compiled"),
    (nn.BatchNorm2d(3, track_running_stats=False), _IMAGE, "a batch-norm is compiled with running statistics only"),
    (_State(batch_first=True), _SEQUENCE, "output 1 of aten.gru.input cannot be compiled, only its first"),
    (_Steps(nn.Identity(), False), _SEQUENCE, "a LSTM is compiled with batch_first=True and a first state of zeros"),
    (_Steps(nn.Conv1d(6, 6, 1)), _SEQUENCE, r"conv1d of sequence \(6, 1, 6\) cannot be compiled"),
    (_Steps(nn.AvgPool1d(2)), _SEQUENCE, r"avg_pool1d of sequence \(6, 1, 6\) cannot be compiled"),
    (_Steps(nn.AdaptiveAvgPool1d(1)), _SEQUENCE, r"adaptive_avg_pool1d of sequence \(6, 1, 6\) cannot be compiled"),
    (_Steps(nn.BatchNorm1d(6)), _SEQUENCE, r"batch_norm of sequence \(6, 1, 6\) cannot be compiled"),
    (_Steps(nn.Flatten()), _SEQUENCE, r"a reshape of sequence \(6, 1, 6\) to \(1, 36\) cannot be compiled"),
    (_Steps(nn.Softmax(2)), _SEQUENCE, "a softmax over anything but a vector of scores cannot be compiled"),
    (nn.MaxPool2d(2, dilation=2), _IMAGE, "a max-pool with dilation cannot be compiled"),
    (nn.AvgPool2d(2, divisor_override=3), _IMAGE, "an average pool with divisor_override cannot be compiled"),
    (nn.AdaptiveAvgPool2d(3), _IMAGE, r"an adaptive pool from \(8, 8\) to \(3, 3\) has windows of several sizes"),
    (_reflected(1), _IMAGE, "a padding is compiled for images and zeros only"),
    (nn.ConstantPad2d(1, 2.0), _IMAGE, "a padding is compiled for images and zeros only"),
    (nn.ZeroPad2d(-1), _IMAGE, "a padding is compiled for images and zeros only"),
    (nn.Hardtanh(), _IMAGE, "a hardtanh is compiled as ReLU6 only"),
    (_of(lambda x: x.mean()), _IMAGE, r"a mean over the axes \[0, 1, 2, 3\] of image \(3, 8, 8\) cannot be compiled"),
    (_of(lambda x: x.mean(1)), _IMAGE, r"a mean over the axes \[1\] of image"),
    (_of(lambda x: x + x.mean((2, 3), keepdim=True)), _IMAGE, "a sum of tensors of different shapes"),
    (_of(lambda x: x + x.transpose(1, 2)), (8, 8), "a sum of tensors of different shapes"),
    (_of(lambda x: torch.add(x, x, alpha=2)), _IMAGE, "a sum with alpha cannot be compiled"),
    (_of(lambda x: x * torch.sigmoid(x)), _IMAGE, "a product of two tensors that both depend on the input"),
    (_of(lambda x: x + torch.ones(8)), _IMAGE, r"arithmetic with a constant of shape \(8,\) cannot be compiled"),
    (_of(lambda x: torch.cat([x, x], 2)), _IMAGE, "a concatenation along axis 2 of images cannot be compiled"),
    (_of(lambda x: torch.cat([x, torch.ones(1, 3, 8, 8)], 1)), _IMAGE, "a concatenation with a constant cannot be"),
    (_of(lambda x: torch.cat([x, x.transpose(1, 2)], 1)), (8, 8), "a concatenation of signals with sequences"),
    (_of(lambda x: x.view(1, 1, 3, 8, 8)), _IMAGE, r"a reshape of image \(3, 8, 8\) to \(1, 1, 3, 8, 8\) cannot be"),
    (_of(lambda x: x.mean((2, 3), keepdim=True).squeeze()), _IMAGE, r"a squeeze of image \(3, 1, 1\) cannot be"),
    (_of(lambda x: x.unsqueeze(1)), _IMAGE, "an unsqueeze is compiled only where it makes a signal an image"),
    (_of(lambda x: x.transpose(2, 3)), _IMAGE, r"a transpose of image \(3, 8, 8\) cannot be compiled"),
    (_of(lambda x: x[:, 0]), _IMAGE, r"taking index 0 of axis 1 of image \(3, 8, 8\) cannot be compiled"),
    (_of(lambda x: x[:, 1:]), _IMAGE, r"a slice along axis 1 of image \(3, 8, 8\) cannot be compiled"),
    (_of(lambda x: x.index_select(2, torch.tensor([0]))), _IMAGE, "an index_select is compiled along channels only"),
    (_of(lambda x: (x, x)), _IMAGE, "a network that gives one tensor can be compiled, this one gives 2"),
    (_of(lambda x: torch.ones(1, 2)), _IMAGE, "the network's output does not depend on its input"),
    (_of(lambda x: x if x.sum() > 0 else -x), _IMAGE, "Function cannot be compiled: torch.export stopped at"),
    (nn.Conv2d(4, 3, 3), _IMAGE, r"Conv2d fails on an input of shape \(1, 3, 8, 8\)"),
    (nn.Conv3d(1, 1, 1), (1, 2, 2, 2), "inputs of 4 axes beside the batch cannot be compiled, expected 1, 2 or 3"),
]


@pytest.mark.parametrize(("module", "shape", "message"), _REFUSED, ids=[case[2][:60] for case in _REFUSED])
def test_what_cannot_be_compiled_is_named(module: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_network(module.eval(), torch.zeros(1, *shape))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3,)])
def test_the_example_is_one_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"the example input must have batch size 1, got shape \("):
        read_network(nn.ReLU(), torch.zeros(shape))


class _Names(nn.Module):
    """A user's layers may have the names of our methods."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 3)])
        self.dense = nn.Linear(3, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.dense(self.blocks[0](inputs))


def test_names_of_layers_mean_nothing() -> None:
    assert len(read_network(_Names(), torch.zeros(1, 4)).layers) == 2


def test_blocks_arrive_at_their_layers() -> None:
    convolution = prune(PrunedConv2d(3, 4, 3), (2, 9), (0.5, 0.5))
    (layer,) = read_network(convolution, torch.zeros(1, 3, 8, 8)).layers
    assert isinstance(layer, Convolution)
    assert layer.blocks is convolution.known["weight"]
    gru = prune(PrunedRecurrent["gru"](4, 8, num_layers=2, batch_first=True), (8, 2), (0.5, 0.5))
    module = nn.Sequential(gru, Function(lambda outputs: outputs[0]))
    first, second = read_network(module, torch.zeros(1, 6, 4)).layers
    assert isinstance(first, Recurrent)
    assert isinstance(second, Recurrent)
    assert first.input_blocks is gru.known["weight_ih_l0"]
    assert second.state_blocks is gru.known["weight_hh_l1"]
    assert second.state_blocks.grid == BlockGrid(24, 8, 8, 2)


def test_a_network_is_read_as_it_is_evaluated() -> None:
    """Dropout is nothing, and the user's network stays in the mode it was in."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    network = read_network(module, torch.zeros(1, 3, 8, 8))
    assert [type(layer).__name__ for layer in network.layers] == ["Convolution", "BatchNorm"]
    assert module.training
    assert module[2].training

"""What becomes of a network's layers before code is emitted for it."""

import numpy as np
import pytest
import torch
from espalier.kernels.compiler.ir import Activation, Add, BatchNorm, Convolution, Network, View
from espalier.kernels.compiler.passes import simplified
from espalier.kernels.compiler.passes.dead_channels import without_dead_channels
from espalier.kernels.compiler.passes.fold import with_folded_norms
from espalier.kernels.compiler.reader.network import read_network
from torch import Tensor, nn

from tests.kernels.programs import Residual, expected, randomised


def _read(module: nn.Module, *shape: int) -> Network:
    return read_network(module.eval(), torch.zeros(1, *shape))


def _kinds(network: Network) -> list[str]:
    return [type(layer).__name__ for layer in network.layers]


def test_a_folded_norm_gives_the_same_numbers() -> None:
    torch.manual_seed(0)
    module = randomised(nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)))
    (layer,) = with_folded_norms(_read(module, 2, 4, 4)).layers
    assert isinstance(layer, Convolution)
    inputs = torch.randn(1, 2, 4, 4)
    found = np.einsum("oc,nchw->nohw", layer.matrix, inputs.numpy()) + layer.bias[:, None, None]
    assert np.allclose(found, expected(module, inputs).numpy(), atol=1e-6)


class _TwoReaders(nn.Module):
    """The norm is not the convolution's only reader, so both stay."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.convolution(inputs)
        return torch.relu(self.norm(features)) + torch.tanh(features)


def test_what_others_read_too_is_not_fused() -> None:
    network = simplified(_read(_TwoReaders(), 2, 4, 4))
    assert _kinds(network) == ["Convolution", "BatchNorm", "Activation", "Activation", "Add"]
    convolution = network.layers[0]
    assert isinstance(convolution, Convolution)
    assert (convolution.activation, convolution.residual) == ("", "")


def test_a_residual_block_becomes_two_convolutions() -> None:
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    network = simplified(_read(nn.Sequential(Residual(body, nn.Hardswish()), nn.ReLU6()), 4, 8, 8))
    assert _kinds(network) == ["Convolution", "Convolution", "Activation"]
    first, second, last = network.layers
    assert isinstance(first, Convolution)
    assert isinstance(second, Convolution)
    assert isinstance(last, Activation)
    assert (first.activation, first.residual) == ("relu", "")
    assert (second.activation, second.residual, second.inputs) == ("hardswish", "input", (first.name,))
    assert (last.function, last.inputs, network.output) == ("relu6", (second.name,), last.name)


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (nn.Conv2d(4, 4, 3, padding=1, groups=4), ["Convolution", "Add"]),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), ["Convolution", "Add"]),
        (nn.BatchNorm2d(4), ["BatchNorm", "Add"]),
        (nn.Identity(), ["Add"]),
    ],
)
def test_sums_that_stay(body: nn.Module, kinds: list[str]) -> None:
    """Of depthwise and activated convolutions, of norms, of a tensor with itself; the activation goes into the sum."""
    network = simplified(_read(Residual(body, nn.ReLU()), 4, 8, 8))
    assert _kinds(network) == kinds
    add = network.layers[-1]
    assert isinstance(add, Add)
    assert add.activation == "relu"


def test_a_norm_before_a_convolution_stays() -> None:
    network = simplified(_read(nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 3)), 2, 4, 4))
    assert _kinds(network) == ["BatchNorm", "Convolution"]
    assert isinstance(network.layers[0], BatchNorm)


def test_a_linear_map_of_a_flattened_image_is_a_convolution_as_large() -> None:
    linear = nn.Linear(2 * 3 * 4, 5)
    network = simplified(_read(nn.Sequential(nn.Flatten(), linear), 2, 3, 4))
    (layer,) = network.layers
    assert isinstance(layer, Convolution)
    assert (layer.kernel, layer.inputs) == ((3, 4), ("input",))
    assert np.array_equal(layer.matrix, linear.weight.detach().numpy())
    network = simplified(_read(nn.Sequential(nn.Flatten(), nn.ReLU(), linear), 2, 3, 4))
    assert _kinds(network) == ["View", "Activation", "Convolution"], "what reads it in another way needs the copy"
    network = simplified(_read(nn.Flatten(), 2, 3, 4))
    assert isinstance(network.layers[0], View)


def test_channels_that_nobody_reads_are_dropped_in_closed_form() -> None:
    """Three layers: the last reads channels 0 and 2 of the second, whose rows 0 and 2 read channel 1 of the first."""
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for layer in module[::2]:
            nn.init.ones_(layer.weight)
        module[4].weight[:, [1, 3]] = 0
        module[2].weight[[0, 2]] = 0
        module[2].weight[[0, 2], 1] = 1
    network = simplified(_read(module, 2, 4, 4))
    first, second, _, third = network.layers
    assert isinstance(first, Convolution)
    assert isinstance(second, Convolution)
    assert isinstance(third, Convolution)
    assert first.kept_rows is not None
    assert second.kept_rows is not None
    assert first.kept_rows.tolist() == [False, True, False]
    assert second.kept_rows.tolist() == [True, False, True, False]
    assert third.kept_rows is None
    assert first.matrix.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert second.matrix.tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_what_a_sum_or_another_layer_reads_lives() -> None:
    """A channel is dead only if no reader reads it: here the shortcut does."""
    body = nn.Conv2d(3, 3, 1)
    module = nn.Sequential(nn.Conv2d(2, 3, 1), Residual(body))
    nn.init.zeros_(body.weight)
    first = simplified(_read(module, 2, 4, 4)).layers[0]
    assert isinstance(first, Convolution)
    assert first.kept_rows is None


def test_groups_read_their_own_channels() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
    with torch.no_grad():
        nn.init.ones_(module[1].weight)
        module[1].weight[2:, 1] = 0
    first = without_dead_channels(_read(module, 1, 2, 2)).layers[0]
    assert isinstance(first, Convolution)
    assert first.kept_rows is not None
    assert first.kept_rows.tolist() == [True, True, True, False]

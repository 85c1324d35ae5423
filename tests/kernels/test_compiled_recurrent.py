"""GRU and LSTM compiled to C against PyTorch."""

import pytest
import torch
from espalier.kernels.engine import CompiledNetwork
from torch import Tensor, nn

from tests.kernels.programs import HOST_SETS, TOLERANCE, Compiler, error, expected, on_each_instruction_set
from tests.kernels.pruned import PrunedRecurrent, prune


class _Recurrent(nn.Module):
    """Several recurrent layers on one sequence; all their steps, side by side."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([layer(inputs)[0] for layer in self.layers], 2)


def _layers(n_features: int) -> list[nn.Module]:
    settings = [
        {"hidden_size": 5},
        {"hidden_size": 16, "bias": False},
        {"hidden_size": 17, "bidirectional": True},
        {"hidden_size": 40, "num_layers": 2},
        {"hidden_size": 3, "num_layers": 2, "bidirectional": True, "bias": False},
        {"hidden_size": 1},
    ]
    kinds = (nn.GRU, nn.LSTM)
    return [kind(n_features, batch_first=True, **setting) for setting in settings for kind in kinds]


@on_each_instruction_set
def test_every_kind_of_recurrent_layer(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(0)
    module, inputs = _Recurrent(_layers(6)), 2 * torch.randn(2, 7, 6)
    assert error(compiler.network(module, inputs, isa)(inputs), expected(module, inputs)) <= TOLERANCE


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_sequence_may_be_one_step(compiler: Compiler, kind: type[nn.RNNBase]) -> None:
    torch.manual_seed(0)
    layer = kind(6, 17, batch_first=True, bidirectional=True)
    module, inputs = _Recurrent([layer]), 2 * torch.randn(2, 1, 6)
    isa = HOST_SETS[0]
    assert error(compiler.network(module, inputs, isa)(inputs), expected(module, inputs)) <= TOLERANCE


@on_each_instruction_set
def test_pruned_recurrent_layers(compiler: Compiler, isa: str) -> None:
    """Blocks of 16 rows, rows in several blocks, unstructured zeros, nothing left; threads."""
    torch.manual_seed(1)
    structures = [((16, 8), (1, 0.5)), ((32, 8), (0.25, 0.5)), ((4, 3), (0.5, 0.4)), ((999, 999), (0, 0))]
    layers = [
        prune(kind(6, 24, batch_first=True), block, kept, is_known=is_known)
        for block, kept in structures
        for kind, is_known in ((PrunedRecurrent["gru"], True), (PrunedRecurrent["lstm"], block[0] == 32))
    ]
    module, inputs = _Recurrent(layers), 2 * torch.randn(2, 7, 6)
    wanted = expected(module, inputs)
    files = compiler.files(module, inputs, isa)
    for threads in (1, 2):
        network = CompiledNetwork(files.library, files.weights, threads)
        assert all(error(network(inputs), wanted) <= TOLERANCE for _ in range(20))


class _ImagesFirst(nn.Module):
    """A convolution with a shortcut from the input, then a recurrent layer over the image's columns."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1)
        self.gru = nn.GRU(24, 5, batch_first=True)
        self.classifier = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        features = (self.convolution(inputs) + inputs).reshape(inputs.shape[0], 24, 16).transpose(1, 2)
        return self.classifier(self.gru(features)[0][:, -1])


def test_a_recurrent_layer_may_follow_convolutions(compiler: Compiler) -> None:
    torch.manual_seed(2)
    module, inputs = _ImagesFirst(), torch.randn(2, 3, 8, 16)
    assert error(compiler.network(module, inputs)(inputs), expected(module, inputs)) <= TOLERANCE


class _Linear(nn.Module):
    """Linear maps of every step before and after a recurrent layer, and the mean over its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 9)
        self.lstm = nn.LSTM(9, 9, batch_first=True)
        self.after = nn.Linear(9, 7)

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.relu(self.before(inputs))
        return self.after(self.lstm(features)[0] + features).mean(1)


def test_linear_maps_run_over_the_steps(compiler: Compiler) -> None:
    torch.manual_seed(3)
    module, inputs = _Linear(), torch.randn(2, 13, 4)
    assert error(compiler.network(module, inputs)(inputs), expected(module, inputs)) <= TOLERANCE

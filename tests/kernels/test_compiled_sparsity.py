"""Pruned layers compiled to C against the masked dense operation."""

import pytest
import torch
from espalier.kernels.bcrc import Bcrc
from espalier.kernels.compiler.emit.panels import panels_of
from espalier.kernels.engine import CompiledNetwork
from torch import Tensor, nn

from tests.kernels.programs import TOLERANCE, Branches, Compiler, error, errors, expected, on_each_instruction_set
from tests.kernels.pruned import PrunedConv2d, PrunedLinear, blocks_of, mask_of, prune

#: Block, shares of its rows and columns that are kept.
_STRUCTURES = {
    "all rows of 16, a quarter of the columns": ((16, 18), (1, 0.25)),
    "8 of 32 rows": ((32, 18), (0.25, 0.5)),
    "unstructured": ((1, 1), (1, 1)),
    "half-empty small blocks": ((4, 5), (0.5, 0.4)),
    "one block": ((99, 999), (0.3, 0.3)),
    "nothing": ((16, 18), (0, 0)),
}


def _convolution(name: str, is_known: bool, is_reordered: bool, stride: int = 1) -> nn.Module:
    layer = PrunedConv2d(6, 40, 3, stride, 1)
    block, kept = _STRUCTURES[name]
    prune(layer, block, kept, is_reordered=is_reordered, is_known=is_known)
    if name == "unstructured":
        with torch.no_grad():
            layer.weight.mul_(torch.rand_like(layer.weight) < 0.15)
        layer.known = {}
    return layer


def _linear(name: str, is_known: bool) -> nn.Module:
    block, kept = _STRUCTURES[name]
    return prune(PrunedLinear(6 * 5 * 7, 21), block, kept, is_known=is_known)


def test_rows_in_several_blocks_are_added_up() -> None:
    """The structures above do reach the kernels that add: with blocks known, never without."""
    found = blocks_of((40, 54), (32, 18), (0.25, 0.5))
    matrix = torch.randn(40, 54).mul(mask_of(found)).numpy()
    live = torch.arange(40).numpy()
    assert panels_of(Bcrc.of_matrix(matrix, found), 8, live)[1]
    assert not panels_of(Bcrc.of_matrix(matrix, None, 8), 8, live)[1]


@on_each_instruction_set
def test_convolutions_and_linear_maps(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(0)
    branches: list[nn.Module] = []
    for name in _STRUCTURES:
        branches += [_convolution(name, True, True), nn.Sequential(_convolution(name, False, False, 2), nn.ReLU())]
        branches.append(nn.Sequential(nn.Flatten(), _linear(name, True), nn.Tanh()))
    module, inputs = Branches(branches), torch.randn(2, 6, 5, 7)
    files = compiler.files(module, inputs, isa)
    for threads in (1, 2):
        found = CompiledNetwork(files.library, files.weights, threads)(inputs)
        assert errors(module, inputs, found) == {}


class _Sums(nn.Module):
    """Added rows, a residual and an activation together, over many pixels and over few."""

    def __init__(self) -> None:
        super().__init__()
        self.first = prune(PrunedConv2d(40, 40, 3, padding=1), (32, 90), (0.25, 0.5))
        self.pool = nn.AdaptiveAvgPool2d((2, 3))
        self.second = prune(PrunedConv2d(40, 40, 3, padding=1), (32, 90), (0.25, 0.5), seed=1)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.pool(torch.relu(self.first(inputs) + inputs))
        return torch.sigmoid(self.second(features) + features)


@on_each_instruction_set
def test_added_rows_with_residual_and_activation(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(1)
    module, inputs = _Sums(), torch.randn(2, 40, 6, 9)
    assert error(compiler.network(module, inputs, isa)(inputs), expected(module, inputs)) <= TOLERANCE


@torch.no_grad()
def _with_dead_channels() -> nn.Sequential:
    """Rows that are zero, channels that nobody reads, and a layer that reads nothing."""
    module = nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        PrunedConv2d(24, 24, 3, padding=1),
        nn.Hardswish(),
        nn.Conv2d(24, 8, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(8 * 12, 20),
        nn.ReLU(),
        nn.Linear(20, 5),
    )
    prune(module[3], (8, 27), (0.5, 0.5))
    module[3].weight[:, 5:17] = 0
    module[3].weight[2:11] = 0
    module[5].weight[:, ::2] = 0
    module[9].weight[:7] = 0
    module[11].weight[:, 3:12] = 0
    return module


@on_each_instruction_set
def test_dead_rows_and_dead_channels(compiler: Compiler, isa: str) -> None:
    torch.manual_seed(2)
    module, inputs = _with_dead_channels(), torch.randn(2, 3, 6, 9)
    assert error(compiler.network(module, inputs, isa)(inputs), expected(module, inputs)) <= TOLERANCE


@pytest.mark.parametrize("place", [3, 5, 9, 11])
def test_a_layer_without_weights_leaves_its_bias(compiler: Compiler, place: int) -> None:
    torch.manual_seed(3)
    module, inputs = _with_dead_channels(), torch.randn(2, 3, 6, 9)
    nn.init.zeros_(module[place].weight)
    assert error(compiler.network(module, inputs)(inputs), expected(module, inputs)) <= TOLERANCE


def test_what_a_layer_computed_from_no_numbers_is_forgotten(compiler: Compiler) -> None:
    """Inputs that are no numbers spoil their own outputs only."""
    torch.manual_seed(4)
    module, inputs = _with_dead_channels(), torch.randn(1, 3, 6, 9)
    network = compiler.network(module, inputs)
    first = network(inputs)
    network(torch.full_like(inputs, torch.nan))
    network(torch.full_like(inputs, torch.inf))
    assert torch.equal(network(inputs), first)

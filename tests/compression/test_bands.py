"""What zeros without blocks are worth to an engine that takes several rows at once."""

import pytest
import torch
from espalier.compression.choice import Choice
from espalier.compression.layers.bands import band_sparsity
from espalier.compression.site import Site
from espalier.compression.techniques import MagnitudePruning
from espalier.graph.opspec import OpSpec
from espalier.graph.sparsity import BlockSparsity
from espalier.hw_models.runtimes.operator_networks import operator_network
from espalier.kernels.compiler.emit.panels import stored_matrix
from espalier.kernels.compiler.ir import Convolution
from torch import Tensor, nn

from tests.compression.conftest import white_inputs


def _uneven(rows: int, columns: int, seed: int) -> Tensor:
    """A tenth of the weights, most of them in few columns, as salience chooses them."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(columns, generator=generator) ** 6
    weights = torch.randn(rows, columns, generator=generator) * scale
    return weights * (weights.abs() > weights.abs().quantile(0.9))


def _multiplied(matrix: Tensor, height: int) -> int:
    """Brute force: weights in columns that are not empty in a band of rows."""
    count = 0
    for first in range(0, len(matrix), height):
        band = matrix[first : first + height]
        count += sum(len(band) for column in band.T if any(value != 0 for value in column.tolist()))
    return count


_LINEAR = OpSpec("linear", (60,), (40,))
_CONV = OpSpec("conv2d", (60, 4, 4), (40, 4, 4))


@pytest.mark.parametrize(
    ("spec", "height"),
    [
        (_LINEAR, 16),
        (_CONV, 8),
        (_CONV.replace(input_shape=(60, 2, 2), output_shape=(40, 2, 2)), 16),
        (OpSpec("gru", (5, 60), (5, 40)), 16),
    ],
)
def test_the_rate_is_that_of_brute_force_within_a_twentieth(spec: OpSpec, height: int) -> None:
    matrices = [_uneven(40, 60, 0), _uneven(40, 24, 1)]
    found = band_sparsity(matrices, spec)
    assert found is not None
    expected = sum(matrix.numel() for matrix in matrices) / sum(_multiplied(matrix, height) for matrix in matrices)
    assert expected > 1.5
    assert found.rate == pytest.approx(expected, rel=0.06)
    assert (found.block_rows, found.block_columns, found.kept_rows) == (height, 60, height)


def test_what_nobody_can_skip_is_no_sparsity() -> None:
    torch.manual_seed(0)
    assert band_sparsity([torch.randn(32, 20)], _LINEAR) is None
    assert band_sparsity([torch.randn(64, 64) * (torch.rand(64, 64) < 0.3)], _LINEAR) is None
    assert band_sparsity([torch.zeros(4, 4)], _LINEAR) is None


@pytest.mark.parametrize(
    ("layer", "given", "made"),
    [(nn.Linear(90, 48), (90,), (48,)), (nn.Conv2d(10, 32, 3, padding=1), (10, 12, 12), (32, 12, 12))],
)
def test_the_engine_multiplies_as_much_for_the_descriptor_as_for_the_layer(
    layer: nn.Linear | nn.Conv2d, given: tuple[int, ...], made: tuple[int, ...]
) -> None:
    with torch.no_grad():
        layer.weight.copy_(_uneven(len(layer.weight), layer.weight[0].numel(), 2).view_as(layer.weight))
    kind = "linear" if isinstance(layer, nn.Linear) else "conv2d"
    site, length = Site("x", kind, given, made, ("x",)), layer.weight[0].numel()
    technique = MagnitudePruning()
    pruned = technique.build(layer, site, Choice.of("magnitude_pruning", sparsity=0.9), white_inputs(length))
    (spec,) = pruned.op_specs(given)
    assert BlockSparsity.parse(spec.sparsity) is not None
    (timed,) = operator_network(spec).layers
    assert isinstance(timed, Convolution)
    rows = 16 if kind == "linear" else 8
    real = _multiplied(pruned.tensors()["weight"].flatten(1), rows)
    assert stored_matrix(timed, rows).kept == pytest.approx(real, rel=0.12)

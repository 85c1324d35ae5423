"""Networks pruned by blocks, assembled as a search does it, through the compiler."""

from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.compression.assembly import assemble
from espalier.compression.bank_builder import build_bank
from espalier.compression.layers import SparseCodec, StoredLayer
from espalier.compression.survey import survey
from espalier.compression.techniques import BcrPruning
from espalier.kernels.blocks import BlockPruned
from espalier.kernels.compile_network import compile_network
from espalier.kernels.compiler.ir import Convolution, Recurrent
from espalier.kernels.compiler.reader.network import read_network
from espalier.kernels.engine import load_compiled
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.vgg import VggSmall
from torch import Tensor, nn


def _assembled(model: nn.Module, inputs: Tensor) -> nn.Module:
    """The plan with the last choice, the highest rate, at every site that has one."""
    technique = BcrPruning(rates=(4.0,), block_rows=8, block_columns=24, row_multiple=4, column_order="kernel")
    found = survey(model.eval().requires_grad_(False), inputs[:1], {technique.name: technique})
    plan = found.space.plan([len(choices) - 1 for choices in found.space.choices])
    return assemble(model, plan, build_bank(model, found.space, inputs, "x"))


def _images() -> tuple[nn.Module, Tensor]:
    model = VggSmall([16, 24], hidden=32, in_channels=3, image_size=8, n_classes=10)
    return model, torch.randn(64, 3, 8, 8)


def _sequences() -> tuple[nn.Module, Tensor]:
    return RecurrentClassifier(n_features=24, hidden=32), torch.randn(64, 7, 24)


@pytest.mark.parametrize("case", [_images, _sequences])
def test_compiled_and_assembled_networks_agree(case: object, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = case()  # type: ignore[operator]
    network = _assembled(model, inputs)
    pruned = [layer for layer in network.modules() if isinstance(layer, StoredLayer)]
    assert pruned
    assert all(isinstance(layer, BlockPruned) for layer in pruned)
    compile_network(network, inputs[:1], tmp_path, host_instruction_set(), find_toolchain())
    with torch.no_grad():
        expected = network(inputs)
    error = (load_compiled(tmp_path)(inputs) - expected).abs().max() / expected.abs().max()
    assert float(error) < 1e-5


@pytest.mark.parametrize("case", [_images, _sequences])
def test_the_compiler_is_told_which_blocks_are_kept(case: object) -> None:
    torch.manual_seed(0)
    model, inputs = case()  # type: ignore[operator]
    network = _assembled(model, inputs)
    matrices = []
    for layer in read_network(network, inputs[:1]).layers:
        if isinstance(layer, Convolution):
            matrices.append((layer.matrix, layer.blocks))
        if isinstance(layer, Recurrent):
            matrices += [(layer.input_weight, layer.input_blocks), (layer.state_weight, layer.state_blocks)]
    known = [(matrix, blocks) for matrix, blocks in matrices if blocks is not None]
    assert len(known) == sum(len(layer.codecs) for layer in network.modules() if isinstance(layer, StoredLayer)), (
        "each pruned weight has its blocks"
    )
    for matrix, blocks in known:
        assert (blocks.grid.block_rows, blocks.grid.block_columns) == (8, 24)
        outside = np.ones(matrix.shape, bool)
        for rows, columns in blocks.rectangles():
            outside[np.ix_(rows, columns)] = False
        assert not matrix[outside].any()
        assert outside.mean() > 0.7


class _WithBlocks(nn.Module):
    """As transformers have it: a list of layers of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 3)])

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.blocks:
            inputs = layer(inputs)
        return inputs


def test_layers_that_are_called_blocks_are_not_pruned_ones() -> None:
    network = read_network(_WithBlocks().eval(), torch.zeros(1, 4))
    assert [layer.blocks for layer in network.layers if isinstance(layer, Convolution)] == [None, None]


def test_weights_without_blocks_have_none() -> None:
    layer = nn.Linear(24, 16)
    stored = StoredLayer.of(layer, {"weight": SparseCodec.store(layer.weight.detach(), layer.weight.detach() > 0)}, {})
    assert stored.kept_blocks() == {}

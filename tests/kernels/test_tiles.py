"""Whatever tile a tuner may choose, a network computes the same: kernels over pixels, over points, of states."""

import functools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from espalier.kernels.compiler.emit.network import Source, emit_network
from espalier.kernels.compiler.emit.tiles import TILES, PixelTile, PointTile, StateTile, Tile
from espalier.kernels.compiler.ir import Network
from espalier.kernels.compiler.lower import lower
from espalier.kernels.engine import CompiledNetwork
from espalier.kernels.instruction_set import INSTRUCTION_SETS
from espalier.kernels.tuning.layers import tunable_layers
from espalier.kernels.tuning.timing import TimedNetwork
from espalier.kernels.tuning.work import Work
from espalier.kernels.weight_types import WEIGHT_TYPES
from torch import Tensor, nn

from tests.kernels.programs import (
    Branches,
    OverPixels,
    Residual,
    errors,
    on_each_instruction_set,
    quick_toolchain,
    randomised,
    with_rounded_weights,
)
from tests.kernels.pruned import PrunedConv2d, PrunedLinear, PrunedRecurrent, prune

#: Blocks of which all rows are kept, and of which each row is in some, so that the sums of several are added up.
_WHOLE, _ADDED = ((16, 18), (1, 0.5)), ((32, 18), (0.25, 0.5))


def _network() -> Branches:
    torch.manual_seed(0)
    few = nn.AdaptiveAvgPool2d((2, 3))
    module = Branches(
        [
            nn.Sequential(nn.Conv2d(6, 21, 3, padding=1), nn.ReLU()),
            nn.Sequential(PrunedConv2d(6, 40, 3, 1, 1), nn.SiLU()),
            nn.Sequential(few, nn.Conv2d(6, 35, 3, padding=1), nn.Hardswish()),
            nn.Sequential(few, PrunedConv2d(6, 70, 3, 1, 1), nn.ReLU(), nn.Conv2d(70, 3, 1)),
            nn.Sequential(few, Residual(PrunedConv2d(6, 6, 3, 1, 1), nn.ReLU6())),
            nn.Sequential(nn.Flatten(), PrunedLinear(6 * 36, 130), nn.ReLU(), nn.Linear(130, 9)),
            nn.Sequential(nn.Flatten(), PrunedLinear(6 * 36, 40), nn.Tanh()),
            OverPixels(nn.GRU(6, 17, batch_first=True, bidirectional=True)),
            OverPixels(PrunedRecurrent["gru"](6, 50, batch_first=True)),
            OverPixels(PrunedRecurrent["lstm"](6, 17, batch_first=True)),
            OverPixels(nn.LSTM(6, 17, batch_first=True)),
        ]
    )
    for place, layer in enumerate(layer for layer in randomised(module).modules() if hasattr(layer, "kept_blocks")):
        prune(layer, *(_WHOLE if place % 2 else _ADDED))
    with torch.no_grad():
        # Outputs that nobody reads.
        module.branches[5][3].weight[:, 7:60] = 0
    return module.eval()


def _images() -> Tensor:
    return torch.randn(2, 6, 4, 9, generator=torch.Generator().manual_seed(0))


def _any_tile(work: Work[Any], chance: random.Random) -> Tile:
    """Any that a tuner may choose."""
    kind = type(work.default)
    while True:
        tile: Tile = kind(**{name: chance.choice(values) for name, values in kind.genes.items()})
        if work.fits(tile):
            return tile


@functools.cache
def _lowered(weight_type: str) -> Network:
    return lower(_network(), _images()[:1], weight_type)


@on_each_instruction_set
@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
def test_random_tiles_give_what_pytorch_gives(isa: str, weight_type: str, tmp_path: Path) -> None:
    network, one, chance = _lowered(weight_type), INSTRUCTION_SETS[isa], random.Random(f"{isa} {weight_type}")
    tiles = {name: _any_tile(work, chance) for name, work in tunable_layers(network, one).items()}
    assert {tile.kind for tile in tiles.values()} == set(TILES)
    wanted = _network()
    if weight_type != "float32":
        with_rounded_weights(wanted, weight_type)
    folder = tmp_path / "net"
    timed = TimedNetwork(network, one, quick_toolchain(), tiles, folder, threads=2)
    assert errors(wanted, _images(), timed.network(_images())) == {}
    alone = CompiledNetwork(folder / "espalier.so", folder / "espalier.weights", threads=1)
    assert errors(wanted, _images(), alone(_images())) == {}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_the_tuners_default_is_what_is_compiled_without_it(isa: str) -> None:
    network = _lowered("int8" if isa == "plain" else "float32")
    tiles = {name: work.default for name, work in tunable_layers(network, INSTRUCTION_SETS[isa]).items()}
    assert _emitted(network, isa, tiles) == _emitted(network, isa, {})


def _emitted(network: Network, isa: str, tiles: dict[str, Tile]) -> Source:
    return emit_network(network, INSTRUCTION_SETS[isa], tiles)


@pytest.mark.parametrize(
    ("module", "name", "other"),
    [
        (nn.Linear(60, 40), "linear", {"open_sums": 16, "vectors": 2, "points": 1, "prefetches": False}),
        (prune(PrunedLinear(60, 40), (16, 9), (1, 0.5)), "linear", {"is_dense": True}),
        (OverPixels(nn.GRU(6, 17, batch_first=True)), "gru_0", {"copies": 3, "prefetches": True, "is_joint": False}),
        (OverPixels(nn.LSTM(6, 17, batch_first=True)), "lstm_0_inputs", {"points": 5, "vectors": 2}),
    ],
)
def test_every_gene_reaches_the_kernels(module: nn.Module, name: str, other: dict[str, int]) -> None:
    """What is emitted differs for each gene, so that no test above compares a kernel with itself."""
    inputs = torch.zeros(1, 60) if isinstance(module, nn.Linear) else _images()[:1]
    network = lower(module.eval(), inputs)
    default = tunable_layers(network, INSTRUCTION_SETS["avx512"])[name].default
    tiles = [
        default,
        *(replace(default, **{gene: value}) for gene, value in other.items() if getattr(default, gene) != value),
    ]
    assert len(tiles) > 1
    assert len({_emitted(network, "avx512", {name: tile}).c for tile in tiles}) == len(tiles)


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (PixelTile(8, 3), "layer 'linear' is computed over points: expected a PointTile, got PixelTile"),
        (StateTile(2, True, is_joint=False), "expected a PointTile, got StateTile"),
    ],
)
def test_a_tile_of_another_kind_is_refused(tile: Tile, words: str) -> None:
    network = lower(nn.Linear(3, 2), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=words):
        _emitted(network, "avx2", {"linear": tile})
    assert _emitted(network, "avx2", {"linear": PointTile(1, 1)}).c

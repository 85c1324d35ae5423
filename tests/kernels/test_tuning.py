"""The tuner: its cost model, its search, its cache, and that no tile changes what a network computes."""

import itertools
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from espalier.kernels.compiler.emit.tiles import (
    TILES,
    PixelTile,
    PointTile,
    StateTile,
    Tile,
    default_pixel_tile,
    default_point_tile,
    default_state_tile,
)
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import INSTRUCTION_SETS, InstructionSet, host_instruction_set
from espalier.kernels.toolchain import Toolchain
from espalier.kernels.tuning.cache import TileCache
from espalier.kernels.tuning.evolution import Evolution
from espalier.kernels.tuning.layers import tunable_layers
from espalier.kernels.tuning.pixel_work import PixelWork
from espalier.kernels.tuning.point_work import PointWork
from espalier.kernels.tuning.state_work import StateWork
from espalier.kernels.tuning.timing import TimedNetwork
from espalier.kernels.tuning.tuner import Tuning, tune
from espalier.kernels.tuning.work import Work
from torch import Tensor, nn

from tests.kernels.programs import OverPixels, quick_toolchain
from tests.kernels.pruned import PrunedRecurrent, prune

AVX512 = INSTRUCTION_SETS["avx512"]


def work(
    vectors: int = 60, groups: tuple[tuple[int, int], ...] = ((16, 72),) * 4, isa: InstructionSet = AVX512
) -> PixelWork:
    return PixelWork(isa, "", vectors, groups, (64, 576))


def point_work(points: int = 100, groups: tuple[tuple[int, int], ...] = ((16, 128),) * 64) -> PointWork:
    return PointWork(AVX512, "", points, groups, (1024, 1024), "float32")


def state_work(columns: int = 100, shares_columns: bool = True) -> StateWork:
    return StateWork(AVX512, "", 3, shares_columns, (columns,) * 192, 192 * 64 * columns)


WORKS = [work(), point_work(), point_work(1), state_work(), state_work(shares_columns=False)]


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 24, 3, padding=1)).eval()
    with torch.no_grad():
        mask = torch.zeros(24, 20, 3, 3)
        mask[:16, ::4] = 1
        mask[16:, 1::5] = 1
        module[2].weight.mul_(mask)
    return module


@pytest.mark.parametrize("isa", INSTRUCTION_SETS.values(), ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17])
def test_default_tiles_fit(isa: InstructionSet, size: int) -> None:
    assert default_pixel_tile(isa, size).registers <= isa.registers
    for rows in (1, isa.lanes * size, 3 * isa.lanes * size):
        assert default_point_tile(isa, [rows], size).registers <= isa.registers
    for gates in (3, 4):
        assert default_state_tile(gates, True, 0).registers(gates) <= isa.registers
        assert default_state_tile(gates, False, 0).registers(1) <= isa.registers


def test_a_tile_has_a_register_for_each_sum() -> None:
    assert work().fits(PixelTile(8, 3))
    assert not work().fits(PixelTile(12, 3))
    assert not work(vectors=2).fits(PixelTile(4, 3))
    assert point_work(100, ((48, 9),)).fits(PointTile(3, 8))
    assert not point_work(100, ((48, 9),)).fits(PointTile(3, 10))
    assert not point_work(100, ((48, 9),)).fits(PointTile(4, 4))
    assert not point_work(7).fits(PointTile(1, 8))
    assert state_work().fits(StateTile(6, True, is_joint=True))
    assert not state_work().fits(StateTile(8, True, is_joint=True))
    assert state_work().fits(StateTile(8, True, is_joint=False))
    assert not state_work(shares_columns=False).fits(StateTile(2, True, is_joint=True))


def test_a_layer_without_zeros_is_not_dense_again() -> None:
    whole = point_work(groups=((1024, 1024),))
    assert whole.fits(PointTile(3, 8))
    assert not whole.fits(PointTile(3, 8, is_dense=True))
    assert point_work().fits(PointTile(3, 8, is_dense=True))


class TestCostModelOfPixels:
    def test_half_the_columns_cost_about_half(self) -> None:
        whole = work(groups=((16, 720),)).predicted_cycles(PixelTile(8, 3, 4))
        half = work(groups=((16, 360),)).predicted_cycles(PixelTile(8, 3, 4))
        assert half / whole == pytest.approx(0.5, abs=0.05)

    def test_dense_costs_what_all_weights_cost(self) -> None:
        sparse, dense = PixelTile(8, 3, 4), PixelTile(8, 3, 4, is_dense=True)
        assert work().predicted_cycles(dense) > 4 * work().predicted_cycles(sparse)
        full = work(groups=((64, 576),))
        assert full.predicted_cycles(dense) == full.predicted_cycles(sparse)

    def test_a_small_tile_is_dearer(self) -> None:
        assert work().predicted_cycles(PixelTile(4, 1)) > work().predicted_cycles(PixelTile(8, 3))


class TestCostModelOfPoints:
    def test_half_the_columns_cost_about_half(self) -> None:
        whole, half = (point_work(groups=((16, columns),) * 64) for columns in (512, 256))
        ratio = half.predicted_cycles(PointTile(1, 24)) / whole.predicted_cycles(PointTile(1, 24))
        assert ratio == pytest.approx(0.5, abs=0.05)

    def test_dense_costs_what_all_weights_cost(self) -> None:
        sparse, dense = PointTile(3, 8), PointTile(3, 8, is_dense=True)
        assert point_work().predicted_cycles(dense) > 4 * point_work().predicted_cycles(sparse)
        full = point_work(groups=((1024, 1024),))
        assert full.predicted_cycles(dense) == full.predicted_cycles(sparse)

    def test_a_single_sum_waits_for_itself(self) -> None:
        alone, several = PointTile(1, 1, open_sums=1), PointTile(1, 1, open_sums=8)
        assert point_work(1).predicted_cycles(alone) > 1.5 * point_work(1).predicted_cycles(several)

    def test_points_share_the_loads_of_weights(self) -> None:
        assert point_work().predicted_cycles(PointTile(1, 1)) > 1.5 * point_work().predicted_cycles(PointTile(1, 12))

    def test_each_layer_is_measured_dense_early(self) -> None:
        default, second, *_ = point_work().promising()
        assert default == point_work().default
        assert second.is_dense


class TestCostModelOfStates:
    def test_gates_share_the_loads_of_states(self) -> None:
        joint, apart = (StateTile(4, False, is_joint=is_joint) for is_joint in (True, False))
        assert state_work().predicted_cycles(joint) < state_work().predicted_cycles(apart)

    def test_a_single_sum_waits_for_itself(self) -> None:
        alone, several = (StateTile(copies, False, is_joint=True) for copies in (1, 4))
        assert state_work().predicted_cycles(alone) > 1.1 * state_work().predicted_cycles(several)

    def test_far_weights_are_fetched_ahead(self) -> None:
        for columns, is_best in ((50, False), (500, True)):
            one = state_work(columns)
            cycles = [one.predicted_cycles(StateTile(2, prefetches, is_joint=True)) for prefetches in (False, True)]
            assert (cycles[1] < cycles[0]) == is_best


class TestEvolution:
    @pytest.mark.parametrize("one", WORKS, ids=lambda one: one.default.kind)
    def test_begins_with_the_default_and_proposes_nothing_twice(self, one: Work[Any]) -> None:
        search = Evolution(one, seed=0)
        assert search.best == one.default
        seen: list[Tile] = []
        for _ in range(6):
            proposed = search.propose(6)
            for tile in proposed:
                search.tell(tile, one.predicted_cycles(tile))
            seen += proposed
        assert seen[0] == one.default
        assert len(set(seen)) == len(seen) >= min(18, sum(1 for _ in _all_tiles(one)))
        assert all(one.fits(tile) for tile in seen)

    def test_finds_what_the_cost_model_does_not_know(self) -> None:
        """A machine on which unrolled loops over blocks of eight are twice as fast: crossing and mutation find them."""

        def microseconds(tile: PixelTile) -> float:
            faster = (1.5 if tile.unroll == 2 else 1) * (1.5 if tile.block == 8 else 1)
            return work().predicted_cycles(tile) / faster

        search = Evolution(work(), seed=0)
        first = None
        for _ in range(8):
            for tile in search.propose(6):
                search.tell(tile, microseconds(tile))
            first = first or microseconds(search.best)
        assert (search.best.unroll, search.best.block) == (2, 8)
        assert microseconds(search.best) < 0.5 * first

    def test_the_same_seed_proposes_the_same(self) -> None:
        def run(seed: int) -> list[PixelTile]:
            search = Evolution(work(), seed)
            tiles = []
            for _ in range(4):
                for tile in search.propose(4):
                    search.tell(tile, work().predicted_cycles(tile))
                    tiles.append(tile)
            return tiles

        assert run(1) == run(1)
        assert run(1) != run(2)


def _all_tiles(one: Work[Any]) -> Iterator[Tile]:
    kind = type(one.default)
    tiles = (kind(*genes) for genes in itertools.product(*kind.genes.values()))
    return (tile for tile in tiles if one.fits(tile))


class TestCache:
    @pytest.mark.parametrize(
        "tile", [PixelTile(8, 3, 4, 288, 2, True), PointTile(2, 6, 16, False, True), StateTile(3, True, False)]
    )
    def test_gives_back_what_was_put(self, tmp_path: Path, tile: Tile) -> None:
        cache = TileCache(tmp_path / "tiles.json")
        cache.put("a", tile)
        cache.save()
        other = TileCache(tmp_path / "tiles.json")
        assert other.get("a") == tile
        assert type(other.get("a")) is type(tile)
        assert other.get("b") is None

    def test_keeps_what_others_wrote_meanwhile(self, tmp_path: Path) -> None:
        one, other = TileCache(tmp_path / "tiles.json"), TileCache(tmp_path / "tiles.json")
        one.put("a", PixelTile(8, 3))
        one.save()
        other.put("b", PointTile(1, 4))
        other.save()
        assert TileCache(tmp_path / "tiles.json").get("a") == PixelTile(8, 3)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            '{"version": 2}',
            '{"version": 2, "tiles": {"a": {"kind": "points", "speed": 3}}}',
            '{"version": 2, "tiles": {"a": {"kind": "lines", "rows": 3, "vectors": 2}}}',
            '{"version": 2, "tiles": {"a": {"rows": 3, "vectors": 2}}}',
            '{"version": 1, "tiles": {"a": {"rows": 3, "vectors": 2}}}',
        ],
    )
    def test_a_damaged_or_older_file_holds_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "tiles.json").write_text(text)
        assert TileCache(tmp_path / "tiles.json").get("a") is None


def test_a_signature_knows_structure_and_machine() -> None:
    signature = work().signature("one")
    assert signature == work().signature("one")
    others = [
        work().signature("another"),
        work(isa=INSTRUCTION_SETS["avx2"]).signature("one"),
        work(vectors=61).signature("one"),
        work(groups=((16, 71),) * 4).signature("one"),
        *(one.signature("one") for one in WORKS[1:]),
        point_work(99).signature("one"),
        replace(point_work(), weight_type="int8").signature("one"),
        state_work(99).signature("one"),
    ]
    assert signature not in others
    assert len(set(others)) == len(others)


class _Layers(nn.Module):
    """A layer of every kind that is tuned, and a depthwise one, which is not."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.gru = OverPixels(prune(PrunedRecurrent["gru"](4, 17, batch_first=True), (16, 8), (1, 0.5)))
        self.classifier = nn.Linear(17, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.classifier(self.gru(self.depthwise(self.convolution(inputs))))


def test_tuning_measures_each_layer_and_remembers_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    compiled = lower(_Layers(), torch.randn(1, 3, 9, 20))
    instruction_set, cache = host_instruction_set(), TileCache(tmp_path / "tiles.json")
    layers = tunable_layers(compiled, instruction_set)
    kinds = {name: type(layer.default) for name, layer in layers.items()}
    assert list(kinds.values()) == [PixelTile, PointTile, StateTile, PointTile]
    told: list[tuple[int, int]] = []
    tiles = tune(
        compiled,
        instruction_set,
        quick_toolchain(),
        "this machine",
        Tuning(generations=2, population=2, rounds=2),
        cache=cache,
        report=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    assert {name: type(tile) for name, tile in tiles.items()} == kinds
    assert all(layers[name].fits(tile) for name, tile in tiles.items() if tile != layers[name].default)
    no_compiler = Toolchain(("/nonexistent",))
    again = tune(compiled, instruction_set, no_compiler, "this machine", cache=TileCache(tmp_path / "tiles.json"))
    assert again == tiles


def test_both_parts_of_a_recurrent_layer_are_timed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    compiled = lower(_Layers(), torch.randn(1, 3, 9, 20))
    isa = host_instruction_set()
    timed = TimedNetwork(compiled, isa, quick_toolchain(), {}, tmp_path / "net", threads=1)
    times = timed.run()
    assert set(tunable_layers(compiled, isa)) <= set(times)
    assert all(value > 0 for value in times.values())


@pytest.mark.parametrize(
    "tile",
    [
        PixelTile(8, 1, 2, 0, 2, False),
        PixelTile(4, 2, 1, 50, 1, False),
        PixelTile(6, 2, 4, 144, 2, True),
        PixelTile(24 if host_instruction_set().registers == 32 else 8, 1, 1, 0, 1, True),
    ],
)
def test_no_tile_changes_the_outputs(tile: PixelTile, tmp_path: Path) -> None:
    module = network()
    compiled = lower(module, torch.randn(1, 3, 9, 20))
    tiles = dict.fromkeys(("conv2d", "conv2d_1"), tile)
    timed = TimedNetwork(compiled, host_instruction_set(), quick_toolchain(), tiles, tmp_path / "net", threads=1)
    inputs = torch.randn(2, 3, 9, 20)
    with torch.no_grad():
        expected = module(inputs)
    torch.testing.assert_close(timed.network(inputs), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    times = timed.run()
    assert set(times) == {"conv2d", "conv2d_1", "output"}
    assert all(value > 0 for value in times.values())


@pytest.mark.parametrize("kind", TILES.values())
def test_genes_are_the_tiles_own(kind: type[Tile]) -> None:
    assert list(kind.genes) == [field.name for field in fields(kind)]

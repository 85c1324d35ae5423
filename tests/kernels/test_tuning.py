"""The tuner: its cost model, its search, its cache, and that no tile changes what a network computes."""

from pathlib import Path

import pytest
import torch
from espalier.kernels.compiler.emit.tiles import GENES, Tile, default_tile, fits
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import INSTRUCTION_SETS, host_instruction_set
from espalier.kernels.toolchain import Toolchain, find_toolchain
from espalier.kernels.tuning.cache import TileCache
from espalier.kernels.tuning.evolution import Evolution
from espalier.kernels.tuning.timing import TimedNetwork
from espalier.kernels.tuning.tuner import Tuning, tune
from espalier.kernels.tuning.work import Work, predicted_cycles, tunable_layers
from torch import nn

AVX512 = INSTRUCTION_SETS["avx512"]


def work(vectors: int = 60, groups: tuple[tuple[int, int], ...] = ((16, 72),) * 4) -> Work:
    return Work(vectors, groups, (64, 576), "")


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 24, 3, padding=1)).eval()
    with torch.no_grad():
        mask = torch.zeros(24, 20, 3, 3)
        mask[:16, ::4] = 1
        mask[16:, 1::5] = 1
        module[2].weight.mul_(mask)
    return module


@pytest.mark.parametrize("name", INSTRUCTION_SETS)
@pytest.mark.parametrize("vectors", [1, 2, 3, 4, 5, 17])
def test_default_tiles_fit(name: str, vectors: int) -> None:
    assert fits(default_tile(INSTRUCTION_SETS[name], vectors), INSTRUCTION_SETS[name], vectors + 2)


def test_a_tile_has_a_register_for_each_sum() -> None:
    assert fits(Tile(8, 3), AVX512, 60)
    assert not fits(Tile(12, 3), AVX512, 60)
    assert not fits(Tile(4, 3), AVX512, 2)


class TestCostModel:
    def test_half_the_columns_cost_about_half(self) -> None:
        whole = predicted_cycles(work(groups=((16, 720),)), Tile(8, 3, 4))
        half = predicted_cycles(work(groups=((16, 360),)), Tile(8, 3, 4))
        assert half / whole == pytest.approx(0.5, abs=0.05)

    def test_dense_costs_what_all_weights_cost(self) -> None:
        sparse, dense = Tile(8, 3, 4), Tile(8, 3, 4, is_dense=True)
        assert predicted_cycles(work(), dense) > 4 * predicted_cycles(work(), sparse)
        full = work(groups=((64, 576),))
        assert predicted_cycles(full, dense) == predicted_cycles(full, sparse)

    def test_a_small_tile_is_dearer(self) -> None:
        assert predicted_cycles(work(), Tile(4, 1)) > predicted_cycles(work(), Tile(8, 3))


class TestEvolution:
    def test_begins_with_the_default_and_proposes_nothing_twice(self) -> None:
        search = Evolution(work(), AVX512, seed=0)
        seen: list[Tile] = []
        for _ in range(6):
            proposed = search.propose(6)
            for tile in proposed:
                search.tell(tile, predicted_cycles(work(), tile))
            seen += proposed
        assert seen[0] == default_tile(AVX512, 60)
        assert len(set(seen)) == len(seen) == 36
        assert all(fits(tile, AVX512, 60) for tile in seen)

    def test_finds_what_the_cost_model_does_not_know(self) -> None:
        """A machine on which unrolled loops over blocks of eight are twice as fast: crossing and mutation find them."""

        def microseconds(tile: Tile) -> float:
            return predicted_cycles(work(), tile) / ((1.5 if tile.unroll == 2 else 1) * (1.5 if tile.block == 8 else 1))

        search = Evolution(work(), AVX512, seed=0)
        first = None
        for _ in range(8):
            for tile in search.propose(6):
                search.tell(tile, microseconds(tile))
            first = first or microseconds(search.best)
        assert (search.best.unroll, search.best.block) == (2, 8)
        assert microseconds(search.best) < 0.5 * first

    def test_the_same_seed_proposes_the_same(self) -> None:
        def run(seed: int) -> list[Tile]:
            search = Evolution(work(), AVX512, seed)
            tiles = []
            for _ in range(4):
                for tile in search.propose(4):
                    search.tell(tile, predicted_cycles(work(), tile))
                    tiles.append(tile)
            return tiles

        assert run(1) == run(1)
        assert run(1) != run(2)


class TestCache:
    def test_gives_back_what_was_put(self, tmp_path: Path) -> None:
        cache = TileCache(tmp_path / "tiles.json")
        cache.put("a", Tile(8, 3, 4, 288, 2, True))
        cache.save()
        other = TileCache(tmp_path / "tiles.json")
        assert other.get("a") == Tile(8, 3, 4, 288, 2, True)
        assert other.get("b") is None

    def test_keeps_what_others_wrote_meanwhile(self, tmp_path: Path) -> None:
        one, other = TileCache(tmp_path / "tiles.json"), TileCache(tmp_path / "tiles.json")
        one.put("a", Tile(8, 3))
        one.save()
        other.put("b", Tile(4, 4))
        other.save()
        assert TileCache(tmp_path / "tiles.json").get("a") == Tile(8, 3)

    @pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 1, "tiles": {"a": {"speed": 3}}}'])
    def test_a_damaged_file_holds_nothing(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "tiles.json").write_text(text)
        assert TileCache(tmp_path / "tiles.json").get("a") is None


def test_a_signature_knows_structure_and_machine() -> None:
    signature = work().signature(AVX512, "one")
    assert signature == work().signature(AVX512, "one")
    others = [
        work().signature(AVX512, "another"),
        work().signature(INSTRUCTION_SETS["avx2"], "one"),
        work(vectors=61).signature(AVX512, "one"),
        work(groups=((16, 71),) * 4).signature(AVX512, "one"),
    ]
    assert signature not in others
    assert len(set(others)) == 4


def test_tuning_measures_each_layer_and_remembers_it(tmp_path: Path) -> None:
    compiled = lower(network(), torch.randn(1, 3, 9, 20))
    instruction_set, cache = host_instruction_set(), TileCache(tmp_path / "tiles.json")
    layers = tunable_layers(compiled, instruction_set)
    assert list(layers) == ["conv2d", "conv2d_1"]
    told: list[tuple[int, int]] = []
    tiles = tune(
        compiled,
        instruction_set,
        find_toolchain(),
        "this machine",
        Tuning(generations=2, population=2, rounds=2),
        cache=cache,
        report=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    assert all(fits(tiles[name], instruction_set, layers[name].vectors) for name in layers)
    no_compiler = Toolchain(("/nonexistent",))
    again = tune(compiled, instruction_set, no_compiler, "this machine", cache=TileCache(tmp_path / "tiles.json"))
    assert again == tiles


@pytest.mark.parametrize(
    "tile",
    [
        Tile(8, 1, 2, 0, 2, False),
        Tile(4, 2, 1, 50, 1, False),
        Tile(6, 2, 4, 144, 2, True),
        Tile(24 if host_instruction_set().registers == 32 else 8, 1, 1, 0, 1, True),
    ],
)
def test_no_tile_changes_the_outputs(tile: Tile, tmp_path: Path) -> None:
    module = network()
    compiled = lower(module, torch.randn(1, 3, 9, 20))
    tiles = dict.fromkeys(("conv2d", "conv2d_1"), tile)
    timed = TimedNetwork(compiled, host_instruction_set(), find_toolchain(), tiles, tmp_path / "net", threads=1)
    inputs = torch.randn(2, 3, 9, 20)
    with torch.no_grad():
        expected = module(inputs)
    torch.testing.assert_close(timed.network(inputs), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    times = timed.run()
    assert set(times) == {"conv2d", "conv2d_1", "output"}
    assert all(value > 0 for value in times.values())


def test_genes_are_the_tiles_own() -> None:
    assert list(GENES) == list(Tile.__dataclass_fields__)

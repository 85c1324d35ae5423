"""Choosing the size of blocks by timing layers with random weights."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from espalier.compression.survey import survey
from espalier.compression.technique import Technique
from espalier.compression.techniques import BcrPruning, MagnitudePruning
from espalier.errors import EspalierError
from espalier.evaluation.block_sizes import block_times_ms, pruned_layer, smallest_fast_block, with_measured_blocks
from espalier.graph.opspec import OpSpec
from espalier.graph.sparsity import BlockSparsity
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.tables.entry import Entry
from espalier.tasks.models.recurrent import RecurrentClassifier
from torch import Tensor, nn

_SIZES = ((8, 16), (16, 32))


def test_the_smallest_within_the_tolerance_is_taken() -> None:
    times = {(4, 16): 20.0, (8, 72): 10.9, (16, 72): 11.1, (16, 144): 10.0, (32, 144): 10.5}
    assert smallest_fast_block(times, 0.1) == (8, 72)
    assert smallest_fast_block(times, 0.0) == (16, 144)
    assert smallest_fast_block(times, 1.0) == (4, 16)
    with pytest.raises(EspalierError, match="the times of at least one block"):
        smallest_fast_block({})


def _device(folder: Path) -> ProfiledDevice:
    return ProfiledDevice("toy", "espalier", rounds=3, max_rounds=3, table=str(folder / "table.json"))


class _Known(ProfiledDevice):
    """A device that likes large blocks in convolutions and later recurrent layers, and small ones elsewhere."""

    def _measure(self, ops: Iterable[OpSpec]) -> None:
        for op in ops:
            sparsity = BlockSparsity.parse(op.sparsity)
            size = sparsity.block_rows * sparsity.block_columns if sparsity else 1
            likes_large = op.kind == "conv2d" or op.input_shape == (5, 32)
            self.table.add(Entry(op, 100 / size if likes_large else size, 0.0, 9))


def _known(folder: Path) -> ProfiledDevice:
    return _Known("toy", "espalier", table=str(folder / "table.json"))


def _network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return RecurrentClassifier(n_features=24, hidden=32, n_layers=2).eval(), torch.randn(1, 5, 24)


def _choices(found: dict[str, Technique], model: nn.Module, inputs: Tensor) -> dict[str, list[str]]:
    space = survey(model, inputs, {"bcr_pruning": found["bcr_pruning"]}).space
    pairs = zip(space.sites, space.choices, strict=True)
    return {site.name: [f"{choice['rate']:g} {choice['block']}" for choice in choices[1:]] for site, choices in pairs}


def test_each_layer_and_rate_gets_the_size_that_the_device_likes(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 16)).eval()
    wanting, other = BcrPruning((2.0, 4.0), blocks=_SIZES, block="measured"), MagnitudePruning()
    inputs = torch.randn(1, 4, 6, 6)
    found = with_measured_blocks({"bcr_pruning": wanting, "other": other}, model, inputs, _known(tmp_path))
    assert found["other"] is other
    chosen = _choices(found, model, inputs)
    assert chosen["0"] == ["2 16x32", "4 16x32"]
    assert chosen["3"] == ["2 8x16", "4 8x16"]


class _Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(24, 32, 2, batch_first=True)
        self.classifier = nn.Linear(32, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.gru(inputs)[0][:, -1])
        return scores


def test_a_stack_of_recurrent_layers_counts_as_a_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = _Stack().eval(), torch.randn(1, 5, 24)
    wanting = {"bcr_pruning": BcrPruning((2.0,), blocks=_SIZES, block="measured", kinds=("recurrent",))}
    found = with_measured_blocks(wanting, model, inputs, _known(tmp_path))
    # The first layer likes 8 x 16 by 384 ms, the second 16 x 32 by less than one.
    assert _choices(found, model, inputs)["gru"] == ["2 8x16"]


def test_layers_are_timed_once(tmp_path: Path) -> None:
    layer = OpSpec("conv2d", (8, 9, 9), (16, 5, 5), (3, 3), (2, 2), (1, 1), bias=True)
    (spec,) = pruned_layer([layer], 4.0, (8, 24))
    assert spec.key == f"{layer.key}:z-bcr:8x24:4.0:r8"
    times = block_times_ms([layer], 4.0, [(8, 24), (16, 72)], _device(tmp_path))
    assert list(times) == [(8, 24), (16, 72)]
    assert block_times_ms([layer], 4.0, [(8, 24), (16, 72)], _device(tmp_path)) == times, "as the table remembers"


def test_layers_that_are_closed_are_not_timed(tmp_path: Path) -> None:
    wanting = BcrPruning((2.0,), blocks=_SIZES, block="measured")
    device = _known(tmp_path)
    found = with_measured_blocks({"bcr_pruning": wanting}, *_network(), device, exclude=["classifier"])
    assert {entry.spec.kind for entry in device.table.entries.values()} == {"gru"}
    opened = survey(*_network(), found, exclude=["classifier"]).space
    assert [len(choices) for choices in opened.choices] == [2, 2, 1]


def test_devices_that_cannot_tell_are_refused(tmp_path: Path) -> None:
    wanting = {"bcr_pruning": BcrPruning((2.0,), blocks=_SIZES, block="measured")}
    skips_nothing = ProfiledDevice("toy", "torch", table=str(tmp_path / "table.json"))
    for device in (Roofline("board", 10.0, 2.0, 1.0), skips_nothing):
        with pytest.raises(EspalierError, match=r"block=measured times layers on this machine.*runtime=espalier; got"):
            with_measured_blocks(wanting, *_network(), device)
    plain = {"bcr_pruning": BcrPruning((2.0,))}
    assert with_measured_blocks(plain, *_network(), Roofline("board", 10.0, 2.0, 1.0)) == plain

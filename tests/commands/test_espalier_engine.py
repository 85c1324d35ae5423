"""A search whose latencies are those of the compiled engine, and what follows from it."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from espalier.commands.building import build_device, resolved
from espalier.commands.schema import register_schema
from espalier.commands.search import prepare_evaluator
from espalier.compression.choice import KEEP
from espalier.graph.opspec import OpSpec
from espalier.graph.sparsity import BlockSparsity
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.tables.entry import Entry
from espalier.hw_models.tables.table import LookupTable
from hydra import compose, initialize_config_module

from tests.commands.conftest import Finished, Run, run_command

_SPACE = (
    "space=pruning_int8",
    "space.techniques.channel_pruning=null",
    "space.techniques.int8=null",
    "+technique@space.techniques.bcr_pruning=bcr_pruning",
    "space.techniques.bcr_pruning.rates=[4]",
    "space.techniques.bcr_pruning.block_rows=16",
)
_ENGINE = (
    "experiment=smoke",
    "model.widths=[16,24]",
    "model.hidden=32",
    "task.training.epochs=3",
    "data.size=16",
    "data.search=120",
    "data.test=150",
    *_SPACE,
    "device.runtime=espalier",
    "device.rounds=3",
    "device.networks=0",
)
_SEARCH = (
    "agent=random",
    "budget=4",
    "finish.onnx=false",
    "finish.sampled_plans=0",
    "finish.distillation.epochs=0",
    "finish.rounds=10",
    "demand.max_accuracy_drop_points=50",
)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A search on the compiled engine with block pruning as the only technique."""
    folder = tmp_path_factory.mktemp("runs") / "engine"
    return Finished(folder, run_command("search", *_ENGINE, *_SEARCH, f"hydra.run.dir={folder}"))


def test_blocks_are_measured_before_the_space_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a device that likes large blocks, whatever the layer."""

    def known(device: ProfiledDevice, ops: Iterable[OpSpec]) -> None:
        for op in ops:
            blocks = BlockSparsity.parse(op.sparsity)
            device.table.add(Entry(op, 1 / (blocks.block_rows * blocks.block_columns) if blocks else 1.0, 0.0, 9))

    monkeypatch.setattr(ProfiledDevice, "_measure", known)
    words = [*_ENGINE[:-3], "space.techniques.bcr_pruning.block=measured", f"device.table={tmp_path / 'table.json'}"]
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        config = resolved(compose("config", overrides=[*words, "device.runtime=espalier", "device.networks=0"]))
    _, surveyed, _, _ = prepare_evaluator(config, build_device(config))
    sparse = [choice for choices in surveyed.space.choices for choice in choices if choice != KEEP]
    assert len(sparse) > 2
    assert {choice["block"] for choice in sparse} <= {"16x36", "32x36", "32x144"}


def test_blocks_cannot_be_measured_elsewhere(run: Run) -> None:
    words = (*_ENGINE[:-3], "space.techniques.bcr_pruning.block=measured", "device=raspberrypi4")
    result = run("search", *words)
    assert result.status == 2
    assert "block=measured times layers on this machine" in result.err
    assert "training" not in result.err


def test_a_search_sees_what_the_engine_delivers(searched: Finished) -> None:
    assert searched.result.status == 0, searched.result.err
    assert "compiling operators" in searched.result.err
    table = LookupTable.load(searched.folder / "checkpoint/table.json")
    assert table.runtime == "espalier, 1 thread"
    sparse = [entry.spec for entry in table.entries.values() if entry.spec.sparsity]
    assert all(BlockSparsity.parse(spec.sparsity) for spec in sparse)
    assert {spec.dense.key for spec in sparse} <= {*table.entries}, "each was measured dense, too"
    assert {spec.kind for spec in sparse} == {"conv2d", "linear"}
    summary = json.loads((searched.folder / "summary.json").read_text())
    assert summary["final"]["latency_ms"]["kind"] == "measured"
    assert "espalier on this machine, 1 thread" in summary["final"]["latency_ms"]["on"]


def test_pruned_plans_count_fewer_multiplications(searched: Finished) -> None:
    rows = [json.loads(line) for line in (searched.folder / "evaluations.jsonl").read_text().splitlines()]
    macs = {row["metrics"]["macs"]["value"] for row in rows}
    assert min(macs) < 0.8 * max(macs)


def test_the_run_is_verified_and_compiled(searched: Finished, run: Run) -> None:
    verified = run("verify", str(searched.folder))
    assert verified.status == 0, verified.err
    compiled = run("compile", str(searched.folder))
    assert compiled.status == 0, compiled.err
    assert re.search(r"largest relative error[ │]+\d(\.\d)?e-0[678] ", compiled.out)


def test_a_table_of_the_engine_is_used_anywhere(searched: Finished, run: Run, tmp_path: Path) -> None:
    profiled = run("profile", *_ENGINE[:-3], "runtime=espalier", *_ENGINE[-2:], "output=engine.json")
    assert profiled.status == 0, profiled.err
    assert "compiling operators" not in profiled.err, "all was measured by the search"
    words = ("device=table", "device.table=engine.json", f"hydra.run.dir={tmp_path / 'again'}")
    result = run("search", *_ENGINE[:-3], *_SEARCH, *words)
    assert result.status == 0, result.err
    assert "host table" in result.out

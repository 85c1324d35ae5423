"""Sweeps, comparisons, own parts, profiles, and the README."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from espalier.hw_models.tables.table import LookupTable

from tests.commands.conftest import FAST, Finished, Run, wandb_records
from tests.conftest import REPOSITORY


def test_a_sweep_with_joblib_is_compared_with_intervals(run: Run, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={sweep}")
    cheap = ("device=raspberrypi4", "finish.onnx=false", "finish.distillation.epochs=0")
    result = run("search", "-m", *FAST, *cheap, "agent=random,evolution", "seed=1,2", *launcher)
    assert result.status == 0, result.err
    assert len(list(sweep.glob("*/summary.json"))) == 4
    report = run("report", str(sweep))
    assert report.status == 0
    rows = json.loads((sweep / "comparison.json").read_text())
    assert {row["agent"] for row in rows} == {"random", "evolution"}
    assert all(row["runs"] == "2" for row in rows)
    assert all(re.fullmatch(r"-?[\d.]+ \(-?[\d.]+ to -?[\d.]+\)", row["reward_at_14"]) for row in rows)
    assert "median (least to most) of fewer than 5 runs" in report.out
    assert "95 %" not in report.out
    best = [float(row["reward_at_14"].split()[0]) for row in rows]
    assert best == sorted(best, reverse=True)


def test_a_sweep_with_a_failing_job_finishes_the_others_and_says_so(run: Run, tmp_path: Path) -> None:
    words = (
        "device=raspberrypi4",
        "finish.onnx=false",
        "finish.distillation.epochs=0",
        f"hydra.sweep.dir={tmp_path / 's'}",
    )
    result = run("search", "-m", *FAST, *words, "tracker=wandb", "agent=random,exhaustive")
    assert result.status == 2
    assert "1 of the sweep's jobs failed (1)" in result.last_line
    assert (tmp_path / "s/0/summary.json").exists()
    assert "takes spaces of up to" in (tmp_path / "s/1/error.txt").read_text()
    (path,) = (tmp_path / "s/0").glob("wandb/offline-run-*/*.wandb")
    tracked = next(r.run for r in wandb_records(path) if r.WhichOneof("record_type") == "run")
    assert tracked.run_group == "s"


def test_own_agents_and_rewards_need_no_fork(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "examples/own_parts"))
    words = ("--config-dir", str(REPOSITORY / "examples/own_parts/conf"), "agent=annealing", "reward=green")
    result = run("search", *words, *FAST, "device=raspberrypi4", f"hydra.run.dir={tmp_path / 'own'}")
    assert result.status == 0, result.err
    summary = json.loads((tmp_path / "own/summary.json").read_text())
    assert (summary["agent"], summary["reward"]) == ("annealing", "green")
    searchpath = f"hydra.searchpath=[file://{REPOSITORY / 'examples/own_parts/conf'}]"
    composed = run("search", searchpath, "agent=annealing", "--cfg", "job")
    assert "own_parts.AnnealingSearch" in composed.out


def test_profile_writes_a_table_that_search_reads(run: Run, tmp_path: Path) -> None:
    words = (
        *FAST,
        "device.rounds=2",
        "device.max_rounds=2",
        "device.networks=8",
        "device.name=bench",
        "space.include=[features.3]",
    )
    result = run("profile", f"output={tmp_path / 'host.json'}", *words)
    assert result.status == 0, result.err
    table = LookupTable.load(tmp_path / "host.json")
    assert table.device == "bench"
    assert f"{len(table.entries)} operators" in result.out
    assert f"{len(table.networks)} whole networks were measured: the sum of their operators is off by" in result.out
    assert f"networks   {len(table.networks)} whole networks" in run("profile", "show", str(tmp_path / "host.json")).out
    assert not (tmp_path / "runs").exists()
    folder = tmp_path / "from_table"
    reused = (*FAST, "space.include=[features.3]", "device=table", f"device.table={tmp_path / 'host.json'}")
    result = run("search", *reused, "agent=greedy", f"hydra.run.dir={folder}")
    assert result.status == 0, result.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["device"] == "bench"
    assert f"corrected by {len(table.networks)} networks" in summary["final"]["latency_ms"]["on"]
    other = run("search", *FAST, "device=table", f"device.table={tmp_path / 'host.json'}")
    assert other.status == 2
    assert "lacks" in other.last_line


def _readme_commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    lines = (line.split("   #")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readmes_make_targets_exist() -> None:
    targets = [line.split()[1] for line in _readme_commands() if line.startswith("make ")]
    assert {"search", "test"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "--dry-run", "--silent", target], cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize("command", [line for line in _readme_commands() if line.startswith("espalier")])
def test_the_readmes_commands_work(command: str, run: Run, finished: Finished, tmp_path: Path) -> None:
    """Searches are composed and checked, not run; what reads a run folder reads a real one."""
    words = [os.path.expandvars(word.strip("'")) for word in command.split()[1:]]
    words = [re.sub(r"runs/\S+", str(finished.folder), word) for word in words]
    if words[0] == "search" and not any(word.startswith("resume=") for word in words):
        words = [word for word in words if word != "-m"]
        words = [word.split(",")[0] if word.startswith(("agent=", "seed=")) else word for word in words]
        result = run(*words, "--cfg", "job")
    elif words[0] == "profile":
        result = run(*words, "--cfg", "job")
    else:
        result = run(*words)
    assert result.status == 0, result.err


def test_examples_run() -> None:
    command = [sys.executable, str(REPOSITORY / "examples/plain_python.py")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.search(r"accuracy [01]\.\d{3}, \d+\.\d{2} times faster", output), output

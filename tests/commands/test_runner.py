"""A device without Espalier: export, measure there, import, search."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from espalier.graph.opspec import OpSpec
from espalier.hw_models.tables.table import Entry, LookupTable

from tests.commands.conftest import FAST, Run, run_command

_SPACE = (*FAST, "space.include=[features.3]")

#: What may be imported on the device, beside the standard library.
_INSTALLED = ("numpy", "numpy.libs", "onnxruntime")

_START = """
import importlib.util, runpy, sys
sys.path.append(sys.argv.pop(1))
for name in ("espalier", "torch", "onnx", "rich"):
    assert importlib.util.find_spec(name) is None, name + " can be imported"
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the device."""
    folder = tmp_path_factory.mktemp("export") / "runner"
    words = ("device=host", "device.rounds=2", "device.tolerance=0.5", "device.networks=8")
    result = run_command("profile", "--export-runner", str(folder), *_SPACE, *words)
    assert result.status == 0, result.err
    assert f"operators and 8 networks: copy {folder} to the device" in result.out
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but NumPy and ONNX Runtime."""
    folder = tmp_path_factory.mktemp("library")
    spec = find_spec("onnxruntime")
    assert spec is not None
    site = Path(str(spec.origin)).parents[1]
    for name in _INSTALLED:
        if (site / name).exists():
            (folder / name).symlink_to(site / name)
    return folder


Device = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def device(library: Path, tmp_path: Path, exported: Path) -> Device:
    """Starts the program in an interpreter that cannot see this environment."""

    def start(*options: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-I", "-S", "-c", _START, str(library), str(exported / "measure.pyz"), *options]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, **pipes)

    return start


def test_what_goes_to_the_device_is_small_and_complete(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    keys = [operator["key"] for operator in manifest["operators"]]
    assert len(keys) == len(set(keys)) > 20
    sizes = [(exported / operator["file"]).stat().st_size for operator in manifest["operators"]]
    assert max(sizes) < 4000
    networks = {
        network["label"]: network for network in json.loads((exported / "manifest.json").read_text())["networks"]
    }
    assert len(networks) == 8
    assert all(
        op["kind"] == "reshape" or OpSpec.from_dict(op).key in keys for n in networks.values() for op in n["ops"]
    )
    assert len((exported / "README.txt").read_text().splitlines()) == 3
    names = zipfile.ZipFile(exported / "measure.pyz").namelist()
    assert "__main__.py" in names
    assert all(name == "__main__.py" or name.startswith("espalier_runner/") for name in names)


def test_a_device_measures_and_its_table_serves_a_search(
    run: Run, device: Device, exported: Path, tmp_path: Path
) -> None:
    out, err = device("--name", "board").communicate(timeout=100)
    assert err == ""
    assert "0 known already" in out
    assert "operators and 8 networks, 0 known already" in out
    assert "groups, 0 s left" in out
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"os", "python", "cpu", "created", "versions", "noise"} <= set(result)
    imported = run("profile", "import-result", str(tmp_path / "result.json"), f"output={tmp_path / 'board.json'}")
    assert imported.status == 0, imported.err
    table = LookupTable.load(tmp_path / "board.json")
    assert (table.device, table.runtime) == ("board", "onnxruntime, 1 thread")
    assert set(table.versions) == {"onnxruntime", "numpy", "os", "python"}
    assert set(table.entries) == {o["key"] for o in json.loads((exported / "manifest.json").read_text())["operators"]}
    assert table.noise is not None
    assert len(table.networks) == 8
    assert min(network.latency_ms for network in table.networks.values()) > table.call_overhead_ms
    words = (*_SPACE, "agent=greedy", "device=table", f"device.table={tmp_path / 'board.json'}")
    searched = run("search", *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert searched.status == 0, searched.err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["device"] == "board"
    assert "corrected by 8 networks" in summary["final"]["latency_ms"]["on"]


def test_a_killed_measurement_goes_on_where_it_stopped(device: Device, exported: Path, tmp_path: Path) -> None:
    """The manifest asks for so many samples that it is surely killed in the middle."""
    slow, path = tmp_path / "slow", tmp_path / "result.json"
    slow.mkdir()
    (slow / "models").symlink_to(exported / "models")
    manifest = json.loads((exported / "manifest.json").read_text())
    manifest["sampling"] |= {"rounds": 700, "max_rounds": 700}
    (slow / "manifest.json").write_text(json.dumps(manifest))
    process = device("--folder", str(slow))
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and json.loads(path.read_text())["entries"]:
            break
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = json.loads(path.read_text())["entries"]
    assert 8 <= len(before) < len(manifest["operators"])
    (slow / "manifest.json").write_text(
        json.dumps(manifest | {"sampling": manifest["sampling"] | {"rounds": 1, "max_rounds": 1}})
    )
    out, err = device("--folder", str(slow)).communicate(timeout=100)
    assert err == ""
    assert f"{len(before)} known already" in out
    after = json.loads(path.read_text())["entries"]
    assert len(after) == len(manifest["operators"])
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("change", [{"samples": 1}, {"samples": 3, "half_width": 0.9}])
def test_what_was_cut_short_is_measured_again(
    device: Device, exported: Path, tmp_path: Path, change: dict[str, float]
) -> None:
    """Before its passes were complete, and before it was tried as often as can be."""
    path = tmp_path / "result.json"
    assert device("--folder", str(exported)).communicate(timeout=100)[1] == ""
    result = json.loads(path.read_text())
    rounds = json.loads((exported / "manifest.json").read_text())["sampling"]["rounds"]
    short = next(iter(result["entries"]))
    result["entries"][short] |= change | {"mean": 99.0}
    path.write_text(json.dumps(result))
    out, _ = device("--folder", str(exported)).communicate(timeout=100)
    again = json.loads(path.read_text())["entries"]
    assert f"{len(again) + len(result['networks']) - 1} known already" in out
    assert again[short]["mean"] < 99.0
    assert again[short]["samples"] >= rounds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"manifest": "other"}, "was made with another manifest"),
        ({"cpu": "another"}, "was made with another cpu"),
        ({"format": "x"}, "was made with another format"),
    ],
)
def test_results_of_something_else_are_not_gone_on_with(
    device: Device, tmp_path: Path, exported: Path, change: dict[str, str], message: str
) -> None:
    digest = json.loads((exported / "manifest.json").read_text())["digest"]
    known = {"format": "espalier-runner-result", "version": 1, "manifest": digest, "threads": 1, "entries": {}}
    (tmp_path / "result.json").write_text(json.dumps(known | change))
    process = device()
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert message in err


def test_impossible_options_end_in_a_sentence(device: Device, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/manifest.json").write_text("{}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/manifest.json").write_text("[")
    for options, message in (
        (("--threads", "0"), "--threads must be at least 1, got 0"),
        (("--folder", "missing"), "cannot read missing/manifest.json"),
        (("--folder", "other"), "no manifest that this program can read"),
        (("--folder", "broken"), "cannot read broken/manifest.json"),
    ):
        _, err = device(*options).communicate(timeout=100)
        assert message in err
        assert "Traceback" not in err


def _result(**changes: Any) -> dict[str, Any]:
    spec = {"kind": "linear", "input_shape": [4], "output_shape": [2]}
    entry = {"spec": spec, "mean": 0.1, "std": 0.0, "samples": 3, "median_ms": 0.2, "half_width": 0.01}
    texts = {"device": "d", "cpu": "c", "created": "2026", "os": "o", "python": "3"}
    numbers = {"version": 1, "threads": 1, "operators": 3, "call_overhead_ms": 0.01}
    good = {"format": "espalier-runner-result", "unit": "ms", "versions": {}, "entries": {"linear:i4:o2": entry}}
    return good | texts | numbers | changes


def test_what_is_missing_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(_result()))
    result = run("profile", "import-result", "r.json", "output=t.json")
    assert "2 operators are not measured yet" in result.out
    assert "nobody watched the machine" in result.out
    assert LookupTable.load(tmp_path / "t.json").entries["linear:i4:o2"].mean == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "x"}, "is not a runner's result"),
        ({"version": 2}, "must be of version 1 with the unit 'ms', got 2 in 'ms'"),
        ({"unit": "s"}, "must be of version 1 with the unit 'ms', got 1 in 's'"),
        ({"os": 3}, "must give 'os' as a text, got 3"),
        ({"threads": 0}, "must give 'threads' as a whole number of at least 1, got 0"),
        ({"entries": {}}, "holds no measurements"),
        ({"entries": {"a": 3}}, "expected an object with spec"),
        ({"versions": 3}, "must have the objects 'versions' and 'entries'"),
        ({"call_overhead_ms": None}, "call_overhead_ms must be a number"),
        ({"networks": {"a": 3}}, "expected an object with ops"),
        ({"networks": [3]}, "got no object 'networks'"),
    ],
)
def test_damaged_results_are_refused(run: Run, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps(_result(**changes)))
    result = run("profile", "import-result", "r.json", "output=t.json")
    assert result.status == 2
    assert message in result.last_line
    assert not (tmp_path / "t.json").exists()


def test_a_result_is_imported_into_no_other_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(_result()))
    (tmp_path / "mine.json").write_text('{"format": "mine"}')
    refused = run("profile", "import-result", "r.json", "output=mine.json")
    assert refused.status == 2
    assert refused.last_line.startswith("espalier: mine.json exists already, and is no table to go on with: remove it")
    assert (tmp_path / "mine.json").read_text() == '{"format": "mine"}'
    assert run("profile", "import-result", "r.json", "output=t.json").status == 0
    table = LookupTable.load(tmp_path / "t.json")
    before = len(table.entries)
    table.add(Entry(OpSpec("linear", (3,), (5,)), 1.0, 0.0, 1))
    table.save(tmp_path / "t.json")
    assert run("profile", "import-result", "r.json", "output=t.json").status == 0
    assert len(LookupTable.load(tmp_path / "t.json").entries) == before + 1, "what only the file knew is kept"
    (tmp_path / "r.json").write_text(json.dumps(_result(cpu="another")))
    refused = run("profile", "import-result", "r.json", "output=t.json")
    assert "t.json exists already, with cpu " in refused.last_line
    assert "where this is 'another': remove it, or give another output=FILE" in refused.last_line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("import-result",), "espalier profile import-result takes one file, got 0"),
        (("import-result", "a", "b", "output=c"), "espalier profile import-result takes one file, got 2"),
        (("import-result", "a"), "espalier profile import-result needs output=FILE"),
        (("import-result", "missing.json", "output=c.json"), "cannot read a runner's result from missing.json"),
        (("--export-runner",), "--export-runner needs the name of a folder"),
        (("--export-runner", "device=host"), "--export-runner needs the name of a folder"),
        (("--export-runner=full",), "full exists and is not an empty folder"),
    ],
)
def test_mistakes_on_the_command_line(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    result = run("profile", *words)
    assert result.status == 2
    assert message in result.last_line


def test_options_of_the_device_have_short_names(run: Run) -> None:
    result = run("profile", "device=host", "runtime=torch", "remeasure=true", "--cfg", "job")
    assert "runtime: torch" in result.out
    assert "remeasure: true" in result.out
    assert "device.remeasure='maybe'" in run("profile", "remeasure=maybe", *_SPACE, "device=host").last_line
    assert "unknown runtime 'x'" in run("profile", "runtime=x", *_SPACE, "device=host").last_line

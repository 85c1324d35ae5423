"""A search from the command line to the last file."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import espalier
import matplotlib.image
import numpy as np
import onnxruntime
import pytest
import torch
from espalier.compression.layers import QuantizedConv2d
from espalier.compression.plan import Plan
from espalier.errors import FormatError
from espalier.files import write_json
from espalier.finish.loading import MODEL_FILE
from espalier.graph.layers import executable
from espalier.reports.html import write_report
from espalier.reports.journal import read_journal
from espalier.reports.units import formatted
from espalier.tasks.accuracy import accuracy
from espalier.tasks.data.digits import digits

from tests.commands.conftest import FAST, HOST, Finished, Run, wandb_records

_FILES = {
    "summary.json",
    "plan.json",
    "evaluations.jsonl",
    "model.safetensors",
    "model.onnx",
    "pareto.png",
    "layers.png",
    "learning.png",
    "report.html",
    "checkpoint",
}
_FIGURES = ("latency_ms", "energy_mj", "storage_bytes", "peak_memory_bytes", "macs", "parameters")


@pytest.fixture(scope="module")
def summary(finished: Finished) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((finished.folder / "summary.json").read_text())
    return loaded


def test_the_run_folder_is_complete(finished: Finished) -> None:
    assert finished.result.status == 0, finished.result.err
    assert {path.name for path in finished.folder.iterdir()} >= _FILES
    for text in ("test accuracy", "choice per layer", "report.html"):
        assert text in finished.result.out
        assert text not in finished.result.err
    assert "writing the report" in finished.result.err


def test_the_summary_has_what_the_documentation_lists(summary: dict[str, Any], finished: Finished) -> None:
    for key in ("task", "agent", "device", "seed", "evaluations", "search_seconds", "feasible"):
        assert key in summary
    for network in ("original", "baseline", "searched", "final"):
        for name in ("accuracy", *_FIGURES):
            figure = summary[network][name]
            assert set(figure) == {"value", "std", "kind", "on"}
            assert figure["kind"] in ("measured", "modelled")
    assert set(summary["ratios"]) >= {"latency", "energy", "storage", "macs", "parameters"}
    for name in ("energy_mj", "storage_bytes", "macs", "parameters"):
        ratio = summary["original"][name]["value"] / summary["final"][name]["value"]
        assert summary["ratios"][name.split("_")[0]] == pytest.approx(ratio)
    assert summary["final"]["latency_ms"]["kind"] == "measured"
    predicted, measured = (summary[which]["latency_ms"]["value"] for which in ("searched", "final"))
    assert summary["prediction_error_percent"] == pytest.approx(100 * (predicted / measured - 1))
    error = summary["ratios"]["latency"] * predicted / summary["baseline"]["latency_ms"]["value"] - 1
    assert summary["prediction_ratio_error_percent"] == pytest.approx(100 * error)
    sample = summary["prediction"]
    assert 1 <= len(sample["plans"]) <= 6
    assert len({plan["plan"] for plan in sample["plans"]}) == len(sample["plans"])
    assert all(plan["predicted_ms"] > 0 < plan["measured_ms"] for plan in sample["plans"])
    errors = [100 * (plan["predicted_ms"] / plan["measured_ms"] - 1) for plan in sample["plans"]]
    assert sample["median_error_percent"] == pytest.approx(float(np.median(errors)))
    assert "corrected by" in summary["searched"]["latency_ms"]["on"]
    assert f"{len(sample['plans'])} other plans" in finished.result.out
    assert "Can the predictions be trusted?" in (finished.folder / "report.html").read_text()
    lost = summary["original"]["accuracy"]["value"] - summary["final"]["accuracy"]["value"]
    assert summary["accuracy_drop_points"] == pytest.approx(100 * lost)
    assert summary["final"]["storage_bytes"]["value"] == (finished.folder / "model.safetensors").stat().st_size
    assert summary["agent"] == "dyna"


def test_the_network_loads_and_has_the_stated_accuracy(finished: Finished, summary: dict[str, Any]) -> None:
    network = espalier.load(finished.folder)
    test = digits(search=120, test=150).test
    assert accuracy(executable(network), test) == summary["final"]["accuracy"]["value"]


def test_onnx_runtime_gives_pytorchs_outputs(finished: Finished, summary: dict[str, Any]) -> None:
    network = espalier.load(finished.folder)
    session = onnxruntime.InferenceSession(finished.folder / "model.onnx")
    name = session.get_inputs()[0].name
    inputs = digits(search=120, test=150).test.inputs(slice(0, 10))
    for row in inputs.split(1):
        (scores,) = session.run(None, {name: row.contiguous().numpy()})
        assert np.allclose(scores, network(row).detach().numpy(), atol=0.05)
    assert 0 <= summary["onnx_max_abs_error"] < 0.05


def test_every_evaluation_is_a_line_and_none_is_twice(finished: Finished, summary: dict[str, Any]) -> None:
    rows = read_journal(finished.folder / "evaluations.jsonl")
    assert len(rows) == summary["evaluations"] == 14
    assert len({row["plan_hash"] for row in rows}) == 14
    assert [row["index"] for row in rows] == list(range(14))
    assert all(Plan.from_dict(row["plan"]).hash == row["plan_hash"] for row in rows)
    assert Plan.load(finished.folder / "plan.json").hash in {row["plan_hash"] for row in rows}


def test_pictures_are_pictures(finished: Finished) -> None:
    for name in ("pareto", "layers", "learning"):
        picture = matplotlib.image.imread(finished.folder / f"{name}.png")
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.02


def test_the_report_stands_alone(finished: Finished) -> None:
    page = (finished.folder / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 3
    for text in ("Original against compressed", "The choice for every layer", "prediction error", "peak memory"):
        assert text in page
    assert "predictions lie within 10 % of what was measured" in page
    assert page.count('<tr class="winner"><td>winner</td>') == 1


def test_the_report_of_what_is_out_of_the_ordinary(finished: Finished, summary: dict[str, Any], tmp_path: Path) -> None:
    for name in ("pareto", "layers", "learning"):
        shutil.copy(finished.folder / f"{name}.png", tmp_path)
    ordinary = (finished.folder / "report.html").read_text()
    nothing = {"latency_ms": 0.0, "parameters": 0.0}
    width = {"site": "a.width", "kind": "width", "choice": "width scaling (kept 0.5)", "original": nothing}
    changed = {"layers": [*summary["layers"], width | {"plan": nothing}], "split_gap": "the original has 99 % here"}
    changed |= {"pruning": {"method": "admm", "retraining": {"accuracy_before": 0.5, "accuracy_after": 0.9}}}
    write_report(tmp_path, summary | changed, "seed: 0")
    page = (tmp_path / "report.html").read_text()
    row = r"<td>a\.width</td><td class=\"left\">width scaling \(kept 0\.5\)</td>(<td>\u2013</td>\s*){4}"
    assert re.search(row, page)
    dash = "A dash in the table stands at a width or a skipped block"
    for text in (dash, "The original has 99 % here.", "weights by admm; retraining took them"):
        assert text in page
        assert text not in ordinary
    for text in ("accuracy on the search split", "<details><summary>The composed configuration</summary>"):
        assert text in page
    predicted = formatted("latency_ms", summary["searched"]["latency_ms"]["value"])
    assert f"predicted {predicted.replace(' ', chr(0xA0))} and" in page


def test_a_browser_shows_the_report(finished: Finished, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,2400", f"--user-data-dir={tmp_path}"]
    page = f"file://{finished.folder / 'report.html'}"
    subprocess.run([browser, *flags, f"--screenshot={picture}", page], check=True, capture_output=True, timeout=60)
    shown = matplotlib.image.imread(picture)
    assert shown.shape[:2] == (2400, 1000)
    assert (shown[1000:2000, :, :3] < 0.9).mean() > 0.01


def test_wandb_holds_every_evaluation_the_training_and_the_model(finished: Finished, summary: dict[str, Any]) -> None:
    (path,) = finished.folder.glob("wandb/offline-run-*/*.wandb")
    records = list(wandb_records(path))
    history = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    logged = [row for row in history if "reward" in row]
    rows = read_journal(finished.folder / "evaluations.jsonl")
    assert [row["reward"] for row in logged] == [row["reward"] for row in rows]
    assert [row["accuracy"] for row in logged] == [row["metrics"]["accuracy"] for row in rows]
    assert [row["latency_ms"] for row in logged] == [row["metrics"]["latency_ms"]["value"] for row in rows]
    keys = {key for row in history for key in row}
    assert {"pareto", "choices", "layers", "learning"} <= {key.split("/")[0] for key in keys}
    artifacts = [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    assert any(artifact.type == "model" and artifact.name.startswith("digits_vgg") for artifact in artifacts)
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.project == "espalier"
    assert {"agent", "demand", "seed"} <= {item.key for item in run.config.update}


def test_report_and_verify_find_the_figures_again(finished: Finished, run: Run) -> None:
    report = run("report", str(finished.folder))
    assert report.status == 0
    assert "multiply-accumulates" in report.out
    verified = run("verify", str(finished.folder))
    assert verified.status == 0, verified.err
    assert "figures found again" in verified.out


def test_verify_notices_a_changed_file(finished: Finished, run: Run, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(finished.folder, twin, ignore=shutil.ignore_patterns("wandb"))
    summary = json.loads((twin / "summary.json").read_text())
    summary["final"]["macs"]["value"] += 1
    write_json(twin / "summary.json", summary)
    result = run("verify", str(twin))
    assert result.status == 2
    assert "macs differ from what summary.json states" in result.last_line


def test_loading_runs_nothing_that_a_folder_names(finished: Finished, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(finished.folder, twin, ignore=shutil.ignore_patterns("wandb"))
    write_json(twin / MODEL_FILE, {"_target_": "os.system", "command": "false"})
    with pytest.raises(FormatError, match=r"'os\.system', which is not Espalier's own: build it yourself"):
        espalier.load(twin)


def test_loading_says_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nope is no run folder: there is no such folder; expected one that"):
        espalier.load(tmp_path / "nope")
    with pytest.raises(FormatError, match=r"is no run folder: it has no model\.safetensors"):
        espalier.load(tmp_path)


def test_the_same_seed_gives_the_same_files(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing remembered, and with every evaluation answered by the store.

    On a modelled device: on one that is measured live, a slow network is passed over, whatever the seed.
    """
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    folders = [tmp_path / name for name in ("first", "remembered", "anew")]
    for folder in folders:
        if folder.name == "anew":
            monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "other"))
        result = run("search", *FAST, "device=raspberrypi4", "finish.onnx=false", f"hydra.run.dir={folder}")
        assert result.status == 0, result.err
    first, remembered, anew = (read_journal(folder / "evaluations.jsonl") for folder in folders)
    assert [row["repeated"] for row in anew] == [row["repeated"] for row in first]
    assert all(row["repeated"] for row in remembered)
    for rows in (remembered, anew):
        assert [row["plan_hash"] for row in rows] == [row["plan_hash"] for row in first]
        assert [row["metrics"] for row in rows] == [row["metrics"] for row in first]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1


def test_a_killed_search_goes_on_and_evaluates_nothing_twice(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Searches of other tests may have come upon the same plans: the store must be this search's own.
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "killed"
    cheap = ("device=raspberrypi4", "finish.onnx=false", "finish.distillation.epochs=0")
    words = [*FAST, *cheap, "budget=60", "seed=7", f"hydra.run.dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "espalier", "search", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = folder / "evaluations.jsonl"
    deadline = time.monotonic() + 90
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 20) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal.read_bytes()
    assert not (folder / "summary.json").exists(), "it was faster than the test"
    with journal.open("ab") as file:
        file.write(b'{"index": 99, "half a li')
    result = run("search", f"resume={folder}")
    assert result.status == 0, result.err
    rows = read_journal(journal)
    assert journal.read_bytes().startswith(before)
    assert len({row["plan_hash"] for row in rows}) == len(rows) == 60
    repeated = [row["index"] for row in rows if row["repeated"]]
    # At most the batch that was stored but not yet written when the process died.
    assert len([index for index in repeated if index >= before.count(b"\n")]) <= 5
    done = run("search", f"resume={folder}")
    assert done.status == 0
    assert "is finished already" in done.err


def test_a_journal_of_another_run_is_not_continued(tmp_path: Path, run: Run, finished: Finished) -> None:
    folder = tmp_path / "other"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns("wandb", "summary.json"))
    path = folder / "evaluations.jsonl"
    path.write_text(path.read_text().replace(read_journal(path)[3]["plan_hash"], "0" * 32))
    config = folder / "checkpoint" / "config.yaml"
    config.write_text(config.read_text().replace("WandbTracker", "WandbTracker"))
    result = run("search", f"resume={folder}")
    assert result.status == 2
    assert "holds another plan as evaluation 3" in result.last_line


def test_the_folder_of_another_run_is_left_alone(finished: Finished, run: Run) -> None:
    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(finished.folder.rglob("*")) if path.is_file()}

    before = contents()
    words = (*FAST, *HOST, "tracker=wandb")
    other = run("search", *words, "agent=random", "seed=9", f"hydra.run.dir={finished.folder}")
    assert other.status == 2
    assert "holds another run, which differs in agent, seed: choose another hydra.run.dir" in other.last_line
    same = run("search", *words, f"hydra.run.dir={finished.folder}")
    assert same.status == 0
    assert "is finished already" in same.err
    assert contents() == before


def test_a_device_by_specification_reports_modelled_figures(tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "pi"
    words = ("device=raspberrypi4", "agent=greedy", "finish.onnx=false", f"hydra.run.dir={folder}")
    result = run("search", *FAST, *words)
    assert result.status == 0, result.err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final"]["latency_ms"]["kind"] == "modelled"
    assert summary["prediction_error_percent"] is None
    assert not (folder / "model.onnx").exists()
    assert "raspberrypi4" in (folder / "report.html").read_text()


def test_quantised_networks_are_delivered_with_grids_for_integers(tmp_path: Path, run: Run) -> None:
    """A space of integers alone: the ONNX file must really hold integer weights, and be executed with them."""
    folder = tmp_path / "int8"
    words = ("space=pruning_int8", "~space.techniques.channel_pruning", "demand=storage", "agent=greedy", "budget=40")
    bounds = ("demand.max_accuracy_drop_points=40", "device=raspberrypi4", f"hydra.run.dir={folder}")
    result = run("search", *FAST, *words, *bounds)
    assert result.status == 0, result.err
    network = espalier.load(folder)
    layers = [layer for layer in network.modules() if isinstance(layer, QuantizedConv2d)]
    assert len(layers) >= 3
    assert all(layer.has_output_grid for layer in layers)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(folder / "model.onnx", options)
    assert b"QLinearConv" in (tmp_path / "optimised.onnx").read_bytes()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["ratios"]["storage"] > 2
    assert summary["onnx_max_abs_error"] < 0.5
    assert torch.isfinite(network(torch.rand(1, 1, 16, 16))).all()

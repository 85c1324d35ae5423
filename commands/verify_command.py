"""`espalier verify`: every figure of a run's table, found again from its folder."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ..compression.assembly import fold_batch_norms
from ..compression.plan import Plan
from ..compression.storage import load_network
from ..errors import EspalierError
from ..finish.measurement import measure_latency
from ..graph.layers import executable
from ..progress import results
from ..reports.summary import read_summary
from ..reports.units import LABELS, formatted, formatted_estimate, unit_of
from ..tasks.accuracy import accuracy
from .building import resolved
from .search import CONFIG_FILE, prepare, use_table_of

__all__ = ["run"]

_USAGE = """Find every figure of a run again: reload its network, count the test accuracy and the file, sum the device's
table, and measure the latency live where the device is this machine.

usage: espalier verify RUN_FOLDER
"""

_ROUNDS = 100


def run(arguments: Sequence[str]) -> None:
    """Verify the run on the command line.

    Raises:
        EspalierError: A figure that must be the same is another.
    """
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(_USAGE)
        return
    if len(arguments) != 1:
        raise EspalierError(f"espalier verify takes one run folder, got {len(arguments)} arguments")
    folder = Path(arguments[0])
    summary = read_summary(folder)
    config = OmegaConf.load(folder / CONFIG_FILE)
    assert isinstance(config, DictConfig)
    found = _found(folder, resolved(config))
    results().print(_table(summary["final"], found))
    if wrong := [name for name in found if name != "latency_ms" and not _same(summary["final"][name], found[name])]:
        raise EspalierError(f"{folder}: {', '.join(wrong)} differ from what summary.json states")


def _found(folder: Path, values: dict[str, Any]) -> dict[str, float]:
    use_table_of(folder, values["device"])
    prepared = prepare(values)
    task = prepared.task
    plan = Plan.load(folder / "plan.json")
    network = load_network(folder / "model.safetensors", task.model)
    costs = prepared.evaluator.costs(plan)
    found = {name: costs.cost(name) for name in LABELS}
    found["storage_bytes"] = (folder / "model.safetensors").stat().st_size
    runtime = prepared.evaluator.device.runtime
    if runtime is not None:
        original = fold_batch_norms(task.model, prepared.survey.batch_norm_pairs)
        onnx_file = folder / "model.onnx"
        live = measure_latency(
            runtime, original, network, task.example_input, _ROUNDS, onnx_file if onnx_file.exists() else None
        )
        found["latency_ms"] = live.final.value
    found["accuracy"] = accuracy(executable(network), task.open_test_split())
    return found


def _same(stated: dict[str, Any], found: float) -> bool:
    return abs(float(stated["value"]) - found) <= 1e-9 * max(1.0, abs(found))


def _table(stated: dict[str, Any], found: dict[str, float]) -> Table:
    table = Table(title="figures found again", title_justify="left")
    for column in ("", "stated", "found"):
        table.add_column(column, justify="left" if not column else "right")
    for name, label in {"accuracy": "test accuracy", **LABELS}.items():
        again = formatted(name, found[name], unit_of(stated[name]))
        table.add_row(label, formatted_estimate(name, stated[name]), again)
    return table

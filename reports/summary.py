"""`summary.json`: everything that a run found, in one record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..files import read_json

__all__ = ["SUMMARY_FILE", "has_own_cost", "read_summary"]

SUMMARY_FILE = "summary.json"
_KEYS = (
    "task",
    "agent",
    "device",
    "seed",
    "evaluations",
    "search_seconds",
    "feasible",
    "original",
    "searched",
    "final",
    "ratios",
    "accuracy_drop_points",
    "prediction_error_percent",
)


def has_own_cost(layer: Mapping[str, Any]) -> bool:
    """Whether an entry of `layers` costs something itself; a width and a block are there for the layers they change.

    A block that is skipped may leave a layer in its place, which does.
    """
    costs = (layer[which][name] for which in ("original", "plan") for name in ("latency_ms", "parameters"))
    return layer["kind"] not in ("width", "block") or any(cost > 0 for cost in costs)


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished run.

    Raises:
        FormatError: The folder holds none, or one with keys missing.
    """
    path = folder / SUMMARY_FILE
    if not path.exists():
        raise FormatError(f"{folder} is not a finished run: it has no {SUMMARY_FILE}")
    summary = read_json(path, "a summary")
    if not isinstance(summary, Mapping):
        raise FormatError(f"{path} is not a summary: expected an object")
    if missing := [key for key in _KEYS if key not in summary]:
        raise FormatError(f"{path} is not a summary: {missing[0]!r} is missing")
    return dict(summary)

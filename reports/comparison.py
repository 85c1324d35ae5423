"""Runs of a sweep side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError
from .journal import JOURNAL_FILE, read_journal
from .summary import SUMMARY_FILE, read_summary

__all__ = ["FEW_RUNS", "compare", "run_folders"]

#: Below so many runs the resamples of a median are too few different ones for an interval of 95 %.
FEW_RUNS = 5

#: Evaluations at which the best reward so far is compared.
_CHECKPOINTS = (25, 50, 100, 200, 500)
_RESAMPLES = 2000


def run_folders(folder: Path) -> list[Path]:
    """The finished runs inside a folder, or the folder itself.

    Raises:
        FormatError: There is none.
    """
    if (folder / SUMMARY_FILE).exists():
        return [folder]
    runs = sorted(path.parent for path in folder.glob(f"*/{SUMMARY_FILE}"))
    if not runs:
        raise FormatError(f"{folder} holds no finished run: expected {SUMMARY_FILE} in it or in its folders")
    return runs


def compare(runs: Sequence[Path]) -> list[dict[str, str]]:
    """One row per agent (and task, device), best first: medians over its seeds with 95 % bootstrap intervals.

    Of fewer than `FEW_RUNS` runs nothing is resampled: the least and the most stand in the interval's place, as "0.5
    (0.3 to 0.9)".

    Args:
        runs: Run folders.

    Returns:
        Column -> text; the best feasible reward after some evaluations, and what the final networks reach.
    """
    groups: dict[tuple[str, str, str], list[tuple[Mapping[str, Any], list[float]]]] = {}
    for run in runs:
        summary = read_summary(run)
        key = (str(summary["agent"]), str(summary["task"]), str(summary["device"]))
        groups.setdefault(key, []).append((summary, _best_so_far(run)))
    longest = max(len(curve) for members in groups.values() for _, curve in members)
    steps = [*(count for count in _CHECKPOINTS if count < longest), longest]
    several = len({key[1:] for key in groups}) > 1
    ordered = sorted(groups.items(), key=lambda item: -float(np.median([curve[-1] for _, curve in item[1]])))
    return [_row(key, members, steps, several) for key, members in ordered]


def _row(
    key: tuple[str, str, str], members: list[tuple[Mapping[str, Any], list[float]]], steps: list[int], several: bool
) -> dict[str, str]:
    agent, task, device = key
    row = {"agent": f"{agent}, {task}, {device}" if several else agent, "runs": str(len(members))}
    for step in steps:
        row[f"reward_at_{step}"] = _interval([curve[min(step, len(curve)) - 1] for _, curve in members], 3)
    for name in ("latency", "storage"):
        row[f"{name}_ratio"] = _interval([summary["ratios"][name] for summary, _ in members], 2)
    row["points_lost"] = _interval([summary["accuracy_drop_points"] for summary, _ in members], 2)
    row["feasible"] = f"{sum(bool(summary['feasible']) for summary, _ in members)}/{len(members)}"
    row["search_seconds"] = _interval([summary["search_seconds"] for summary, _ in members], 0)
    return row


def _best_so_far(run: Path) -> list[float]:
    rows = read_journal(run / JOURNAL_FILE)
    worst = min(row["reward"] for row in rows)
    rewards = [row["reward"] if row.get("feasible", True) else worst for row in rows]
    return [float(value) for value in np.maximum.accumulate(rewards)]


def _interval(values: Sequence[float], digits: int) -> str:
    """The median, and between which values 95 % of the medians of resamples lie, or all values where they are few."""
    median = float(np.median(values))
    if len(values) < 2:
        return f"{median:.{digits}f}"
    if len(values) < FEW_RUNS:
        return f"{median:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.asarray(values, float), (_RESAMPLES, len(values)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

"""Curves of regret or reward against evaluations."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw"]


def draw(report: dict[str, Any], folder: Path) -> None:
    """One PNG per task, a panel per demand: medians over seeds with 95 % bootstrap intervals.

    Args:
        report: What `benchmarks/searchers.py` writes.
        folder: Where the pictures go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for task in dict.fromkeys(case["task"] for case in report["cases"]):
        cases = [case for case in report["cases"] if case["task"] == task]
        figure = Figure(figsize=(6 * len(cases), 4.5), layout="constrained")
        for axes, case in zip(np.atleast_1d(figure.subplots(1, len(cases))), cases, strict=True):
            _panel(axes, case)
        figure.savefig(folder / f"searchers_{task}.png", dpi=110)


def _panel(axes: Any, case: dict[str, Any]) -> None:
    for number, line in enumerate(case["rows"]):
        length = min(len(curve) for curve in line["curves"])
        curves = np.array([curve[:length] for curve in line["curves"]])
        rng = np.random.default_rng(0)
        medians = np.median(curves[rng.integers(len(curves), size=(500, len(curves)))], axis=1)
        low, high = np.percentile(medians, [2.5, 97.5], axis=0)
        counts = np.arange(1, length + 1)
        style = "-" if number < 10 else "--"
        axes.plot(counts, np.median(curves, 0), style, label=line["agent"], color=f"C{number % 10}")
        axes.fill_between(counts, low, high, alpha=0.15, color=f"C{number % 10}", linewidth=0)
    is_regret = "regret" in case["rows"][0]
    if is_regret:
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_ylim(0, 1)
    axes.set(
        title=f"{case['task']}, {case['demand']}", xlabel="evaluations", ylabel="regret" if is_regret else "reward"
    )
    axes.legend(fontsize=6)

"""A run as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.archive import pareto_front
from ..files import atomic_path
from .summary import has_own_cost
from .units import unit_of

__all__ = ["draw_layers", "draw_learning", "draw_pareto"]

_GREY, _BLUE, _ORANGE, _GREEN = "#9aa0a6", "#1f6fb4", "#d9730d", "#3a8f4d"

Row = Mapping[str, Any]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure) -> None:
    """Below the axes, where no point can be: what the first of them shows."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=len(labels), fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"font.size": 10}), atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def draw_pareto(path: Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Accuracy against latency of every plan, the front, the original and the result.

    Args:
        path: The PNG file.
        rows: Lines of `evaluations.jsonl`.
        summary: What `summary.json` holds.
    """
    latency = np.array([row["metrics"]["latency_ms"]["value"] for row in rows])
    accuracy = 100 * np.array([row["metrics"]["accuracy"] for row in rows])
    front = pareto_front(list(zip(-accuracy, latency, strict=True)))
    front = sorted(front, key=lambda i: latency[i])
    figure, axes = _axes(7.2, 4.6)
    axes.scatter(latency, accuracy, s=18, color=_GREY, alpha=0.7, label="evaluated plans", linewidths=0)
    axes.plot(latency[front], accuracy[front], "o-", color=_BLUE, ms=5, lw=1.5, label="Pareto front")
    axes.plot(latency[0], accuracy[0], "s", color="black", ms=8, label="original")
    searched = summary["searched"]
    point = searched["latency_ms"]["value"], 100 * searched["accuracy"]["value"]
    axes.plot(*point, "*", color=_ORANGE, ms=16, mec="black", mew=0.6, label="chosen plan, before the finish")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(mpl.ticker.FuncFormatter(_sparse_label))
    lowest = max(float(accuracy.min()), float(np.percentile(accuracy, 10)) - 10)
    axes.set_ylim(lowest - 1, min(100.0, float(accuracy.max())) + 0.08 * (101 - lowest))
    unit = unit_of(searched["latency_ms"]) or "ms"
    axes.set_xlabel(f"predicted latency on {summary['device']} ({unit}, logarithmic)")
    axes.set_ylabel("accuracy on the search split (%)")
    _legend(figure)
    _save(figure, path)


def _sparse_label(value: float, _: int) -> str:
    digit = round(value / 10 ** np.floor(np.log10(value)))
    return f"{value:g}" if digit in (2, 5) else ""


def draw_learning(path: Path, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Reward of each evaluation, and the best so far.

    Args:
        path: The PNG file.
        rows: Lines of `evaluations.jsonl`.
        summary: What `summary.json` holds.
    """
    rewards = np.array([row["reward"] for row in rows])
    feasible = np.array([row["feasible"] for row in rows])
    turns = np.arange(1, len(rows) + 1)
    figure, axes = _axes(7.2, 4.0)
    if feasible.any():
        axes.scatter(turns[feasible], rewards[feasible], s=16, color=_GREEN, alpha=0.75, lw=0, label="meets the demand")
    if not feasible.all():
        axes.scatter(turns[~feasible], rewards[~feasible], s=16, color=_GREY, alpha=0.75, lw=0, label="breaks a bound")
    best = np.maximum.accumulate(rewards)
    axes.plot(turns, best, color=_BLUE, lw=1.8, drawstyle="steps-post", label="best reward so far")
    axes.set_ylim(max(rewards.min(), np.percentile(rewards, 5)) - 0.05, rewards.max() + 0.05)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("reward")
    axes.set_title(f"searched by {summary['agent']}", loc="left", fontsize=10)
    _legend(figure)
    _save(figure, path)


def draw_layers(path: Path, layers: Sequence[Row], latency_unit: str = "") -> None:
    """What each layer costs before and after, and the choice made there.

    Args:
        path: The PNG file.
        layers: Per site: name, kind, choice, original and compressed milliseconds and parameters; widths and
            blocks are left out, their effect is in their layers.
        latency_unit: "relative" where the device's figures have no unit.
    """
    latency_scale, unit = (1.0, "relative") if latency_unit == "relative" else (1e3, "us")
    layers = [layer for layer in layers if has_own_cost(layer)]
    figure = Figure(figsize=(8.6, 1.6 + 0.42 * len(layers)), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    positions = np.arange(len(layers))
    for axes, key, scale, title in (
        (left, "latency_ms", latency_scale, f"predicted latency ({unit})"),
        (right, "parameters", 1e-3, "parameters (k)"),
    ):
        before, after = (np.array([layer[which][key] for layer in layers]) * scale for which in ("original", "plan"))
        axes.barh(positions - 0.2, before, 0.38, color=_GREY, label="original")
        axes.barh(positions + 0.2, after, 0.38, color=_ORANGE, label="compressed")
        axes.set_xlabel(title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    names = [f"{layer['site']}\n{layer['choice']}" for layer in layers]
    left.set_yticks(positions, names, fontsize=8)
    left.set_ylim(len(layers) - 0.5, -0.5)
    _legend(figure)
    _save(figure, path)

"""A run as tables on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from .comparison import FEW_RUNS
from .prediction import prediction_text
from .units import BOUND_LABELS, LABELS, formatted, formatted_estimate, points_text, unit_of

__all__ = ["choices_table", "comparison_table", "demand_table", "metrics_table", "summary_tables"]


def summary_tables(summary: Mapping[str, Any]) -> Group:
    """Original against compressed, and the choice per layer.

    Args:
        summary: What `summary.json` holds.
    """
    prediction = prediction_text(summary)
    return Group(
        metrics_table(summary),
        *([prediction] if prediction else []),
        *_demand_parts(summary),
        choices_table(summary),
    )


def _demand_parts(summary: Mapping[str, Any]) -> list[Table | str]:
    """The bounds of the demand and the lines on them; nothing for summaries that were written without."""
    demand = summary.get("demand", {"bounds": [], "text": ""})
    table = [demand_table(demand, summary["searched"])] if demand["bounds"] else []
    return [*table, *(line for line in (demand["text"], summary.get("split_gap")) if line)]


def demand_table(demand: Mapping[str, Any], searched: Mapping[str, Any]) -> Table:
    """Each bound of the demand against what the search reached.

    Args:
        demand: What the summary holds of the demand.
        searched: Its figures of the chosen plan, for their units.
    """
    table = Table(title="demand, as the search saw it", title_justify="left")
    for column in ("bound", "limit", "reached", "best seen", "used", "price"):
        table.add_column(column, justify="left" if column == "bound" else "right")
    for bound in demand["bounds"]:
        name = bound["name"]
        unit = unit_of(searched[name])
        figures = [formatted(name, bound[column], unit) for column in ("limit", "reached", "extreme")]
        table.add_row(BOUND_LABELS[name], *figures, f"{100 * bound['used']:.0f} %", f"{bound['price']:.3f}")
    return table


def metrics_table(summary: Mapping[str, Any]) -> Table:
    """Original, compressed, ratio and origin of every figure."""
    table = Table(title=f"{summary['task']} on {summary['device']}", title_justify="left")
    for column, justify in (("", "left"), ("original", "right"), ("compressed", "right"), ("ratio", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_column("origin", overflow="fold")
    original, final = summary["original"], summary["final"]
    drop = f"{points_text(-summary['accuracy_drop_points'])} points"
    accuracies = [formatted("accuracy", network["accuracy"]["value"]) for network in (original, final)]
    table.add_row("test accuracy", *accuracies, drop, _origin(final["accuracy"]))
    for name, label in LABELS.items():
        values = [formatted_estimate(name, network[name]) for network in (original, final)]
        ratio = original[name]["value"] / max(final[name]["value"], 1e-12)
        if name == "latency_ms":
            ratio = summary["ratios"]["latency"]
        table.add_row(label, *values, f"{ratio:.2f}x", _origin(final[name]))
    return table


def _origin(estimate: Mapping[str, Any]) -> str:
    text = str(estimate["on"])
    return text if text.startswith(("counted", "bytes")) else f"{estimate['kind']}: {text}"


def choices_table(summary: Mapping[str, Any]) -> Table:
    """The choice made for every layer."""
    table = Table(title="choice per layer", title_justify="left")
    table.add_column("layer")
    table.add_column("choice")
    for layer in summary["layers"]:
        table.add_row(layer["site"], layer["choice"])
    return table


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Groups of runs side by side.

    Args:
        rows: As `compare` gives them.
    """
    counts = [int(row["runs"]) for row in rows]
    kinds = ["[95 % bootstrap interval]"] if max(counts) >= FEW_RUNS else []
    kinds += [f"(least to most) of fewer than {FEW_RUNS} runs"] if any(1 < n < FEW_RUNS for n in counts) else []
    title = " ".join(["runs compared: median", " or ".join(kinds)]).strip()
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="left" if column == "agent" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table

"""`report.html`: one file that a person who was not there can read."""

import base64
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..files import write_text
from .prediction import prediction_rows, prediction_verdict
from .summary import has_own_cost
from .units import BOUND_LABELS, LABELS, formatted, formatted_estimate, points_text, unit_of

__all__ = ["write_report"]


def write_report(folder: Path, summary: Mapping[str, Any], config: str) -> None:
    """Write `report.html` from the summary and the pictures of a run folder; the pictures become part of the file.

    Args:
        folder: The run folder.
        summary: What `summary.json` holds.
        config: The composed configuration as YAML.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        s=summary,
        rows=_rows(summary),
        demand=summary["demand"],
        bounds=[_bound(bound, summary["searched"]) for bound in summary["demand"]["bounds"]],
        layers=[_layer(layer, unit_of(summary["searched"]["latency_ms"])) for layer in summary["layers"]],
        has_dashes=not all(has_own_cost(layer) for layer in summary["layers"]),
        images={name: _data_url(folder / f"{name}.png") for name in ("layers", "pareto", "learning")},
        points=points_text(-summary["accuracy_drop_points"]),
        predicted=_unbroken(formatted_estimate("latency_ms", summary["searched"]["latency_ms"])),
        measured=_unbroken(formatted_estimate("latency_ms", summary["final"]["latency_ms"])),
        predictions=prediction_rows(summary),
        verdict=prediction_verdict(summary),
        config=config,
    )
    write_text(folder / "report.html", page)


def _unbroken(figure: str) -> str:
    """A figure that running text keeps on one line with its unit; in tables, the style does."""
    return figure.replace(" ", "\u00a0")


def _rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    original, final = summary["original"], summary["final"]
    rows = [
        {
            "label": "test accuracy",
            "original": formatted("accuracy", original["accuracy"]["value"]),
            "final": formatted("accuracy", final["accuracy"]["value"]),
            "ratio": f"{points_text(-summary['accuracy_drop_points'])} points",
            "origin": f"measured, {final['accuracy']['on']}; "
            f"standard error {100 * final['accuracy']['std']:.2f}\u00a0pt",
        }
    ]
    for name, label in LABELS.items():
        ratio = original[name]["value"] / max(final[name]["value"], 1e-12)
        rows.append(
            {
                "label": label,
                "original": formatted_estimate(name, original[name]),
                "final": formatted_estimate(name, final[name]),
                "ratio": f"{summary['ratios']['latency'] if name == 'latency_ms' else ratio:.2f}x",
                "origin": f"{final[name]['kind']}, {final[name]['on']}",
            }
        )
    return rows


def _bound(bound: Mapping[str, Any], searched: Mapping[str, Any]) -> dict[str, str]:
    name = str(bound["name"])
    unit = unit_of(searched[name])
    figures = {column: formatted(name, bound[column], unit) for column in ("limit", "reached", "extreme")}
    return figures | {
        "label": BOUND_LABELS[name],
        "used": f"{100 * bound['used']:.0f} %",
        "price": f"{bound['price']:.3f}",
    }


def _layer(layer: Mapping[str, Any], latency_unit: str) -> dict[str, str]:
    columns = ("latency_before", "latency_after", "parameters_before", "parameters_after")
    if not has_own_cost(layer):
        return {"site": str(layer["site"]), "choice": str(layer["choice"]), **dict.fromkeys(columns, "\u2013")}
    before, after = layer["original"], layer["plan"]
    units = {"latency_ms": latency_unit, "parameters": ""}
    figures = [formatted(name, part[name], unit) for name, unit in units.items() for part in (before, after)]
    return {"site": str(layer["site"]), "choice": str(layer["choice"]), **dict(zip(columns, figures, strict=True))}


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

"""How figures are written for people."""

from collections.abc import Mapping
from typing import Any

__all__ = ["BOUND_LABELS", "LABELS", "choice_text", "formatted", "formatted_estimate", "points_text", "unit_of"]

#: Key in `summary.json` -> what people call it.
LABELS = {
    "latency_ms": "latency",
    "energy_mj": "energy",
    "storage_bytes": "storage",
    "peak_memory_bytes": "peak memory",
    "macs": "multiply-accumulates",
    "parameters": "parameters",
}

#: Bound of a demand -> what people call it.
BOUND_LABELS = LABELS | {"accuracy": "accuracy on the search split"}

_THOUSANDS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def formatted_estimate(name: str, estimate: Mapping[str, Any]) -> str:
    """A figure of a summary, in the unit that it states itself or that its name does."""
    return formatted(name, estimate["value"], unit_of(estimate))


def unit_of(estimate: Mapping[str, Any]) -> str:
    """What `formatted` takes as the unit of a figure of a summary."""
    return str(estimate.get("unit", ""))


def formatted(name: str, value: float, unit: str = "") -> str:
    """A figure with its unit, three digits long.

    Args:
        name: A key of `LABELS`, or "accuracy".
        value: In the unit that the name states, or in the one of the device.
        unit: "relative" where the device's figures have no unit; "" elsewhere.
    """
    if unit == "relative":
        return f"{value:.3g} (relative)"
    if name == "accuracy":
        return f"{100 * value:.2f} %"
    if name == "latency_ms":
        return f"{value:.3g} ms" if value >= 1 else f"{1e3 * value:.3g} us"
    if name == "energy_mj":
        return f"{value:.3g} mJ"
    counted = "B" if name.endswith("_bytes") else ""
    for size, prefix in _THOUSANDS:
        if value >= size:
            return f"{value / size:.3g} {prefix}{counted}".strip()
    return f"{value:.0f} {counted}".strip()


def points_text(points: float) -> str:
    """A change in percentage points with its sign; no change has none."""
    text = f"{points:+.2f}"
    return "0.00" if text in ("-0.00", "+0.00") else text


def choice_text(choice: Mapping[str, Any]) -> str:
    """A choice of `plan.json`, as people read it; the stages of a composition, each with its own settings."""
    technique, parameters = str(choice["technique"]), choice["parameters"]
    if "+" not in technique:
        return _stage_text(technique, parameters)
    stages = technique.split("+")
    own = [{k.removeprefix(f"{s}."): v for k, v in parameters.items() if k.startswith(f"{s}.")} for s in stages]
    return " + ".join(_stage_text(stage, settings) for stage, settings in zip(stages, own, strict=True))


def _stage_text(technique: str, parameters: Mapping[str, Any]) -> str:
    name = technique.replace("_", " ")
    inside = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in parameters.items())
    return f"{name} ({inside})" if inside else name

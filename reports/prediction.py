"""Predicted against measured latency, as people read it."""

from collections.abc import Mapping
from typing import Any

from .units import formatted

__all__ = ["prediction_rows", "prediction_text"]


def prediction_text(summary: Mapping[str, Any]) -> str:
    """One line on how far the device's model was off, for the winner and for a sample; "" where nothing was measured.

    Args:
        summary: What `summary.json` holds; those of earlier versions have no sample.
    """
    error = summary["prediction_error_percent"]
    if error is None:
        return ""
    text = f"predicted latency against measured: the winner {error:+.1f} %"
    sample = summary.get("prediction")
    if not sample:
        return text
    count = len(sample["plans"])
    close = round(sample["within_10_percent"] * count)
    figures = f"{sample['median_error_percent']:+.1f} % in the median, {sample['worst_error_percent']:+.1f} % at worst"
    rank = "" if sample["spearman"] is None else f", rank correlation {sample['spearman']:.2f}"
    return f"{text}; {count} other plans {figures}, {close} of them within 10 %{rank}"


def prediction_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The sampled plans for a table, the fastest first."""
    rows = (summary.get("prediction") or {"plans": []})["plans"]
    return [
        {
            "plan": row["plan"][:10],
            "predicted": formatted("latency_ms", row["predicted_ms"]),
            "std": formatted("latency_ms", row["std_ms"]),
            "measured": formatted("latency_ms", row["measured_ms"]),
            "error": f"{100 * (row['predicted_ms'] / row['measured_ms'] - 1):+.1f} %",
        }
        for row in rows
    ]

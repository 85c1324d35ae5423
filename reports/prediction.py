"""Predicted against measured latency, as people read it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .units import formatted

__all__ = ["prediction_rows", "prediction_text", "prediction_verdict"]

#: Share of close predictions, and rank correlation, from which on they are called good.
_MOST = 0.8
_ORDERED = 0.9

#: (most are close, they are in order) -> what to make of it.
_ADVICE = {
    (True, True): "The predictions can be trusted here",
    (True, False): "The predictions are close, but plans that lie near each other change places",
    (False, True): "Trust the order of the predictions, not their milliseconds",
    (False, False): "Trust neither the milliseconds nor the order of the predictions, but measure what matters",
}

#: Where the milliseconds are off, but alike for the original and the plans.
_RATIOS = "Trust the speed-ups over the original, not the milliseconds, which are off alike"


def prediction_text(summary: Mapping[str, Any]) -> str:
    """One line on how far the device's model was off, for the winner and for a sample; "" where nothing was measured.

    Args:
        summary: What `summary.json` holds; those of earlier versions have no sample.
    """
    error = summary["prediction_error_percent"]
    if error is None:
        return ""
    text = f"predicted latency against measured: the winner {error:+.1f} %{_winner_ratio_text(summary)}"
    sample = summary.get("prediction")
    if not sample:
        return text
    count = len(sample["plans"])
    close = round(sample["within_10_percent"] * count)
    figures = f"{sample['median_error_percent']:+.1f} % in the median, {sample['worst_error_percent']:+.1f} % at worst"
    rank = "" if sample["spearman"] is None else f", rank correlation {sample['spearman']:.2f}"
    return f"{text}; {count} other plans {figures}, {close} of them within 10 %{rank}{_ratios_text(sample, count)}"


def _winner_ratio_text(summary: Mapping[str, Any]) -> str:
    """How far the winner's latency over the original's was off; summaries of an earlier day do not tell."""
    error = summary.get("prediction_ratio_error_percent")
    return "" if error is None else f" ({error:+.1f} % over the original)"


def _ratios_text(sample: Mapping[str, Any], count: int) -> str:
    """How far the latencies over the original's were off; summaries of an earlier day do not tell."""
    if "original_error_percent" not in sample:
        return ""
    close = round(sample["ratio_within_10_percent"] * count)
    return (
        f"; the original {sample['original_error_percent']:+.1f} %, and over it the plans "
        f"{sample['ratio_median_error_percent']:+.1f} % in the median, {close} of them within 10 %"
    )


def prediction_verdict(summary: Mapping[str, Any]) -> str:
    """What the sample says of the predictions, in words; "" without a sample."""
    sample = summary.get("prediction")
    if not sample:
        return ""
    count, share, rank = len(sample["plans"]), sample["within_10_percent"], sample["spearman"]
    is_close = share >= _MOST
    figures = f"{round(share * count)} of {count} predictions lie within 10 % of what was measured"
    if rank is None:
        order, advice = "too few plans to judge their order", _ADVICE[is_close, True]
    else:
        order, advice = f"the rank correlation is {rank:.2f}", _ADVICE[is_close, rank >= _ORDERED]
    if not is_close and sample.get("ratio_within_10_percent", 0.0) >= _MOST:
        advice = _RATIOS
    return f"{advice}: {figures}; {order}{_ratios_text(sample, count)}"


def prediction_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sampled plans and the winner for a table, the fastest as predicted first; nothing without a sample."""
    sampled = (summary.get("prediction") or {"plans": []})["plans"]
    if not sampled:
        return []
    rows = [_row(_names(number, plan), plan) for number, plan in enumerate(sampled, 1)]
    searched, final = summary["searched"]["latency_ms"], summary["final"]["latency_ms"]
    figures = {"predicted_ms": searched["value"], "std_ms": searched["std"], "measured_ms": final["value"]}
    winner = {"name": "winner", "changes": "the plan of this report", "hash": "", "is_winner": True}
    rows.append(_row(winner, figures))
    return sorted(rows, key=lambda row: float(row["predicted_ms"]))


def _names(number: int, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What a sampled plan is called, and what it does to the network."""
    choices = plan.get("choices")  # summaries of an earlier day have none
    name = f"sample {number}" if choices or choices is None else "original"
    counts = Counter(
        str(choice["technique"]).replace("_", " ").replace("+", " + ") for choice in (choices or {}).values()
    )
    changes = ", ".join(f"{count} x {technique}" for technique, count in counts.most_common())
    changes = "nothing" if name == "original" else changes
    return {"name": name, "changes": changes, "hash": plan["plan"], "is_winner": False}


def _row(names: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, Any]:
    predicted, measured = figures["predicted_ms"], figures["measured_ms"]
    return {
        **names,
        "predicted_ms": predicted,
        "predicted": formatted("latency_ms", predicted),
        "std": formatted("latency_ms", figures["std_ms"]),
        "measured": formatted("latency_ms", measured),
        "error": f"{100 * (predicted / measured - 1):+.1f} %",
    }

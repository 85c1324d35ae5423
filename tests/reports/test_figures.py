"""What the pictures say, read from the figures before they are written."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from espalier.reports import figures
from matplotlib.figure import Figure

_SUMMARY = {
    "agent": "dyna",
    "device": "host",
    "searched": {"latency_ms": {"value": 1.0}, "accuracy": {"value": 0.9}},
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures in the order in which they would have been written."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures, "_save", lambda figure, _: kept.append(figure))
    return kept


def _rows(*feasible: bool) -> list[dict[str, Any]]:
    return [
        {"reward": i / 10, "feasible": met, "metrics": {"latency_ms": {"value": 4.0 - i}, "accuracy": 0.9 - i / 10}}
        for i, met in enumerate(feasible)
    ]


def _labels(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def _legend_is_outside(figure: Figure) -> bool:
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    return all(axes.get_legend() is None and not box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_only_what_is_there_is_in_the_legend(drawn: list[Figure]) -> None:
    for feasible in ((True, True), (True, False), (False, False)):
        figures.draw_learning(Path(), _rows(*feasible), _SUMMARY)
    best, met, broken = "best reward so far", "meets the demand", "breaks a bound"
    assert [set(_labels(figure)) for figure in drawn] == [{met, best}, {met, broken, best}, {broken, best}]
    assert drawn[0].axes[0].get_title(loc="left") == "searched by dyna"
    assert drawn[0].axes[0].get_ylabel() == "reward"


def test_legends_cover_no_points(drawn: list[Figure]) -> None:
    figures.draw_pareto(Path(), _rows(True, True, False), _SUMMARY)
    figures.draw_learning(Path(), _rows(True, True, False), _SUMMARY)
    figures.draw_layers(Path(), [_layer("conv2d", "a", 1.0)])
    assert [_legend_is_outside(figure) for figure in drawn] == [True, True, True]
    assert "Pareto front" in _labels(drawn[0])
    # The same legend inside the axes would be noticed.
    inside = Figure()
    inside.add_subplot().plot([0, 1], label="x")
    inside.legend(loc="center")
    assert not _legend_is_outside(inside)


def _layer(kind: str, site: str, latency_ms: float) -> dict[str, Any]:
    costs = {"latency_ms": latency_ms, "parameters": 1000 * latency_ms}
    return {"site": site, "kind": kind, "choice": "keep", "original": costs, "plan": costs}


def test_widths_and_blocks_have_no_bars(drawn: list[Figure]) -> None:
    without = [_layer("width", "a.width", 0.0), _layer("block", "a", 0.0)]
    figures.draw_layers(Path(), [*without, _layer("conv2d", "a.conv", 2.0)])
    left, right = drawn[0].axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a.conv\nkeep"]
    bars = [
        [bar.get_width() for bar in axes.patches if isinstance(bar, mpl.patches.Rectangle)] for axes in (left, right)
    ]
    assert bars == [[2000.0, 2000.0], [2.0, 2.0]]

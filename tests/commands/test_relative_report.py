"""Figures of a device without a unit are called relative wherever a report shows them."""

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from espalier.progress import results
from espalier.reports import figures
from espalier.reports.html import write_report
from espalier.reports.summary import read_summary
from espalier.reports.tables import summary_tables

from tests.commands.conftest import Finished

_MODELLED = ("latency_ms", "energy_mj")


def _relative(summary: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(summary)
    for network in ("original", "searched", "final"):
        for name in _MODELLED:
            changed[network][name]["unit"] = "relative"
    changed["prediction"] = None  # nothing is measured on such a device
    bound = {"name": "latency_ms", "limit": 3.0, "reached": 2.0, "extreme": 1.0, "used": 0.5, "price": 0.0}
    changed["demand"]["bounds"] = [bound]
    return changed


def _pages(summary: dict[str, Any], source: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    folder.mkdir()
    for picture in source.glob("*.png"):
        shutil.copy(picture, folder)
    write_report(folder, summary, "")
    results().print(summary_tables(summary))
    return (folder / "report.html").read_text(), capsys.readouterr().out


def test_reports_of_relative_figures(finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = read_summary(finished.folder)
    amount = re.compile(r"\d (ms|us|mJ)\b")
    for text in _pages(_relative(summary), finished.folder, tmp_path / "relative", capsys):
        assert not amount.search(text.replace("\u00a0", " ")), amount.search(text)
        assert "(relative)" in text
    with_units = _pages(summary, finished.folder, tmp_path / "units", capsys)
    assert all(amount.search(text.replace("\u00a0", " ")) for text in with_units), "the ablation"
    assert not any("(relative)" in text for text in with_units)


def test_axes_of_relative_figures(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels: list[str] = []

    def saved(figure: Any, _: Path) -> None:
        labels.extend(axes.get_xlabel() for axes in figure.axes)

    monkeypatch.setattr(figures, "_save", saved)
    summary = _relative(read_summary(finished.folder))
    rows = [{"metrics": {"latency_ms": {"value": 1.0}, "accuracy": 0.9}}] * 2
    figures.draw_pareto(tmp_path / "a.png", rows, summary)
    figures.draw_layers(tmp_path / "b.png", summary["layers"], "relative")
    figures.draw_layers(tmp_path / "b.png", summary["layers"])
    assert "(relative, logarithmic)" in labels[0]
    assert labels[1::2] == ["predicted latency (relative)", "predicted latency (us)"]

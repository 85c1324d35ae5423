"""Predictors as files: round trips, and everything that can be wrong with one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from espalier.errors import FormatError
from espalier.hw_models.predictors.calibrated import CalibratedPredictor
from espalier.hw_models.predictors.predictor_file import load_predictor, predictor_to_dict, save_predictor

from tests.hw_models.predictors.synthetic import interacting_ms, networks

_FIT, _NEW = networks(300), networks(50, seed=1)


@pytest.fixture(scope="module")
def predictor() -> CalibratedPredictor:
    fitted = CalibratedPredictor.fit("d", _FIT, interacting_ms(_FIT))
    assert fitted.trees is not None
    return fitted


def test_a_predictor_survives_its_file(predictor: CalibratedPredictor, tmp_path: Path) -> None:
    save_predictor(tmp_path / "p.json", predictor)
    again = load_predictor(tmp_path / "p.json")
    assert (again.predict_ms(_NEW) == predictor.predict_ms(_NEW)).all()
    assert np.array_equal(again.interval_ms(_NEW), predictor.interval_ms(_NEW))
    assert again.device == "d"


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set("format", value="other"), "is not a latency predictor"),
        (_set("version", value=2), "has version 2, expected 1"),
        (_set("unit", value="s"), "has unit 's', expected 'ms'"),
        (_set("device", value=3), "must give 'device' as a text, got 3"),
        (_set("columns", value="a"), "columns must be a list of at most"),
        (_set("columns", 0, value=1), "columns must be a list of at most"),
        (_set("columns", value=["a"] * 20_000), "columns must be a list of at most"),
        (_set("columns", 0, value="n|slot|deep"), "columns must differ"),
        (lambda v: v["mean"].pop(), "one mean, scale above 0 and weight for each column"),
        (_set("scale", 0, value=0), "one mean, scale above 0 and weight for each column"),
        (_set("weights", value=None), "weights must be a list of at most"),
        (_set("weights", 0, value="1"), "weights must be finite numbers, got '1'"),
        (_set("weights", 0, value=True), "weights must be finite numbers, got 'True'"),
        (_set("weights", 0, value=10**400), "weights must be finite numbers, got '1000"),
        (_set("intercept_ms", value=float("nan")), "intercept_ms must be finite numbers, got 'nan'"),
        (_set("floor_ms", value=0), "floor_ms must be above 0, got 0"),
        (_set("relative_errors", value=[]), "relative_errors must be at least one number, in ascending order"),
        (_set("relative_errors", value=[1, 0]), "relative_errors must be at least one number, in ascending order"),
        (_set("trees", value=[]), "trees must be an object with roots"),
        (_set("trees", "roots", 0, value=0.5), "roots of the trees must be a list of at most 100000 whole numbers"),
        (_set("trees", "value", 0, value=float("inf")), "value of the trees must be a list of at most 100000 finite"),
        (_set("trees", "left", value=[0] * 200_000), "left of the trees must be a list of at most"),
        (_set("trees", "left", 0, value=0), "whose children stand after their parent"),
        (_set("trees", "right", 0, value=10**6), "whose children stand after their parent"),
        (_set("trees", "column", 0, value=10**6), "whose children stand after their parent"),
        (_set("trees", "roots", 0, value=-2), "whose children stand after their parent"),
        (_set("trees", "threshold", value=[0.5]), "arrays of one length"),
    ],
)
def test_a_damaged_predictor_is_refused(
    predictor: CalibratedPredictor, tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    values = json.loads(json.dumps(predictor_to_dict(predictor)))
    change(values)
    (tmp_path / "p.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match=match):
        load_predictor(tmp_path / "p.json")


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_a_truncated_predictor_is_refused(predictor: CalibratedPredictor, tmp_path: Path, keep: int) -> None:
    text = json.dumps(predictor_to_dict(predictor))
    (tmp_path / "p.json").write_text(text[:keep])
    with pytest.raises(FormatError, match=r"p\.json is not a latency predictor: not valid JSON"):
        load_predictor(tmp_path / "p.json")


def test_a_pickle_is_no_predictor(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.")
    with pytest.raises(FormatError, match="not valid JSON"):
        load_predictor(tmp_path / "p.json")

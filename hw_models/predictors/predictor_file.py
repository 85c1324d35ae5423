"""Fitted predictors as versioned JSON files; reading one runs no code and trusts no figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError
from ...files import read_json, write_json
from .calibrated import CalibratedPredictor
from .features import LARGEST_COLUMNS, FeatureMap
from .intervals import HeldOutErrors
from .trees import BoostedTrees

__all__ = ["PREDICTOR_VERSION", "load_predictor", "predictor_from_dict", "predictor_to_dict", "save_predictor"]

PREDICTOR_VERSION = 1
_FORMAT = "espalier-latency-predictor"
_WHAT = "a latency predictor"
_LARGEST_NUMBER = 1e100

Floats = NDArray[np.float64]


def save_predictor(path: Path, predictor: CalibratedPredictor) -> None:
    """Write a predictor in one step."""
    write_json(path, predictor_to_dict(predictor))


def load_predictor(path: Path) -> CalibratedPredictor:
    """Read a predictor.

    Raises:
        FormatError: The file is missing, damaged, of another format, version or unit, or holds impossible figures.
    """
    return predictor_from_dict(read_json(path, _WHAT), str(path))


def predictor_to_dict(predictor: CalibratedPredictor) -> dict[str, Any]:
    """The versioned JSON form."""
    return {
        "format": _FORMAT,
        "version": PREDICTOR_VERSION,
        "unit": "ms",
        "device": predictor.device,
        "columns": list(predictor.features.columns),
        "mean": predictor.features.mean.tolist(),
        "scale": predictor.features.scale.tolist(),
        "weights": predictor.weights.tolist(),
        "intercept_ms": predictor.intercept_ms,
        "floor_ms": predictor.floor_ms,
        "relative_errors": predictor.errors.relative.tolist(),
        "trees": None if predictor.trees is None else predictor.trees.to_dict(),
    }


def predictor_from_dict(values: Any, source: str) -> CalibratedPredictor:
    """Rebuild what `predictor_to_dict` wrote.

    Args:
        values: The JSON object.
        source: Where it comes from, for error messages.

    Raises:
        FormatError: The object is no predictor, or holds impossible figures.
    """
    if not isinstance(values, Mapping) or values.get("format") != _FORMAT:
        raise FormatError(f"{source} is not {_WHAT}: expected an object with format {_FORMAT!r}")
    for name, expected in (("version", PREDICTOR_VERSION), ("unit", "ms")):
        if values.get(name) != expected:
            raise FormatError(f"{source} has {name} {values.get(name)!r}, expected {expected!r}")
    if not isinstance(device := values.get("device"), str):
        raise FormatError(f"{source} must give 'device' as a text, got {device!r}")
    columns = _columns(values.get("columns"), source)
    mean, scale, weights = (_numbers(values.get(name), name, source) for name in ("mean", "scale", "weights"))
    if not len(columns) == len(mean) == len(scale) == len(weights) or (scale <= 0).any():
        raise FormatError(f"{source} must give one mean, scale above 0 and weight for each column")
    errors = _numbers(values.get("relative_errors"), "relative_errors", source)
    if len(errors) == 0 or (np.diff(errors) < 0).any():
        raise FormatError(f"{source}: relative_errors must be at least one number, in ascending order")
    intercept, floor = (_number(values.get(name), name, source) for name in ("intercept_ms", "floor_ms"))
    if floor <= 0:
        raise FormatError(f"{source}: floor_ms must be above 0, got {floor:g}")
    trees = values.get("trees")
    return CalibratedPredictor(
        device,
        FeatureMap(columns, mean, scale),
        weights,
        intercept,
        None if trees is None else BoostedTrees.from_dict(trees, len(columns), source),
        HeldOutErrors(errors),
        floor,
    )


def _columns(values: Any, source: str) -> tuple[str, ...]:
    if not isinstance(values, list) or len(values) > LARGEST_COLUMNS or not all(type(v) is str for v in values):
        raise FormatError(f"{source}: columns must be a list of at most {LARGEST_COLUMNS} texts")
    if len(set(values)) != len(values):
        raise FormatError(f"{source}: columns must differ")
    return tuple(values)


def _numbers(values: Any, name: str, source: str) -> Floats:
    if not isinstance(values, list) or len(values) > LARGEST_COLUMNS:
        raise FormatError(f"{source}: {name} must be a list of at most {LARGEST_COLUMNS} numbers")
    return np.array([_number(value, name, source) for value in values], dtype=float)


def _number(value: Any, name: str, source: str) -> float:
    # Written so that not-a-number fails, too; what is larger would make sums infinite.
    if type(value) not in (int, float) or not abs(value) <= _LARGEST_NUMBER:
        raise FormatError(f"{source}: {name} must be finite numbers, got {str(value)[:40]!r}")
    return float(value)

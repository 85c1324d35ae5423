"""`espalier profile fit`: a device from what was measured on it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import yaml
from omegaconf import OmegaConf

from ..errors import EspalierError
from ..files import write_text
from ..graph.opspec import CONVERSIONS, FLOAT_BITS
from ..hw_models.calibrated_device import CalibratedDevice
from ..hw_models.predictors.device_yaml import device_yaml
from ..hw_models.predictors.efficiency import Efficiency
from ..hw_models.predictors.efficiency_fit import fit_efficiency
from ..hw_models.predictors.intervals import HeldOutErrors
from ..hw_models.predictors.measurement import Measurement
from ..hw_models.spaces.architecture import Space
from ..hw_models.spaces.fbnet import FbnetSpace
from ..hw_models.spaces.latency_csv import latency_columns, read_latency_csv
from ..hw_models.spaces.nasbench201 import Nasbench201Space
from ..hw_models.tables.formats import read_table
from ..progress import results
from .arguments import Words, output_path, parsed
from .catalogue import options
from .suggestions import did_you_mean

__all__ = ["USAGE", "fitted_device", "run"]

_SPACES: Mapping[str, Space] = {
    "fbnet": FbnetSpace(),
    "nasbench201": Nasbench201Space(),
    "nasbench201_compiled": Nasbench201Space(removes_dead_code=True),
}

#: Measurements that a fit needs, and that it needs when another device is given.
_FEWEST, _FEWEST_LIKE = 20, 5

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_CALIBRATED = f"{CalibratedDevice.__module__}.{CalibratedDevice.__qualname__}"


@dataclass(frozen=True)
class _Measured:
    """What was measured, floats only.

    Attributes:
        networks: Whole networks, calling the engine included.
        parts: Blocks and operators, without it.
        call_ms: What it takes, for the parts.
    """

    networks: list[Measurement]
    parts: list[Measurement]
    call_ms: float


USAGE = f"""Fit a device to what was measured on it: milliseconds per unit of work, for each kind of operator.

usage: espalier profile fit FILE output=FOLDER/device/NAME.yaml [KEY=VALUE] ...

  FILE            a table with whole networks, blocks or operators, ours or one that "import" reads; or, with space=,
                  a CSV file of measured networks: the column arch, and one of milliseconds for each device
  space=NAME      how the column arch is written: {", ".join(_SPACES)}
                  (an engine that removes operators which no output depends on)
  column=NAME     the device of the CSV file
  like=DEVICE     a fitted device that this one resembles, such as raspi4, or its YAML file: {_FEWEST_LIKE} measurements
                  suffice then, instead of {_FEWEST}

Whole networks are used where there are enough, else blocks and operators. Floats only: 8-bit layers count as float ones
on such a device, and networks that have some are left out. Then: espalier search --config-dir FOLDER device=NAME
"""


def run(arguments: Sequence[str]) -> None:
    """Fit the file on the command line."""
    words = parsed("profile fit", arguments, 1, ("output", "space", "column", "like"))
    output = _device_file(output_path("profile fit", words))
    like = fitted_device(words.options["like"]) if "like" in words.options else None
    fewest = _FEWEST if like is None else _FEWEST_LIKE
    measured = _measured(words)
    measurements = measured.networks if len(measured.networks) >= fewest else measured.parts
    are_networks = measurements is measured.networks
    what = "networks" if are_networks else "blocks and operators"
    if len(measurements) < fewest:
        raise EspalierError(
            f"{words.files[0]} has {len(measured.networks)} networks, and {len(measured.parts)} blocks and operators, "
            f"of floats; fitting needs {fewest} of one sort{'' if like else f', or {_FEWEST_LIKE} with like=DEVICE'}"
        )
    efficiency, errors = fit_efficiency(measurements, has_overhead=are_networks, like=like)
    if not are_networks:
        efficiency = replace(efficiency, overhead_ms=measured.call_ms)
    said = f"fitted to {len(measurements)} {what}; {_error_text(errors)}"
    after = f", drawn to {words.options['like']}" if like else ""
    head = [
        f"{output.stem}: {said}.",
        f"Written by espalier profile fit from {words.files[0].name!a}{after}.",
        "Only floats were measured: 8-bit layers count as float ones here. What differs much from the measured",
        "networks lies outside of what is known.",
    ]
    write_text(output, device_yaml(output.stem, head, efficiency, errors.relative_std))
    shown = results()
    shown.print(f"{said}: {output}", soft_wrap=True)
    folder = os.path.relpath(output.absolute().parent.parent)
    shown.print(f"use it: espalier search --config-dir {folder} device={output.stem}", soft_wrap=True)


def _device_file(path: Path) -> Path:
    """The file to write, checked."""
    if path.suffix != ".yaml" or not _NAME.fullmatch(path.stem) or path.absolute().parent.name != "device":
        raise EspalierError(
            f"output must be FOLDER/device/NAME.yaml, with a name of lower-case letters, digits and _, got {path}: "
            "--config-dir FOLDER finds it there"
        )
    if path.stem in options("device"):
        raise EspalierError(f"there is a device {path.stem!r} already: give another name in output=")
    if path.exists():
        raise EspalierError(f"{path} exists already: remove it, or give another output=FILE")
    return path


def fitted_device(name: str) -> Efficiency:
    """The figures of a fitted device, by its name or its file.

    Raises:
        EspalierError: It is none.
    """
    known = Path(str(files("espalier.conf"))) / "device"
    path = Path(name) if name.endswith(".yaml") else known / f"{name}.yaml"
    try:
        values = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise EspalierError(f"cannot read the device {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict) or values.get("_target_") != _CALIBRATED:
        raise EspalierError(f"like={name} is no fitted device{did_you_mean(name, _fitted_names(known))}")
    try:
        device = CalibratedDevice(name, values["overhead_ms"], values["kinds"], values["other"], values["relative_std"])
    except (KeyError, TypeError, AttributeError) as error:
        raise EspalierError(f"{path} is not a whole device: {error}") from error
    return device.efficiency


def _fitted_names(folder: Path) -> list[str]:
    return [path.stem for path in sorted(folder.glob("*.yaml")) if _CALIBRATED in path.read_text(encoding="utf-8")]


def _measured(words: Words) -> _Measured:
    """Everything in the file that a fit can use."""
    path = words.files[0]
    if "space" in words.options or "column" in words.options or ".csv" in path.suffixes:
        return _Measured(_networks_of_csv(words), [], 0.0)
    table = read_table(path)
    if table.unit != "ms":
        raise EspalierError(f"{path} is in relative units; a device needs milliseconds")
    networks = [network for network in table.networks.values() if _is_float(network)]
    return _Measured(networks, [one for one in table.measurements() if _is_float(one)], table.call_overhead_ms)


def _networks_of_csv(words: Words) -> list[Measurement]:
    path, name, column = words.files[0], words.options.get("space"), words.options.get("column")
    if name is None:
        raise EspalierError(f"a CSV file of networks needs space=NAME, too; known: {', '.join(_SPACES)}")
    if name not in _SPACES:
        raise EspalierError(f"unknown space {name!r}{did_you_mean(name, _SPACES)}")
    devices = latency_columns(path)
    if column is None:
        raise EspalierError(f"a CSV file of networks needs column=NAME, too; {path} has {', '.join(devices)}")
    if column not in devices:
        raise EspalierError(f"{path} has no column {column!r}{did_you_mean(column, devices)}")
    measured = read_latency_csv(path, _SPACES[name], column)
    return [network for network in measured.measurements(column) if network.ops]


def _is_float(measurement: Measurement) -> bool:
    return all(op.bits == FLOAT_BITS and op.kind not in CONVERSIONS for op in measurement.ops) and measurement.ops != ()


def _error_text(errors: HeldOutErrors) -> str:
    predicted = np.abs(1 / (1 + errors.relative) - 1)  # predicted over measured
    mean, close = f"{100 * predicted.mean():.1f} %", f"{100 * np.mean(predicted <= 0.1):.0f} %"
    return f"those left out were off by {mean} in the mean, {close} of them by less than 10 %"

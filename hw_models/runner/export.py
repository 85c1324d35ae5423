"""Writing the folder that is copied to a device."""

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...errors import EspalierError
from ...files import content_hash, write_bytes, write_json, write_text
from ...graph.opspec import CONVERSIONS, FREE_KINDS, OpSpec
from ...progress import step
from ..profiling.adaptive import Sampling
from ..runtimes.onnx_builders import chain_model, operator_model
from .formats import MANIFEST_FILE, MANIFEST_FORMAT
from .weights import hollow

__all__ = ["WholeNetwork", "check_empty", "export_runner"]

#: Modules of this package that the program consists of; none of them imports anything but the others, onnxruntime and
#: numpy.
_MODULES = (
    "__init__",
    "machine",
    "profiling/__init__",
    "profiling/adaptive",
    "profiling/machine_state",
    "profiling/noise",
    "profiling/operator_times",
    "profiling/overhead",
    "profiling/steady",
    "profiling/timing",
    "runner/__init__",
    "runner/formats",
    "runner/measuring",
    "runner/program",
    "runner/weights",
    "runtimes/__init__",
    "runtimes/onnx_layout",
    "runtimes/onnx_sessions",
    "runtimes/onnx_wire",
)

_PROGRAM = "measure.pyz"
_PACKAGE = "espalier_runner"
_START = f"from {_PACKAGE}.runner.program import main\n\nmain()\n"

_README = f"""Copy this folder to the device and run there: python3 {_PROGRAM} (Python 3.10 with onnxruntime and numpy).
It writes result.json, says how long it will take, and goes on where it stopped; --help lists its options.
Bring result.json back: espalier profile import-result result.json output=device.json (then: device=table, see docs)
"""

_FEATURE_MAP, _CHAIN = 3, 21

#: All files get the same date, so that the same version writes the same program.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class WholeNetwork:
    """A network to measure beside the operators.

    Attributes:
        label: Its name in the table.
        ops: What the device executes.
        model: An ONNX file.
    """

    label: str
    ops: tuple[OpSpec, ...]
    model: bytes


def export_runner(
    specs: Iterable[OpSpec], folder: Path, sampling: Sampling, networks: Sequence[WholeNetwork] = ()
) -> int:
    """Write models, manifest, program and README.

    Args:
        specs: What to measure; repetitions and operators that take no time are left out.
        folder: Where to write; created, and empty before.
        sampling: How often to measure.
        networks: Whole networks, which the sum of operators is corrected by.

    Returns:
        How many operators there are.

    Raises:
        EspalierError: The folder holds something already.
    """
    wanted = sorted({spec for spec in specs if spec.kind not in FREE_KINDS}, key=lambda spec: spec.key)
    check_empty(folder)
    operators = []
    with step("writing models", len(wanted)) as advance:
        for number, spec in enumerate(wanted):
            operators.append(_written_model(spec, number, folder))
            advance()
    written = [_written_network(network, number, folder) for number, network in enumerate(networks)]
    manifest = _manifest(operators, written, folder, sampling)
    write_text(folder / "README.txt", _README)
    _write_program(folder / _PROGRAM)
    write_json(folder / MANIFEST_FILE, manifest)
    return len(operators)


def check_empty(folder: Path) -> None:
    """Refuse to write among other files.

    Raises:
        EspalierError: The folder holds something already, or is none.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EspalierError(f"{folder} exists and is not an empty folder; give --export-runner another name")


def _written_model(spec: OpSpec, number: int, folder: Path) -> dict[str, Any]:
    name = f"models/{number:05}.onnx"
    write_bytes(folder / name, hollow(operator_model(spec)[0].SerializeToString()))
    is_conversion = spec.kind in CONVERSIONS
    strip = len(spec.input_shape) == _FEATURE_MAP and not is_conversion
    return {"key": spec.key, "spec": spec.to_dict(), "file": name, "strip": strip}


def _written_network(network: WholeNetwork, number: int, folder: Path) -> dict[str, Any]:
    name = f"models/network_{number:03}.onnx"
    write_bytes(folder / name, hollow(network.model))
    return {"label": network.label, "ops": [op.to_dict() for op in network.ops], "file": name}


def _manifest(
    operators: list[dict[str, Any]], networks: list[dict[str, Any]], folder: Path, sampling: Sampling
) -> dict[str, Any]:
    overhead: dict[str, Any] = {"extra": _CHAIN - 1}
    for name, length in (("one", 1), ("many", _CHAIN)):
        overhead[name] = f"models/overhead_{name}.onnx"
        write_bytes(folder / overhead[name], chain_model(length)[0].SerializeToString())
    facts = {name: getattr(sampling, name) for name in ("rounds", "max_rounds", "tolerance")}
    digest = content_hash(json.dumps([operators, networks, facts]))
    return {
        "format": MANIFEST_FORMAT,
        "version": 1,
        "espalier": version("espalier"),
        "digest": digest,
        "sampling": facts,
        "overhead": overhead,
        "operators": operators,
        "networks": networks,
    }


def _write_program(path: Path) -> None:
    source = Path(__file__).parents[1]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", _DATE), _START)
        for module in _MODULES:
            text = (source / f"{module}.py").read_text(encoding="utf-8")
            archive.writestr(zipfile.ZipInfo(f"{_PACKAGE}/{module}.py", _DATE), text)

"""What a device found, as a lookup table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...files import read_json
from ..tables.table import TABLE_VERSION, LookupTable
from .formats import RESULT_FORMAT

__all__ = ["read_result"]

#: Texts that a result must hold.
_TEXTS = ("device", "cpu", "created", "os", "python")
_OPERATOR = ("spec", "mean", "std", "samples", "half_width")
_NETWORK = ("ops", "mean", "std", "samples")


def read_result(path: Path) -> tuple[LookupTable, int, int]:
    """Read the file that `measure.pyz` wrote.

    Returns:
        The table, and how many operators and how many networks the device has not measured yet.

    Raises:
        FormatError: The file is missing or damaged, or holds nothing.
    """
    values = read_json(path, "a runner's result")
    if not isinstance(values, Mapping) or values.get("format") != RESULT_FORMAT:
        raise FormatError(f"{path} is not a runner's result: expected an object with format {RESULT_FORMAT!r}")
    if values.get("version") != 1 or values.get("unit") != "ms":
        got = f"{values.get('version')!r} in {values.get('unit')!r}"
        raise FormatError(f"{path} must be of version 1 with the unit 'ms', got {got}")
    for name in _TEXTS:
        if not isinstance(values.get(name), str):
            raise FormatError(f"{path} must give {name!r} as a text, got {values.get(name)!r}")
    for name in ("threads", "operators"):
        if type(values.get(name)) is not int or values[name] < 1:
            raise FormatError(f"{path} must give {name!r} as a whole number of at least 1, got {values.get(name)!r}")
    entries = values.get("entries")
    if not isinstance(entries, Mapping) or not entries:
        raise FormatError(f"{path} holds no measurements; run measure.pyz on the device first")
    table = LookupTable.from_dict(_as_table(values, entries), str(path))
    wanted = values.get("wanted_networks", 0)
    missing = wanted - len(table.networks) if type(wanted) is int else 0
    return table, max(0, values["operators"] - len(entries)), max(0, missing)


def _as_table(values: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    threads, versions = values["threads"], values.get("versions")
    system = {"os": values["os"], "python": values["python"]}
    return {
        "format": "espalier-latency-table",
        "version": TABLE_VERSION,
        "unit": "ms",
        **{name: values[name] for name in ("device", "cpu", "created")},
        "runtime": f"onnxruntime, {threads} thread{'s' if threads > 1 else ''}",
        "versions": {**versions, **system} if isinstance(versions, Mapping) else versions,
        "keeps_integers": True,
        "call_overhead_ms": values.get("call_overhead_ms"),
        "noise": values.get("noise"),
        "entries": {key: _only(_OPERATOR, entry) for key, entry in entries.items()},
        **({"networks": _as_networks(values["networks"])} if values.get("networks") else {}),
    }


def _as_networks(networks: Any) -> Any:
    if not isinstance(networks, Mapping):
        return networks
    return {label: _only(_NETWORK, network) for label, network in networks.items()}


def _only(names: tuple[str, ...], entry: Any) -> Any:
    return {name: entry[name] for name in names if name in entry} if isinstance(entry, Mapping) else entry

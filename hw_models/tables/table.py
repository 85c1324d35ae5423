"""Lookup tables: what each operator costs on one device, in a file that people can read and share."""

import contextlib
import fcntl
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import FormatError
from ...files import read_json, write_json
from ...graph.opspec import OpSpec
from ..profiling.noise import NOISE_FIGURES, Noise, merged_noise

__all__ = ["TABLE_VERSION", "Entry", "LookupTable"]

TABLE_VERSION = 1
_FORMAT = "espalier-latency-table"
_TEXTS = ("device", "runtime", "cpu", "created")


@dataclass(frozen=True, slots=True)
class Entry:
    """One operator's latency.

    Attributes:
        spec: The operator.
        mean: Milliseconds (the median of the samples, which noise pulls less than their mean).
        std: Standard deviation of `mean`, milliseconds.
        samples: How many samples were taken.
    """

    spec: OpSpec
    mean: float
    std: float
    samples: int


@dataclass
class LookupTable:
    """Latencies by operator descriptor, and where they come from.

    Attributes:
        device: Name of the device.
        runtime: Engine that executed the operators, with what changes its speed, such as "onnxruntime, 1 thread".
        versions: Library -> version.
        cpu: Processor model.
        created: When the table was begun, ISO 8601, UTC.
        keeps_integers: Whether the engine hands integers from one 8-bit operator to the next.
        call_overhead_ms: Milliseconds that a call of the engine takes beside its operators.
        noise: What disturbed the machine while the entries were measured, the worst of all times; None where nobody
            watched.
        entries: Operator key -> latency.
    """

    device: str
    runtime: str
    versions: dict[str, str]
    cpu: str
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    keeps_integers: bool = True
    call_overhead_ms: float = 0.0
    noise: Noise | None = None
    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Add or replace an operator's latency."""
        self.entries[entry.spec.key] = entry

    def to_dict(self) -> dict[str, Any]:
        """The versioned JSON form."""
        return {
            "format": _FORMAT,
            "version": TABLE_VERSION,
            "unit": "ms",
            **{name: getattr(self, name) for name in _TEXTS},
            "versions": dict(self.versions),
            "keeps_integers": self.keeps_integers,
            "call_overhead_ms": self.call_overhead_ms,
            **({"noise": self.noise.to_dict()} if self.noise else {}),
            "entries": {
                key: {"spec": e.spec.to_dict(), "mean": e.mean, "std": e.std, "samples": e.samples}
                for key, e in sorted(self.entries.items())
            },
        }

    def save(self, path: Path) -> None:
        """Write the table in one step."""
        write_json(path, self.to_dict())

    def merge_into(self, path: Path) -> None:
        """Add what the file at `path` knows and write the union back; other processes may do the same meanwhile."""
        with _locked(path):
            if path.exists():
                known = LookupTable.load(path)
                self.entries = {**known.entries, **self.entries}
                self.noise = merged_noise(known.noise, self.noise)
            self.save(path)

    @classmethod
    def load(cls, path: Path) -> "LookupTable":
        """Read a table.

        Raises:
            FormatError: The file is missing, damaged, of another format, version or unit, or holds impossible figures.
        """
        return cls.from_dict(read_json(path, "a latency table"), str(path))

    @classmethod
    def from_dict(cls, values: Any, source: str) -> "LookupTable":
        """Rebuild what `to_dict` wrote.

        Args:
            values: The JSON object.
            source: Where it comes from, for error messages.

        Raises:
            FormatError: The object is no table, or holds impossible figures.
        """
        if not isinstance(values, Mapping) or values.get("format") != _FORMAT:
            raise FormatError(f"{source} is not a latency table: expected an object with format {_FORMAT!r}")
        for name, expected in (("version", TABLE_VERSION), ("unit", "ms")):
            if values.get(name) != expected:
                raise FormatError(f"{source} has {name} {values.get(name)!r}, expected {expected!r}")
        texts = {name: values.get(name) for name in _TEXTS}
        if wrong := [name for name, text in texts.items() if not isinstance(text, str)]:
            raise FormatError(f"{source} must give {wrong[0]!r} as a text, got {texts[wrong[0]]!r}")
        versions, entries = values.get("versions"), values.get("entries")
        if not isinstance(versions, Mapping) or not isinstance(entries, Mapping):
            raise FormatError(f"{source} must have the objects 'versions' and 'entries'")
        keeps_integers = values.get("keeps_integers")
        if not isinstance(keeps_integers, bool):
            raise FormatError(f"{source} must say in 'keeps_integers' true or false, got {keeps_integers!r}")
        overhead = _number(values.get("call_overhead_ms"), "call_overhead_ms", source)
        read = {str(key): _read_entry(str(key), entry, source) for key, entry in entries.items()}
        return cls(
            **{name: str(text) for name, text in texts.items()},
            versions={str(k): str(v) for k, v in versions.items()},
            keeps_integers=keeps_integers,
            call_overhead_ms=overhead,
            noise=_read_noise(values.get("noise"), source),
            entries=read,
        )


def _read_entry(key: str, values: Any, source: str) -> Entry:
    where = f"{source}, entry {key[:80]}"
    if not isinstance(values, Mapping) or set(values) != {"spec", "mean", "std", "samples"}:
        raise FormatError(f"{where}: expected an object with spec, mean, std and samples")
    try:
        spec = OpSpec.from_dict(values["spec"])
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from error
    if spec.key != key:
        raise FormatError(f"{where}: its spec has the key {spec.key[:80]}")
    samples = values["samples"]
    if type(samples) is not int or samples < 1:
        raise FormatError(f"{where}: samples must be a whole number of at least 1, got {samples!r}")
    return Entry(spec, _number(values["mean"], "mean", where), _number(values["std"], "std", where), samples)


def _read_noise(values: Any, source: str) -> Noise | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise FormatError(f"{source} must give 'noise' as an object, got {values!r}")
    return Noise(**{name: _number(values.get(name, 0.0), name, f"{source}, noise") for name in NOISE_FIGURES})


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise FormatError(f"{where}: {name} must be a number of at least 0, got {value!r}")
    return float(value)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes that merge into the same file waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

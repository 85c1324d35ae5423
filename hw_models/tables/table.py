"""Lookup tables: what each operator costs on one device, in a file that people can read and share."""

import contextlib
import fcntl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ...errors import EspalierError, FormatError
from ..predictors.measurement import Measurement
from ..profiling.noise import NOISE_FIGURES, Noise, merged_noise
from .document import read_document, write_document
from .entry import Entry, block_to_dict, read_block, read_entry, read_number, shown

__all__ = ["TABLE_VERSION", "EnergyUnit", "Entry", "LookupTable", "Unit"]

#: Version 2 added energy, number formats, blocks, networks, a source and relative figures; 1 is still read.
TABLE_VERSION = 2

#: "relative": the source does not say in what unit it counts, so only ratios of its figures mean anything.
Unit = Literal["ms", "relative"]
EnergyUnit = Literal["", "mJ", "relative"]

_FORMAT = "espalier-latency-table"
_UNITS: dict[str, Unit] = {"ms": "ms", "relative": "relative"}
_ENERGY_UNITS: dict[str, EnergyUnit] = {"": "", "mJ": "mJ", "relative": "relative"}
_TEXTS = ("device", "runtime", "cpu", "created")
_KNOWN = {1: {"format", "version", "unit", *_TEXTS, "versions", "keeps_integers", "call_overhead_ms", "entries"}}
_KNOWN[2] = _KNOWN[1] | {"energy_unit", "source", "blocks", "networks", "noise"}
_LONGEST_TEXT = 2000

#: Where operators stand that were measured together.
_TOGETHER = ("blocks", "networks")


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
        call_overhead_ms: What a call of the engine takes beside its operators, in the unit of the latencies.
        noise: What disturbed the machine while the entries were measured, the worst of all times; None where nobody
            watched.
        entries: Key -> latency and energy; the key is the operator's, with the number format where it has one.
        unit: Unit of the latencies: "ms", or "relative" where the source does not state one.
        energy_unit: Unit of the energies: "mJ" or "relative"; "" where the table has none.
        source: Who measured, and under which licence it was published; "" for what Espalier measured.
        blocks: Label -> operators that were only measured together.
        networks: Label -> a whole network, calling the engine included: what the sum of its operators is judged by.
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
    unit: Unit = "ms"
    energy_unit: EnergyUnit = ""
    source: str = ""
    blocks: dict[str, Measurement] = field(default_factory=dict)
    networks: dict[str, Measurement] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Add or replace an operator's latency."""
        self.entries[entry.key] = entry

    def add_block(self, block: Measurement) -> None:
        """Add or replace the latency of operators that were measured together."""
        self.blocks[block.label] = block

    def add_network(self, network: Measurement) -> None:
        """Add or replace the latency of a whole network."""
        self.networks[network.label] = network

    def measurements(self) -> list[Measurement]:
        """What can be taken apart: blocks, and the entries that a descriptor states wholly, one operator each."""
        alone = (e for e in self.entries.values() if not e.number_format)
        singles = [Measurement((e.spec,), e.mean, e.std, e.samples, e.key) for e in alone]
        return [*singles, *self.blocks.values()]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured."""
        return not (self.entries or self.blocks or self.networks)

    def to_dict(self) -> dict[str, Any]:
        """The versioned JSON form; what is not known is left out."""
        more = {"energy_unit": self.energy_unit, "source": self.source}
        blocks = {label: block_to_dict(block) for label, block in sorted(self.blocks.items())}
        networks = {label: block_to_dict(network) for label, network in sorted(self.networks.items())}
        return {
            "format": _FORMAT,
            "version": TABLE_VERSION,
            "unit": self.unit,
            **{name: getattr(self, name) for name in _TEXTS},
            **{name: text for name, text in more.items() if text},
            "versions": dict(self.versions),
            "keeps_integers": self.keeps_integers,
            "call_overhead_ms": self.call_overhead_ms,
            **({"noise": self.noise.to_dict()} if self.noise else {}),
            "entries": {key: entry.to_dict() for key, entry in sorted(self.entries.items())},
            **({"blocks": blocks} if blocks else {}),
            **({"networks": networks} if networks else {}),
        }

    def save(self, path: Path) -> None:
        """Write the table in one step: Parquet where the name ends in ".parquet", else JSON."""
        write_document(path, self.to_dict())

    def take_missing(self, other: "LookupTable") -> None:
        """Add what another table of the same device knows and this one does not."""
        self.entries = {**other.entries, **self.entries}
        self.blocks = {**other.blocks, **self.blocks}
        self.networks = {**other.networks, **self.networks}
        self.noise = merged_noise(other.noise, self.noise)

    def merge_into(self, path: Path) -> None:
        """Add what the file at `path` knows and write the union back; other processes may do the same meanwhile.

        Raises:
            EspalierError: The file counts in other units.
            FormatError: The file is damaged.
        """
        with _locked(path):
            if path.exists():
                other = LookupTable.load(path)
                if other.unit != self.unit:
                    raise EspalierError(f"{path} counts in {other.unit}, what is to be added to it in {self.unit}")
                self.take_missing(other)
            self.save(path)

    @classmethod
    def load(cls, path: Path) -> "LookupTable":
        """Read a table, in JSON or Parquet.

        Raises:
            FormatError: The file is missing, damaged, of another format, version or unit, or holds impossible figures.
        """
        return cls.from_dict(read_document(path), str(path))

    @classmethod
    def from_dict(cls, values: Any, source: str) -> "LookupTable":
        """Rebuild what `to_dict` wrote.

        Args:
            values: The JSON object.
            source: Where it comes from, for error messages.

        Raises:
            FormatError: The object is no table, or holds impossible figures.
        """
        _check_document(values, source)
        keeps_integers = values.get("keeps_integers")
        if not isinstance(keeps_integers, bool):
            raise FormatError(f"{source} must say in 'keeps_integers' true or false, got {shown(keeps_integers)}")
        table = cls(
            device=_text(values, "device", source),
            runtime=_text(values, "runtime", source),
            cpu=_text(values, "cpu", source),
            created=_text(values, "created", source),
            versions={name: _text(values["versions"], name, source) for name in values["versions"]},
            keeps_integers=keeps_integers,
            call_overhead_ms=read_number(values.get("call_overhead_ms"), "call_overhead_ms", source),
            noise=_read_noise(values.get("noise"), source),
            unit=_UNITS[values["unit"]],
            energy_unit=_ENERGY_UNITS[values.get("energy_unit", "")],
            source=_text(values, "source", source) if "source" in values else "",
        )
        table.entries = {key: read_entry(key, entry, source) for key, entry in values["entries"].items()}
        table.blocks, table.networks = (
            {label: read_block(label, block, source) for label, block in values.get(place, {}).items()}
            for place in _TOGETHER
        )
        if table.energy_unit == "" and any(entry.energy is not None for entry in table.entries.values()):
            raise FormatError(f'{source} gives energies but no \'energy_unit\': expected "mJ" or "relative"')
        return table


def _check_document(values: Any, source: str) -> None:
    """Refuse what is not built like a table of a version that is known."""
    if not isinstance(values, Mapping) or values.get("format") != _FORMAT:
        raise FormatError(f"{source} is not a latency table: expected an object with format {_FORMAT!r}")
    version = values.get("version")
    if type(version) is not int or version not in _KNOWN:
        raise FormatError(f"{source} has version {shown(version)}, expected 1 to {TABLE_VERSION}")
    if unknown := sorted(str(name)[:80] for name in set(values) - _KNOWN[version]):
        raise FormatError(f"{source} has the unknown field {unknown[0]!r}; known: {', '.join(sorted(_KNOWN[version]))}")
    units = ["ms"] if version == 1 else list(_UNITS)
    for name, known in (("unit", units), ("energy_unit", list(_ENERGY_UNITS))):
        if name in values or name == "unit":
            _check_one_of(values.get(name), known, f"{source} has {name}")
    for name in ("versions", "entries", *_TOGETHER):
        if not isinstance(values.get(name, {} if name in _TOGETHER else None), Mapping):
            raise FormatError(f"{source} must have the objects 'versions' and 'entries', got no object {name!r}")


def _read_noise(values: Any, source: str) -> Noise | None:
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise FormatError(f"{source} must give 'noise' as an object, got {shown(values)}")
    return Noise(**{name: read_number(values.get(name, 0.0), name, f"{source}, noise") for name in NOISE_FIGURES})


def _check_one_of(value: Any, known: list[str], what: str) -> None:
    if not isinstance(value, str) or value not in known:
        raise FormatError(f"{what} {shown(value)}, expected {' or '.join(repr(name) for name in known)}")


def _text(values: Mapping[str, Any], name: str, source: str) -> str:
    text = values.get(name)
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
        raise FormatError(f"{source} must give {name!r} as a text of at most {_LONGEST_TEXT} letters")
    return text


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes that merge into the same file waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Reading and writing the documents that tables are: JSON as people edit it, Parquet as data frames read it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import FormatError
from ...files import atomic_path, write_json

__all__ = ["is_parquet", "read_document", "read_strict_json", "write_document"]

#: No table of a search space comes near; what is larger was not written by anybody who measured it.
LARGEST_BYTES = 256 * 2**20
LARGEST_ROWS = 2_000_000

#: Kind of a row of several operators -> its place in the document.
_TOGETHER = {"block": "blocks", "network": "networks"}

#: Columns that hold nothing where a figure is not known.
_OPTIONAL = ("energy", "number_format", "half_width")

#: Columns that files of an earlier day lack.
_LATER = frozenset({"half_width"})

_MAGIC = b"PAR1"
_HEADER = b"espalier"
_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("operators", pa.string(), nullable=False),
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("std", pa.float64(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("energy", pa.float64()),
        pa.field("number_format", pa.string()),
        pa.field("half_width", pa.float64()),
    ]
)


def is_parquet(path: Path) -> bool:
    """Whether a file that is written goes by its name to Parquet."""
    return path.suffix == ".parquet"


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a table's document in one step: Parquet where the file's name ends so, else JSON."""
    if not is_parquet(path):
        write_json(path, document)
        return
    rows = [_entry_row(key, entry) for key, entry in document["entries"].items()]
    for kind, place in _TOGETHER.items():
        rows += [_block_row(kind, label, block) for label, block in document.get(place, {}).items()]
    header = {name: value for name, value in document.items() if name not in ("entries", *_TOGETHER.values())}
    schema = _SCHEMA.with_metadata({_HEADER: json.dumps(header, allow_nan=False).encode()})
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def read_document(path: Path) -> Any:
    """Read a table's document; which of the formats it is shows in its first bytes.

    Raises:
        FormatError: The file is missing, too large, damaged or in neither format.
    """
    what = "a latency table"
    try:
        size = path.stat().st_size
        with path.open("rb") as opened:
            start = opened.read(len(_MAGIC))
    except OSError as error:
        raise FormatError(f"cannot read {what} from {path}: {error.strerror or error}") from error
    if not size:
        raise FormatError(f"{path} is not {what}: the file is empty")
    if size > LARGEST_BYTES:
        raise FormatError(f"{path} is not {what}: it has {size / 2**20:.0f} MiB, more than {LARGEST_BYTES // 2**20}")
    return _read_parquet(path) if start == _MAGIC else read_strict_json(path.read_bytes(), f"{path} is not {what}")


def read_strict_json(data: bytes, problem: str) -> Any:
    """Parse JSON in which no key is given twice and every number is finite.

    Args:
        data: UTF-8.
        problem: Head of the error message, such as "x.json is not a table".

    Raises:
        FormatError: It is something else, or nested too deep.
    """
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except FormatError as error:
        raise FormatError(f"{problem}: {error}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{problem}: it is neither a text nor Parquet") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits included
        raise FormatError(f"{problem}: not valid JSON ({str(error).splitlines()[0][:200]})") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise FormatError(f"the key {twice[:80]!r} is given twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise FormatError(f"{name} is no number that JSON knows")


def _entry_row(key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: value for name, value in entry.items() if name != "spec"}
    return {"kind": "operator", "key": key, "operators": json.dumps([entry["spec"]])} | figures


def _block_row(kind: str, label: str, block: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: value for name, value in block.items() if name != "ops"}
    return {"kind": kind, "key": label, "operators": json.dumps(block["ops"])} | figures


def _read_parquet(path: Path) -> dict[str, Any]:
    problem = f"{path} is not a latency table"
    try:
        with pq.ParquetFile(path) as opened:
            # Declared sizes are checked before anything is reserved for them.
            _check_sizes(opened.metadata, problem)
            header = _header(opened.schema_arrow, problem)
            rows = opened.read().to_pylist()
    except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FormatError(f"{path} cannot be read as Parquet: {reason}") from error
    document = header | {"entries": {}} | {place: {} for place in _TOGETHER.values()}
    for number, row in enumerate(rows):
        _take_row(document, row, f"{problem}: row {number}")
    return {name: value for name, value in document.items() if value or name not in _TOGETHER.values()}


def _check_sizes(metadata: Any, problem: str) -> None:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    size = sum(group.total_byte_size for group in groups)
    if not (0 <= metadata.num_rows <= LARGEST_ROWS and 0 <= size <= LARGEST_BYTES):
        raise FormatError(f"{problem}: it declares {metadata.num_rows} rows of {size} bytes")
    if sum(group.num_rows for group in groups) != metadata.num_rows:
        raise FormatError(f"{problem}: its parts hold other numbers of rows than it declares")


def _header(schema: Any, problem: str) -> dict[str, Any]:
    types = {field.name: field.type for field in _SCHEMA}
    found = {field.name: field.type for field in schema}
    if {name: types[name] for name in _LATER} | found != types:
        expected = ", ".join(f"{name} ({kind})" for name, kind in types.items())
        raise FormatError(f"{problem}: expected the columns {expected}; got {', '.join(schema.names)[:200]}")
    text = (schema.metadata or {}).get(_HEADER)
    header = read_strict_json(text, problem) if text is not None else None
    if not isinstance(header, dict):
        raise FormatError(f"{problem}: its metadata lack the object {_HEADER.decode()!r}")
    return header


def _take_row(document: dict[str, Any], row: Mapping[str, Any], problem: str) -> None:
    """Put a row where the JSON form of the document has it."""
    figures = {name: row[name] for name in ("mean", "std", "samples")}
    figures |= {name: row[name] for name in _OPTIONAL if row.get(name) is not None}
    operators = read_strict_json(str(row["operators"]).encode(), problem)
    place = {"operator": "entries", **_TOGETHER}.get(row["kind"])
    if place is None or not isinstance(operators, list) or not operators:
        raise FormatError(f"{problem}: expected an operator, a block or a network, got {str(row['kind'])[:80]!r}")
    if row["key"] in document[place]:
        raise FormatError(f"{problem}: the key {row['key'][:80]!r} is given twice")
    whole = {"spec": operators[0]} if place == "entries" and len(operators) == 1 else {"ops": operators}
    document[place][row["key"]] = whole | figures

"""Writing tables where a user says: only as what they are, and over nobody's file."""

import os
from pathlib import Path

from ..errors import EspalierError, FormatError
from ..hw_models.tables.comparison import provenance_differences
from ..hw_models.tables.table import LookupTable
from .arguments import Words, output_path

__all__ = ["check_place", "check_same_table", "save_into", "table_path"]

_SUFFIXES = (".json", ".parquet")


def table_path(name: str, words: Words) -> Path:
    """The table to write.

    Args:
        name: Of the command, such as "profile merge".
        words: Its command line.

    Raises:
        EspalierError: None was given, or no table can be written there.
    """
    path = output_path(name, words).expanduser()
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is measured.

    Raises:
        EspalierError: There can be no such file, or its name is not that of a table.
    """
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not path.name or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise EspalierError(f"output must be a file that can be written, such as output=host.json, got {path}")
    if path.suffix not in _SUFFIXES:
        raise EspalierError(f"output must end in {' or '.join(_SUFFIXES)}, such as output=host.json, got {path}")


def check_same_table(path: Path, table: LookupTable) -> None:
    """Refuse a file that is there already, unless it is a table of the same device, which can be gone on with.

    Raises:
        EspalierError: It is something else.
    """
    if not path.exists():
        return
    advice = "remove it, or give another output=FILE"
    try:
        known = LookupTable.load(path)
    except FormatError as error:
        raise EspalierError(f"{path} exists already, and is no table to go on with: {advice}") from error
    for name, (theirs, ours) in provenance_differences(known, table).items():
        raise EspalierError(f"{path} exists already, with {name} {theirs!r} where this is {ours!r}: {advice}")


def save_into(path: Path, table: LookupTable) -> None:
    """Write a table, with what the file at `path` knows beside it.

    Args:
        path: Passes `check_same_table`.
        table: Gets what it lacks.
    """
    check_same_table(path, table)
    if path.exists():
        table.take_missing(LookupTable.load(path))
    table.save(path)

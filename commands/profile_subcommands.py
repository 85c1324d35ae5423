"""What `espalier profile` does with table files that are there already."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EspalierError
from .suggestions import did_you_mean
from .table_output import check_place

__all__ = [
    "SUBCOMMANDS",
    "Words",
    "amount",
    "output_path",
    "parsed",
    "run_subcommand",
    "table_path",
    "whole_number",
    "yes_or_no",
]

_MOST_DIGITS = 9

#: Word after `espalier profile` -> what it does, in a line.
SUBCOMMANDS = {
    "show": "what a table holds: operators by kind, the slowest, where it comes from, how noisy it is",
    "diff": "which operators two tables disagree on by more than their uncertainty",
    "merge": "two tables as one",
    "check": "whether a table is sound, and whether it knows every operator of a search space",
    "import": "a table of ours from one of ProxylessNAS, Once-for-all, BitFusion",
    "import-result": "a table of what measure.pyz measured on another device",
    "fit": "a device from measured networks, blocks or operators",
}


@dataclass(frozen=True)
class Words:
    """A command line, taken apart.

    Attributes:
        files: Words without a "=".
        options: The others, KEY=VALUE.
    """

    files: tuple[Path, ...]
    options: dict[str, str]


def run_subcommand(name: str, arguments: Sequence[str]) -> None:
    """Run `espalier profile NAME` with the words after it."""
    module = importlib.import_module(f".profile_{name.replace('-', '_')}", __package__)
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(module.USAGE)
        return
    module.run(arguments)


def parsed(name: str, arguments: Sequence[str], n_files: int, known: Sequence[str]) -> Words:
    """Take a command line apart.

    Args:
        name: Of the subcommand.
        arguments: The words after it.
        n_files: How many files it takes.
        known: The options that it has.

    Raises:
        EspalierError: There are more or fewer files, or an option is unknown or given twice.
    """
    files = tuple(Path(word) for word in arguments if "=" not in word)
    if flags := [str(file) for file in files if str(file).startswith("-")]:
        raise EspalierError(f"unknown flag {flags[0]}; options are written KEY=VALUE")
    if len(files) != n_files:
        wanted = "one file" if n_files == 1 else f"{n_files} files"
        raise EspalierError(f"espalier profile {name} takes {wanted}, got {len(files)}")
    options: dict[str, str] = {}
    for word in arguments:
        key, is_option, value = word.partition("=")
        if is_option and key not in known:
            raise EspalierError(f"espalier profile {name} has no option {key!r}{did_you_mean(key, known)}")
        if is_option and (key in options or not value):
            raise EspalierError(f"{key} must be given once, with a value: {key}=VALUE")
        options |= {key: value} if is_option else {}
    return Words(files, options)


def output_path(name: str, words: Words) -> Path:
    """The file to write.

    Raises:
        EspalierError: None was given.
    """
    if "output" not in words.options:
        raise EspalierError(f"espalier profile {name} needs output=FILE")
    return Path(words.options["output"])


def table_path(name: str, words: Words) -> Path:
    """The table to write.

    Raises:
        EspalierError: None was given, or no table can be written there.
    """
    path = output_path(name, words).expanduser()
    check_place(path)
    return path


def whole_number(key: str, text: str) -> int:
    """A whole number of at least 0.

    Raises:
        EspalierError: The text is something else.
    """
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise EspalierError(f"{key}: expected a whole number of at least 0, got {text[:40]!r}")
    return int(text)


def yes_or_no(key: str, text: str) -> bool:
    """Whether a text is "true"; "false" is the only other one.

    Raises:
        EspalierError: The text is something else.
    """
    if text not in ("true", "false"):
        raise EspalierError(f"{key}: expected true or false, got {text[:40]!r}")
    return text == "true"


def amount(value: float, unit: str) -> str:
    """A latency as people read it.

    Args:
        value: In the table's unit.
        unit: "ms" or "relative".
    """
    if unit == "relative":
        return f"{value:.3g} (relative)"
    return f"{value:.3g} ms" if value >= 1 else f"{1e3 * value:.3g} us"

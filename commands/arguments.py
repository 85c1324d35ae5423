"""Command lines of words and KEY=VALUE, for commands that Hydra has no part in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import EspalierError
from .suggestions import did_you_mean

__all__ = ["Words", "config_folders", "output_path", "parsed", "whole_number", "yes_or_no"]

_MOST_DIGITS = 9


@dataclass(frozen=True)
class Words:
    """A command line, taken apart.

    Attributes:
        files: Words without a "=".
        options: The others, KEY=VALUE.
    """

    files: tuple[Path, ...]
    options: dict[str, str]


def parsed(name: str, arguments: Sequence[str], n_files: int, known: Sequence[str], what: str = "file") -> Words:
    """Take a command line apart.

    Args:
        name: Of the command, such as "profile show".
        arguments: The words after it.
        n_files: How many files it takes.
        known: The options that it has.
        what: One of its files is called.

    Raises:
        EspalierError: There are more or fewer files, or an option is unknown or given twice.
    """
    files = tuple(Path(word) for word in arguments if "=" not in word)
    if flags := [str(file) for file in files if str(file).startswith("-")]:
        raise EspalierError(f"unknown flag {flags[0]}; options are written KEY=VALUE")
    if len(files) != n_files:
        wanted = f"one {what}" if n_files == 1 else f"{n_files} {what}s"
        raise EspalierError(f"espalier {name} takes {wanted}, got {len(files)}")
    options: dict[str, str] = {}
    for word in arguments:
        key, is_option, value = word.partition("=")
        if is_option and key not in known:
            raise EspalierError(f"espalier {name} has no option {key!r}{did_you_mean(key, known)}")
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
        raise EspalierError(f"espalier {name} needs output=FILE")
    return Path(words.options["output"])


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


def config_folders(words: list[str]) -> list[Path]:
    """Take the folders of `--config-dir FOLDER` out of the words.

    Args:
        words: Of a command line; is changed.

    Raises:
        EspalierError: The flag stands without a folder.
    """
    folders: list[Path] = []
    while "--config-dir" in words:
        place = words.index("--config-dir")
        if place + 1 == len(words):
            raise EspalierError("--config-dir needs a folder")
        folders.append(Path(words[place + 1]))
        del words[place : place + 2]
    return folders

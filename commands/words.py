"""Checking the words of a command line before Hydra reads them."""

import contextlib
import io
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Sweep
from hydra.errors import HydraException

from ..errors import EspalierError
from .catalogue import DEFAULTS, options

__all__ = ["check_words", "options_first"]

_WRITTEN_AS = "options are written KEY=VALUE"


def options_first(words: Sequence[str]) -> list[str]:
    """The words with all flags and their values after all options: Hydra reads options only side by side."""
    return sorted(words, key=lambda word: not (word.startswith("~") or ("=" in word and not word.startswith("-"))))


def check_words(words: Sequence[str]) -> None:
    """Check that every word is a flag of Hydra's or an option with a value of the right kind.

    Args:
        words: Without the program's name and the command.

    Raises:
        EspalierError: Names the first word that cannot be read, and how it is written.
    """
    arguments = _parsed(words)
    folders = [Path(arguments.config_dir)] if arguments.config_dir and Path(arguments.config_dir).is_dir() else []
    for word in arguments.overrides:
        _check_override(word, folders)


def _parsed(words: Sequence[str]) -> Namespace:
    """What Hydra's own parser makes of the words; its usage lines are left out of its complaints."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            arguments, unknown = get_args_parser().parse_known_args(list(words))
    except SystemExit as stop:
        if not stop.code:
            raise
        reason = complaint.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        raise EspalierError(f"{reason}; {_WRITTEN_AS}, such as agent=dyna") from stop
    if unknown and unknown[0].startswith("-"):
        raise EspalierError(f"unknown flag {unknown[0]}; {_WRITTEN_AS}, such as {_likely(unknown[0], words)}")
    arguments.overrides += unknown
    return arguments


def _likely(flag: str, words: Sequence[str]) -> str:
    """What the writer of `--agent dyna` or `--agent=dyna` meant."""
    name = flag.lstrip("-")
    if "=" in name:
        return name
    following = list(words)[list(words).index(flag) + 1 :]
    if following and name and not following[0].startswith("-") and "=" not in following[0]:
        return f"{name}={following[0]}"
    return "agent=dyna"


def _check_override(word: str, folders: Sequence[Path]) -> None:
    if "=" not in word and not word.startswith("~"):
        groups = [group for group in DEFAULTS if word in options(group, folders)]
        raise EspalierError(
            f"{word!r} has no value; {_WRITTEN_AS}, such as {groups[0] if groups else 'agent'}="
            f"{word if groups else 'dyna'}"
        )
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
        values = _values(override)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise EspalierError(
            f"{word} cannot be read as KEY=VALUE ({reason}); put values with special characters in quotes"
        ) from error
    group = override.key_or_group
    if group not in DEFAULTS or override.is_delete():
        return
    for value in values:
        if not isinstance(value, str | list):
            known = ", ".join(options(group, folders))
            raise EspalierError(f"{word}: {group} is a group; expected one of {known}")


def _values(override: Override) -> list[Any]:
    """The value, or in a sweep over choices each of them."""
    value = override.value()
    if isinstance(value, Sweep):
        return list(override.sweep_iterator()) if override.is_choice_sweep() else []
    return [value]

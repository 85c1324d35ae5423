"""`espalier list`: what there is to choose from."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import EspalierError
from .arguments import config_folders
from .catalogue import DEFAULTS, options

__all__ = ["run"]

_USAGE = """Show what there is to choose from.

usage: espalier list [GROUP] [--config-dir FOLDER]

groups: {groups}
"""

#: Plurals that people write.
_PLURALS = {"data": "data", "finish": "finishes"}
_GROUPS = {_PLURALS.get(name, f"{name}s"): name for name in DEFAULTS}


def run(arguments: Sequence[str]) -> None:
    """Print the groups, or the options of one."""
    words = list(arguments)
    folders = config_folders(words)
    if "-h" in words or "--help" in words:
        sys.stdout.write(_USAGE.format(groups=", ".join(sorted(_GROUPS))))
        return
    if len(words) > 1:
        raise EspalierError(f"espalier list takes one group, got {' '.join(words)}")
    lines = _group_lines(words[0], folders) if words else _overview(folders)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _overview(folders: Sequence[Path]) -> list[str]:
    return [
        f"{plural:<12} {', '.join(options(group, folders))}" for plural, group in _GROUPS.items() if group != "data"
    ]


def _group_lines(word: str, folders: Sequence[Path]) -> list[str]:
    group = _GROUPS.get(word, word)
    if group not in DEFAULTS:
        raise EspalierError(f"unknown group {word!r}; known: {', '.join(sorted(_GROUPS))}")
    found = options(group, folders)
    width = max((len(name) for name in found), default=0) + 2
    return [f"{name:<{width}}{text}" for name, text in found.items()]

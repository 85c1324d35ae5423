"""What to say of a name that does not exist: the nearest that does, or how to come by it."""

import difflib
from collections.abc import Iterable
from dataclasses import fields

from .catalogue import inner_options, options, spaces_with
from .schema import DemandSchema

__all__ = ["did_you_mean", "technique_advice", "unknown_option"]

_TECHNIQUES = "space.techniques."


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """The nearest known name as the end of a message, or all of them where none is near.

    Args:
        name: What was written.
        known: What could have been.
        before: Stands before each name in the message, such as "demand.".
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {before + near[0]!r}?"
    return f"; known: {', '.join(before + known for known in names)}" if names else ""


def unknown_option(path: str, siblings: Iterable[str]) -> str:
    """The message for a key that is in no configuration.

    Args:
        path: With dots, such as "demand.latncy_ms".
        siblings: The names that the last part of the path could have had.
    """
    if advice := technique_advice(path):
        return f"unknown option {path!r}; {advice}"
    folder, dot, name = path.rpartition(".")
    known = list(siblings)
    if not folder and (whole := _with_group(name, known)):
        return f"unknown option {path!r}; did you mean {whole!r}?"
    return f"unknown option {path!r}{did_you_mean(name, known, folder + dot)}"


def _with_group(name: str, siblings: list[str]) -> str:
    """The whole name of the option of a group that is nearest, unless a sibling is nearer; "" where none is near."""
    inside = {entry.name: f"demand.{entry.name}" for entry in fields(DemandSchema)} | inner_options()
    near = difflib.get_close_matches(name, [*siblings, *inside], n=1)
    return inside[near[0]] if near and near[0] not in siblings else ""


def technique_advice(path: str) -> str:
    """How a technique is added to the space, where that is what a key aims at; else ""."""
    if path in ("technique", "space/technique", "space/techniques"):
        return "a technique is added as +technique@space.techniques.NAME=NAME (espalier list techniques)"
    name = path.removeprefix(_TECHNIQUES)
    if not path.startswith(_TECHNIQUES) or name not in options("technique"):
        return ""
    spaces = " or ".join(f"space={space}" for space in spaces_with(name))
    return f"{name} is not in this space: add +technique@space.techniques.{name}={name}" + (
        f", or choose {spaces}" if spaces else ""
    )

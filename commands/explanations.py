"""What Hydra says of an override that does not fit, in words that lead to one that does."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from .catalogue import DEFAULTS, options
from .errors import one_line
from .schema import SearchSchema
from .suggestions import did_you_mean, technique_advice, unknown_option
from .validation import takes_argument

__all__ = ["explained"]

_TECHNIQUE = re.compile(r"technique@space\.techniques\.(\w+)")

#: OmegaConf's names of types -> ours.
_TYPES = {"Float": "a number", "Integer": "a whole number", "Boolean": "true or false"}

#: Ends of names -> what the number counts.
_UNITS = {
    "_ms": "in milliseconds",
    "_mj": "in millijoules",
    "_bytes": "in bytes",
    "_points": "in percentage points",
}

#: Group that no configuration chooses at its top -> where it is chosen.
_BELONGS = {
    "energy": "what predicts energy belongs to a device: energy@device.energy",
    "planner": "a planner belongs to an agent that plans: agent=dyna planner@agent.planner",
    "target": "a target belongs to compiling: espalier compile RUN_FOLDER target",
}


def explained(error: HydraException, words: Sequence[str]) -> str:
    """The error in one line.

    Args:
        error: Raised while the configuration was composed.
        words: The command line, to quote from.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return f"{group}={name}: {group} has no option {name!r}{did_you_mean(name, error.options)}"
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return _unknown_key(cause, one_line(error))
    text = str(error)
    if isinstance(cause, ValidationError) and (found := re.match("Error merging override (.*)", text)):
        return _wrong_value(found[1], cause)
    for pattern, explain in _BY_TEXT.items():
        if found := re.search(pattern, text):
            return explain(found[1], words) or one_line(error)
    return one_line(error)


def _unknown_key(cause: OmegaConfBaseException, fallback: str) -> str:
    node, path = cause.parent_node, str(cause.full_key or cause.key)
    if not isinstance(node, DictConfig):
        return fallback
    if takes_argument(node, str(cause.key)):
        return f"{path} has no value so far: add it as +{path}=VALUE"
    return unknown_option(path, [str(key) for key in node if not str(key).startswith("_")])


def _wrong_value(word: str, cause: OmegaConfBaseException) -> str:
    key, _, value = word.lstrip("+").partition("=")
    reason = str(cause).splitlines()[0]
    if "is not a ListConfig" in reason:
        return f"{key}: expected a list, got {value!r}; write {key}=[{value}]"
    if "is not a subclass of" in reason:
        names = ", ".join(str(name) for name in cause.child_node or ())
        return f"{key}: expected one of its options, as {key}.NAME=VALUE, got {value!r}; known: {names}"
    found = re.search(r"could not be converted to (\w+)", reason)
    if not found:
        return f"{word}: {reason}"
    if cause.full_key != key:
        return f"unknown option {key!r}: {cause.full_key} is one value, not a group of options"
    unit = next((f" ({unit})" for end, unit in _UNITS.items() if key.endswith(end)), "")
    return f"{key}: expected {_TYPES.get(found[1], found[1])}{unit}, got {value!r}"


def _written(key: str, words: Sequence[str]) -> str:
    """The word of the command line that a key stands in."""
    return next((word for word in words if word.lstrip("+~").partition("=")[0] == key), key)


def _not_in_defaults(key: str, words: Sequence[str]) -> str:
    word = _written(key, words)
    option = word.partition("=")[2]
    if key == "technique" and option in options("technique"):
        return f"{word}: techniques are chosen one by one: add +technique@space.techniques.{option}={option}"
    if found := _TECHNIQUE.fullmatch(key):
        return technique_advice(f"space.techniques.{found[1]}") or f"{word}: {technique_advice('technique')}"
    if advice := technique_advice(key):
        return f"{word}: {advice}"
    if key in _BELONGS:
        return f"{word}: {_BELONGS[key]}={option or 'NAME'}"
    return f"{word}: unknown group {key!r}{did_you_mean(key, DEFAULTS)}"


def _not_in_schema(key: str, _: Sequence[str]) -> str:
    return unknown_option(key, [entry.name for entry in fields(SearchSchema)])


def _twice(key: str, words: Sequence[str]) -> str:
    if found := _TECHNIQUE.fullmatch(key):
        name = found[1]
        return f"{name} is in the space already; its options are changed as space.techniques.{name}.OPTION=VALUE"
    word = _written(key, words)
    return f"{word}: {key} is chosen already; leave the + away: {word.lstrip('+')}"


def _exists(key: str, words: Sequence[str]) -> str:
    word = _written(key, words)
    return f"{word}: {key} has a value already; leave the + away: {word.lstrip('+')}"


def _nothing_to_delete(key: str, words: Sequence[str]) -> str:
    if found := re.fullmatch(r"space\.techniques\.(\w+)", key):
        near = did_you_mean(found[1], options("technique")) if found[1] not in options("technique") else ""
        return f"{_written(key, words)}: {found[1]} is not in the space{near}"
    return f"{_written(key, words)}: there is no {key}"


#: Part of Hydra's message, with the key -> what to say instead.
_BY_TEXT: Mapping[str, Callable[[str, Sequence[str]], str]] = {
    r"Could not override '([^']+)'": _not_in_defaults,
    r"Multiple values for ([^ ]+)\.": _twice,
    r"Key '(\w+)' not in 'SearchSchema'": _not_in_schema,
    r"(\S+) appears more than once in the final defaults list": _twice,
    r"Could not append to config. An item is already at '([^']+)'": _exists,
    r"Could not delete from config. '([^']+)' does not exist": _nothing_to_delete,
    r"Could not delete '([^'=]+)[^']*'. No match": _nothing_to_delete,
}

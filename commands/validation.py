"""Checking the nodes of a configuration against what they build, before anything is built."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ..errors import EspalierError
from .importing import located
from .suggestions import did_you_mean

__all__ = ["check_node", "takes_argument"]

_SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
_PLAIN = (int, float, str, bool, type(None))


def check_node(path: str, node: Any) -> None:
    """Check every target inside a node: that it exists, takes the given arguments, and that they have its types.

    Args:
        path: Where the node stands, such as "agent".
        node: Plain values.

    Raises:
        EspalierError: Names the first argument that is wrong, what was expected and what was got.
    """
    for place, target_node in _targets(path, node):
        _check_target(place, target_node)


def takes_argument(node: Mapping[str, Any], name: str) -> bool:
    """Whether what a node's target builds takes an argument of this name, which the node need not hold."""
    target = dict(node).get("_target_") if "_target_" in node and node["_target_"] != "???" else None
    if not isinstance(target, str):
        return False
    try:
        parameters = inspect.signature(_found("", target)).parameters.values()
    except (EspalierError, TypeError, ValueError):
        return False
    return any(name == parameter.name or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _targets(path: str, node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for name, child in node.items():
            yield from _targets(f"{path}.{name}", child)
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from _targets(f"{path}[{index}]", child)


def _check_target(path: str, node: Mapping[str, Any]) -> None:
    target = _found(path, str(node["_target_"]))
    try:
        parameters = inspect.signature(target).parameters
    except (TypeError, ValueError):
        return  # written in C: nothing is known of its arguments
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    hints = _type_hints(target)
    for name, value in node.items():
        if name in _SPECIAL:
            continue
        if name not in parameters:
            raise EspalierError(f"{path} has no argument {name!r}{did_you_mean(name, parameters)}")
        _check_value(f"{path}.{name}", value, hints.get(name))


def _found(path: str, target: str) -> Callable[..., Any]:
    found = located(f"{path}._target_", target)
    if not callable(found):
        raise EspalierError(f"{path}._target_={target!r} is a {type(found).__name__}, expected a class or function")
    return found


def _type_hints(target: Callable[..., Any]) -> dict[str, Any]:
    function: Any = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError):
        return {}


def _check_value(path: str, value: Any, hint: Any) -> None:
    is_built = isinstance(value, Mapping) and "_target_" in value
    if hint is None or is_built or not _is_plain(hint):
        return
    try:
        TypeAdapter(hint, config=ConfigDict(strict=False)).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise EspalierError(f"{path}={value!r}: {reason} (expected {_readable(hint)})") from error


def _is_plain(hint: Any) -> bool:
    """Whether a type is made of numbers, texts and lists and mappings of them."""
    if hint in _PLAIN or hint is None:
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return True
    is_container = origin in (types.UnionType, typing.Union, list, tuple, Sequence, Mapping, dict)
    return is_container and all(part is ... or _is_plain(part) for part in typing.get_args(hint))


def _readable(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) else str(hint).replace("typing.", "").replace("collections.abc.", "")

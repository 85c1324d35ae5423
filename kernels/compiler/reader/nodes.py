"""What the nodes of an exported graph say of themselves."""

from typing import Any

from torch import Tensor, fx

from ..ir import Pair

__all__ = ["argument", "one_row", "pair_of", "shape_of", "source_of"]


def source_of(node: fx.Node) -> fx.Node:
    """The first argument of an operator that reads one tensor there."""
    source: fx.Node = node.args[0]  # type: ignore[assignment]  # the tensor
    return source


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """An argument given by position or by name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Of the tensor that an operator gives, or of the first of them, with the batch axis."""
    value = node.meta["val"]
    return tuple((value if isinstance(value, Tensor) else value[0]).shape)


def pair_of(value: Any, _: int) -> Pair:
    """Height and width of what is done to an image."""
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def one_row(value: Any, other: int) -> Pair:
    """Height and width of what is done to a signal: nothing (`other`) over its one row."""
    return other, pair_of(value, other)[1]

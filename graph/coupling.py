"""Layers that must agree with each other about their channels."""

from dataclasses import dataclass
from typing import Literal

from .graph import INPUT, Graph, Operator

__all__ = ["Coupling", "CouplingKind", "couplings", "producers"]

CouplingKind = Literal["add", "multiply", "concat", "grouped", "depthwise"]

_WEIGHTED = ("conv2d", "conv_transpose2d", "linear", "matmul", "other")


@dataclass(frozen=True, slots=True)
class Coupling:
    """Layers tied together, and what ties them.

    Attributes:
        kind: "add" or "multiply" (equal channels, one by one), "concat" (channels side by side), "grouped" or
            "depthwise" (a convolution that keeps channels apart, and the layers that feed it).
        at: Name of the operator that ties them.
        modules: Dotted paths of the tied layers; `INPUT` stands for the network's input.
    """

    kind: CouplingKind
    at: str
    modules: tuple[str, ...]


def producers(graph: Graph, name: str) -> tuple[str, ...]:
    """Dotted paths of the layers whose output channels arrive at the operator `name` through its inputs.

    The walk goes back through everything that keeps channels (batch-norm, activations, pooling, additions,
    concatenations, depthwise convolutions excepted) and stops at layers that mix them. A function with weights
    stands for itself by its operator's name.
    """
    found: dict[str, None] = {}
    waiting = list(graph[name].inputs)
    seen: set[str] = set()
    while waiting:
        current = waiting.pop(0)
        if current in seen:
            continue
        seen.add(current)
        if current == INPUT:
            found[INPUT] = None
        elif graph[current].kind in _WEIGHTED:
            found[graph[current].module or current] = None
        else:
            waiting.extend(graph[current].inputs)
    return tuple(found)


def couplings(graph: Graph) -> tuple[Coupling, ...]:
    """All couplings of a network in order of execution."""
    found = (_coupling(graph, operator) for operator in graph.operators)
    return tuple(coupling for coupling in found if coupling is not None)


def _coupling(graph: Graph, operator: Operator) -> Coupling | None:
    spec = operator.spec
    if operator.kind == "conv2d" and spec.groups > 1:
        kind: CouplingKind = "depthwise" if spec.groups == spec.input_shape[0] else "grouped"
        return Coupling(kind, operator.name, (*producers(graph, operator.name), operator.module or operator.name))
    if len(set(operator.inputs)) < 2:
        return None
    kinds: dict[str, CouplingKind] = {"add": "add", "elementwise": "multiply", "concat": "concat"}
    if operator.kind not in kinds:
        return None
    return Coupling(kinds[operator.kind], operator.name, producers(graph, operator.name))

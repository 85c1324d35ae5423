"""Residual blocks: chains of layers that a shortcut leads around, so that a network also works without them."""

from dataclasses import dataclass

from ..graph.graph import INPUT, Graph, Operator
from ..graph.opspec import Shape

__all__ = ["Block", "common_path", "find_blocks"]


@dataclass(frozen=True, slots=True)
class Block:
    """The branch of a residual block.

    Attributes:
        name: Dotted path that its layers have in common, or the addition's name.
        operators: Names of the branch's operators in order.
        layers: Dotted paths of the branch's layers in order; the last one gives what is added.
        addition: Name of the operator that adds the branch to the shortcut.
        shape: Shape of what is added, without the batch axis.
    """

    name: str
    operators: tuple[str, ...]
    layers: tuple[str, ...]
    addition: str
    shape: Shape

    @property
    def first(self) -> str:
        """Name of the branch's first operator."""
        return self.operators[0]


def find_blocks(graph: Graph) -> tuple[Block, ...]:
    """The additions whose one input is a chain of layers from where the other one comes from.

    Of two such chains the one with more arithmetic is the branch. The chain must end in a layer, and its layers with
    weights must be called nowhere else.
    """
    found: dict[str, Block] = {}
    for operator in graph.operators:
        block = _block(graph, operator) if operator.kind == "add" and len(operator.inputs) == 2 else None
        if block is not None:
            name = block.name if block.name and block.name not in found else operator.name
            found[name] = Block(name, block.operators, block.layers, block.addition, block.shape)
    return tuple(found.values())


def _block(graph: Graph, addition: Operator) -> Block | None:
    chains = [_chain(graph, name) for name in addition.inputs]
    if chains[0][0] != chains[1][0]:
        return None
    branch = max((operators for _, operators in chains), key=_macs)
    layers = tuple(o.module for o in branch if o.module and len(graph.calls(o.module)) == 1)
    shared = [o for o in branch if o.module not in layers and any(spec.weights for spec in o.specs)]
    if not branch or shared or not _macs(branch) or branch[-1].module not in layers:
        return None
    name = common_path([layer for layer in layers if any(spec.weights for spec in graph.calls(layer)[0].specs)])
    return Block(name, tuple(o.name for o in branch), layers, addition.name, addition.output_shape)


def _chain(graph: Graph, name: str) -> tuple[str, list[Operator]]:
    """Back from an operator to the first one that somebody else reads, too: its name, and the operators after it."""
    chain: list[Operator] = []
    while name != INPUT and len(graph.consumers(name)) == 1 and len(graph[name].inputs) == 1:
        chain.insert(0, graph[name])
        name = graph[name].inputs[0]
    return name, chain


def _macs(operators: list[Operator]) -> int:
    return sum(spec.macs for operator in operators for spec in operator.specs)


def common_path(paths: list[str]) -> str:
    """The dotted path of what holds all that the given paths lead to; "" where only the whole network does."""
    parts = [path.split(".")[:-1] for path in paths]
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return ".".join(common)

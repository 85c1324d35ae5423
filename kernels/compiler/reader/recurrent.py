"""GRU and LSTM, of several layers and both directions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import fx

from ....errors import ModelError
from ..ir import Concat, Recurrent
from .graph import SEQUENCE, Graph, Known, Readers

__all__ = ["READERS"]


def _recurrent(graph: Graph, node: fx.Node, kind: str, gates: int) -> None:
    arguments: tuple[Any, ...] = node.args[:9]
    source, states, parameters, has_bias, n_layers, _, _, is_bidirectional, is_batch_first = arguments
    starts = states if isinstance(states, list | tuple) else [states]
    if not is_batch_first or any(start not in graph.constants or graph.constants[start].any() for start in starts):
        raise ModelError(f"a {kind.upper()} is compiled with batch_first=True and a first state of zeros only")
    known = graph.known[source]
    directions = 2 if is_bidirectional else 1
    per_layer = (4 if has_bias else 2) * directions
    for number in range(n_layers):
        own = parameters[number * per_layer : (number + 1) * per_layer]
        sides = [own[: per_layer // directions], own[per_layer // directions :]][:directions]
        name = f"{node.name}_{number}"
        made = [_direction(graph, name, known, kind, gates, side, place) for place, side in enumerate(sides)]
        graph.layers += made
        known = Known(made[0].name, SEQUENCE, made[0].shape)
        if len(made) > 1:
            both = Concat(f"{name}_both", tuple(one.name for one in made), (2 * made[0].shape[0], 1, known.shape[2]))
            graph.layers.append(both)
            known = Known(both.name, SEQUENCE, both.shape)
    node.meta["is_first_of_several"] = True
    graph.known[node] = known


def _direction(
    graph: Graph, name: str, known: Known, kind: str, gates: int, own: Sequence[Any], place: int
) -> Recurrent:
    hidden = graph.constants[own[1]].shape[1]
    biases = own[2:] or (None, None)
    return Recurrent(
        f"{name}_reverse" if place else name,
        (known.name,),
        (hidden, 1, known.shape[2]),
        kind,
        graph.array(own[0]),
        graph.array(own[1]),
        graph.array(biases[0], gates * hidden),
        graph.array(biases[1], gates * hidden),
        bool(place),
        graph.blocks_of(own[0]),
        graph.blocks_of(own[1]),
    )


READERS: Readers = {
    "gru": partial(_recurrent, kind="gru", gates=3),
    "lstm": partial(_recurrent, kind="lstm", gates=4),
}

"""A whole network."""

import torch
from torch import Tensor, fx, nn

from ....errors import ModelError
from ....graph.exported import aten_name, exported
from ....graph.failure import describe_failure
from ....graph.layers import is_stored_small, replaced
from ...blocks import is_block_pruned
from ..ir import INPUT, Activation, Network
from . import arithmetic, pools, recurrent, shapes, weighted
from .graph import IMAGE, SEQUENCE, SIGNAL, VECTOR, Graph, Readers

__all__ = ["read_network"]

_ACTIVATIONS = {
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "silu": "silu",
    "tanh": "tanh",
}

#: Operators that read (channels, steps).
_OF_SIGNALS = {"adaptive_avg_pool1d", "avg_pool1d", "batch_norm", "conv1d", "max_pool1d", "unsqueeze"}

#: What changes nothing at inference.
_NOTHING = (
    "_assert_tensor_metadata",
    "alias",
    "clone",
    "contiguous",
    "detach",
    "dropout",
    "feature_dropout",
    "lift_fresh_copy",
    "to",
    "_to_copy",
)

_READERS: Readers = {
    **weighted.READERS,
    **recurrent.READERS,
    **pools.READERS,
    **arithmetic.READERS,
    **shapes.READERS,
}


def read_network(module: nn.Module, example_input: Tensor) -> Network:
    """The layers of a network in evaluation mode.

    Layers that are stored small are read as the ordinary layers they decode to; where their zeros have blocks, the
    blocks are kept.

    Args:
        module: Takes one tensor and returns one.
        example_input: Batch size 1: (1, C, H, W), (1, C, T), (1, T, F) or (1, F).

    Raises:
        ModelError: torch.export cannot follow the network, or it holds an operator that is not compiled.
    """
    blocks = {
        f"{path}.{name}".lstrip("."): found
        for path, layer in module.named_modules()
        if is_block_pruned(layer)
        for name, found in layer.kept_blocks().items()
    }
    ordinary = replaced(module, lambda layer: layer.dense() if is_stored_small(layer) else None).eval()
    _check_runs(ordinary, example_input)
    graph = Graph(_exported(ordinary, example_input), blocks)
    for node in graph.program.graph.nodes:
        if node.op == "placeholder":
            _read_placeholder(graph, node)
        elif node.op == "call_function":
            _read_call(graph, node)
    return _network(graph)


def _check_runs(module: nn.Module, example_input: Tensor) -> None:
    shape = tuple(example_input.shape)
    if example_input.ndim < 2 or shape[0] != 1:
        raise ModelError(f"the example input must have batch size 1, got shape {shape}")
    try:
        with torch.no_grad():
            module(example_input)
    except Exception as error:  # a user's forward can raise anything
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} fails on an input of shape {shape}: {reason}") from error


def _exported(module: nn.Module, example_input: Tensor) -> torch.export.ExportedProgram:
    try:
        return exported(module, example_input)
    except Exception as error:  # what export cannot follow surfaces as many types
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} cannot be compiled: torch.export stopped at {reason}") from error


def _network(graph: Graph) -> Network:
    output = _output(graph)
    given = next(known for known in graph.known.values() if known.name == INPUT)
    known = graph.known[output]
    return Network(
        tuple(graph.layers),
        graph.input_shape,
        tuple(output.meta["val"].shape[1:]),
        known.name,
        given.shape,
        given.kind == SEQUENCE,
        known.kind == SEQUENCE,
    )


def _output(graph: Graph) -> fx.Node:
    names = graph.program.graph_signature.user_outputs
    if len(names) != 1:
        raise ModelError(f"a network that gives one tensor can be compiled, this one gives {len(names)}")
    output = next((node for node in graph.known if node.name == names[0]), None)
    if output is None:
        raise ModelError("the network's output does not depend on its input, so there is nothing to compile")
    return output


def _read_placeholder(graph: Graph, node: fx.Node) -> None:
    if node.name in graph.program.graph_signature.user_inputs:
        graph.give_input(node, _kind_of_input(node))
    else:
        graph.give_parameter(node)


def _read_call(graph: Graph, node: fx.Node) -> None:
    name = aten_name(node)
    sources = [source for source in node.all_input_nodes if source in graph.known]
    if not sources:
        graph.give_constant(node)
    elif name == "getitem" and sources[0].meta.get("is_first_of_several"):
        _read_first(graph, node)
    elif name in _NOTHING:
        graph.known[node] = graph.known[sources[0]]
    elif name in _READERS:
        _READERS[name](graph, node)
    elif name in _ACTIVATIONS:
        graph.add(node, Activation, sources[0], function=_ACTIVATIONS[name])
    else:
        compiled = sorted({*_READERS, *_ACTIVATIONS} - {name for name in _READERS if name.startswith("_")})
        raise ModelError(f"operator {node.target} cannot be compiled; compiled are: {', '.join(compiled)}")


def _read_first(graph: Graph, node: fx.Node) -> None:
    """Of an operator that gives several tensors the first; the others only where nobody reads them."""
    if node.args[1] == 0:
        graph.known[node] = graph.known[node.all_input_nodes[0]]
    elif node.users:
        raise ModelError(
            f"output {node.args[1]} of {node.all_input_nodes[0].target} cannot be compiled, only its first; "
            "the last state of a recurrent layer is the last step of its first output"
        )


def _kind_of_input(node: fx.Node) -> str:
    axes = len(node.meta["val"].shape) - 1
    if axes == 2:
        return SIGNAL if _readers_of(node) & _OF_SIGNALS else SEQUENCE
    if axes not in (1, 3):
        raise ModelError(f"inputs of {axes} axes beside the batch cannot be compiled, expected 1, 2 or 3")
    return {1: VECTOR, 3: IMAGE}[axes]


def _readers_of(node: fx.Node) -> set[str]:
    """Operators that read a tensor, or what functions of each of its numbers make of it."""
    found = {aten_name(reader) for reader in node.users}
    passing = [reader for reader in node.users if aten_name(reader) in (*_NOTHING, *_ACTIVATIONS)]
    return found.union(*(_readers_of(reader) for reader in passing))

"""The torch.export front end, for networks whose Python torch.fx cannot follow."""

import operator as python_operator
from typing import Any

from torch import Tensor, fx, nn

from ..errors import ModelError
from .describe import SPLITS, call_spec, module_specs
from .exported import aten_name, exported
from .graph import INPUT, Graph, Operator
from .opspec import GATES, OpSpec, Shape


def trace_with_export(model: nn.Module, example_input: Tensor) -> Graph:
    """Trace `model` by running it on fake tensors; what torch.export cannot follow raises its errors."""
    program = exported(model, example_input)
    signature = program.graph_signature
    owners = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return _ExportReader(model, owners, set(signature.user_inputs)).read(program.graph, tuple(example_input.shape[1:]))


class _ExportReader:
    """Turns ATen nodes into operators; layers with weights are found again through their parameters' names."""

    def __init__(self, model: nn.Module, owners: dict[str, str], user_inputs: set[Any]) -> None:
        self._model = model
        self._owners = owners
        self._user_inputs = user_inputs
        self._names: dict[fx.Node, str] = {}
        self._operators: list[Operator] = []
        self._output = INPUT

    def read(self, graph: fx.Graph, input_shape: Shape) -> Graph:
        for node in graph.nodes:
            self._read_node(node)
        return Graph(tuple(self._operators), input_shape, self._output, "torch.export")

    def _read_node(self, node: fx.Node) -> None:
        if node.op == "placeholder" and node.name in self._user_inputs:
            self._names[node] = INPUT
        elif node.op == "output":
            self._output = self._names[node.all_input_nodes[-1]]
        elif isinstance(node.meta.get("val"), list) and aten_name(node) in SPLITS:
            # The parts are taken out by operators that follow; they read what is split.
            self._names[node] = self._names[node.all_input_nodes[0]]
        elif self._takes_outputs(node):
            self._names[node] = self._names[node.all_input_nodes[0]]
        elif node.op == "call_function" and (isinstance(node.meta.get("val"), Tensor) or _is_recurrent(node)):
            self._names[node] = node.name
            self._operators.append(self._operator(node))

    def _takes_outputs(self, node: fx.Node) -> bool:
        """Whether the node takes the outputs out of what a recurrent layer returns."""
        is_first = node.target is python_operator.getitem and bool(node.args[1] == 0)
        return is_first and _is_recurrent(node.all_input_nodes[0])

    def _operator(self, node: fx.Node) -> Operator:
        sources = [source for source in node.all_input_nodes if source in self._names]
        if node.target is python_operator.getitem and not sources:
            raise ModelError(f"{node.all_input_nodes[0].target} returns several tensors")
        module = self._owner(node)
        shapes = [_shape(source) for source in sources]
        if module:
            specs = module_specs(self._model.get_submodule(module), shapes[0], _shape(node))
        else:
            specs = (self._functional_spec(node, shapes),)
        return Operator(node.name, module, specs, tuple(self._names[source] for source in sources))

    def _owner(self, node: fx.Node) -> str:
        """Dotted path of the layer whose parameters the node reads; "" for a function."""
        for source in node.all_input_nodes:
            if source.name in self._owners:
                return self._owners[source.name].rpartition(".")[0]
        return ""

    def _functional_spec(self, node: fx.Node, shapes: list[Shape]) -> OpSpec:
        name = aten_name(node)
        pool = None
        if name in ("max_pool2d", "avg_pool2d"):
            arguments = (*node.args, None, None)
            pool = {"kernel": arguments[1], "stride": arguments[2], "padding": arguments[3]}
        return call_spec(name, shapes, _shape(node), pool)


def _is_recurrent(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.meta.get("val"), tuple) and aten_name(node) in GATES


def _shape(node: fx.Node) -> Shape:
    if _is_recurrent(node):
        return tuple(int(size) for size in node.meta["val"][0].shape[1:])
    if not isinstance(node.meta["val"], Tensor):  # a split: its parts are taken out of what it reads
        return _shape(node.all_input_nodes[0])
    return tuple(int(size) for size in node.meta["val"].shape[1:])

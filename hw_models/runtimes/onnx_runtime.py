"""ONNX Runtime on this machine's processor as an engine."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import ModelProto, helper
from torch import Tensor, nn

from ...graph.opspec import OpSpec
from .onnx_builders import Feeds, chain_model, operator_model
from .onnx_export import export_onnx

__all__ = ["OnnxRuntime"]

Call = Callable[[], object]

#: Changes of layout that the engine inserts at the borders of a model but not between its operators.
_REORDERS = ("ReorderInput", "ReorderOutput", "Transpose")

#: The engine's blocked layout holds channels in groups of 8 or 16.
_BLOCK = 16

_CHAIN = 21


class OnnxRuntime:
    """ONNX Runtime's CPU provider with all its graph optimisations.

    A single operator is timed in the layout it has inside a network: the engine computes convolutions in a blocked
    layout and converts to it once, at the network's border.

    Args:
        threads: Threads that an inference may use.
    """

    name = "onnxruntime"
    keeps_integers = True

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """Version of ONNX Runtime."""
        return {"onnxruntime": onnxruntime.__version__}

    def operator(self, spec: OpSpec) -> Call:
        """One operator as a session of its own."""
        model, feeds = operator_model(spec)
        if spec.kind in ("quantize", "dequantize"):
            return self._call(self._session(model.SerializeToString()), feeds)
        # A model that cannot be stripped is timed as it is, which overstates a small operator.
        with contextlib.suppress(Exception):
            stripped, inner_feeds = self._without_reorders(model, feeds)
            call = self._call(self._session(stripped, optimise=False), inner_feeds)
            call()
            return call
        return self._call(self._session(model.SerializeToString()), feeds)

    def network(self, module: nn.Module, example_input: Tensor, onnx_file: Path | None = None) -> "_OnnxNetwork":
        """The network exported to ONNX."""
        if onnx_file is not None:
            return _OnnxNetwork(self._session(onnx_file.read_bytes()), example_input)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(module, example_input, path)
            return _OnnxNetwork(self._session(path.read_bytes()), example_input)

    def call_overhead(self) -> tuple[Call, Call, int]:
        """Sessions of trivial operators."""
        (one, one_feeds), (many, many_feeds) = chain_model(1), chain_model(_CHAIN)
        calls = [
            self._call(self._session(model.SerializeToString()), feeds)
            for model, feeds in ((one, one_feeds), (many, many_feeds))
        ]
        return calls[0], calls[1], _CHAIN - 1

    def _session(self, model: bytes, optimise: bool = True, save_to: Path | None = None) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        if save_to is not None:
            options.optimized_model_filepath = str(save_to)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @staticmethod
    def _call(session: Any, feeds: Feeds) -> Call:
        def call() -> object:
            return session.run(None, feeds)

        return call

    def _without_reorders(self, model: ModelProto, feeds: Feeds) -> tuple[bytes, Feeds]:
        """The optimised model without the changes of layout at its borders, and inputs in the inner layout."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            self._session(model.SerializeToString(), save_to=path)
            optimised = onnx.load(str(path))
        return _stripped(optimised, feeds)


class _OnnxNetwork:
    def __init__(self, session: Any, example_input: Tensor) -> None:
        self._session = session
        self._name = session.get_inputs()[0].name
        self._feeds = {self._name: _numpy(example_input)}

    def __call__(self) -> object:
        return self._session.run(None, self._feeds)

    def outputs(self, inputs: Tensor) -> Tensor:
        rows = [self._session.run(None, {self._name: _numpy(row)})[0] for row in torch.split(inputs, 1)]
        return torch.from_numpy(np.concatenate(rows))


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.numpy())


def _stripped(model: ModelProto, feeds: Feeds) -> tuple[bytes, Feeds]:
    graph, inner = model.graph, dict(feeds)
    for node in [node for node in graph.node if node.op_type in _REORDERS]:
        if node.input[0] in inner:
            values = inner.pop(node.input[0])
            inner[node.output[0]] = _inner_layout(node.op_type, values)
            _rename(graph.input, node.input[0], node.output[0], inner[node.output[0]])
        elif node.output[0] == graph.output[0].name:
            kind = graph.output[0].type.tensor_type.elem_type
            graph.output[0].CopyFrom(helper.make_tensor_value_info(node.input[0], kind, None))
        else:
            continue
        graph.node.remove(node)
    return model.SerializeToString(), inner


def _inner_layout(op_type: str, values: NDArray[Any]) -> NDArray[Any]:
    if op_type == "Transpose":
        return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
    channels = -(-values.shape[1] // _BLOCK) * _BLOCK
    return np.random.default_rng(0).random((1, channels, *values.shape[2:]), np.float32)


def _rename(inputs: Any, old: str, new: str, values: NDArray[Any]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    for value_info in inputs:
        if value_info.name == old:
            value_info.CopyFrom(helper.make_tensor_value_info(new, kind, values.shape))

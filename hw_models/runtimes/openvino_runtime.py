"""OpenVINO on this machine's processor as an engine."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset8
from openvino.preprocess import PrePostProcessor
from openvino.utils import replace_node
from torch import Tensor, nn

from ...graph.opspec import CONVERSIONS, FLOAT_BITS, OpSpec
from .onnx_builders import Feeds, operator_model, product_chain_model
from .onnx_export import export_onnx

__all__ = ["OpenVinoRuntime", "keep_permutations"]

Call = Callable[[], object]

_CHAIN = 21

#: Axes of a feature map of rank 4 with the channels last.
_CHANNELS_LAST = (0, 2, 3, 1)


class OpenVinoRuntime:
    """OpenVINO's CPU plug-in, told to answer one request as fast as it can, in 32-bit floats unless layers are 8-bit.

    A single operator on floats is timed in the layout it has inside a network, channels last, so that the plug-in finds
    nothing to convert at the model's border. An 8-bit convolution is timed with its two conversions of bytes: the
    plug-in would no longer compute in integers without them.

    Args:
        threads: Threads that an inference may use.
    """

    name = "openvino"
    keeps_integers = True

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._core = openvino.Core()

    def versions(self) -> dict[str, str]:
        """Version of OpenVINO."""
        return {"openvino": openvino.__version__}

    def operator(self, spec: OpSpec) -> Call:
        """One operator as a compiled model of its own."""
        model, feeds = operator_model(spec)
        read = self._core.read_model(model.SerializeToString())
        if spec.bits == FLOAT_BITS and spec.kind not in CONVERSIONS:
            read, feeds = _channels_last(read, feeds)
        return _Request(self._compiled(read), feeds)

    def network(self, module: nn.Module, example_input: Tensor, onnx_file: Path | None = None) -> "_OpenVinoNetwork":
        """The network exported to ONNX and compiled."""
        if onnx_file is not None:
            return self._network(onnx_file, example_input)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            export_onnx(module, example_input, path)
            return self._network(path, example_input)

    def call_overhead(self) -> tuple[Call, Call, int]:
        """Chains of tiny matrix products, which the plug-in does not merge as it does elementwise functions."""
        (one, one_feeds), (many, many_feeds) = product_chain_model(1), product_chain_model(_CHAIN)
        calls = [
            _Request(self._compiled(self._core.read_model(model.SerializeToString())), feeds)
            for model, feeds in ((one, one_feeds), (many, many_feeds))
        ]
        return calls[0], calls[1], _CHAIN - 1

    def _network(self, path: Path, example_input: Tensor) -> "_OpenVinoNetwork":
        model = self._core.read_model(path)
        keep_permutations(model)
        return _OpenVinoNetwork(self._compiled(model), example_input)

    def _compiled(self, model: Any) -> Any:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            # Whoever times the engine has chosen its processor already.
            "ENABLE_CPU_PINNING": False,
            # Processors with bfloat16 units would be given bfloat16.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return self._core.compile_model(model, "CPU", settings)


class _Request:
    """An inference on inputs that are set once."""

    def __init__(self, compiled: Any, feeds: Feeds) -> None:
        self._request = compiled.create_infer_request()
        for port in compiled.inputs:
            self._request.set_tensor(port, openvino.Tensor(np.ascontiguousarray(feeds[port.get_any_name()])))

    def __call__(self) -> object:
        return self._request.infer()


class _OpenVinoNetwork:
    def __init__(self, compiled: Any, example_input: Tensor) -> None:
        self._compiled = compiled
        self._name = compiled.inputs[0].get_any_name()
        self._call = _Request(compiled, {self._name: example_input.numpy()})

    def __call__(self) -> object:
        return self._call()

    def outputs(self, inputs: Tensor) -> Tensor:
        request = self._compiled.create_infer_request()
        rows = [request.infer({self._name: row.contiguous().numpy()})[0].copy() for row in torch.split(inputs, 1)]
        return torch.from_numpy(np.concatenate(rows))


def keep_permutations(model: Any) -> None:
    """Write permutations of channels in a form that OpenVINO executes as they are.

    Its fusion of reversed input channels merges any permutation into the next convolution's weights as if it were its
    own inverse, which gives wrong outputs (seen in 2026.4.1). It does not see one along the first axis.

    Args:
        model: Of batch size 1; changed in place.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Gather" or not _is_permutation(node):
            continue
        data, order, _ = (port.get_source_output() for port in node.inputs())
        shape = list(data.get_shape())
        rows = opset8.reshape(data, np.array([shape[1], -1]), special_zero=False)
        chosen = opset8.gather(rows, order, np.array(0))
        replace_node(node, opset8.reshape(chosen, np.array(shape), special_zero=False))


def _is_permutation(gather: Any) -> bool:
    data, order, axis = (port.get_source_output() for port in gather.inputs())
    if any(port.get_node().get_type_name() != "Constant" for port in (order, axis)):
        return False
    chosen = order.get_node().data
    is_along_channels = chosen.ndim == 1 and int(axis.get_node().data.item()) == 1
    return is_along_channels and data.get_partial_shape().is_static and len(chosen) == data.get_shape()[1]


def _channels_last(model: Any, feeds: Feeds) -> tuple[Any, Feeds]:
    """The model with inputs and outputs of rank 4 in the layout that the plug-in computes in."""
    borders = PrePostProcessor(model)
    inner = dict(feeds)
    for index, port in enumerate(model.inputs):
        name = port.get_any_name()
        if feeds[name].ndim == len(_CHANNELS_LAST):
            borders.input(index).tensor().set_layout(openvino.Layout("NHWC"))
            borders.input(index).model().set_layout(openvino.Layout("NCHW"))
            inner[name] = feeds[name].transpose(_CHANNELS_LAST)
    for index, port in enumerate(model.outputs):
        if port.get_partial_shape().rank.get_length() == len(_CHANNELS_LAST):
            borders.output(index).tensor().set_layout(openvino.Layout("NHWC"))
            borders.output(index).model().set_layout(openvino.Layout("NCHW"))
    return borders.build(), inner

"""ONNX Runtime on this machine's processor as an engine."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...graph.opspec import CONVERSIONS, OpSpec
from .onnx_builders import Feeds, chain_model, operator_model
from .onnx_export import export_onnx
from .onnx_layout import without_reorders
from .onnx_sessions import make_session

__all__ = ["OnnxRuntime"]

Call = Callable[[], object]

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
        if spec.kind in CONVERSIONS:
            return self._call(self._session(model.SerializeToString()), feeds)
        # A model that cannot be stripped is timed as it is, which overstates a small operator.
        with contextlib.suppress(Exception):
            stripped, inner_feeds = without_reorders(model.SerializeToString(), feeds, self.threads)
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

    def _session(self, model: bytes, optimise: bool = True) -> Any:
        return make_session(model, self.threads, optimise)

    @staticmethod
    def _call(session: Any, feeds: Feeds) -> Call:
        def call() -> object:
            return session.run(None, feeds)

        return call


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

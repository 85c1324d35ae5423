"""Networks as ONNX files."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...files import atomic_path
from ...graph.exported import quiet
from ...graph.layers import is_stored_small, replaced

__all__ = ["export_onnx"]

_OPSET = 18


def export_onnx(module: nn.Module, example_input: Tensor, path: Path) -> None:
    """Write a network as an ONNX file of batch size 1.

    Layers that are stored small become ordinary ones; layers with integer weights become QuantizeLinear and
    DequantizeLinear pairs, which engines execute in integers.

    Args:
        module: In evaluation mode.
        example_input: Shape (1, ...).
        path: The file; it appears whole or not at all.

    Raises:
        ModelError: PyTorch cannot export the network.
    """
    plain = replaced(module, lambda layer: layer.dense() if is_stored_small(layer) else None)
    with quiet(), _remembered_translations():
        try:
            program = torch.onnx.export(
                plain, (example_input.contiguous(),), dynamo=True, verbose=False, opset_version=_OPSET
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ModelError(f"the network cannot be exported to ONNX: {reason}") from error
        assert program is not None
        with atomic_path(path) as temporary:
            program.save(temporary)


@contextmanager
def _remembered_translations() -> Iterator[None]:
    """Let PyTorch parse the sources of its translations to ONNX once, not for each network again.

    That is a quarter of the time that a small network's export takes, and a profile exports dozens. The place is none
    of PyTorch's public interface: where it is not found, exports take their time.
    """
    try:
        interface: Any = import_module("torch.onnx._internal.exporter._registration").onnxscript_apis
        parse = interface.get_torchlib_ops
    except (ImportError, AttributeError):
        yield
        return
    interface.get_torchlib_ops = lambda: _translations(parse)
    try:
        yield
    finally:
        interface.get_torchlib_ops = parse


@cache
def _translations(parse: Any) -> Any:
    return parse()

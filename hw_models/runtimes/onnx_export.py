"""Networks as ONNX files."""

from pathlib import Path

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
    with quiet():
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

"""Checking that the files hold what was found."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..compression.storage import load_network
from ..errors import EspalierError
from ..graph.layers import executable
from ..hw_models.runtimes.runtime import Runtime
from ..tasks.layout import channels_last, laid_out

__all__ = ["onnx_error", "verify_file"]


@torch.no_grad()
def verify_file(path: Path, network: nn.Module, model: nn.Module, inputs: Tensor) -> None:
    """Read a model file back and compare its function with the network that was written.

    Args:
        path: The file.
        network: What was written.
        model: The original, which gives the architecture.
        inputs: Shape (images, C, H, W).

    Raises:
        EspalierError: The outputs differ.
    """
    difference = float((_outputs(load_network(path, model), inputs) - _outputs(network, inputs)).abs().max())
    if not difference <= 1e-5:
        raise EspalierError(f"{path} gives outputs that differ by {difference:.2g} from the network that was written")


def _outputs(network: nn.Module, inputs: Tensor) -> Tensor:
    # In one layout: another sums in another order, and the last bit of a sum may round an 8-bit activation elsewhere.
    outputs: Tensor = channels_last(copy.deepcopy(network))(laid_out(inputs))
    return outputs


@torch.no_grad()
def onnx_error(runtime: Runtime, path: Path, network: nn.Module, inputs: Tensor) -> float:
    """Largest absolute difference of outputs between ONNX Runtime and PyTorch.

    Args:
        runtime: ONNX Runtime.
        path: The exported file.
        network: What was exported.
        inputs: Shape (images, C, H, W).
    """
    expected = executable(network)(inputs)
    answered = runtime.network(network, inputs[:1], path).outputs(inputs)
    return float((answered - expected).abs().max())

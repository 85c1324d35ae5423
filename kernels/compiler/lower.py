"""From a PyTorch module to the layers that code is emitted for."""

from torch import Tensor, nn

from ..weight_types import FLOAT32
from .ir import Network
from .passes import simplified
from .reader.network import read_network

__all__ = ["lower"]


def lower(module: nn.Module, example_input: Tensor, weight_type: str = FLOAT32) -> Network:
    """A network's layers after all passes.

    Args:
        module: In evaluation mode; takes one tensor and returns one.
        example_input: Batch size 1.
        weight_type: That weights are rounded to.

    Raises:
        ModelError: The network holds something that is not compiled.
    """
    return simplified(read_network(module, example_input), weight_type)

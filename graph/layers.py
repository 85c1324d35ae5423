"""What a layer of ours tells the tracer and the engines about itself."""

from typing import Protocol, runtime_checkable

from torch import nn

from .opspec import OpSpec, Shape

__all__ = ["Realisable", "SelfDescribing"]


@runtime_checkable
class SelfDescribing(Protocol):
    """A layer that knows which operators an engine executes for it."""

    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        """The operators in order of execution.

        Args:
            input_shape: Shape of the layer's input without the batch axis.
        """


@runtime_checkable
class Realisable(Protocol):
    """A layer that simulates integer arithmetic in float and can be exchanged for the real thing."""

    def realised(self) -> nn.Module:
        """A module of the same function that PyTorch executes in integer arithmetic."""

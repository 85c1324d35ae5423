"""What every layer of ours can do: describe itself, absorb what follows it, be rebuilt from JSON."""

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from ...graph.opspec import OpSpec, Shape

__all__ = ["CompressedLayer", "register_layer"]


class CompressedLayer(nn.Module):
    """A layer that a technique puts in the place of another.

    A subclass is rebuilt from `config()` by calling its constructor, and its `state_dict()` is what is stored: what it
    saves in storage, it must save there.
    """

    #: Classes by name, so that files can name them; nothing else is ever instantiated from a file.
    known: ClassVar[dict[str, type["CompressedLayer"]]] = {}

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""

    @abstractmethod
    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        """The operators an engine executes for an input of `input_shape` (without the batch axis)."""

    @property
    def n_parameters(self) -> int:
        """Weights and biases that the layer stands for, without those that were pruned."""
        return sum(parameter.numel() for parameter in self.parameters())

    @abstractmethod
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Change the weights so that the output becomes scale * output + shift, channel by channel.

        Args:
            scale: Shape (out_channels,).
            shift: Shape (out_channels,).
        """


def register_layer(layer: type[CompressedLayer]) -> type[CompressedLayer]:
    """Class decorator: make a layer known to the file format under its class name."""
    CompressedLayer.known[layer.__name__] = layer
    return layer

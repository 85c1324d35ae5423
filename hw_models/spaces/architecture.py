"""What the readers of measured architecture spaces give: decisions by position, and operators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...graph.opspec import OpSpec

__all__ = ["Architecture", "Space", "convolution"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network of a space.

    Attributes:
        label: What the source calls it.
        decisions: Position -> what stands there: a word such as "k3_e6", or a number such as a width.
        ops: The operators that an engine executes; () where the source does not determine them.
    """

    label: str
    decisions: Mapping[str, str | float] = field(default_factory=dict)
    ops: tuple[OpSpec, ...] = ()


class Space(Protocol):
    """A way of writing networks down."""

    @property
    def name(self) -> str:
        """What the space is called."""

    def parse(self, label: str) -> Architecture:
        """The network that a string stands for.

        Raises:
            FormatError: It stands for none.
        """


def convolution(
    size: int, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, activation: str = ""
) -> OpSpec:
    """A convolution over a square image with its batch norm folded into weight and bias, padded to keep the size.

    Args:
        size: Height and width of the input.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Odd height and width of the kernel.
        stride: Stride over height and width.
        groups: Groups of channels.
        activation: What is computed in the same pass.
    """
    result = (size - 1) // stride + 1
    return OpSpec(
        "conv2d",
        (in_channels, size, size),
        (out_channels, result, result),
        (kernel, kernel),
        (stride, stride),
        (kernel // 2, kernel // 2),
        groups=groups,
        bias=True,
        activation=activation,
    )

"""The shortcut without weights: every stride-th pixel, its channels put among channels of zeros."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .opspec import OpSpec, Shape

__all__ = ["ChannelPlacement"]

#: Stands for a channel of zeros among the sources.
_ZEROS = -1


class ChannelPlacement(nn.Module):
    """Takes every stride-th pixel and gives channels that are each one of the input or zero.

    The shortcut of He et al. 2015 (arXiv 1512.03385, sec. 4.2, option A), and what is left of it when channels on
    either side are taken away.

    Args:
        in_channels: Channels of the input.
        sources: For each channel of the output the channel of the input that it repeats, -1 for zeros.
        stride: Over height and width.

    Raises:
        ValueError: A source is no channel of the input.
    """

    def __init__(self, in_channels: int, sources: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        if not sources or not all(_ZEROS <= source < in_channels for source in sources):
            raise ValueError(f"sources must be channels below {in_channels} or {_ZEROS}, got {list(sources)}")
        self.in_channels = in_channels
        self.sources = tuple(sources)
        self.stride = stride
        self._padding = _padding(in_channels, self.sources)
        # What a file needs is in `config`; the zeros come last when channels are gathered.
        index = torch.tensor([in_channels if source == _ZEROS else source for source in self.sources])
        self.register_buffer("index", index, persistent=False)

    @classmethod
    def centred(cls, in_channels: int, out_channels: int, stride: int) -> "ChannelPlacement":
        """All channels in order with as many zeros before as after them, one more after them where that is odd."""
        before = (out_channels - in_channels) // 2
        after = out_channels - in_channels - before
        return cls(in_channels, [*[_ZEROS] * before, *range(in_channels), *[_ZEROS] * after], stride)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        return {"in_channels": self.in_channels, "sources": list(self.sources), "stride": self.stride}

    def narrowed(self, inputs: Sequence[int], outputs: Sequence[int]) -> "ChannelPlacement":
        """The same when only some channels are left; where its source is gone, a channel of zeros.

        Args:
            inputs: Channels of the input that are left, in order.
            outputs: Channels of the output that are left, in order.
        """
        places = {channel: place for place, channel in enumerate(inputs)}
        left = [places.get(self.sources[channel], _ZEROS) for channel in outputs]
        return ChannelPlacement(len(places), left, self.stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (N, in_channels, H, W) to (N, len(sources), ceil(H / stride), ceil(W / stride))."""
        pixels = inputs[:, :, :: self.stride, :: self.stride] if self.stride > 1 else inputs
        if self._padding is not None:
            return functional.pad(pixels, (0, 0, 0, 0, *self._padding))
        if _ZEROS in self.sources:
            pixels = functional.pad(pixels, (0, 0, 0, 0, 0, 1))
        return pixels.index_select(1, self.get_buffer("index"))

    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        """The operators that an engine executes for an input of `input_shape` (without the batch axis)."""
        channels, *sizes = input_shape
        pixels = [-(-size // self.stride) for size in sizes]
        shapes = [input_shape, (channels, *pixels)] if self.stride > 1 else [input_shape]
        if self._padding is None and _ZEROS in self.sources:
            shapes.append((channels + 1, *pixels))
        shapes.append((len(self.sources), *pixels))
        return tuple(OpSpec("gather", before, after) for before, after in pairwise(shapes))


def _padding(in_channels: int, sources: tuple[int, ...]) -> tuple[int, int] | None:
    """Channels of zeros before and after those of the input, if they stand together and in order; None if not."""
    if 0 not in sources:
        return None
    before = sources.index(0)
    after = len(sources) - before - in_channels
    expected = (*[_ZEROS] * before, *range(in_channels), *[_ZEROS] * after)
    return (before, after) if sources == expected else None

"""The FBNet space in its CIFAR-100 setting (Wu et al. 2019, arXiv 1812.03443; Li et al. 2021, arXiv 2103.10584).

Twenty-two blocks, nine candidates each, between a fixed stem and a fixed head.
"""

from functools import cache, lru_cache

from ...errors import FormatError
from ...graph.opspec import OpSpec
from .architecture import Architecture, convolution

__all__ = ["BLOCKS", "FbnetSpace"]

#: Block ids in order: k = kernel, e = expansion, g = groups of the 1x1 convolutions.
BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")

#: Stages: number of blocks, output channels, stride of the first block.
_STAGES = ((1, 16, 1), (4, 24, 1), (4, 32, 2), (4, 64, 2), (4, 112, 1), (4, 184, 2), (1, 352, 1))
_IMAGE_SIZE, _STEM_CHANNELS, _HEAD_CHANNELS, _CLASSES = 32, 16, 1504, 100


class FbnetSpace:
    """Networks written as 22 block ids between 0 and 8, separated by spaces."""

    name = "fbnet"

    def parse(self, label: str) -> Architecture:
        """The network that a string stands for.

        Raises:
            FormatError: The string is not 22 block ids.
        """
        ids = label.split()
        positions = _positions()
        if len(ids) != len(positions) or any(one not in map(str, range(len(BLOCKS))) for one in ids):
            raise FormatError(
                f"an FBNet architecture is {len(positions)} block ids from 0 to {len(BLOCKS) - 1} separated by spaces, "
                f"got {label[:80]!r}"
            )
        blocks = [BLOCKS[int(one)] for one in ids]
        inner = [op for block, place in zip(blocks, positions, strict=True) for op in _block(block, *place)]
        size, channels = _end()
        return Architecture(
            label,
            {f"block {index}": block for index, block in enumerate(blocks)},
            (
                convolution(_IMAGE_SIZE, 3, _STEM_CHANNELS, 3, activation="relu"),
                *inner,
                convolution(size, channels, _HEAD_CHANNELS, 1, activation="relu"),
                OpSpec("global_avg_pool2d", (_HEAD_CHANNELS, size, size), (_HEAD_CHANNELS, 1, 1)),
                OpSpec("linear", (_HEAD_CHANNELS,), (_CLASSES,), bias=True),
            ),
        )


@lru_cache(maxsize=1)
def _positions() -> tuple[tuple[int, int, int, int], ...]:
    """Image size, input channels, output channels and stride at each of the 22 positions."""
    size, channels, places = _IMAGE_SIZE, _STEM_CHANNELS, []
    for count, out_channels, first_stride in _STAGES:
        for index in range(count):
            stride = first_stride if index == 0 else 1
            places.append((size, channels, out_channels, stride))
            size, channels = (size - 1) // stride + 1, out_channels
    return tuple(places)


def _end() -> tuple[int, int]:
    size, _, channels, stride = _positions()[-1]
    return (size - 1) // stride + 1, channels


@cache
def _block(block: str, size: int, in_channels: int, out_channels: int, stride: int) -> tuple[OpSpec, ...]:
    """1x1 expansion, depthwise convolution, 1x1 projection; the input is added where the shapes allow it."""
    keeps_shape = stride == 1 and in_channels == out_channels
    if block == "skip":
        return () if keeps_shape else (convolution(size, in_channels, out_channels, 1, stride, activation="relu"),)
    numbers = {part[0]: int(part[1:]) for part in block.split("_")}
    groups, inner = numbers.get("g", 1), in_channels * numbers["e"]
    result = (size - 1) // stride + 1
    inside, outside = (inner, size, size), (out_channels, result, result)
    # The shuffle between the groups re-orders channels in memory.
    shuffle = (OpSpec("gather", inside, inside),) if groups > 1 else ()
    return (
        convolution(size, in_channels, inner, 1, groups=groups, activation="relu"),
        *shuffle,
        convolution(size, inner, inner, numbers["k"], stride, groups=inner, activation="relu"),
        convolution(result, inner, out_channels, 1, groups=groups),
        *((OpSpec("add", outside, outside, n_inputs=2),) if keeps_shape else ()),
    )

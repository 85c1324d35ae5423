"""Images, signals or sequences with their labels, and the four disjoint parts that a search needs of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ...errors import DataError
from ...files import content_hash
from ..layout import laid_out

__all__ = ["Split", "Splits", "channel_statistics", "stratified_parts"]


@dataclass(frozen=True)
class Split:
    """Part of a data set, held in memory as it was read.

    Attributes:
        images: Images (N, C, H, W), signals (N, C, T) or sequences (N, T, C); uint8 in [0, 255] or float32.
        labels: Class of each image, int64, shape (N,).
        mean: Subtracted from each channel after scaling uint8 to [0, 1].
        std: Divides each channel after that.
        channel_axis: Where the channels are: 1 for images and signals, 2 for sequences.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_axis: int = 1

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(f"there are {len(self.images)} images but {len(self.labels)} labels")
        shape = tuple(self.images.shape)
        if not 1 <= self.channel_axis < self.images.ndim or shape[self.channel_axis] != len(self.mean):
            raise DataError(f"expected images of shape {self._expected_shape}, got {shape}")
        if len(self.std) != len(self.mean) or not all(value > 0 for value in self.std):
            raise DataError(f"expected {len(self.mean)} standard deviations above 0, got {tuple(self.std)}")

    @property
    def _expected_shape(self) -> str:
        channels = len(self.mean)
        if self.channel_axis == 1:
            return f"(N, {channels}, H, W) or (N, {channels}, T)"
        return f"(N, {', '.join(['T'] * (self.channel_axis - 1))}, {channels})"

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Normalised float32 inputs of a network, shaped like the images, whose channels are last in memory.

        Args:
            indices: Which images; all by default.
        """
        images = self.images[indices].float()
        if self.images.dtype == torch.uint8:
            images = images / 255
        along_channels = [1] * images.ndim
        along_channels[self.channel_axis] = -1
        mean, std = (torch.tensor(values).view(along_channels) for values in (self.mean, self.std))
        return laid_out((images - mean) / std)

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs and labels, in order or, with a generator, shuffled.

        Args:
            size: Images in a batch; the last may have fewer.
            generator: Shuffles when given.
        """
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        for indices in torch.split(order, size):
            yield self.inputs(indices), self.labels[indices]

    def take(self, count: int) -> "Split":
        """The first `count` images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        settings = repr((tuple(self.images.shape), str(self.images.dtype), self.mean, self.std))
        if self.channel_axis != 1:  # what had its channels there keeps the hash that caches know
            settings += f" channels on axis {self.channel_axis}"
        return content_hash(settings, self.images.numpy().tobytes(), self.labels.numpy().tobytes())


@dataclass(frozen=True)
class Splits:
    """Four disjoint parts of a data set.

    Attributes:
        fit: What networks are trained on.
        calibrate: What variants are fitted on.
        search: What plans are compared on.
        test: What the final figures are counted on, once.
    """

    fit: Split
    calibrate: Split
    search: Split
    test: Split


def channel_statistics(values: Tensor, channel_axis: int = 1) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over everything else.

    Args:
        values: float32, such as the inputs of a fit split.
        channel_axis: Where the channels are.

    Raises:
        DataError: A channel is constant, or holds infinities or not-a-numbers.
    """
    channels = values.movedim(channel_axis, 0).flatten(1).double()
    mean, std = channels.mean(1), channels.std(1, correction=0)
    for number, value in enumerate(std.tolist()):
        if not 0 < value < float("inf"):
            raise DataError(f"channel {number} cannot be standardised: its standard deviation is {value:g}")
    return tuple(mean.tolist()), tuple(std.tolist())


def stratified_parts(labels: Tensor, sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Disjoint random index sets with the classes in equal proportions.

    Args:
        labels: int64, shape (N,).
        sizes: Size of each part but the last, which gets the rest.
        seed: Which random parts.

    Raises:
        DataError: The parts need more images than there are.
    """
    if sum(sizes) >= len(labels):
        raise DataError(f"the splits need more than {sum(sizes)} images, there are {len(labels)}")
    rest = np.arange(len(labels))
    parts: list[Tensor] = []
    for size in sizes:
        try:
            rest, part = train_test_split(rest, test_size=size, random_state=seed, stratify=labels[rest])
        except ValueError as error:
            raise DataError(f"a split of {size} images cannot hold every class: {error}") from error
        parts.append(torch.from_numpy(part))
    return [*parts, torch.from_numpy(rest)]

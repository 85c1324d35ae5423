"""Images with their labels, and the four disjoint parts that a search needs of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ...errors import DataError
from ...files import content_hash

__all__ = ["Split", "Splits", "stratified_parts"]


@dataclass(frozen=True)
class Split:
    """Part of a data set, held in memory as it was read.

    Attributes:
        images: Shape (N, C, H, W), uint8 in [0, 255] or float32.
        labels: Class of each image, int64, shape (N,).
        mean: Subtracted from each channel after scaling uint8 to [0, 1].
        std: Divides each channel after that.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(f"there are {len(self.images)} images but {len(self.labels)} labels")
        if self.images.ndim != 4 or self.images.shape[1] != len(self.mean):
            shape = tuple(self.images.shape)
            raise DataError(f"expected images of shape (N, {len(self.mean)}, H, W), got {shape}")
        if len(self.std) != len(self.mean) or not all(value > 0 for value in self.std):
            raise DataError(f"expected {len(self.mean)} standard deviations above 0, got {tuple(self.std)}")

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, indices: Tensor | slice = slice(None)) -> Tensor:
        """Normalised float32 inputs of a network, shape (n, C, H, W), channels last in memory.

        Args:
            indices: Which images; all by default.
        """
        images = self.images[indices].float()
        if self.images.dtype == torch.uint8:
            images = images / 255
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)

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
        return Split(self.images[:count], self.labels[:count], self.mean, self.std)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the contents."""
        settings = repr((tuple(self.images.shape), str(self.images.dtype), self.mean, self.std))
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

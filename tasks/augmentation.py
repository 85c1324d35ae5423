"""Small random changes of training images that keep their labels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """Random shifts and mirror images.

    Attributes:
        shift_pixels: Largest shift in each direction; zeros move in.
        mirror: Whether images are mirrored left to right half of the time.
    """

    shift_pixels: int = 0
    mirror: bool = False

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of normalised images (N, C, H, W)."""
        if self.shift_pixels:
            inputs = self._shifted(inputs, generator)
        if self.mirror:
            mirrored = torch.rand(len(inputs), generator=generator) < 0.5
            inputs = torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(3), inputs)
        return inputs.contiguous(memory_format=torch.channels_last)

    def _shifted(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = inputs.shape
        padded = functional.pad(inputs, [self.shift_pixels] * 4)
        offsets = torch.randint(0, 2 * self.shift_pixels + 1, (2, count), generator=generator)
        rows = offsets[0][:, None] + torch.arange(height)
        columns = offsets[1][:, None] + torch.arange(width)
        image = torch.arange(count)[:, None, None]
        return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

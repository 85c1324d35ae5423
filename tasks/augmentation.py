"""Small random changes of training inputs that keep their labels."""

from dataclasses import Field, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import DataError
from .layout import laid_out

__all__ = ["Augmentation", "Augmenting", "SignalAugmentation"]

_IMAGE_AXES = 4


class Augmenting(Protocol):
    """What a recipe calls on each batch; a dataclass, so that its settings name the weights that it trained."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of normalised inputs; the shape stays."""
        ...


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
        """Change a batch of normalised images (N, C, H, W); without shifts and mirrors anything passes.

        Raises:
            DataError: The inputs are no images.
        """
        if (self.shift_pixels or self.mirror) and inputs.ndim != _IMAGE_AXES:
            shape = tuple(inputs.shape)
            raise DataError(f"augmentation shifts and mirrors images (N, C, H, W), got {shape}; use SignalAugmentation")
        if self.shift_pixels:
            inputs = self._shifted(inputs, generator)
        if self.mirror:
            mirrored = torch.rand(len(inputs), generator=generator) < 0.5
            inputs = torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(3), inputs)
        return laid_out(inputs)

    def _shifted(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = inputs.shape
        padded = functional.pad(inputs, [self.shift_pixels] * 4)
        offsets = torch.randint(0, 2 * self.shift_pixels + 1, (2, count), generator=generator)
        rows = offsets[0][:, None] + torch.arange(height)
        columns = offsets[1][:, None] + torch.arange(width)
        image = torch.arange(count)[:, None, None]
        return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class SignalAugmentation:
    """Random shifts in time, gains, noise and masks, for signals, sequences and spectrograms.

    Attributes:
        time_axis: Which axis is time: 1 in sequences (N, T, C), 2 in signals (N, C, T), 3 in images (N, C, mels, T).
        shift_steps: Largest shift in either direction; the first or the last step is repeated.
        noise: Standard deviation of Gaussian noise on the normalised inputs.
        gain: Largest number added to or taken from a whole normalised input: loudness, where inputs are logarithms.
        masked_steps: Longest stretch of time that is set to zero, the mean of normalised inputs (SpecAugment, Park et
            al. 2019, arXiv 1904.08779).
        masked_bands: Most neighbours that are set to zero along the last axis other than time: channels, or mels.
    """

    time_axis: int = 2
    shift_steps: int = 0
    noise: float = 0.0
    gain: float = 0.0
    masked_steps: int = 0
    masked_bands: int = 0

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Change a batch of normalised inputs.

        Raises:
            DataError: The inputs have no such axis.
        """
        if not 1 <= self.time_axis < inputs.ndim:
            known = f"1 to {inputs.ndim - 1}"
            raise DataError(f"augmentation.time_axis must be {known} for these inputs, got {self.time_axis}")
        if self.shift_steps:
            inputs = self._shifted(inputs, generator)
        if self.gain:
            gains = (2 * torch.rand(len(inputs), generator=generator) - 1) * self.gain
            inputs = inputs + gains.view(-1, *[1] * (inputs.ndim - 1))
        if self.noise:
            inputs = inputs + self.noise * torch.randn(inputs.shape, generator=generator)
        if self.masked_steps:
            inputs = _masked(inputs, self.time_axis, self.masked_steps, generator)
        if self.masked_bands:
            band_axis = inputs.ndim - (2 if self.time_axis == inputs.ndim - 1 else 1)
            inputs = _masked(inputs, band_axis, self.masked_bands, generator)
        return laid_out(inputs)

    def _shifted(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        steps = inputs.shape[self.time_axis]
        offsets = torch.randint(-self.shift_steps, self.shift_steps + 1, (len(inputs), 1), generator=generator)
        sources = (torch.arange(steps) + offsets).clamp(0, steps - 1)
        along_time = [len(inputs), *[1] * (inputs.ndim - 1)]
        along_time[self.time_axis] = steps
        return inputs.gather(self.time_axis, sources.view(along_time).expand(inputs.shape))


def _masked(inputs: Tensor, axis: int, longest: int, generator: torch.Generator) -> Tensor:
    """Inputs with a stretch of random place and length, 0 to `longest`, of one axis set to zero in each."""
    count, size = len(inputs), inputs.shape[axis]
    lengths = torch.randint(0, min(longest, size) + 1, (count, 1), generator=generator)
    firsts = (torch.rand(count, 1, generator=generator) * (size - lengths + 1)).long()
    places = torch.arange(size)
    is_masked = (places >= firsts) & (places < firsts + lengths)
    along_axis = [count, *[1] * (inputs.ndim - 1)]
    along_axis[axis] = size
    return inputs.masked_fill(is_masked.view(along_axis), 0.0)

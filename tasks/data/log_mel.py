"""Logarithmic mel spectrograms: what small speech networks listen to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import DataError

__all__ = ["LogMel", "centred", "mel_filters", "mel_of"]

_CHUNK = 256


@dataclass(frozen=True)
class LogMel:
    """Energies in bands that are equally wide to the ear, in natural logarithms.

    A window of a full-scale sine has the power 1 before the bands are summed, whatever the window's length.

    Attributes:
        sample_rate: Samples per second.
        n_mels: Bands.
        n_frames: Frames of a recording; it is cropped or padded with silence on both sides to just fill them.
        window: Samples of a frame (periodic Hann window).
        hop: Samples from one frame to the next.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends; half the sample rate when None.
        floor: Added to every power, so that silence has a logarithm; 1e-8 is 80 dB below full scale.
    """

    sample_rate: int = 8000
    n_mels: int = 40
    n_frames: int = 48
    window: int = 256
    hop: int = 128
    low_hz: float = 20.0
    high_hz: float | None = None
    floor: float = 1e-8

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.n_mels, self.n_frames, self.window - 1, self.hop) < 1 or not self.floor > 0:
            raise DataError(f"the sizes and the floor of a log-mel spectrogram must be above 0, got {self}")

    @property
    def n_samples(self) -> int:
        """Samples that the frames cover."""
        return (self.n_frames - 1) * self.hop + self.window

    def __call__(self, recordings: Sequence[Tensor]) -> Tensor:
        """Spectrograms (N, n_mels, n_frames), float32, of recordings (samples,) of any length."""
        filters = mel_filters(self.n_mels, self.window, self.sample_rate, self.low_hz, self.high_hz)
        samples = torch.stack([centred(recording, self.n_samples) for recording in recordings])
        # In pieces: the spectra of all recordings at once take ten times the memory of what is kept.
        return torch.cat([self._spectrograms(part, filters) for part in torch.split(samples, _CHUNK)])

    def _spectrograms(self, samples: Tensor, filters: Tensor) -> Tensor:
        window = torch.hann_window(self.window)
        spectra = torch.stft(samples, self.window, self.hop, window=window, center=False, return_complex=True)
        power = (spectra.abs() * (2 / window.sum())).square()
        return (filters @ power + self.floor).log()


def centred(samples: Tensor, length: int) -> Tensor:
    """The middle of a recording, or the recording in the middle of silence.

    Args:
        samples: Shape (samples,).
        length: Samples wanted; where both sides cannot be equal, the right one is cropped or padded by one more.
    """
    before = (length - len(samples)) // 2 if len(samples) < length else -((len(samples) - length) // 2)
    return functional.pad(samples, (before, length - len(samples) - before))


def mel_of(frequency_hz: Tensor) -> Tensor:
    """Pitch in mel of frequencies: 2595 log10(1 + f / 700), as in HTK (Young et al., The HTK Book)."""
    return 2595 * torch.log10(1 + frequency_hz / 700)


def mel_filters(
    n_mels: int, window: int, sample_rate: int, low_hz: float = 20.0, high_hz: float | None = None
) -> Tensor:
    """Triangles whose corners are equally spaced in mel, each rising and falling linearly in Hz, with height 1.

    Args:
        n_mels: Triangles.
        window: Samples of a frame.
        sample_rate: Samples per second.
        low_hz: Where the first begins.
        high_hz: Where the last ends; half the sample rate when None.

    Returns:
        Shape (n_mels, window // 2 + 1).

    Raises:
        DataError: The range is empty or beyond half the sample rate, or a triangle lies between two frequencies of the
            spectrum and would always be silent.
    """
    high = sample_rate / 2 if high_hz is None else high_hz
    if not 0 <= low_hz < high <= sample_rate / 2:
        raise DataError(f"mel bands must lie within 0 and {sample_rate / 2:g} Hz, got {low_hz:g} to {high:g}")
    lowest, highest = mel_of(torch.tensor([low_hz, high], dtype=torch.float64)).tolist()
    corners = 700 * (10 ** (torch.linspace(lowest, highest, n_mels + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    left, centre, right = (corners[first : first + n_mels, None] for first in range(3))
    rising, falling = (frequencies - left) / (centre - left), (right - frequencies) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0)
    if not bool((filters.amax(1) > 0).all()):
        wide = f"{sample_rate / window:.1f} Hz"
        raise DataError(f"{n_mels} mel bands are too narrow for a window of {window} samples, which tells {wide} apart")
    return filters.float()

"""Decoding WAV recordings."""

import io
import wave

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError

__all__ = ["decode_wav"]

#: Bytes of a sample -> its type, the value of silence and the largest amplitude; 8 bits are unsigned in WAV files.
_SAMPLES = {1: ("u1", 128, 128.0), 2: ("<i2", 0, 2.0**15), 4: ("<i4", 0, 2.0**31)}


def decode_wav(encoded: bytes, sample_rate: int, what: str) -> Tensor:
    """The samples of a WAV file of 8, 16 or 32 bits; several channels are averaged.

    Args:
        encoded: The whole file.
        sample_rate: Expected samples per second.
        what: What and where it is, for the error message.

    Returns:
        float32 in [-1, 1), shape (samples,).

    Raises:
        DataError: The file is damaged, empty, compressed or of another sample rate.
    """
    try:
        with wave.open(io.BytesIO(encoded)) as file:
            parameters, data = file.getparams(), file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{what} cannot be decoded as WAV: {str(error) or 'it ends too early'}") from error
    if parameters.framerate != sample_rate:
        raise DataError(f"{what} has {parameters.framerate} samples per second, expected {sample_rate}")
    if parameters.sampwidth not in _SAMPLES:
        raise DataError(f"{what} has samples of {8 * parameters.sampwidth} bits, expected 8, 16 or 32")
    expected = parameters.nframes * parameters.nchannels * parameters.sampwidth
    if not expected or len(data) != expected:
        raise DataError(f"{what} is cut or empty: its header promises {expected} bytes of sound, {len(data)} are there")
    kind, silence, largest = _SAMPLES[parameters.sampwidth]
    samples = (np.frombuffer(data, kind).astype(np.float32) - silence) / np.float32(largest)
    return torch.from_numpy(samples.reshape(-1, parameters.nchannels).mean(1))

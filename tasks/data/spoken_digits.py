"""The Free Spoken Digit Dataset, or any other spoken words, in Parquet files of WAV recordings."""

from pathlib import Path
from typing import Literal

from torch import Tensor

from ...errors import DataError
from .folder import data_folder, existing_file
from .log_mel import LogMel
from .parquet import encoded_bytes, read_labels, read_table
from .split import Split, Splits, channel_statistics, stratified_parts
from .wav import decode_wav

__all__ = ["read_recordings", "spoken_digits"]


def spoken_digits(
    train: str = "spoken_digits_train.parquet",
    test: str = "spoken_digits_test.parquet",
    *,
    root: str | None = None,
    layout: Literal["image", "sequence"] = "image",
    n_mels: int = 40,
    n_frames: int = 48,
    window: int = 256,
    hop: int = 128,
    sample_rate: int = 8000,
    calibrate: int = 256,
    search: int = 600,
    n_classes: int = 10,
    audio_column: str = "audio",
    label_column: str = "label",
    seed: int = 0,
) -> Splits:
    """Log-mel features of spoken digits, standardised with mean and deviation of the fit split.

    Args:
        train: Name of the training file; the fit, calibrate and search splits come from it.
        test: Name of the test file.
        root: Folder of the files; the environment variable ESPALIER_DATA when None.
        layout: "image" (N, 1, n_mels, n_frames) for convolutions, or "sequence" (N, n_frames, n_mels) for recurrent
            networks, where each band is standardised by itself.
        n_mels: Bands.
        n_frames: Frames; recordings are cropped or padded on both sides.
        window: Samples of a frame.
        hop: Samples from one frame to the next.
        sample_rate: Samples per second of all recordings.
        calibrate: Recordings of the calibrate split.
        search: Recordings of the search split.
        n_classes: Labels are 0 to n_classes - 1.
        audio_column: Column of structs with the bytes of a WAV file.
        label_column: Column of labels.
        seed: Which recordings go where.

    Raises:
        DataError: A file is missing or damaged, or the layout is unknown.
    """
    if layout not in ("image", "sequence"):
        raise DataError(f"data.layout must be image or sequence, got {layout!r}")
    folder = data_folder(root)
    paths = [existing_file(folder, name) for name in (train, test)]
    features = LogMel(sample_rate, n_mels, n_frames, window, hop)
    (recordings, labels), (tested, test_labels) = (
        read_recordings(path, sample_rate, n_classes, audio_column, label_column) for path in paths
    )
    parts = stratified_parts(labels, (calibrate, search), seed)
    values, axis = _arranged(features(recordings), layout)
    mean, std = channel_statistics(values[parts[-1]], axis)
    calibrated, searched, fitted = (Split(values[part], labels[part], mean, std, axis) for part in parts)
    test_values, _ = _arranged(features(tested), layout)
    return Splits(fitted, calibrated, searched, Split(test_values, test_labels, mean, std, axis))


def read_recordings(
    path: Path, sample_rate: int, n_classes: int, audio_column: str = "audio", label_column: str = "label"
) -> tuple[list[Tensor], Tensor]:
    """Read WAV recordings and labels.

    Args:
        path: The Parquet file.
        sample_rate: Samples per second of all recordings.
        n_classes: Labels must lie below.
        audio_column: Column of structs with the bytes of a WAV file.
        label_column: Column of labels.

    Returns:
        Recordings, float32, shape (samples,) each, and labels, int64, shape (N,).

    Raises:
        DataError: The file is damaged, a column is missing, a recording cannot be decoded or has another sample rate,
            or a label is out of range.
    """
    table = read_table(path, audio_column, label_column)
    labels = read_labels(table, label_column, n_classes, path)
    recordings = []
    for number, row in enumerate(table.column(audio_column).to_pylist()):
        what = f"the recording in row {number} of {path}"
        recordings.append(decode_wav(encoded_bytes(row, what), sample_rate, what))
    return recordings, labels


def _arranged(spectrograms: Tensor, layout: str) -> tuple[Tensor, int]:
    """Features in a layout, and the axis of its channels."""
    if layout == "image":
        return spectrograms[:, None], 1
    return spectrograms.transpose(1, 2).contiguous(), 2

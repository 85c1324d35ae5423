"""Human activity recognition with smartphones: UCI-HAR's folder of inertial signals (Anguita et al., ESANN 2013)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import DataError
from .folder import data_folder, existing_file
from .split import Split, Splits, channel_statistics, stratified_parts

__all__ = ["SIGNALS", "har", "read_har_part"]

#: The nine channels in order: acceleration of the body, turning rate, acceleration with gravity, each in x, y, z.
SIGNALS = tuple(f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")

_FOLDER = "UCI HAR Dataset"


def har(
    *,
    root: str | None = None,
    search_subjects: int = 4,
    calibrate: int = 512,
    n_classes: int = 6,
    seed: int = 0,
) -> Splits:
    """Windows of nine inertial signals (N, 9, T), standardised with mean and deviation of the fit split.

    Neighbouring windows overlap by half, and people move in their own ways: the search split therefore holds all
    windows of some people, of whom the fit and calibrate splits hold none. The test split is of other people as
    published.

    Args:
        root: "UCI HAR Dataset" or the folder that holds it; the environment variable ESPALIER_DATA when None.
        search_subjects: People of the training part whose windows are the search split.
        calibrate: Windows of the calibrate split.
        n_classes: Labels in the files are 1 to n_classes.
        seed: Which people and windows go where.

    Raises:
        DataError: A file is missing or damaged, or there are too few people.
    """
    folder = data_folder(root)
    folder = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    signals, labels, subjects = read_har_part(folder, "train", n_classes)
    tested, test_labels, _ = read_har_part(folder, "test", n_classes)
    held_out = _held_out(subjects, search_subjects, seed)
    rest, searched = (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
    calibrated, fitted = (rest[part] for part in stratified_parts(labels[rest], (calibrate,), seed))
    mean, std = channel_statistics(signals[fitted])
    fit, calibration, search = (
        Split(signals[part], labels[part], mean, std) for part in (fitted, calibrated, searched)
    )
    return Splits(fit, calibration, search, Split(tested, test_labels, mean, std))


def _held_out(subjects: Tensor, count: int, seed: int) -> Tensor:
    people = torch.unique(subjects)
    if not 1 <= count < len(people):
        known = f"1 to {len(people) - 1}"
        raise DataError(f"data.search_subjects must be {known}, got {count}: there are {len(people)} people")
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
    return torch.isin(subjects, people[order[:count]])


def read_har_part(folder: Path, part: str, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Read the training or the test part.

    Args:
        folder: With the folders `train` and `test`.
        part: "train" or "test".
        n_classes: Labels in the file are 1 to n_classes.

    Returns:
        Signals, float32, shape (N, 9, T); labels from 0, int64, shape (N,); numbers of the people, int64, shape (N,).

    Raises:
        DataError: A file is missing or damaged, or the files do not belong together.
    """
    names = [f"{part}/Inertial Signals/{signal}_{part}.txt" for signal in SIGNALS]
    channels = [_table(existing_file(folder, name)) for name in names]
    labels, subjects = (_column(existing_file(folder, f"{part}/{name}_{part}.txt")) for name in ("y", "subject"))
    shapes = {channel.shape for channel in channels}
    if len(shapes) != 1 or not len(channels[0]) == len(labels) == len(subjects):
        rows = f"signals {sorted(shapes)}, {len(labels)} labels, {len(subjects)} subjects"
        raise DataError(f"the files of {folder / part} do not belong together: {rows}")
    if not 1 <= int(labels.min()) <= int(labels.max()) <= n_classes:
        raise DataError(f"the labels in {folder / part} must be 1 to {n_classes}")
    return torch.from_numpy(np.stack(channels, axis=1)), labels - 1, subjects


def _table(path: Path) -> NDArray[np.float32]:
    """Numbers separated by blanks, a row of equally many in each line."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        rows = [np.array(line.split(), np.float32) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as numbers: {error}") from error
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1:
        raise DataError(f"{path} must hold lines of one length, got {lengths[:5]}")
    table = np.stack(rows)
    if not np.isfinite(table).all():
        raise DataError(f"{path} holds infinite or not-a-number values")
    return table


def _column(path: Path) -> Tensor:
    """Whole numbers, one in each line."""
    table = _table(path)
    if table.shape[1] != 1 or not (table == table.round()).all():
        raise DataError(f"{path} must hold one whole number in each line")
    return torch.from_numpy(table[:, 0].astype(np.int64))

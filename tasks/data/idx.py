"""MNIST and Fashion-MNIST in their original IDX files (LeCun et al.), gzipped or plain."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import DataError
from .folder import data_folder, existing_file
from .split import Split, Splits, stratified_parts

__all__ = ["idx_images", "read_idx"]

_UNSIGNED_BYTE = 0x08


def idx_images(
    *,
    root: str | None = None,
    prefix: str = "",
    mean: float = 0.1307,
    std: float = 0.3081,
    calibrate: int = 512,
    search: int = 1000,
    fit: int | None = None,
    seed: int = 0,
) -> Splits:
    """Read a data set of four IDX files.

    Args:
        root: Folder of the files; the environment variable ESPALIER_DATA when None.
        prefix: Begin of the training files' names before "train-images-idx3-ubyte"; the test files are
            "t10k-..." with the same prefix.
        mean: Of the pixels, scaled to [0, 1].
        std: Of the pixels, scaled to [0, 1].
        calibrate: Training images of the calibrate split.
        search: Training images of the search split.
        fit: Training images of the fit split; all others when None.
        seed: Which images go where.

    Raises:
        DataError: A file is missing or damaged.
    """
    folder = data_folder(root)
    images, labels = _read_pair(folder, f"{prefix}train")
    parts = stratified_parts(labels, (calibrate, search), seed)
    calibrated, searched, fitted = (Split(images[part], labels[part], (mean,), (std,)) for part in parts)
    test = Split(*_read_pair(folder, f"{prefix}t10k"), (mean,), (std,))
    return Splits(fitted if fit is None else fitted.take(fit), calibrated, searched, test)


def _read_pair(folder: Path, stem: str) -> tuple[Tensor, Tensor]:
    names = (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
    images, labels = (read_idx(existing_file(folder, f"{name}.gz", name)) for name in names)
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        raise DataError(f"the {stem} images and labels in {folder} do not belong together: shapes {shapes}")
    if len(labels) == 0 or int(labels.max()) > 9:
        raise DataError(f"the {stem} labels in {folder} are not classes 0 to 9")
    return images[:, None], labels.long()


def read_idx(path: Path) -> Tensor:
    """Read an IDX file of unsigned bytes.

    Returns:
        uint8, of the shape that the file's header declares.

    Raises:
        DataError: The file is damaged, of another type, or shorter or longer than its header says.
    """
    data = _read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path} is no IDX file of unsigned bytes: it begins with {data[:4].hex()!r}")
    n_axes = data[3]
    header = 4 + 4 * n_axes
    shape = tuple(int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(n_axes))
    if len(data) != header + math.prod(shape):
        raise DataError(f"{path} declares shape {shape}, {math.prod(shape)} bytes, but holds {len(data) - header}")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy())


def _read_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

"""Images in a folder per class, as ImageNet is laid out: root/train/class/image.jpg and root/val/class/image.jpg."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ...errors import DataError
from ...progress import step
from .folder import data_folder
from .split import Split, Splits, stratified_parts

__all__ = ["image_folder", "read_image_folder"]

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_STEPS_SHOWN = 100


def image_folder(
    *,
    root: str | None = None,
    train: str = "train",
    test: str = "val",
    size: int = 224,
    resize: int | None = None,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    calibrate: int = 512,
    search: int = 1000,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    seed: int = 0,
) -> Splits:
    """Read a folder of images, decoded once and kept as bytes: 150 kB for each image of 224x224 in colour.

    Classes are numbered in the alphabetical order of their folders in the training part, which is ImageNet's order for
    its own folder names.

    Args:
        root: The folder; the environment variable ESPALIER_DATA when None.
        train: Its subfolder of training images; the fit, calibrate and search splits come from it.
        test: Its subfolder of test images.
        size: Height and width of the images afterwards.
        resize: Length of the shorter side before the centre is cropped; 8/7 of the size when None (256 for 224).
        mean: Of each channel, scaled to [0, 1]; a single one reads the images as grey.
        std: Of each channel, scaled to [0, 1].
        calibrate: Images of the calibrate split.
        search: Images of the search split.
        train_per_class: At most so many training images of each class, chosen at random; all when None.
        test_per_class: At most so many test images of each class, chosen at random; all when None.
        seed: Which images are chosen and where they go.

    Raises:
        DataError: A folder is missing or empty, or an image cannot be decoded.
    """
    folder = data_folder(root)
    shorter = round(size * 8 / 7) if resize is None else resize
    if not 1 <= size <= shorter:
        raise DataError(f"data.size must be at least 1 and at most data.resize, got {size} and {shorter}")
    if len(mean) not in (1, 3):
        raise DataError(f"data.mean must hold 1 number for grey images or 3 for colour, got {len(mean)}")
    classes = _classes(folder / train)
    images, labels = read_image_folder(folder / train, classes, len(mean), size, shorter, train_per_class, seed)
    tested = read_image_folder(folder / test, classes, len(mean), size, shorter, test_per_class, seed)
    parts = stratified_parts(labels, (calibrate, search), seed)
    calibrated, searched, fitted = (Split(images[part], labels[part], mean, std) for part in parts)
    return Splits(fitted, calibrated, searched, Split(*tested, mean, std))


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"the folder {folder} does not exist; expected a folder with a subfolder for each class")
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no subfolders; expected one for each class")
    return names


def read_image_folder(
    folder: Path, classes: Sequence[str], n_channels: int, size: int, resize: int, per_class: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Read one part of a data set.

    Args:
        folder: With a subfolder for each class; classes may be missing, others may not be there.
        classes: Names of the subfolders; their places are the labels.
        n_channels: 1 for grey, 3 for colour.
        size: Height and width of the crop.
        resize: Length of the shorter side before it.
        per_class: At most so many images of each class; all when None.
        seed: Which ones.

    Returns:
        Images, uint8, shape (N, n_channels, size, size), and labels, int64, shape (N,).

    Raises:
        DataError: There are no images or unknown classes, or an image cannot be decoded.
    """
    if unknown := sorted(set(_classes(folder)) - set(classes)):
        raise DataError(f"{folder} has classes that the training images do not have: {', '.join(unknown[:5])}")
    files = [(path, label) for label, name in enumerate(classes) for path in _chosen(folder / name, per_class, seed)]
    if not files:
        raise DataError(f"{folder} holds no images; known kinds: {', '.join(_SUFFIXES)}")
    images = np.empty((len(files), size, size, n_channels), np.uint8)
    with step(f"reading {folder.name} images", _STEPS_SHOWN) as advance:
        for number, (path, _) in enumerate(files):
            images[number] = _decode(path, n_channels, size, resize)
            advance((number + 1) * _STEPS_SHOWN // len(files) - number * _STEPS_SHOWN // len(files))
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    # Channels first in name only: the bytes stay as they were decoded, which is also how networks read them.
    return torch.from_numpy(images).permute(0, 3, 1, 2), labels


def _chosen(folder: Path, limit: int | None, seed: int) -> list[Path]:
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if limit is None or len(files) <= limit:
        return files
    chosen = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))[:limit]
    return [files[index] for index in sorted(chosen.tolist())]


def _decode(path: Path, n_channels: int, size: int, resize: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = _cropped(image.convert("L" if n_channels == 1 else "RGB"), size, resize)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image {path} cannot be decoded: {error}") from error
    return np.asarray(pixels).reshape(size, size, n_channels)


def _cropped(image: Image.Image, size: int, resize: int) -> Image.Image:
    """The shorter side to `resize`, bilinearly and with its aspect, then the centre."""
    scale = resize / min(image.size)
    width, height = (max(resize, int(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    resized = image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))

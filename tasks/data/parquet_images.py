"""Image data sets in Parquet files of the Hugging Face layout: encoded images and labels, such as CIFAR-10."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from ...errors import DataError
from .folder import data_folder, existing_file
from .parquet import encoded_bytes, read_labels, read_table
from .split import Split, Splits, stratified_parts

__all__ = ["parquet_images", "read_parquet_images", "without_likenesses"]

#: Held-out images that are compared at a time.
_LIKENESSES = 128


def parquet_images(
    train: str,
    test: str,
    *,
    root: str | None = None,
    mean: tuple[float, ...] = (0.485, 0.456, 0.406),
    std: tuple[float, ...] = (0.229, 0.224, 0.225),
    calibrate: int = 512,
    search: int = 1000,
    n_classes: int = 10,
    image_column: str = "img",
    label_column: str = "label",
    extra_fit: str | None = None,
    extra_fit_images: int | None = None,
    seed: int = 0,
) -> Splits:
    """Read a training and a test file.

    Args:
        train: Name of the training file; the fit, calibrate and search splits come from it.
        test: Name of the test file.
        root: Folder of the files; the environment variable ESPALIER_DATA when None.
        mean: Of each channel, scaled to [0, 1].
        std: Of each channel, scaled to [0, 1].
        calibrate: Images of the calibrate split.
        search: Images of the search split.
        n_classes: Labels are 0 to n_classes - 1.
        image_column: Column of structs with the encoded bytes.
        label_column: Column of labels.
        extra_fit: Name of a file whose images join the fit split, such as the same photographs in another encoding. For
            each image of the calibrate and search splits the most similar one is left out: the splits stay disjoint.
        extra_fit_images: The first so many of them; all when None.
        seed: Which images go where.

    Raises:
        DataError: A file is missing or damaged.
    """
    folder = data_folder(root)
    names = [train, test, *([extra_fit] if extra_fit else [])]
    paths = [existing_file(folder, name) for name in names]
    (images, labels), tested, *extra = (
        read_parquet_images(path, len(mean), n_classes, image_column, label_column) for path in paths
    )
    parts = stratified_parts(labels, (calibrate, search), seed)
    calibrated, searched, fitted = (Split(images[part], labels[part], mean, std) for part in parts)
    for more, classes in extra:
        held_out = torch.cat([calibrated.images, searched.images])
        new = without_likenesses(more[:extra_fit_images], held_out)
        both = torch.cat([fitted.images, more[new]]), torch.cat([fitted.labels, classes[new]])
        fitted = Split(*both, mean, std)
    return Splits(fitted, calibrated, searched, Split(*tested, mean, std))


def without_likenesses(images: Tensor, held_out: Tensor) -> Tensor:
    """Indices of the images that are not the most similar one to any held-out image.

    Similarity is the distance of thumbnails of 8x8 pixels, which survive another encoding.

    Args:
        images: uint8, shape (N, C, H, W).
        held_out: uint8, shape (M, C, H, W).

    Returns:
        int64, in rising order, at least N - M of them.
    """
    thumbnails, wanted = (functional.adaptive_avg_pool2d(part.float(), 8).flatten(1) for part in (images, held_out))
    stays = torch.ones(len(images), dtype=torch.bool)
    for part in torch.split(wanted, _LIKENESSES):
        stays[torch.cdist(part, thumbnails).argmin(1)] = False
    return stays.nonzero().squeeze(1)


def read_parquet_images(
    path: Path, n_channels: int, n_classes: int, image_column: str = "img", label_column: str = "label"
) -> tuple[Tensor, Tensor]:
    """Read encoded images (PNG, JPEG) and labels.

    Args:
        path: The Parquet file.
        n_channels: 1 for grey, 3 for colour.
        n_classes: Labels must lie below.
        image_column: Column of structs with the encoded bytes.
        label_column: Column of labels.

    Returns:
        Images, uint8, shape (N, C, H, W), and labels, int64, shape (N,).

    Raises:
        DataError: The file is damaged, a column is missing, an image cannot be decoded or differs in size, or a label
            is out of range.
    """
    table = read_table(path, image_column, label_column)
    labels = read_labels(table, label_column, n_classes, path)
    rows = table.column(image_column).to_pylist()
    images = [_decode(row, n_channels, f"the image in row {number} of {path}") for number, row in enumerate(rows)]
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise DataError(f"the images in {path} must have one size, got {sorted(sizes)[:5]}")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), labels


def _decode(row: object, n_channels: int, what: str) -> NDArray[np.uint8]:
    encoded = encoded_bytes(row, what)
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            pixels = np.asarray(image.convert("L" if n_channels == 1 else "RGB"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} cannot be decoded: {error}") from error
    return pixels.reshape(*pixels.shape[:2], n_channels)

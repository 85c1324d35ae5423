"""Data that does not belong together, and the published figures of data that does."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from espalier.errors import DataError
from espalier.tasks.data.idx import idx_images, read_idx
from espalier.tasks.data.parquet_images import parquet_images, read_parquet_images
from espalier.tasks.data.split import Split, stratified_parts
from PIL import Image


def _write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def _write_pair(folder: Path, stem: str, images: np.ndarray, labels: np.ndarray) -> None:
    _write_idx(folder / f"{stem}-images-idx3-ubyte", images.astype(np.uint8))
    _write_idx(folder / f"{stem}-labels-idx1-ubyte", labels.astype(np.uint8))


_TEN = np.arange(40) % 10
_PIXELS = np.arange(40)[:, None, None] * np.ones((1, 4, 4))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (_PIXELS[:39], _TEN, r"t10k images and labels .* do not belong together: shapes \(39, 4, 4\) and \(40,\)"),
        (_PIXELS[:, 0], _TEN, "do not belong together"),
        (_PIXELS, _TEN[:, None], "do not belong together"),
        (_PIXELS, _TEN + 1, "t10k labels .* are not classes 0 to 9"),
        (_PIXELS[:0], _TEN[:0], "are not classes 0 to 9"),
    ],
    ids=["count", "flat images", "tall labels", "label 10", "empty"],
)
def test_idx_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    _write_pair(tmp_path, "train", _PIXELS, _TEN)
    _write_pair(tmp_path, "t10k", images, labels)
    with pytest.raises(DataError, match=message):
        idx_images(root=str(tmp_path), calibrate=10, search=10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\x03\0\0", "but holds -10"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "declares shape"),
        (b"\1\0\x08\x01\0\0\0\0", "begins with '01000801'"),
    ],
    ids=["cut header", "huge", "magic"],
)
def test_lying_idx_headers_are_refused_without_reading_on(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_what_is_named_gz_and_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match=r"x\.gz cannot be read: Not a gzipped file"):
        read_idx(tmp_path / "x.gz")
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)


def test_prefix_gzip_and_a_smaller_fit_split(tmp_path: Path) -> None:
    for stem in ("coat-train", "coat-t10k"):
        _write_pair(tmp_path, stem, _PIXELS, _TEN)
    for path in list(tmp_path.iterdir()):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.write_bytes(b"the gzipped file comes first")
    splits = idx_images(root=str(tmp_path), prefix="coat-", mean=0.0, std=1.0, calibrate=10, search=10, fit=5)
    assert [len(s) for s in (splits.fit, splits.calibrate, splits.search, splits.test)] == [5, 10, 10, 40]
    # Image n is filled with n and has label n mod 10: pixels and labels stayed together, no image is in two splits.
    parts = (splits.fit, splits.calibrate, splits.search)
    numbers = [part.images[:, 0, 0, 0].long() for part in parts]
    assert all(torch.equal(n % 10, part.labels) for n, part in zip(numbers, parts, strict=True))
    assert len(set(torch.cat(numbers).tolist())) == 25
    assert torch.bincount(splits.search.labels).tolist() == [1] * 10


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


_NOISE = _png(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([{"bytes": _NOISE}, {"bytes": _NOISE[:1000]}], [0, 0], "image in row 1 of .* cannot be decoded"),
        ([{"bytes": _NOISE}, None], [0, 0], "image in row 1 of .* must be a struct with 'bytes', got NoneType"),
        ([{"bytes": None, "path": "a.png"}], [0], "must be a struct with 'bytes'"),
        ([{"bytes": _NOISE}], [None], "label in row 0 of .* must be 0 to 2, got None"),
        ([{"bytes": _NOISE}], [-1], "must be 0 to 2, got -1"),
        ([{"bytes": _NOISE}], ["cat"], "must be 0 to 2, got 'cat'"),
    ],
)
def test_damaged_parquet_rows_are_named(
    tmp_path: Path, images: list[object], labels: list[object], message: str
) -> None:
    pq.write_table(pa.table({"img": images, "label": labels}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message):
        read_parquet_images(tmp_path / "a.parquet", 3, 3)


def test_colour_is_read_as_grey_where_grey_is_asked_for(tmp_path: Path) -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    pq.write_table(pa.table({"img": [{"bytes": _png(colours)}], "label": [1]}), tmp_path / "a.parquet")
    images, _ = read_parquet_images(tmp_path / "a.parquet", 1, 3)
    # The luma of ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
    assert images.shape == (1, 1, 2, 2)
    assert torch.allclose(images[0, 0].double(), torch.tensor([[76.2, 149.7], [29.1, 255.0]]).double(), atol=1)


def test_a_missing_parquet_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"would fail if it were read")
    with pytest.raises(DataError, match=r"test\.parquet is missing in .*ESPALIER_DATA"):
        parquet_images("train.parquet", "test.parquet", root=str(tmp_path))


@pytest.mark.parametrize("std", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("nan"))])
def test_unusable_deviations_are_refused(std: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="expected 2 standard deviations above 0, got"):
        Split(torch.zeros(1, 2, 4, 4), torch.zeros(1, dtype=torch.int64), (0.0, 0.0), std)


def test_a_fingerprint_tells_every_change_apart() -> None:
    images, labels = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1])
    base = Split(images, labels, (0.0,), (1.0,))
    others = [
        Split(images + 1, labels, (0.0,), (1.0,)),
        Split(images, labels.flip(0), (0.0,), (1.0,)),
        Split(images, labels, (0.5,), (1.0,)),
        Split(images, labels, (0.0,), (2.0,)),
        Split(images.view(2, 1, 1, 4), labels, (0.0,), (1.0,)),
    ]
    assert len({base.fingerprint, *(split.fingerprint for split in others)}) == 6
    assert base.fingerprint == Split(images.clone(), labels.clone(), (0.0,), (1.0,)).fingerprint


@pytest.mark.parametrize("size", [0, -3])
def test_a_split_without_images_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"a split of {size} images"):
        stratified_parts(torch.arange(20) % 2, (size,), 0)


def test_real_fashion_mnist_has_its_published_mean_and_deviation(data_root: Path) -> None:
    splits = idx_images(root=str(data_root), prefix="fashion-", mean=0.28604, std=0.35302, calibrate=100, search=900)
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    parts = (splits.fit, splits.calibrate, splits.search)
    pixels = torch.cat([part.images.flatten() for part in parts])
    counts = torch.bincount(pixels.int(), minlength=256).double()
    levels = torch.arange(256).double() / 255
    mean = float((counts * levels).sum() / counts.sum())
    assert mean == pytest.approx(0.28604, abs=1e-5)
    assert float(((counts * levels**2).sum() / counts.sum() - mean**2).sqrt()) == pytest.approx(0.35302, abs=1e-5)


def test_real_parquet_images_of_the_exact_test_set(data_root: Path) -> None:
    images, labels = read_parquet_images(data_root / "cifar10_exact_test.parquet", 3, 10)
    assert images.shape == (846, 3, 32, 32)
    assert torch.bincount(labels).tolist() == [83, 70, 88, 84, 76, 79, 97, 87, 88, 94]

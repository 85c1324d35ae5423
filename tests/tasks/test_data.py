"""Data sets: real ones when they are there, hand-made files always."""

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
from espalier.tasks.data.digits import digits
from espalier.tasks.data.folder import data_folder, existing_file
from espalier.tasks.data.idx import idx_images, read_idx
from espalier.tasks.data.parquet_images import parquet_images, read_parquet_images
from espalier.tasks.data.split import Split, stratified_parts
from PIL import Image
from sklearn.datasets import load_digits


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_digits_are_scikit_learns_in_disjoint_stratified_parts() -> None:
    splits = digits(size=8, calibrate=100, search=200, test=300)
    sizes = [len(part) for part in (splits.fit, splits.calibrate, splits.search, splits.test)]
    assert sizes == [1797 - 600, 100, 200, 300]
    original = np.sort(load_digits().data.reshape(-1, 64).astype(np.float32) / 16, axis=0)
    parts = (splits.fit, splits.calibrate, splits.search, splits.test)
    together = np.concatenate([part.images.reshape(-1, 64).numpy() for part in parts])
    assert np.allclose(np.sort(together, axis=0), original, atol=1e-6)
    counts = torch.bincount(splits.test.labels, minlength=10)
    assert counts.min() >= 28
    assert counts.max() <= 32


def test_another_seed_gives_other_parts_and_the_same_seed_the_same() -> None:
    first, again, other = (digits(size=8, seed=seed).test.fingerprint for seed in (0, 0, 1))
    assert first == again != other


def test_splits_normalise_and_shuffle() -> None:
    images = torch.arange(2 * 3 * 4, dtype=torch.uint8).view(2, 3, 2, 2)
    split = Split(images, torch.tensor([0, 1]), (0.5, 0.25, 0.0), (0.5, 1.0, 2.0))
    expected = (images.double() / 255 - torch.tensor([0.5, 0.25, 0.0]).view(1, 3, 1, 1)) / torch.tensor(
        [0.5, 1.0, 2.0]
    ).view(1, 3, 1, 1)
    assert torch.allclose(split.inputs().double(), expected, atol=1e-6)
    labels = torch.cat([labels for _, labels in split.batches(1, torch.Generator().manual_seed(3))])
    assert sorted(labels.tolist()) == [0, 1]
    assert len(split.take(1)) == 1


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(3), "2 images but 3 labels"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), r"expected images of shape \(N, 1, H, W\)"),
    ],
)
def test_impossible_splits_are_refused(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels, (0.0,), (1.0,))


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="more than 10 images, there are 10"):
        stratified_parts(torch.arange(10) % 2, (5, 5), 0)
    with pytest.raises(DataError, match="cannot hold every class"):
        stratified_parts(torch.arange(40) % 20, (5,), 0)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_as_they_were_written(tmp_path: Path, zipped: bool) -> None:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 200), ("t10k", 40)):
        images = rng.integers(0, 256, (count, 6, 5), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = _idx(array)
            name = f"{stem}-{kind}-ubyte" + (".gz" if zipped else "")
            (tmp_path / name).write_bytes(gzip.compress(data) if zipped else data)
    splits = idx_images(root=str(tmp_path), prefix="", mean=0.5, std=0.5, calibrate=20, search=40, seed=0)
    assert torch.equal(splits.test.images[:, 0], torch.from_numpy(images))
    assert torch.equal(splits.test.labels, torch.from_numpy(labels).long())
    assert len(splits.fit) == 140


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00", "no IDX file of unsigned bytes: it begins with '00000d01'"),
        (_idx(np.zeros((4, 3), np.uint8))[:-1], r"declares shape \(4, 3\), 12 bytes, but holds 11"),
        (b"", "no IDX file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(_idx(np.zeros((50, 30), np.uint8)))[:-9])
    with pytest.raises(DataError, match=r"x\.gz cannot be read"):
        read_idx(tmp_path / "x.gz")


def test_missing_folders_and_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESPALIER_DATA", raising=False)
    with pytest.raises(DataError, match="no data folder is given; point at the folder"):
        data_folder(None)
    with pytest.raises(DataError, match=r"data folder .*nowhere does not exist; point at"):
        data_folder(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"a or b is missing in .*data\.root=FOLDER"):
        existing_file(tmp_path, "a", "b")
    monkeypatch.setenv("ESPALIER_DATA", str(tmp_path))
    assert data_folder(None) == tmp_path


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, images: list[object], labels: list[object]) -> None:
    pq.write_table(pa.table({"img": images, "label": labels}), path)


def test_parquet_images_are_decoded_pixel_by_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 5, 4, 3), dtype=np.uint8)
    labels = [index % 3 for index in range(60)]
    for name in ("train.parquet", "test.parquet"):
        _write(tmp_path / name, [{"bytes": _png(image)} for image in pixels], labels)
    read, classes = read_parquet_images(tmp_path / "train.parquet", 3, 3)
    assert torch.equal(read, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert classes.tolist() == labels
    splits = parquet_images(
        root=str(tmp_path),
        train="train.parquet",
        test="test.parquet",
        mean=[0.5] * 3,
        std=[0.5] * 3,
        calibrate=9,
        search=12,
        n_classes=3,
        seed=0,
    )
    assert (len(splits.fit), len(splits.calibrate), len(splits.search), len(splits.test)) == (39, 9, 12, 60)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([{"bytes": b"no image"}], [0], "image in row 0 of .* cannot be decoded"),
        ([{"bytes": _png(np.zeros((2, 2, 3), np.uint8))}], [7], "label in row 0 of .* must be 0 to 2, got 7"),
        (["text"], [0], "must be a struct with 'bytes', got str"),
        ([], [], "has no rows"),
        (
            [{"bytes": _png(np.zeros((2, 2, 3), np.uint8))}, {"bytes": _png(np.zeros((3, 2, 3), np.uint8))}],
            [0, 0],
            "must have one size",
        ),
    ],
)
def test_damaged_rows_are_refused(tmp_path: Path, images: list[object], labels: list[object], message: str) -> None:
    _write(tmp_path / "a.parquet", images, labels)
    with pytest.raises(DataError, match=message):
        read_parquet_images(tmp_path / "a.parquet", 3, 3)


def test_extra_images_join_the_fit_split_without_copies_of_held_out_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    labels = [index % 2 for index in range(40)]
    _write(tmp_path / "train.parquet", [{"bytes": _png(image)} for image in pixels], labels)
    noisy = np.clip(pixels.astype(int) + rng.integers(-6, 7, pixels.shape), 0, 255).astype(np.uint8)
    fresh = rng.integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    more = np.concatenate([noisy, fresh])
    _write(tmp_path / "more.parquet", [{"bytes": _png(image)} for image in more], [*labels, *[1] * 10])
    names = {"train": "train.parquet", "test": "train.parquet", "extra_fit": "more.parquet"}
    splits = parquet_images(**names, root=str(tmp_path), calibrate=6, search=8, n_classes=2)
    held_out = torch.cat([splits.calibrate.images, splits.search.images]).float()
    assert len(splits.fit) == 40 - 14 + 50 - 14
    closest = torch.cdist(held_out.flatten(1), splits.fit.images.float().flatten(1)).min()
    assert closest > 10 * (6 * 3**0.5)
    few = parquet_images(**names, root=str(tmp_path), calibrate=6, search=8, n_classes=2, extra_fit_images=20)
    assert 26 < len(few.fit) < 26 + 20


def test_damaged_parquet_and_missing_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_parquet_images(tmp_path / "a.parquet", 3, 3)
    _write(tmp_path / "b.parquet", [{"bytes": b""}], [0])
    with pytest.raises(DataError, match="has no column 'picture'; columns: img, label"):
        read_parquet_images(tmp_path / "b.parquet", 3, 3, "picture")


def test_real_mnist_has_its_published_shape(data_root: Path) -> None:
    splits = idx_images(root=str(data_root), prefix="", mean=0.1307, std=0.3081, calibrate=512, search=1000, seed=0)
    assert len(splits.test) == 10_000
    assert len(splits.fit) + 1512 == 60_000
    assert torch.bincount(splits.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

"""Folders of images, written here."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.errors import DataError
from espalier.tasks.data.image_folder import image_folder, read_image_folder
from PIL import Image

_CLASSES = ("ant", "bee", "cat")


def _write(folder: Path, count: int, suffix: str = ".png") -> None:
    """Image number n of class c is filled with (10 c, n, 200); files are made in random order."""
    order = [(label, number) for label in range(3) for number in range(count)]
    random.Random(0).shuffle(order)
    for label, number in order:
        path = folder / _CLASSES[label] / f"{number:03d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (10 * label, number, 200)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "train", 20)
    _write(tmp_path / "val", 5, ".PNG")
    return tmp_path


def test_classes_are_alphabetical_and_parts_disjoint(root: Path) -> None:
    (root / "train" / "ant" / "notes.txt").write_text("no image")
    (root / "train" / ".cache").mkdir()
    splits = image_folder(root=str(root), size=6, calibrate=6, search=9)
    assert [len(part) for part in (splits.fit, splits.calibrate, splits.search, splits.test)] == [45, 6, 9, 15]
    seen = set()
    for part in (splits.fit, splits.calibrate, splits.search):
        assert part.images.dtype == torch.uint8
        assert part.images.shape[1:] == (3, 6, 6)
        colours = part.images[:, :, 3, 3].tolist()
        assert [red // 10 for red, _, _ in colours] == part.labels.tolist()
        seen.update((red, green) for red, green, _ in colours)
    assert len(seen) == 60
    assert splits.test.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert torch.allclose(splits.test.inputs()[0, 2], torch.tensor((200 / 255 - 0.406) / 0.225), atol=1e-5)


def test_limits_per_class(root: Path) -> None:
    shared = {"root": str(root), "size": 6, "calibrate": 3, "search": 3, "train_per_class": 8, "test_per_class": 2}
    first, again, *others = (image_folder(**shared, seed=seed) for seed in (0, 0, 1, 2, 3))  # type: ignore[arg-type]
    assert [len(part) for part in (first.fit, first.calibrate, first.search, first.test)] == [18, 3, 3, 6]
    assert first.test.fingerprint == again.test.fingerprint
    assert {other.test.fingerprint for other in others} != {first.test.fingerprint}


@pytest.mark.parametrize(("width", "height"), [(16, 8), (8, 16)])
def test_the_centre_is_kept_pixel_by_pixel(tmp_path: Path, width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    images, _ = read_image_folder(tmp_path, ["a"], 3, 4, 8, None, 0)
    top, left = (height - 4) // 2, (width - 4) // 2
    assert torch.equal(images[0], torch.from_numpy(pixels[top : top + 4, left : left + 4]).permute(2, 0, 1))


def test_the_shorter_side_is_resized_and_the_aspect_stays(tmp_path: Path) -> None:
    """A ramp over 64 columns and 32 rows, halved: column x then shows the ramp at 2 x + 1/2."""
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (32, 1))
    (tmp_path / "a").mkdir()
    Image.fromarray(ramp).save(tmp_path / "a" / "x.png")
    images, _ = read_image_folder(tmp_path, ["a"], 1, 8, 16, None, 0)
    expected = 4 * (2 * torch.arange(12.0, 20.0) + 0.5)
    assert images.shape == (1, 1, 8, 8)
    assert torch.allclose(images[0, 0].float(), expected.expand(8, 8), atol=1)


def test_small_and_grey_images_become_what_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (3, 5), 77).save(tmp_path / "a" / "x.jpg")
    Image.new("P", (5, 3)).save(tmp_path / "a" / "y.gif")
    images, labels = read_image_folder(tmp_path, ["a", "b"], 3, 14, 16, None, 0)
    assert images.shape == (2, 3, 14, 14)
    assert labels.tolist() == [0, 0]
    assert (images[0].int() - 77).abs().max() <= 1


def test_what_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    (root / "train" / "bee" / "003.png").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"the image .*bee/003\.png cannot be decoded: cannot identify"):
        image_folder(root=str(root), size=6, calibrate=6, search=9)
    whole = (root / "train" / "bee" / "004.png").read_bytes()
    (root / "train" / "bee" / "003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"bee/003\.png cannot be decoded"):
        image_folder(root=str(root), size=6, calibrate=6, search=9)


def test_missing_folders_and_classes_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"the folder .*nowhere does not exist; expected a folder with a subfolder"):
        image_folder(root=str(root), train="nowhere")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no subfolders; expected one for each class"):
        image_folder(root=str(root), train="empty")
    (root / "empty" / "ant").mkdir()
    with pytest.raises(DataError, match=r"empty holds no images; known kinds: \.jpg"):
        image_folder(root=str(root), size=6, test="empty")
    (root / "empty" / "dog").mkdir()
    with pytest.raises(DataError, match="has classes that the training images do not have: dog"):
        image_folder(root=str(root), size=6, test="empty")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 8, "resize": 6}, "size must be at least 1 and at most data.resize, got 8 and 6"),
        ({"size": 0}, "got 0 and 0"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "mean must hold 1 number for grey images or 3 for colour, got 2"),
    ],
)
def test_impossible_settings_are_refused(root: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_folder(root=str(root), **settings)  # type: ignore[arg-type]

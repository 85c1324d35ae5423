"""UCI-HAR's folder format, on a small folder written here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.errors import DataError
from espalier.tasks.data.har import SIGNALS, har, read_har_part

_STEPS = 16


def _write_part(root: Path, part: str, people: list[int], windows: int) -> np.ndarray:
    """Every person does each of six activities in `windows` windows; the first sample of body_acc_x is the person."""
    folder = root / part / "Inertial Signals"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(people))
    subjects = np.repeat(people, 6 * windows)
    labels = np.tile(np.repeat(np.arange(6), windows), len(people)) + 1
    signals = rng.normal(size=(9, len(subjects), _STEPS))
    signals[0, :, 0] = subjects
    for name, rows in zip(SIGNALS, signals, strict=True):
        # As published: two blanks, then numbers like 1.8085147e-004.
        lines = ["  " + "  ".join(f"{value:.7e}" for value in row) for row in rows]
        (folder / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    for name, column in (("y", labels), ("subject", subjects)):
        (root / part / f"{name}_{part}.txt").write_text("\n".join(map(str, column)) + "\n")
    return signals


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "UCI HAR Dataset"
    _write_part(root, "train", [1, 3, 5, 7, 8], 4)
    _write_part(root, "test", [2, 4], 2)
    return root


def test_channels_windows_and_labels_stay_together(tmp_path: Path) -> None:
    written = _write_part(tmp_path, "test", [2, 4], 3)
    signals, labels, subjects = read_har_part(tmp_path, "test", 6)
    assert signals.shape == (36, 9, _STEPS)
    assert np.allclose(signals.numpy(), written.transpose(1, 0, 2), rtol=1e-6)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5] * 2
    assert subjects.tolist() == [2] * 18 + [4] * 18


def test_people_of_the_search_split_are_in_no_other(folder: Path) -> None:
    splits = har(root=str(folder.parent), search_subjects=2, calibrate=12)
    people = [
        set(split.images[:, 0, 0].tolist()) for split in (splits.fit, splits.calibrate, splits.search, splits.test)
    ]
    assert people[0] | people[1] | people[2] == {1, 3, 5, 7, 8}
    assert len(people[2]) == 2
    assert not people[2] & (people[0] | people[1])
    assert people[3] == {2, 4}
    assert [len(part) for part in (splits.fit, splits.calibrate, splits.search, splits.test)] == [60, 12, 48, 24]
    assert torch.bincount(splits.calibrate.labels).tolist() == [2] * 6
    inputs = splits.fit.inputs()
    assert torch.allclose(inputs.mean((0, 2)), torch.zeros(9), atol=1e-5)
    assert torch.allclose(inputs.std((0, 2), correction=0), torch.ones(9), atol=1e-5)
    assert splits.test.mean == splits.fit.mean


def test_the_folder_itself_may_be_named_and_seeds_choose_people(folder: Path) -> None:
    named, outer = (har(root=str(root), calibrate=12) for root in (folder, folder.parent))
    assert named.search.fingerprint == outer.search.fingerprint
    others = {har(root=str(folder), search_subjects=1, calibrate=12, seed=seed).search.fingerprint for seed in range(6)}
    assert len(others) > 1


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("y_test", lambda text: text[:-2], r"do not belong together: signals \[\(24, 16\)\], 23 labels, 24 subjects"),
        ("y_test", lambda text: text.replace("6", "7"), "labels in .* must be 1 to 6"),
        ("y_test", lambda text: text.replace("1", "0"), "labels in .* must be 1 to 6"),
        ("subject_test", lambda text: text.replace("2", "2.5"), "must hold one whole number in each line"),
        ("y_test", lambda text: text.replace("6", "6 6"), r"must hold lines of one length, got \[1, 2\]"),
        ("y_test", lambda text: "", r"must hold lines of one length, got \[\]"),
        ("Inertial Signals/body_gyro_y_test", lambda text: text.replace("e", "x", 1), "cannot be read as numbers"),
        ("Inertial Signals/body_gyro_y_test", lambda text: text + "1 2", r"one length, got \[2, 16\]"),
        ("Inertial Signals/body_gyro_y_test", lambda text: text[: text.rindex("\n", 0, -1)], "do not belong together"),
        ("Inertial Signals/total_acc_z_test", lambda text: "nan " * 16, "infinite or not-a-number"),
        ("Inertial Signals/total_acc_z_test", lambda text: "\u00e9" + text, "cannot be read as numbers"),
    ],
)
def test_damaged_files_are_named(folder: Path, name: str, change: Callable[[str], str], message: str) -> None:
    _rewrite(folder / "test" / f"{name}.txt", change)
    with pytest.raises(DataError, match=message):
        har(root=str(folder), calibrate=12)


def test_missing_files_and_people_are_named(folder: Path) -> None:
    for count in (0, 5):
        with pytest.raises(DataError, match=rf"search_subjects must be 1 to 4, got {count}: there are 5 people"):
            har(root=str(folder), search_subjects=count, calibrate=12)
    (folder / "train/Inertial Signals/body_acc_z_train.txt").unlink()
    with pytest.raises(DataError, match=r"train/Inertial Signals/body_acc_z_train\.txt is missing in .*data\.root"):
        har(root=str(folder))

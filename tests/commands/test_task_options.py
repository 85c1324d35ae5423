"""The tasks of sounds, motions and folders of images, composed and built on small data written here."""

import io
import math
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from espalier.commands.building import build_task, resolved
from espalier.commands.schema import register_schema
from espalier.errors import ModelError
from espalier.tasks.accuracy import accuracy
from espalier.tasks.data.har import SIGNALS
from espalier.tasks.models.alexnet import AlexNet
from espalier.tasks.task import Task
from hydra import compose, initialize_config_module
from PIL import Image


def _built(*overrides: str) -> Task:
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        return build_task(resolved(compose("config", overrides=list(overrides))))


def _write_tones(path: Path, count: int) -> None:
    """Class k is a tone of 300 + 250 k Hz, loud or quiet, of any length."""
    rng = np.random.default_rng(count)
    rows = []
    for number in range(count):
        phase = 2 * math.pi * (300 + 250 * (number % 4)) / 8000 * np.arange(rng.integers(1500, 4000))
        samples = (rng.uniform(1000, 8000) * np.sin(phase) + rng.normal(size=phase.size) * 50).astype("<i2")
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        rows.append({"bytes": buffer.getvalue(), "path": f"{number}.wav"})
    labels = [number % 4 for number in range(count)]
    pq.write_table(pa.table({"audio": rows, "label": labels}), path)


@pytest.mark.parametrize(
    ("name", "shape", "model", "epochs"),
    [
        ("spoken_digits_cnn", (1, 1, 40, 48), "model.widths=[4,6,8]", 4),
        ("spoken_digits_gru", (1, 48, 40), "model.hidden=24", 25),
    ],
)
def test_sounds(tmp_path: Path, name: str, shape: tuple[int, ...], model: str, epochs: int) -> None:
    _write_tones(tmp_path / "spoken_digits_train.parquet", 120)
    _write_tones(tmp_path / "spoken_digits_test.parquet", 40)
    sizes = ("data.calibrate=16", "data.search=24", f"task.training.epochs={epochs}", "task.training.batch_size=8")
    task = _built(f"task={name}", f"data.root={tmp_path}", *sizes, model)
    assert task.name == name
    assert task.example_input.shape == shape
    assert accuracy(task.model, task.open_test_split()) > 0.9


def _write_motions(root: Path, part: str, people: list[int]) -> None:
    """Activity k swings k + 1 times in each window, on all nine channels."""
    folder = root / part / "Inertial Signals"
    folder.mkdir(parents=True)
    labels, subjects = np.tile(np.repeat(np.arange(6), 4), len(people)), np.repeat(people, 24)
    rng = np.random.default_rng(len(people))
    swings = np.sin(2 * np.pi * (labels[:, None] + 1) * (np.arange(128) / 128 + rng.uniform(size=(len(labels), 1))))
    for signal in SIGNALS:
        np.savetxt(folder / f"{signal}_{part}.txt", swings + 0.1 * rng.normal(size=swings.shape), "%.5e")
    np.savetxt(root / part / f"y_{part}.txt", labels + 1, "%d")
    np.savetxt(root / part / f"subject_{part}.txt", subjects, "%d")


def test_motions(tmp_path: Path) -> None:
    root = tmp_path / "UCI HAR Dataset"
    _write_motions(root, "train", [1, 2, 3, 4, 5, 6])
    _write_motions(root, "test", [7, 8])
    sizes = ("data.search_subjects=2", "data.calibrate=18", "task.training.epochs=30", "task.training.batch_size=8")
    task = _built("task=har_cnn", f"data.root={tmp_path}", "model.widths=[8,12,16]", *sizes)
    assert task.example_input.shape == (1, 9, 128)
    assert accuracy(task.model, task.open_test_split()) > 0.9


def test_a_folder_of_images_and_a_public_checkpoint(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("val", 4)):
        for label, name in enumerate(("n01", "n02", "n03")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 34), (80 * label, number, 0)).save(tmp_path / part / name / f"{number}.png")
    torch.manual_seed(1)
    small = {"image_size": 32, "stem_kernel": 3, "stem_stride": 1, "stem_padding": 1, "hidden": 8, "n_classes": 3}
    published = AlexNet(**small)  # type: ignore[arg-type]
    torch.save({f"module.{name}": tensor for name, tensor in published.state_dict().items()}, tmp_path / "alexnet.pth")
    data = (f"data.root={tmp_path}", "data.size=32", "data.resize=34", "data.calibrate=6", "data.search=9")
    model = ("model=alexnet", *(f"model.{name}={value}" for name, value in small.items()))
    weights = (f"task.checkpoint={tmp_path / 'alexnet.pth'}", "task.checkpoint_prefix=module.")
    task = _built("task=imagefolder", *data, *model, *weights)
    assert task.example_input.shape == (1, 3, 32, 32)
    inputs = task.open_test_split().inputs()
    assert torch.allclose(task.model(inputs), published.eval()(inputs), atol=1e-5)
    with pytest.raises(ModelError, match=r"task imagefolder needs trained weights: give task\.checkpoint=FILE"):
        _built("task=imagefolder", *data, *model)
    with pytest.raises(ModelError, match="AlexNet has 2 classes, the data at least 3"):
        _built("task=imagefolder", *data, *model, "model.n_classes=2")

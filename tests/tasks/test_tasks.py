"""Training, accuracy, distillation, checkpoints, whole tasks."""

import copy
from pathlib import Path

import pytest
import torch
from espalier.errors import ModelError
from espalier.tasks import distillation
from espalier.tasks.accuracy import accuracy, count_right
from espalier.tasks.augmentation import Augmentation
from espalier.tasks.checkpoint import check_finite, load_checkpoint
from espalier.tasks.data.digits import digits
from espalier.tasks.data.parquet_images import parquet_images
from espalier.tasks.data.split import Split, Splits
from espalier.tasks.distillation import DistillationRecipe, distil
from espalier.tasks.models.lenet import LeNet5
from espalier.tasks.models.resnet import CifarResNet
from espalier.tasks.models.vgg import VggSmall
from espalier.tasks.task import Task, load_task
from espalier.tasks.training import TrainingRecipe, train
from safetensors.torch import save_file
from torch import Tensor, nn


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits(size=8, calibrate=64, search=200, test=200)


def _network() -> VggSmall:
    torch.manual_seed(0)
    return VggSmall([8, 8, 8], hidden=16, in_channels=1, image_size=8, n_classes=10)


def test_accuracy_counts_by_hand() -> None:
    scores = torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    model = nn.Identity()
    images = scores.view(3, 1, 1, 2)
    split = Split(images, torch.tensor([0, 1, 1]), (0.0,), (1.0,))
    assert accuracy(nn.Flatten(), split, batch_size=2) == pytest.approx(2 / 3)
    with pytest.raises(ModelError, match=r"returns shape \(3, 1, 1, 2\), expected \(3, classes\)"):
        count_right(model, images, split.labels)


def test_training_learns_and_repeats_exactly(splits: Splits) -> None:
    first, second = _network(), _network()
    for network in (first, second):
        train(network, splits.fit, TrainingRecipe(epochs=3), seed=1)
    assert accuracy(first, splits.search) > 0.5
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert not first.training


def test_a_diverging_training_says_so(splits: Splits) -> None:
    broken = Split(splits.fit.images * float("nan"), splits.fit.labels, splits.fit.mean, splits.fit.std)
    with pytest.raises(ModelError, match="training diverged in epoch 1: the loss is nan"):
        train(_network(), broken, TrainingRecipe(epochs=1), seed=0)
    with pytest.raises(ModelError, match="fine-tuning diverged"):
        distil(_network(), _network().eval(), broken, splits.search, DistillationRecipe(epochs=1), seed=0)


def test_distillation_keeps_what_is_not_clearly_worse(splits: Splits) -> None:
    teacher = _network()
    train(teacher, splits.fit, TrainingRecipe(epochs=4), seed=0)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.15 * parameter.std() * torch.randn_like(parameter) if parameter.numel() > 1 else 0)
    student.requires_grad_(True)
    report = distil(student, teacher, splits.fit, splits.search, DistillationRecipe(epochs=3, learning_rate=1e-3), 0)
    assert report.accuracy_after == accuracy(student, splits.search) > report.accuracy_before - 0.02
    ruined = distil(student, teacher, splits.fit, splits.search, DistillationRecipe(epochs=1, learning_rate=50.0), 0)
    assert ruined.kept_epoch == 0
    assert accuracy(student, splits.search) == ruined.accuracy_after == report.accuracy_after


def _lost(count: int, gained: int = 0, images: int = 400) -> list[bool]:
    """Answers of which `count` are wrong that the start had right, and `gained` right that it had wrong."""
    right = [True] * 300 + [False] * 100
    right[:count] = [False] * count
    right[300 : 300 + gained] = [True] * gained
    return right[:images]


@pytest.mark.parametrize(
    ("answers", "kept"),
    [
        # Of n lost and none gained the standard error is close to sqrt(n) of 400 images: 3 are within two, 5 are not.
        ((_lost(0), _lost(3), _lost(3), _lost(3)), 3),
        ((_lost(0), _lost(3), _lost(3), _lost(5)), 2),
        ((_lost(0), _lost(5), _lost(6), _lost(7)), 0),
        # 20 lost and 10 gained are 10 fewer, by an error of about sqrt(30): within two of them.
        ((_lost(0), _lost(0), _lost(0), _lost(20, 10)), 3),
        ((_lost(0), _lost(0), _lost(0), _lost(24, 10)), 2),
        # Worse than the start for certain, but what counts is the best.
        ((_lost(0), _lost(0, 20), _lost(0, 12), _lost(0, 19)), 3),
        ((_lost(0), _lost(0, 20), _lost(0, 12), _lost(0, 15)), 1),
    ],
)
def test_the_last_checkpoint_stays_that_is_not_worse_by_two_standard_errors(
    splits: Splits, monkeypatch: pytest.MonkeyPatch, answers: tuple[list[bool], ...], kept: int
) -> None:
    states: list[Tensor] = []

    def scripted(student: nn.Module, _: Split) -> Tensor:
        states.append(torch.cat([parameter.detach().flatten() for parameter in student.parameters()]))
        return torch.tensor(answers[len(states) - 1])

    monkeypatch.setattr(distillation, "right_answers", scripted)
    student = _network().eval()
    report = distil(student, _network().eval(), splits.calibrate, splits.search, DistillationRecipe(epochs=3), seed=0)
    assert (report.kept_epoch, report.accuracy_after) == (kept, sum(answers[kept]) / 400)
    assert report.accuracy_before == 0.75
    assert not torch.equal(states[1], states[2])
    assert torch.equal(torch.cat([parameter.flatten() for parameter in student.parameters()]), states[kept])


def test_augmentation_shifts_whole_pixels_and_mirrors() -> None:
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat(64, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    shifted = Augmentation(shift_pixels=1)(images, generator)
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1))
    allowed = [padded[0, 0, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    assert all(any(torch.equal(image[0], window) for window in allowed) for image in shifted)
    assert len({tuple(image.flatten().tolist()) for image in shifted}) > 3
    mirrored = Augmentation(mirror=True)(images, generator)
    n_flipped = sum(torch.equal(image, images[0].flip(-1)) for image in mirrored)
    assert 10 < n_flipped < 54
    assert torch.equal(Augmentation()(images, generator), images)


def test_trained_weights_are_remembered(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = TrainingRecipe(epochs=1)
    first = load_task("t", _network(), splits, training=recipe, seed=3)
    monkeypatch.setattr("espalier.tasks.task.train", lambda *_: pytest.fail("trained again"))
    again = load_task("t", _network(), splits, training=recipe, seed=3)
    assert again.fingerprint == first.fingerprint
    assert again.example_input.shape == (1, 1, 8, 8)
    assert not again.test_was_opened
    assert len(again.open_test_split()) == 200
    assert again.test_was_opened


def test_a_task_needs_usable_weights(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"needs trained weights: give task\.checkpoint=FILE"):
        load_task("t", _network(), splits)
    state = {name: tensor.contiguous() for name, tensor in _network().state_dict().items()}
    state["classifier.0.weight"] = torch.full_like(state["classifier.0.weight"], float("nan"))
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(ModelError, match=r"classifier\.0\.weight holds infinite or not-a-number"):
        load_task("t", _network(), splits, checkpoint=str(tmp_path / "nan.safetensors"))


def test_checkpoints_round_trip_in_both_formats(tmp_path: Path) -> None:
    original = LeNet5()
    save_file(original.state_dict(), tmp_path / "a.safetensors")
    torch.save(original.state_dict(), tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        twin = LeNet5()
        load_checkpoint(twin, tmp_path / name)
        assert all(torch.equal(a, b) for a, b in zip(original.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist; point at one"),
        (lambda path: path.write_bytes(b"rubbish"), "cannot be read"),
        (lambda path: torch.save([1, 2], path), "must hold a state dict of tensors, got list"),
        (lambda path: torch.save({"a": torch.zeros(1)}, path), "does not fit LeNet5"),
        (lambda path: torch.save({**LeNet5().state_dict(), "fc3.bias": torch.zeros(3)}, path), "does not fit LeNet5"),
    ],
)
def test_unusable_checkpoints_are_refused(tmp_path: Path, write: object, message: str) -> None:
    write(tmp_path / "c.pt")  # type: ignore[operator]
    with pytest.raises(ModelError, match=message):
        load_checkpoint(LeNet5(), tmp_path / "c.pt")


def test_infinite_weights_are_named() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.bias[0] = float("inf")
    with pytest.raises(ModelError, match="the weights of it are unusable: bias"):
        check_finite(model, "it")


def test_impossible_depths_are_refused() -> None:
    with pytest.raises(ModelError, match=r"6 n \+ 2 .* got 21"):
        CifarResNet(21)


class _TwoOutputs(nn.Module):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, inputs


def test_a_model_that_returns_a_tuple_is_refused(splits: Splits) -> None:
    with pytest.raises(ModelError, match="returns a tuple, expected one tensor of scores"):
        accuracy(_TwoOutputs(), splits.search)


@pytest.mark.parametrize(("depth", "published"), [(20, 0.9173), (56, 0.9326)])
def test_published_resnets_reach_their_accuracy(data_root: Path, depth: int, published: float) -> None:
    """The given weights on the 846 pixel-exact test images; the figures come with the weights."""
    splits = parquet_images(
        root=str(data_root),
        train="cifar10_exact_train.parquet",
        test="cifar10_exact_test.parquet",
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        calibrate=64,
        search=200,
        n_classes=10,
        image_column="img",
        label_column="label",
        seed=0,
    )
    model = CifarResNet(depth)
    load_checkpoint(model, data_root / f"cifar10_resnet{depth}.safetensors")
    task = Task("cifar", model, splits)
    assert accuracy(task.model, task.open_test_split()) == pytest.approx(published, abs=0.0015)

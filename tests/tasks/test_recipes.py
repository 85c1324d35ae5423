"""What training and distillation compute, step by step."""

import copy
import math
from argparse import Namespace
from pathlib import Path
from typing import get_args

import pytest
import torch
from espalier.errors import ModelError
from espalier.files import cache_folder
from espalier.tasks.accuracy import accuracy, checked_scores
from espalier.tasks.augmentation import Augmentation
from espalier.tasks.checkpoint import load_checkpoint
from espalier.tasks.data.digits import digits
from espalier.tasks.data.split import Split, Splits
from espalier.tasks.distillation import DistillationRecipe, distil
from espalier.tasks.precision import Precision
from espalier.tasks.task import Task, load_task
from espalier.tasks.training import TrainingRecipe, train
from safetensors.torch import save_file
from torch import Tensor, nn


@pytest.fixture(scope="module")
def splits() -> Splits:
    return digits(size=8, calibrate=64, search=200, test=1000)


def _linear(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def _normed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).eval()


def test_one_step_of_distillation_follows_hintons_loss(splits: Splits) -> None:
    """With one batch AdamW's first step is -rate * sign(gradient), so the signs are those of the loss by hand."""
    fit = splits.fit.take(32)
    student, teacher = _linear(0), _linear(1)
    temperature, share, rate = 3.0, 0.25, 1e-6
    start = student[1].weight.detach().clone().requires_grad_(True)
    inputs = fit.inputs().flatten(1)
    scores = inputs @ start.T + student[1].bias.detach()
    wanted = (teacher(fit.inputs()) / temperature).softmax(1).detach()
    soft = (wanted * (wanted.log() - (scores / temperature).softmax(1).log())).sum() / len(fit)
    hard = -scores.softmax(1).log()[range(len(fit)), fit.labels].mean()
    ((1 - share) * temperature**2 * soft + share * hard).backward()
    recipe = DistillationRecipe(1, 32, rate, temperature, share, warmup_share=1.0)
    ruler = Split(fit.inputs(), student(fit.inputs()).argmax(1), (0.0,), (1.0,))  # any change counts as worse or equal
    weights: list[Tensor] = []
    hook = student.register_forward_pre_hook(lambda *_: weights.append(student[1].weight.detach().clone()))
    distil(student, teacher, fit, ruler, recipe, seed=0)
    hook.remove()
    step = weights[-1] - weights[0]
    clear = start.grad.abs() > 1e-4
    assert clear.float().mean() > 0.5
    assert torch.equal(step.sign()[clear], -start.grad.sign()[clear])
    assert torch.allclose(step.abs()[clear], torch.tensor(rate), rtol=0.1)


def test_no_epochs_leave_the_student_alone(splits: Splits, capsys: pytest.CaptureFixture[str]) -> None:
    student = _linear(0)
    before = copy.deepcopy(student.state_dict())
    report = distil(student, _linear(1), splits.fit, splits.search, DistillationRecipe(epochs=0), seed=0)
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert report.kept_epoch == 0
    assert report.accuracy_before == report.accuracy_after == accuracy(student, splits.search)
    assert report.seconds >= 0
    assert "fine-tuning" not in capsys.readouterr().err


def test_distillation_keeps_statistics_and_what_needs_no_gradient(splits: Splits) -> None:
    teacher = _normed()
    train(teacher, splits.fit, TrainingRecipe(epochs=2), seed=0)
    student = _normed()
    student[0].weight.requires_grad_(False)
    before = copy.deepcopy(student.state_dict())
    report = distil(student, teacher, splits.fit, splits.search, DistillationRecipe(2, learning_rate=5e-3), seed=0)
    after = student.state_dict()
    assert report.accuracy_after > report.accuracy_before
    assert report.kept_epoch > 0
    for name in ("0.weight", "1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["3.weight"], after["3.weight"])
    assert not student.training


def test_distillation_repeats_exactly(splits: Splits) -> None:
    teacher = _linear(1)
    train(teacher, splits.fit, TrainingRecipe(epochs=3, learning_rate=3e-2), seed=0)
    recipe = DistillationRecipe(2, learning_rate=1e-2, augmentation=Augmentation(shift_pixels=1))
    students = [_linear(0), _linear(0), _linear(0)]
    for student, seed in zip(students, (0, 0, 1), strict=True):
        report = distil(student, teacher, splits.fit, splits.search, recipe, seed)
        assert report.kept_epoch > 0, "else all students are as they began"
    first, again, other = (student[1].weight for student in students)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_smoothing_of_labels_bounds_the_confidence() -> None:
    """The best that smoothed labels allow is 1 - s + s/K for the label; without smoothing it goes to 1."""
    images = torch.eye(2).view(2, 1, 1, 2).repeat(32, 1, 1, 1)
    fit = Split(images, torch.tensor([0, 1]).repeat(32), (0.0,), (1.0,))
    confidences = []
    for smoothing in (0.0, 0.2):
        model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2))
        train(model, fit, TrainingRecipe(150, 64, 0.3, weight_decay=0.0, label_smoothing=smoothing), seed=0)
        confidences.append(model(images[:1]).softmax(1)[0, 0].item())
    assert confidences[0] > 0.98
    assert confidences[1] == pytest.approx(1 - 0.2 + 0.2 / 2, abs=0.01)


def test_training_in_16_bits_ends_near_that_in_32(splits: Splits) -> None:
    found = {}
    for precision in get_args(Precision):
        model = _linear()
        train(model, splits.fit.take(400), TrainingRecipe(epochs=2, precision=precision), seed=0)
        assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
        found[precision] = model[1].weight.detach()
    moved = found["float32"] - _linear()[1].weight.detach()
    difference = float((found["bfloat16"] - found["float32"]).norm() / moved.norm())
    assert 0 < difference < 0.1
    with pytest.raises(ModelError, match=r"task\.training\.precision must be float32 or bfloat16, got 'int3'"):
        TrainingRecipe(precision="int3")  # type: ignore[arg-type]


class _Interrupting(Augmentation):
    """Stops a training at its so manieth batch."""

    left = 0

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        type(self).left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().__call__(inputs, generator)


@pytest.mark.parametrize("damage", [False, True])
def test_a_training_that_was_killed_goes_on(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bool
) -> None:
    """Four epochs of four batches with dropout: disturbed in the third, they end with the same weights."""
    monkeypatch.setattr("espalier.tasks.training._SAVE_SECONDS", 0.0)
    recipe, unfinished = TrainingRecipe(epochs=4, augmentation=_Interrupting(1)), tmp_path / "state"

    def started() -> nn.Sequential:
        model = nn.Sequential(nn.Dropout(0.3), *_linear())
        torch.manual_seed(5)
        return model

    whole, killed, resumed = started(), started(), started()
    train(whole, splits.fit.take(256), recipe, seed=0)
    _Interrupting.left = 11
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        train(killed, splits.fit.take(256), recipe, 0, unfinished)
    if damage:
        unfinished.write_bytes(unfinished.read_bytes()[:-100])
    _Interrupting.left = 0
    torch.manual_seed(5)
    train(resumed, splits.fit.take(256), recipe, 0, unfinished)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    # The last two epochs of four batches, or all of them again.
    assert _Interrupting.left == (-16 if damage else -8)
    assert not unfinished.exists()


def test_another_recipe_seed_or_start_is_trained_anew(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path))
    cases = [(_linear(0), 1, 0), (_linear(0), 1, 0), (_linear(0), 2, 0), (_linear(0), 1, 1), (_linear(1), 1, 0)]
    tasks = [load_task("t", m, splits, training=TrainingRecipe(epochs=e), seed=seed) for m, e, seed in cases]
    assert len(list((cache_folder() / "models").iterdir())) == 4
    assert tasks[0].fingerprint == tasks[1].fingerprint
    assert len({task.fingerprint for task in tasks}) == 4
    assert all(not parameter.requires_grad for parameter in tasks[0].model.parameters())


def test_a_task_is_told_apart_by_its_data_and_not_by_its_name(splits: Splits) -> None:
    other = Splits(splits.fit, splits.calibrate.take(32), splits.search, splits.test)
    fingerprints = [Task(name, _linear(0), data).fingerprint for name, data in [("a", splits), ("b", splits)]]
    assert fingerprints[0] == fingerprints[1] != Task("a", _linear(0), other).fingerprint


def test_a_task_refuses_a_network_of_another_output(splits: Splits) -> None:
    with pytest.raises(ModelError, match=r"returns shape \(2, 1, 6, 6\), expected \(2, classes\)"):
        load_task("t", nn.Conv2d(1, 1, 3), splits, training=TrainingRecipe(epochs=1))


def test_scores_for_fewer_images_than_given_are_refused() -> None:
    class First(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.flatten(1)[:1]

    with pytest.raises(ModelError, match=r"returns shape \(1, 4\), expected \(3, classes\)"):
        checked_scores(First(), torch.zeros(3, 1, 2, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: torch.zeros(1)}, "must hold a state dict of tensors, got dict"),
        ({"state_dict": {"1.bias": torch.zeros(10)}}, r"does not fit Sequential: 1 missing \(1\.weight\)$"),
        ({"state_dict": [1]}, "must hold a state dict of tensors, got dict"),
        ({"1.weight": torch.zeros(10, 64)}, r"does not fit Sequential: 1 missing \(1\.bias\)$"),
        (
            {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10), "2.bias": torch.zeros(1)},
            r"does not fit Sequential: 1 unexpected \(2\.bias\)$",
        ),
        (
            {"1.weight": torch.zeros(10, 63), "1.bias": torch.zeros(10)},
            r"1 of another shape \(1\.weight is \(10, 63\), the model has \(10, 64\)\)$",
        ),
        (
            {f"{n}.bias": torch.zeros(10) for n in range(6)},
            r"1 missing \(1\.weight\); 5 unexpected \(0\.bias, 2\.bias, 3\.bias, \.\.\.\)$",
        ),
    ],
    ids=["numbers", "nested", "nested list", "missing", "unknown", "shape", "many"],
)
def test_state_dicts_of_other_networks_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=message):
        load_checkpoint(_linear(), tmp_path / "c.pt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"1.bias": Trap()}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"c\.pt cannot be read"):
        load_checkpoint(_linear(), tmp_path / "c.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_with_more_than_tensors_says_what_to_do(tmp_path: Path) -> None:
    torch.save({"state_dict": _linear().state_dict(), "args": Namespace(lr=1)}, tmp_path / "c.pt")
    with pytest.raises(ModelError, match=r"it holds argparse\.Namespace, not only tensors; save those alone"):
        load_checkpoint(_linear(), tmp_path / "c.pt")


@pytest.mark.parametrize("nesting", ["state_dict", "model_state_dict", "model", None])
@pytest.mark.parametrize("prefix", ["", "module.", "net.body."])
def test_weights_are_found_behind_entries_and_prefixes(tmp_path: Path, nesting: str | None, prefix: str) -> None:
    trained = _normed()
    trained[1].running_mean.fill_(3.0)
    state: dict[str, object] = {prefix + name: tensor for name, tensor in trained.state_dict().items()}
    if prefix:
        state["loss.weight"] = torch.ones(3)
    saved = state if nesting is None else {nesting: state, "epoch": 7, "optimizer": {"state": {}}}
    torch.save(saved, tmp_path / "c.pth")
    model = _normed()
    load_checkpoint(model, tmp_path / "c.pth", prefix)
    assert all(torch.equal(trained.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_prefix_is_proposed_where_one_helps(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in _linear().state_dict().items()}, path)
    with pytest.raises(ModelError, match=r"2 missing .*; 2 unexpected .*; give task\.checkpoint_prefix=module\.$"):
        load_checkpoint(_linear(), path)
    load_checkpoint(_linear(), path, "module.")
    with pytest.raises(
        ModelError, match=r"no tensor of .* begins with 'net\.'; its names are like module\.1\.bias, mod"
    ):
        load_checkpoint(_linear(), path, "net.")


def test_networks_that_do_not_fit_the_data_are_refused(splits: Splits) -> None:
    few = nn.Sequential(nn.Flatten(), nn.Linear(64, 7))
    with pytest.raises(ModelError, match=r"Sequential has 7 classes, the data at least 10; set model\.n_classes"):
        load_task("t", few, splits, training=TrainingRecipe(epochs=1))
    with pytest.raises(ModelError, match=r"Sequential does not take inputs of shape \(N, 1, 8, 8\): .*shape"):
        load_task("t", nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), splits, training=TrainingRecipe(epochs=1))


def test_a_checkpoint_without_counts_of_batches_is_accepted(tmp_path: Path) -> None:
    state = {name: t for name, t in _normed().state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "c.pt")
    model = _normed()
    load_checkpoint(model, tmp_path / "c.pt")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())


def test_accuracy_does_not_depend_on_the_batch_size(splits: Splits) -> None:
    model, ruler = _linear(), splits.search
    right = [int(model(ruler.inputs(slice(i, i + 1))).argmax()) == int(ruler.labels[i]) for i in range(len(ruler))]
    for batch_size in (1, 7, 200, 1000):
        assert accuracy(model, ruler, batch_size) == pytest.approx(sum(right) / len(right))
    assert math.isclose(accuracy(model, ruler), sum(right) / len(right))

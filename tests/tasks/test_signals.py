"""Signals and sequences beside images: splits, layout, augmentation, training."""

import numpy as np
import pytest
import torch
from espalier.errors import DataError
from espalier.files import content_hash
from espalier.tasks.augmentation import Augmentation, SignalAugmentation
from espalier.tasks.data.split import Split, Splits, channel_statistics
from espalier.tasks.layout import laid_out
from espalier.tasks.task import Task, load_task
from espalier.tasks.training import TrainingRecipe
from torch import nn

_LABELS = torch.arange(40) % 2


def _signals(shape: tuple[int, ...], axis: int) -> Split:
    torch.manual_seed(0)
    values = torch.randn(40, *shape) + 3 * _LABELS.view(-1, *[1] * len(shape))
    return Split(values, _LABELS, *channel_statistics(values, axis), channel_axis=axis)


@pytest.mark.parametrize(("shape", "axis"), [((3, 7), 1), ((7, 3), 2), ((3, 5, 4), 1)])
def test_each_channel_is_standardised_wherever_it_is(shape: tuple[int, ...], axis: int) -> None:
    split = _signals(shape, axis)
    others = tuple(a for a in range(split.images.ndim) if a != axis)
    inputs = split.inputs().double().numpy()
    assert inputs.shape == (40, *shape)
    assert np.allclose(inputs.mean(others), 0, atol=1e-6)
    assert np.allclose(inputs.std(others), 1, atol=1e-6)
    assert split.inputs(slice(3, 4)).shape == (1, *shape)
    assert split.take(5).channel_axis == axis


def test_sequences_and_signals_of_the_same_numbers_have_other_fingerprints() -> None:
    values = torch.zeros(2, 3, 3)
    first, second = (Split(values, torch.zeros(2), (0.0,) * 3, (1.0,) * 3, axis) for axis in (1, 2))
    assert first.fingerprint != second.fingerprint


def test_images_keep_the_fingerprint_that_caches_know() -> None:
    images, labels = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2), torch.tensor([0, 1])
    expected = content_hash(
        "((2, 1, 2, 2), 'torch.uint8', (0.5,), (2.0,))", images.numpy().tobytes(), labels.numpy().tobytes()
    )
    assert Split(images, labels, (0.5,), (2.0,)).fingerprint == expected


@pytest.mark.parametrize(
    ("shape", "axis", "message"),
    [
        ((2, 4, 3), 1, r"expected images of shape \(N, 3, H, W\) or \(N, 3, T\), got \(2, 4, 3\)"),
        ((2, 3, 4), 2, r"expected images of shape \(N, T, 3\), got \(2, 3, 4\)"),
        ((2, 3), 2, r"expected images of shape \(N, T, 3\), got \(2, 3\)"),
        ((2, 3), 0, r"expected images of shape"),
    ],
)
def test_channels_elsewhere_are_refused(shape: tuple[int, ...], axis: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(torch.zeros(shape), torch.zeros(2), (0.0,) * 3, (1.0,) * 3, axis)


@pytest.mark.parametrize("value", [2.0, float("inf"), float("nan")])
def test_what_cannot_be_standardised_is_named(value: float) -> None:
    values = torch.randn(4, 2, 5)
    values[:, 1] = value
    with pytest.raises(DataError, match="channel 1 cannot be standardised: its standard deviation is"):
        channel_statistics(values)


def test_only_images_are_laid_out_channels_last() -> None:
    assert laid_out(torch.zeros(2, 3, 4, 5)).is_contiguous(memory_format=torch.channels_last)
    assert laid_out(torch.zeros(2, 3, 4).transpose(1, 2)).is_contiguous()


@pytest.mark.parametrize(("shape", "axis"), [((9, 4), 1), ((4, 9), 2), ((2, 4, 9), 3)])
def test_shifts_in_time_move_whole_steps_and_repeat_the_border(shape: tuple[int, ...], axis: int) -> None:
    signals = torch.randn(60, *shape, generator=torch.Generator().manual_seed(1))
    shifted = SignalAugmentation(axis, shift_steps=2)(signals, torch.Generator().manual_seed(0))
    offsets = set()
    for before, after in zip(signals.movedim(axis, 1).numpy(), shifted.movedim(axis, 1).numpy(), strict=True):
        padded = np.concatenate([before[:1]] * 2 + [before] + [before[-1:]] * 2)
        offsets.update(start for start in range(5) if np.array_equal(after, padded[start : start + 9]))
    assert offsets == set(range(5))


def test_gain_moves_whole_signals_and_noise_has_its_deviation() -> None:
    signals = torch.zeros(400, 3, 50)
    moved = SignalAugmentation(gain=0.5)(signals, torch.Generator().manual_seed(0))
    levels = moved[:, 0, 0]
    assert torch.equal(moved, levels.view(-1, 1, 1).expand_as(moved))
    assert levels.abs().max() <= 0.5
    assert levels.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.1)  # of a uniform distribution
    noisy = SignalAugmentation(noise=0.25)(signals, torch.Generator().manual_seed(0))
    assert noisy.std().item() == pytest.approx(0.25, rel=0.02)
    assert torch.equal(SignalAugmentation()(signals, torch.Generator()), signals)


@pytest.mark.parametrize(("shape", "time", "bands"), [((9, 5), 1, 2), ((5, 9), 2, 1), ((1, 5, 9), 3, 2)])
def test_masks_take_a_stretch_of_time_and_neighbouring_bands(shape: tuple[int, ...], time: int, bands: int) -> None:
    signals = torch.ones(500, *shape)
    generator = torch.Generator().manual_seed(0)
    for axis, masks in (
        (time, SignalAugmentation(time, masked_steps=3)),
        (bands, SignalAugmentation(time, masked_bands=3)),
    ):
        masked = masks(signals, generator)
        lines = masked.movedim(axis, 1).flatten(2)
        assert torch.equal(lines, lines[:, :, :1].expand_as(lines))  # whole steps or bands
        zeros = [np.flatnonzero(line == 0) for line in lines[:, :, 0].numpy()]
        assert {len(places) for places in zeros} == {0, 1, 2, 3}
        assert all(np.ptp(places) == len(places) - 1 for places in zeros if len(places))
        assert {int(place) for places in zeros for place in places} == set(range(signals.shape[axis]))
    everything = SignalAugmentation(time, masked_steps=100)(signals, generator)
    assert (everything == 0).flatten(1).all(1).any()


def test_augmentations_say_what_they_are_for() -> None:
    generator = torch.Generator()
    assert torch.equal(Augmentation()(torch.ones(2, 3, 4), generator), torch.ones(2, 3, 4))
    for image_only in (Augmentation(shift_pixels=1), Augmentation(mirror=True)):
        with pytest.raises(DataError, match=r"images \(N, C, H, W\), got \(2, 3, 4\); use SignalAugmentation"):
            image_only(torch.ones(2, 3, 4), generator)
    for axis in (0, 3):
        with pytest.raises(DataError, match=rf"time_axis must be 1 to 2 for these inputs, got {axis}"):
            SignalAugmentation(axis)(torch.ones(2, 3, 4), generator)


def test_a_task_of_signals_trains_and_gives_an_example() -> None:
    split = _signals((2, 8), 1)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    recipe = TrainingRecipe(epochs=30, batch_size=8, learning_rate=0.05, augmentation=SignalAugmentation(2, 1, 0.1))
    task: Task = load_task("signals", model, Splits(split, split, split, split), training=recipe)
    assert task.example_input.shape == (1, 2, 8)
    assert (task.model(split.inputs()).argmax(1) == split.labels).float().mean() == 1
    assert len(task.fingerprint) == 32

"""A task: a trained network, the data it is for, and how well it does."""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import ModelError
from ..files import cache_folder, content_hash, write_bytes
from .accuracy import checked_scores
from .checkpoint import check_finite, load_checkpoint
from .data.split import Split, Splits
from .layout import channels_last
from .training import TrainingRecipe, train

__all__ = ["Task", "load_task"]


class Task:
    """What is compressed.

    Args:
        name: For reports.
        model: The trained network; it is put into evaluation mode.
        splits: The data.

    Attributes:
        test_was_opened: Whether anybody has looked at the test split.
    """

    def __init__(self, name: str, model: nn.Module, splits: Splits) -> None:
        self.name = name
        self.model = channels_last(model.eval().requires_grad_(False))
        self.fit = splits.fit
        self.calibrate = splits.calibrate
        self.search = splits.search
        self._test = splits.test
        self.test_was_opened = False

    @property
    def example_input(self) -> Tensor:
        """One input of the network: an image (1, C, H, W), a signal (1, C, T) or a sequence (1, T, C)."""
        return self.calibrate.inputs(slice(0, 1))

    def open_test_split(self) -> Split:
        """The test split, for the last count of a run and nothing else."""
        self.test_was_opened = True
        return self._test

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of the calibrate and search splits."""
        state = self.model.state_dict()
        weights = [part for name, t in sorted(state.items()) for part in (name, t.contiguous().numpy().tobytes())]
        return content_hash(repr(self.model), *weights, self.calibrate.fingerprint, self.search.fingerprint)


def load_task(
    name: str,
    model: nn.Module,
    splits: Splits,
    checkpoint: str | None = None,
    training: TrainingRecipe | None = None,
    seed: int = 0,
    checkpoint_prefix: str = "",
) -> Task:
    """Make a task of a network and data, with weights from a file or trained here.

    What was trained once, with the same data, recipe and seed, is read from the cache folder.

    Args:
        name: For reports.
        model: The network; its weights are those to start training from.
        splits: The data.
        checkpoint: File of trained weights.
        training: How to train without a checkpoint.
        seed: Of the training.
        checkpoint_prefix: Taken from the names in the file, such as "module.".

    Raises:
        ModelError: The network does not take these inputs or has too few outputs, there is neither a checkpoint nor a
            recipe, or the weights are unusable.
    """
    _check_fit(model, splits)
    if checkpoint is not None:
        load_checkpoint(model, Path(checkpoint).expanduser(), checkpoint_prefix)
    elif training is not None:
        _train_once(model, splits.fit, training, seed)
    else:
        raise ModelError(f"task {name} needs trained weights: give task.checkpoint=FILE or task.training")
    check_finite(model, f"task {name}")
    return Task(name, model, splits)


@torch.no_grad()
def _check_fit(model: nn.Module, splits: Splits) -> None:
    """Refuse a network that is not for these data before anything long begins."""
    inputs = splits.search.inputs(slice(0, 2))
    try:
        scores = checked_scores(model.eval(), inputs)
    except (RuntimeError, IndexError) as error:
        shape, reason = ", ".join(map(str, inputs.shape[1:])), str(error).strip().splitlines()[0]
        raise ModelError(f"{type(model).__name__} does not take inputs of shape (N, {shape}): {reason}") from error
    largest = max(int(split.labels.max()) for split in (splits.fit, splits.calibrate, splits.search))
    if largest >= scores.shape[1]:
        classes = f"{scores.shape[1]} classes, the data at least {largest + 1}"
        raise ModelError(f"{type(model).__name__} has {classes}; set model.n_classes or what your network calls it")


def _train_once(model: nn.Module, fit: Split, recipe: TrainingRecipe, seed: int) -> None:
    settings = repr((dataclasses.asdict(recipe), seed, torch.__version__))
    start = [tensor.contiguous().numpy().tobytes() for tensor in model.state_dict().values()]
    key = content_hash(repr(model), settings, fit.fingerprint, *start)
    path = cache_folder() / "models" / f"{key}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
        return
    train(model, fit, recipe, seed, path.with_suffix(".unfinished"))
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))

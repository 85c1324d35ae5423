"""Training a network from scratch."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import torch
from torch import nn
from torch.nn import functional

from ..errors import ModelError
from ..files import atomic_path
from ..progress import step
from .augmentation import Augmentation, Augmenting
from .data.split import Split
from .layout import channels_last
from .precision import Precision, computing_in

__all__ = ["TrainingRecipe", "train"]

#: Seconds after which the state of a training is written, so that little is lost when it is killed.
_SAVE_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingRecipe:
    """AdamW with a one-cycle learning rate (Smith and Topin 2017).

    Attributes:
        epochs: Passes over the fit split.
        batch_size: Images in a step.
        learning_rate: At the peak of the cycle.
        weight_decay: Decoupled weight decay.
        label_smoothing: Share of the label spread over all classes.
        augmentation: Changes of the images.
        precision: "bfloat16" computes most of the network in 16 bits, which some processors do several times as fast.

    Raises:
        ModelError: There is no such precision.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    augmentation: Augmenting = field(default_factory=Augmentation)
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = " or ".join(get_args(Precision))
            raise ModelError(f"task.training.precision must be {known}, got {self.precision!r}")


def train(model: nn.Module, fit: Split, recipe: TrainingRecipe, seed: int, unfinished: Path | None = None) -> None:
    """Train `model` in place and leave it in evaluation mode.

    Args:
        model: With initial weights.
        fit: What to train on.
        recipe: How.
        seed: Order of the images and their augmentation.
        unfinished: Where the state is kept between epochs that take long, so that the same training goes on from there
            after it was killed; it is gone when the training is whole. None for nowhere.

    Raises:
        ModelError: The loss is no number any more.
    """
    training = _Training(model, fit, recipe, seed)
    if unfinished is not None:
        training.resume(unfinished)
    channels_last(model)
    model.train()
    saved = time.monotonic()
    with step("training the network", recipe.epochs) as advance:
        advance(training.epochs)
        while training.epochs < recipe.epochs:
            loss = training.epoch()
            if not math.isfinite(loss):
                lower = f"the loss is {loss}; lower the learning rate"
                raise ModelError(f"training diverged in epoch {training.epochs}: {lower}")
            advance(1, f"loss {loss:.3f}")
            if unfinished is not None and time.monotonic() - saved > _SAVE_SECONDS:
                training.save(unfinished)
                saved = time.monotonic()
    model.eval()
    if unfinished is not None:
        unfinished.unlink(missing_ok=True)


class _Training:
    """A training between two epochs.

    Attributes:
        epochs: How many are done.
    """

    def __init__(self, model: nn.Module, fit: Split, recipe: TrainingRecipe, seed: int) -> None:
        self._model = model
        self._fit = fit
        self._recipe = recipe
        self._generator = torch.Generator().manual_seed(seed)
        steps = recipe.epochs * math.ceil(len(fit) / recipe.batch_size)
        rate = recipe.learning_rate
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=recipe.weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, rate, total_steps=steps)
        self.epochs = 0

    def epoch(self) -> float:
        """Train for one epoch and return the mean loss."""
        recipe, total = self._recipe, 0.0
        for inputs, labels in self._fit.batches(recipe.batch_size, self._generator):
            with computing_in(recipe.precision):
                scores = self._model(recipe.augmentation(inputs, self._generator))
            loss = functional.cross_entropy(scores.float(), labels, label_smoothing=recipe.label_smoothing)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            total += loss.item() * len(labels)
        self.epochs += 1
        return total / len(self._fit)

    def save(self, path: Path) -> None:
        """Write everything that the rest of the training depends on."""
        state = {
            "epochs": self.epochs,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            # Images are drawn by a generator of their own, what dropout drops by PyTorch's.
            "random": [self._generator.get_state(), torch.get_rng_state()],
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        """Go on from what was saved, if there is something whole."""
        try:
            state = torch.load(path, weights_only=True)
        except Exception:  # no file, or a damaged one, which surfaces as anything: trained from the start
            return
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["random"][0])
        torch.set_rng_state(state["random"][1])
        self.epochs = state["epochs"]

"""Training a network from scratch."""

import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from ..errors import ModelError
from ..progress import step
from .augmentation import Augmentation, Augmenting
from .data.split import Split
from .layout import channels_last

__all__ = ["TrainingRecipe", "train"]


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
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    label_smoothing: float = 0.05
    augmentation: Augmenting = field(default_factory=Augmentation)


def train(model: nn.Module, fit: Split, recipe: TrainingRecipe, seed: int) -> None:
    """Train `model` in place and leave it in evaluation mode.

    Args:
        model: With initial weights.
        fit: What to train on.
        recipe: How.
        seed: Order of the images and their augmentation.

    Raises:
        ModelError: The loss is no number any more.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * math.ceil(len(fit) / recipe.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
    channels_last(model)
    model.train()
    with step("training the network", recipe.epochs) as advance:
        for epoch in range(recipe.epochs):
            loss = _epoch(model, fit, recipe, optimizer, schedule, generator)
            if not math.isfinite(loss):
                raise ModelError(f"training diverged in epoch {epoch + 1}: the loss is {loss}; lower the learning rate")
            advance(1, f"loss {loss:.3f}")
    model.eval()


def _epoch(
    model: nn.Module,
    fit: Split,
    recipe: TrainingRecipe,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> float:
    """Train for one epoch and return the mean loss."""
    total = 0.0
    for inputs, labels in fit.batches(recipe.batch_size, generator):
        scores = model(recipe.augmentation(inputs, generator))
        loss = functional.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item() * len(labels)
    return total / len(fit)

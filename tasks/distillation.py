"""Gentle fine-tuning of a compressed network towards the original's outputs."""

import copy
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from ..progress import step
from .accuracy import accuracy
from .augmentation import Augmentation, Augmenting
from .data.split import Split

__all__ = ["DistillationRecipe", "DistillationReport", "distil"]


@dataclass(frozen=True)
class DistillationRecipe:
    """AdamW at a low learning rate, on softened outputs and labels together (Hinton et al. 2015, arXiv 1503.02531).

    Attributes:
        epochs: Passes over the fit split; 0 leaves the network alone.
        batch_size: Images in a step.
        learning_rate: After the warm-up; high rates first harm good plans.
        temperature: Softens both networks' outputs.
        label_weight: Share of the labels in the loss, 0 to 1; the rest is the original's.
        warmup_share: Share of the steps in which the learning rate rises.
        augmentation: Changes of the images.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-4
    temperature: float = 2.0
    label_weight: float = 0.3
    warmup_share: float = 0.1
    augmentation: Augmenting = field(default_factory=Augmentation)


@dataclass(frozen=True)
class DistillationReport:
    """What fine-tuning gave.

    Attributes:
        accuracy_before: Of the student on the validation split, before.
        accuracy_after: Of the best checkpoint on it, which is what is left in the student.
        best_epoch: When the best checkpoint was; 0 for before the first epoch.
        seconds: How long it took.
    """

    accuracy_before: float
    accuracy_after: float
    best_epoch: int
    seconds: float


def distil(
    student: nn.Module, teacher: nn.Module, fit: Split, validate: Split, recipe: DistillationRecipe, seed: int
) -> DistillationReport:
    """Fine-tune `student` in place; the best checkpoint stays, the start included.

    Batch-norm statistics stay as they are: they were fitted to this network.

    Args:
        student: In evaluation mode; the parameters that require gradients are trained.
        teacher: The original network in evaluation mode.
        fit: What to train on.
        validate: What checkpoints are compared on.
        recipe: How.
        seed: Order of the images and their augmentation.

    Raises:
        ModelError: The loss is no number any more.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    before = best = accuracy(student, validate)
    best_state, best_epoch = copy.deepcopy(student.state_dict()), 0
    trainer = _Trainer(student, teacher, recipe, math.ceil(len(fit) / recipe.batch_size))
    with step("fine-tuning", recipe.epochs) as advance:
        for epoch in range(1, recipe.epochs + 1):
            trainer.epoch(fit, generator)
            reached = accuracy(student, validate)
            if reached > best:
                best_state, best_epoch, best = copy.deepcopy(student.state_dict()), epoch, reached
            advance(1, f"accuracy {reached:.4f}")
    student.load_state_dict(best_state)
    return DistillationReport(before, best, best_epoch, time.perf_counter() - started)


class _Trainer:
    def __init__(
        self, student: nn.Module, teacher: nn.Module, recipe: DistillationRecipe, steps_per_epoch: int
    ) -> None:
        self._student = student
        self._teacher = teacher
        self._recipe = recipe
        parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
        steps = max(1, recipe.epochs * steps_per_epoch)
        warmup = max(1, round(steps * recipe.warmup_share))

        def factor(done: int) -> float:
            if done < warmup:
                return (done + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, steps - warmup)))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def epoch(self, fit: Split, generator: torch.Generator) -> None:
        for plain, labels in fit.batches(self._recipe.batch_size, generator):
            inputs = self._recipe.augmentation(plain, generator)
            with torch.no_grad():
                wanted = self._teacher(inputs)
            loss = self._loss(self._student(inputs), wanted, labels)
            if not math.isfinite(loss.item()):
                raise ModelError(f"fine-tuning diverged: the loss is {loss.item()}; lower the learning rate")
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()

    def _loss(self, scores: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
        temperature, share = self._recipe.temperature, self._recipe.label_weight
        soft = functional.kl_div(
            (scores / temperature).log_softmax(1),
            (wanted / temperature).log_softmax(1),
            log_target=True,
            reduction="batchmean",
        )
        return (1 - share) * temperature**2 * soft + share * functional.cross_entropy(scores, labels)

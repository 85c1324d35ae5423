"""Gentle fine-tuning of a compressed network towards the original's outputs, features, or both."""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ModelError
from ..progress import step
from .accuracy import accuracy, right_answers
from .augmentation import Augmentation, Augmenting
from .data.split import Split
from .feature_matching import FeatureMap, FeatureMatching, feature_matching
from .precision import Precision, computing_in

__all__ = ["DistillationRecipe", "DistillationReport", "Regulariser", "distil", "distil_towards", "softened_divergence"]

Loss = Literal["logits", "features", "both"]
Optimizer = Literal["adamw", "sgd"]
BatchNorms = Literal["fixed", "trained"]

_MOMENTUM = 0.9

#: Standard errors that a checkpoint must be worse by to be worse for certain.
_CLEAR_ERRORS = 2


@dataclass(frozen=True)
class DistillationRecipe:
    """Gradient steps on what the original gives and on labels together; by default AdamW at a low learning rate.

    The loss is label_weight * cross-entropy + (1 - label_weight) * D, where D is one of

    - "logits": temperature^2 * the divergence of the softened outputs (Hinton et al. 2015, arXiv 1503.02531);
    - "features": feature_weight * the distance of normalised feature maps (`espalier.tasks.feature_matching`);
    - "both": their sum.

    Attributes:
        epochs: Passes over the fit split; 0 leaves the network alone.
        batch_size: Images in a step.
        learning_rate: After the warm-up; high rates first harm good plans.
        temperature: Softens both networks' outputs.
        label_weight: Share of the labels in the loss, 0 to 1; the rest is the original's.
        warmup_share: Share of the steps in which the learning rate rises.
        augmentation: Changes of the inputs.
        loss: "logits", "features" or "both".
        feature_weight: Of the features in the loss.
        feature_map: "attention" compares where both networks look, whatever their channels; "channels" compares all
            values of layers with equal shapes.
        feature_layers: Dotted paths of the layers to compare; the last one of each resolution where empty.
        optimizer: "adamw", or "sgd" with Nesterov's momentum of 0.9, which wants a rate some hundred times higher.
        weight_decay: Of the optimiser.
        batch_norm: "fixed": batch-norms normalise by the statistics that they have; "trained": by those of the batch,
            which they follow, as in training from scratch. Networks whose batch-norms are folded have none.
        precision: "bfloat16" computes most of both networks in 16 bits, which some processors do twice as fast.

    Raises:
        ModelError: A name is unknown or a weight out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-4
    temperature: float = 2.0
    label_weight: float = 0.3
    warmup_share: float = 0.1
    augmentation: Augmenting = field(default_factory=Augmentation)
    loss: Loss = "logits"
    feature_weight: float = 1.0
    feature_map: FeatureMap = "attention"
    feature_layers: Sequence[str] = ()
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.0
    batch_norm: BatchNorms = "fixed"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        names = {"loss": Loss, "feature_map": FeatureMap, "optimizer": Optimizer}
        for name, kind in (names | {"batch_norm": BatchNorms, "precision": Precision}).items():
            known = get_args(kind)
            if getattr(self, name) not in known:
                raise ModelError(f"distillation.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")
        if not 0 <= self.label_weight <= 1 or not self.temperature > 0 or not self.feature_weight > 0:
            wanted = "label_weight must be 0 to 1, temperature and feature_weight above 0"
            got = f"{self.label_weight}, {self.temperature} and {self.feature_weight}"
            raise ModelError(f"distillation: {wanted}; got {got}")


@dataclass(frozen=True)
class DistillationReport:
    """What fine-tuning gave.

    Attributes:
        accuracy_before: Of the student on the validation split, before.
        accuracy_after: Of the checkpoint on it that is left in the student.
        kept_epoch: When that checkpoint was; 0 for before the first epoch.
        seconds: How long it took.
        losses: Mean of the loss in each epoch.
        feature_layers: The layers whose features were compared.
    """

    accuracy_before: float
    accuracy_after: float
    kept_epoch: int
    seconds: float
    losses: tuple[float, ...] = ()
    feature_layers: tuple[str, ...] = ()


class Regulariser(Protocol):
    """What a training adds to its loss, and does to the weights, to lead them somewhere."""

    def penalty(self) -> Tensor:
        """What is added to the loss: a number, differentiable in the weights."""
        ...

    def after_step(self) -> None:
        """Called after each gradient step."""
        ...


def distil(
    student: nn.Module, teacher: nn.Module, fit: Split, validate: Split, recipe: DistillationRecipe, seed: int
) -> DistillationReport:
    """Fine-tune `student` in place; the last checkpoint stays that is not clearly worse than the best.

    The start is one of them. A search has often chosen it among many for its luck on `validate`; what was trained on
    far more images is not worse for lacking that luck. Clearly is by more than two standard errors of the difference
    between answers to the same images (McNemar 1947). Batch-norm statistics stay as they are: they were fitted to this
    network.

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
    if recipe.epochs == 0:
        before = accuracy(student, validate)
        return DistillationReport(before, before, 0, time.perf_counter() - started)
    kept = _Kept(student, right_answers(student, validate))
    before = kept.accuracy
    losses = []
    with _features(student, teacher, fit, recipe) as features, step("fine-tuning", recipe.epochs) as advance:
        trainer = _Trainer(student, teacher, recipe, math.ceil(len(fit) / recipe.batch_size), features)
        for epoch in range(1, recipe.epochs + 1):
            losses.append(trainer.epoch(fit, generator))
            reached = kept.see(student, right_answers(student, validate), epoch)
            advance(1, f"accuracy {reached:.4f}")
    student.load_state_dict(kept.state)
    layers = features.layers if features else ()
    return DistillationReport(before, kept.accuracy, kept.epoch, time.perf_counter() - started, tuple(losses), layers)


class _Kept:
    """The last checkpoint that is not clearly worse than the best.

    Args:
        student: Before the first epoch.
        right: Which images it gets right, shape (images,).
    """

    def __init__(self, student: nn.Module, right: Tensor) -> None:
        self._best = right
        self._keep(student, right, 0)

    def _keep(self, student: nn.Module, right: Tensor, epoch: int) -> None:
        self.state = copy.deepcopy(student.state_dict())
        self.accuracy = _share(right)
        self.epoch = epoch

    def see(self, student: nn.Module, right: Tensor, epoch: int) -> float:
        """Look at the checkpoint of an epoch, and give its accuracy."""
        if not _is_clearly_worse(right, self._best):
            self._keep(student, right, epoch)
        if _share(right) > _share(self._best):
            self._best = right
        return _share(right)


def _share(right: Tensor) -> float:
    return int(right.sum()) / len(right)


def _is_clearly_worse(right: Tensor, best: Tensor) -> bool:
    """Whether answers to the same images are worse by more than two standard errors of the difference."""
    difference = best.double() - right.double()
    error = (difference.var(correction=0) / len(difference)).sqrt()
    return bool(difference.mean() > _CLEAR_ERRORS * error)


def distil_towards(
    student: nn.Module, teacher: nn.Module, fit: Split, recipe: DistillationRecipe, seed: int, regulariser: Regulariser
) -> tuple[float, ...]:
    """Train `student` in place under a regulariser; what it leads to stays, whatever the accuracy is on the way.

    Args:
        student: In evaluation mode; the parameters that require gradients are trained.
        teacher: The original network in evaluation mode.
        fit: What to train on.
        recipe: How.
        seed: Order of the images and their augmentation.
        regulariser: Changes loss and weights.

    Returns:
        Mean of the loss in each epoch, the penalty included.

    Raises:
        ModelError: The loss is no number any more.
    """
    generator = torch.Generator().manual_seed(seed)
    losses = []
    with _features(student, teacher, fit, recipe) as features, step("pruning", recipe.epochs) as advance:
        trainer = _Trainer(student, teacher, recipe, math.ceil(len(fit) / recipe.batch_size), features, regulariser)
        for _ in range(recipe.epochs):
            losses.append(trainer.epoch(fit, generator))
            advance(1, f"loss {losses[-1]:.3f}")
    return tuple(losses)


def _features(
    student: nn.Module, teacher: nn.Module, fit: Split, recipe: DistillationRecipe
) -> AbstractContextManager[FeatureMatching | None]:
    if recipe.loss == "logits":
        return nullcontext()
    return feature_matching(student, teacher, fit.inputs(slice(0, 1)), recipe.feature_layers, recipe.feature_map)


class _Trainer:
    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        recipe: DistillationRecipe,
        steps_per_epoch: int,
        features: FeatureMatching | None,
        regulariser: Regulariser | None = None,
    ) -> None:
        self._features = features
        self._regulariser = regulariser
        self._student = student
        self._teacher = teacher
        self._recipe = recipe
        parameters = [parameter for parameter in student.parameters() if parameter.requires_grad]
        self._optimizer = _optimizer(parameters, recipe)
        steps = max(1, recipe.epochs * steps_per_epoch)
        warmup = max(1, round(steps * recipe.warmup_share))

        def factor(done: int) -> float:
            if done < warmup:
                return (done + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, steps - warmup)))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, factor)

    def epoch(self, fit: Split, generator: torch.Generator) -> float:
        """Train for one epoch and return the mean loss."""
        total = 0.0
        with _batch_norms(self._student, self._recipe.batch_norm):
            for plain, labels in fit.batches(self._recipe.batch_size, generator):
                total += self._step(self._recipe.augmentation(plain, generator), labels) * len(labels)
        return total / len(fit)

    def _step(self, inputs: Tensor, labels: Tensor) -> float:
        with computing_in(self._recipe.precision):
            with torch.no_grad():
                wanted = self._teacher(inputs)
            scores = self._student(inputs)
        loss = self._loss(scores.float(), wanted.float(), labels)
        if self._regulariser is not None:
            loss = loss + self._regulariser.penalty()
        if not math.isfinite(loss.item()):
            raise ModelError(f"fine-tuning diverged: the loss is {loss.item()}; lower the learning rate")
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        if self._regulariser is not None:
            self._regulariser.after_step()
        return loss.item()

    def _loss(self, scores: Tensor, wanted: Tensor, labels: Tensor) -> Tensor:
        recipe = self._recipe
        loss = recipe.label_weight * functional.cross_entropy(scores, labels)
        if self._features is not None:
            loss = (1 - recipe.label_weight) * recipe.feature_weight * self._features.loss() + loss
        if recipe.loss != "features":
            soft = softened_divergence(scores, wanted, recipe.temperature)
            loss = (1 - recipe.label_weight) * recipe.temperature**2 * soft + loss
        return loss


def _optimizer(parameters: list[nn.Parameter], recipe: DistillationRecipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=_MOMENTUM, nesterov=True)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)


@contextmanager
def _batch_norms(network: nn.Module, how: BatchNorms) -> Iterator[None]:
    """Let batch-norms normalise by their batches, where they are trained, while the block lasts."""
    is_trained = how == "trained"
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] if is_trained else []
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()


def softened_divergence(scores: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the softened outputs, mean over the batch.

    Args:
        scores: Of the student, shape (batch, classes).
        wanted: Of the teacher, the same shape.
        temperature: Above 0; divides both.
    """
    return functional.kl_div(
        (scores / temperature).log_softmax(1),
        (wanted / temperature).log_softmax(1),
        log_target=True,
        reduction="batchmean",
    )

"""Share of right answers."""

import torch
from torch import Tensor, nn

from ..errors import ModelError
from .data.split import Split

__all__ = ["accuracy", "checked_scores", "count_right", "right_answers"]

#: Large enough to keep the cores busy, small enough for the activations to stay in their caches.
BATCH_SIZE = 128


@torch.inference_mode()
def accuracy(model: nn.Module, split: Split, batch_size: int = BATCH_SIZE) -> float:
    """Share of images whose highest score is their label's, 0 to 1.

    Args:
        model: In evaluation mode.
        split: Images and labels.
        batch_size: Images at a time.

    Raises:
        ModelError: The model returns something else than one row of scores per image.
    """
    return int(right_answers(model, split, batch_size).sum()) / len(split)


@torch.inference_mode()
def right_answers(model: nn.Module, split: Split, batch_size: int = BATCH_SIZE) -> Tensor:
    """Whether the model gets each image right: bool, shape (images,); see `accuracy`."""
    return torch.cat([_right(model, inputs, labels) for inputs, labels in split.batches(batch_size)])


def count_right(model: nn.Module, inputs: Tensor, labels: Tensor) -> int:
    """How many of a batch the model gets right.

    Raises:
        ModelError: The model returns something else than one row of scores per image.
    """
    return int(_right(model, inputs, labels).sum())


def _right(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return checked_scores(model, inputs).argmax(1) == labels


def checked_scores(model: nn.Module, inputs: Tensor) -> Tensor:
    """What a model returns for a batch: shape (images, classes).

    Raises:
        ModelError: The model returns something else.
    """
    scores = model(inputs)
    if not isinstance(scores, Tensor):
        raise ModelError(f"the model returns a {type(scores).__name__}, expected one tensor of scores")
    if scores.ndim != 2 or len(scores) != len(inputs):
        raise ModelError(f"the model returns shape {tuple(scores.shape)}, expected ({len(inputs)}, classes)")
    return scores

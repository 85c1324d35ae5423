"""From a plan to its metrics."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from ..compression.assembly import assemble, fold_batch_norms
from ..compression.bank import Bank
from ..compression.plan import Plan
from ..compression.realised import Realiser, count_parameters, count_storage_bytes
from ..compression.survey import Survey
from ..errors import EspalierError
from ..files import content_hash
from ..graph.memory import peak_activation_bytes, weight_bytes
from ..hw_models.cost import Estimate, HardwareModel
from ..tasks.data.split import Split
from ..tasks.task import Task
from .metrics import Metrics
from .recalibration import RelativeRecalibration
from .store import Record, Store

__all__ = ["EvaluatedPlan", "Evaluator", "LocalEvaluator"]

EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluatedPlan:
    """What an evaluator answers.

    Attributes:
        metrics: Accuracy and costs.
        seconds: How long the evaluation took, when it was done.
        repeated: Whether it was answered from the store.
    """

    metrics: Metrics
    seconds: float
    repeated: bool


class Evaluator(Protocol):
    """A plan in, metrics out."""

    def evaluate(self, plans: Sequence[Plan]) -> Sequence[EvaluatedPlan]:
        """Evaluate plans; what the store knows is not evaluated again."""

    def costs(self, plan: Plan) -> Metrics:
        """The costs of a plan with an accuracy of nan: exact, and too cheap to count as an evaluation."""

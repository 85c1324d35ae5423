"""From the best plans of a search to one network: each is refitted, the best stays."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..compression.assembly import fold_batch_norms
from ..compression.bank import Bank
from ..compression.refit import refit
from ..compression.survey import Survey
from ..evaluation.archive import Evaluation
from ..evaluation.recalibration import RelativeRecalibration
from ..graph.layers import executable
from ..progress import step
from ..tasks.accuracy import accuracy
from ..tasks.task import Task

__all__ = ["Candidate", "refitted_candidates"]


@dataclass(frozen=True)
class Candidate:
    """A plan's network, ready to be fine-tuned.

    Attributes:
        evaluation: What the search found.
        network: Batch-norms recalibrated and folded.
        accuracy: On the search split.
    """

    evaluation: Evaluation
    network: nn.Module
    accuracy: float


def refitted_candidates(
    task: Task, survey: Survey, bank: Bank, evaluations: Sequence[Evaluation], images: int
) -> list[Candidate]:
    """Refit plans and count how well their networks do on the search split.

    Args:
        task: The original network and its data.
        survey: Its search space.
        bank: The variants.
        evaluations: The plans.
        images: Calibration images, at most.
    """
    inputs = task.calibrate.inputs(slice(0, images))
    recalibration = RelativeRecalibration(task.model, inputs)
    candidates: list[Candidate] = []
    with step("refitting the best plans", len(evaluations)) as advance:
        for evaluation in evaluations:
            plan, kept = evaluation.plan, bank.kept_channels(evaluation.plan)
            is_original = plan.hash == bank.space.keep_plan.hash
            network = task.model if is_original else recalibration.apply(refit(task.model, plan, bank, inputs), kept)
            folded = fold_batch_norms(network, survey.batch_norm_pairs)
            reached = accuracy(executable(folded), task.search)
            candidates.append(Candidate(evaluation, folded, reached))
            advance(1, f"accuracy {reached:.4f}")
    return candidates

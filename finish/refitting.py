"""From the best plans of a search to one network: each is refitted, the best stays."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from ..evaluation.archive import Evaluation
from ..graph.layers import executable
from ..progress import step
from ..tasks.accuracy import accuracy
from .plan_networks import PlanNetworks

__all__ = ["Candidate", "refitted_candidates"]


@dataclass(frozen=True)
class Candidate:
    """A plan's network, ready to be fine-tuned.

    Attributes:
        evaluation: What the search found.
        network: What fine-tuning starts from.
        accuracy: On the search split.
    """

    evaluation: Evaluation
    network: nn.Module
    accuracy: float


def refitted_candidates(networks: PlanNetworks, evaluations: Sequence[Evaluation]) -> list[Candidate]:
    """Refit plans and count how well their networks do on the search split.

    Args:
        networks: Makes the networks.
        evaluations: The plans.
    """
    candidates: list[Candidate] = []
    with step("refitting the best plans", len(evaluations)) as advance:
        for evaluation in evaluations:
            network = networks.start(evaluation.plan)
            reached = accuracy(executable(network), networks.task.search)
            candidates.append(Candidate(evaluation, network, reached))
            advance(1, f"accuracy {reached:.4f}")
    return candidates

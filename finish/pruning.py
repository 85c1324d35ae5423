"""How the layers of a winner that are block column-row (BCR) sparse get the weights that are delivered."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from typing_extensions import override

from ..compression.layers import trainable
from ..compression.plan import Plan
from ..errors import EspalierError
from ..tasks.distillation import DistillationRecipe, DistillationReport, Regulariser, distil, distil_towards
from .block_sites import BlockSite, BlockWeight, block_sites, dense_plan, replace_by_stored
from .plan_networks import PlanNetworks

__all__ = ["ApproachingPruning", "PruningMethod", "PruningReport", "relative_distance", "retrained"]


@dataclass(frozen=True)
class PruningReport:
    """What pruning gave.

    Attributes:
        method: Its name.
        distances: Relative distance of the weights from what is left of them after pruning, before and after the
            training that leads them there (see `relative_distance`); empty where the bank's masks stay.
        losses: Mean of the loss in each epoch of that training, the penalty included.
        retraining: Of what was pruned; its `accuracy_before` is that after pruning.
    """

    method: str
    distances: tuple[float, ...]
    losses: tuple[float, ...]
    retraining: DistillationReport

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return vars(self) | {"retraining": vars(self.retraining)}


class PruningMethod(ABC):
    """One way to the weights of block column-row sparse layers, between the refit and the gentle fine-tuning."""

    @abstractmethod
    def prune(self, networks: PlanNetworks, plan: Plan, seed: int) -> tuple[nn.Module, PruningReport] | None:
        """Make the network of a plan.

        Args:
            networks: Makes what to start from.
            plan: The winner.
            seed: Order of the images and their augmentation.

        Returns:
            The network with tensors of its own, its batch-norms beside the layers; None where the refitted network is
            left as it is.
        """


@dataclass(frozen=True, kw_only=True)
class ApproachingPruning(PruningMethod):
    """Lead the original's weights towards the sparse ones, prune them, retrain what is left.

    Attributes:
        approach: The training towards the sparse weights.
        retraining: The training after the pruning, in which the pruned weights stay zero.
        update_steps: Gradient steps after which the regulariser looks at the weights again.

    Raises:
        EspalierError: A setting is out of range.
    """

    approach: DistillationRecipe = field(default_factory=DistillationRecipe)
    retraining: DistillationRecipe = field(default_factory=DistillationRecipe)
    update_steps: int = 50

    def __post_init__(self) -> None:
        if self.update_steps < 1:
            raise EspalierError(f"pruning.update_steps must be at least 1, got {self.update_steps}")
        if self.approach.epochs < 1:
            raise EspalierError(f"pruning.approach.epochs must be at least 1, got {self.approach.epochs}")

    @property
    @abstractmethod
    def name(self) -> str:
        """For reports."""

    @abstractmethod
    def regulariser(self, weights: Sequence[BlockWeight], steps: int) -> Regulariser:
        """What leads the weights.

        Args:
            weights: All that are to become sparse.
            steps: Gradient steps of the approach.
        """

    @override
    def prune(self, networks: PlanNetworks, plan: Plan, seed: int) -> tuple[nn.Module, PruningReport] | None:
        dense = dense_plan(plan, networks.space)
        if dense == plan:
            return None
        network = copy.deepcopy(networks.refitted(dense))
        sites = block_sites(network, plan, networks.space)
        distances, losses = self._approach(network, sites, networks, seed)
        replace_by_stored(network, sites)
        return network, PruningReport(self.name, distances, losses, retrained(network, networks, self.retraining, seed))

    def _approach(
        self, network: nn.Module, sites: Sequence[BlockSite], networks: PlanNetworks, seed: int
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        task = networks.task
        weights = [weight for site in sites for weight in site.weights.values()]
        before = relative_distance(weights)
        steps = self.approach.epochs * math.ceil(len(task.fit) / self.approach.batch_size)
        regulariser = self.regulariser(weights, steps)
        with trainable(network):
            losses = distil_towards(network, task.model, task.fit, self.approach, seed, regulariser)
        return (before, relative_distance(weights)), losses


def retrained(network: nn.Module, networks: PlanNetworks, recipe: DistillationRecipe, seed: int) -> DistillationReport:
    """Train what is left after pruning; in place.

    Args:
        network: With stored layers, whose masks stay.
        networks: Knows the task.
        recipe: How.
        seed: Order of the images and their augmentation.
    """
    task = networks.task
    with trainable(network):
        report = distil(network, task.model, task.fit, task.search, recipe, seed)
    network.eval()
    return report


def relative_distance(weights: Sequence[BlockWeight]) -> float:
    """Share of the sum of squares of all weights that pruning would take away now, 0 to 1."""
    total = sum(float(weight.parameter.detach().square().sum()) for weight in weights)
    return sum(weight.square_distance for weight in weights) / total

"""Keeping the masks of the bank."""

import copy
from dataclasses import dataclass, field

from torch import nn
from typing_extensions import override

from ..compression.plan import Plan
from ..tasks.distillation import DistillationRecipe
from .block_sites import dense_plan
from .plan_networks import PlanNetworks
from .pruning import PruningMethod, PruningReport, retrained

__all__ = ["Masked"]


@dataclass(frozen=True, kw_only=True)
class Masked(PruningMethod):
    """What the closed-form fit kept is kept, and retrained.

    Attributes:
        retraining: How; with 0 epochs the winner goes to its fine-tuning as it is.
    """

    retraining: DistillationRecipe = field(default_factory=lambda: DistillationRecipe(epochs=0))

    @override
    def prune(self, networks: PlanNetworks, plan: Plan, seed: int) -> tuple[nn.Module, PruningReport] | None:
        if self.retraining.epochs == 0 or dense_plan(plan, networks.space) == plan:
            return None
        network = copy.deepcopy(networks.refitted(plan))
        return network, PruningReport("masked", (), (), retrained(network, networks, self.retraining, seed))

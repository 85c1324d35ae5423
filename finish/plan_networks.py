"""The network of a plan as a search ends with it: refitted, its batch-norms recalibrated."""

from collections.abc import Callable

from torch import nn

from ..compression.assembly import fold_batch_norms
from ..compression.bank import Bank
from ..compression.plan import Plan
from ..compression.refit import Refit
from ..compression.survey import Survey
from ..evaluation.recalibration import RelativeRecalibration
from ..tasks.task import Task

__all__ = ["PlanNetworks"]


class PlanNetworks:
    """Makes networks of plans.

    Args:
        task: The original network and its data.
        survey: Its search space.
        bank: The variants.
        images: Calibration images of a refit, at most.
        judged: The networks that the search judged, where fine-tuning had better go on from those; None refits.

    Attributes:
        task: As given.
        survey: As given.
        bank: As given.
        space: The bank's.
    """

    def __init__(
        self,
        task: Task,
        survey: Survey,
        bank: Bank,
        images: int,
        judged: Callable[[Plan], nn.Module] | None = None,
    ) -> None:
        self.task = task
        self.space = bank.space
        self.survey = survey
        self.bank = bank
        inputs = task.calibrate.inputs(slice(0, images))
        self._refit = Refit(task.model, bank, inputs)
        self._recalibration = RelativeRecalibration(task.model, inputs)
        self._judged = judged

    def refitted(self, plan: Plan) -> nn.Module:
        """The network with its batch-norms beside the layers; it shares tensors with the original and the bank."""
        if plan.hash == self.space.keep_plan.hash:
            return self.task.model
        network = self._refit.apply(plan)
        return self._recalibration.apply(network, self.bank.kept_channels(plan))

    def folded(self, network: nn.Module) -> nn.Module:
        """The same function with the batch-norms inside the layers before them."""
        return fold_batch_norms(network, self.survey.batch_norm_pairs)

    def start(self, plan: Plan) -> nn.Module:
        """What fine-tuning starts from: what the search judged, or the refitted network, its batch-norms folded."""
        return self._judged(plan) if self._judged else self.folded(self.refitted(plan))

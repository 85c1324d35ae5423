"""A few gradient steps before a plan is judged, so that the search sees what fine-tuning will make of it."""

import copy

import torch
from torch import Tensor, nn

from ..compression.layers import trainable
from ..tasks.distillation import softened_divergence

__all__ = ["BriefTuning"]

_BATCH_SIZE = 64
_TEMPERATURE = 2.0


class BriefTuning:
    """Distils the original's outputs into compressed networks, on calibration inputs and without labels.

    What a closed-form fit cannot mend, such as a layer without a batch-norm that lost its scale, a few steps often do;
    plans are then ranked much as after the whole fine-tuning (docs/benchmarks.md, "The proxy").

    Args:
        model: The original network in evaluation mode.
        inputs: Calibration inputs, shape (n, ...).
        steps: Gradient steps of 64 inputs each, by Adam.
        learning_rate: Of the first step; it falls to 0 in a straight line.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, inputs: Tensor, steps: int, learning_rate: float) -> None:
        self._inputs = inputs
        self._wanted = torch.cat([model(part) for part in torch.split(inputs, _BATCH_SIZE)])
        self._steps = steps
        self._learning_rate = learning_rate

    def apply(self, network: nn.Module) -> nn.Module:
        """A tuned copy of a network whose batch-norms are folded; the same network is always tuned alike."""
        student = copy.deepcopy(network)
        generator = torch.Generator().manual_seed(0)
        with torch.enable_grad(), trainable(student):
            optimizer = torch.optim.Adam(student.parameters(), lr=self._learning_rate)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=self._steps)
            for _ in range(self._steps):
                rows = torch.randint(len(self._inputs), (_BATCH_SIZE,), generator=generator)
                loss = softened_divergence(student(self._inputs[rows]), self._wanted[rows], _TEMPERATURE)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # of torch
                optimizer.step()
                schedule.step()
        return student.eval()

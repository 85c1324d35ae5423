"""W3: the smallest weights of a linear layer become zeros that are not stored."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import round_in_sequence
from ..layers import SparseLinear
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix

__all__ = ["MagnitudePruning"]


class MagnitudePruning(Technique):
    """Keep the weights of largest magnitude, measured in output: |W[o, i]| times the deviation of input i.

    Han et al. 2015 (arXiv 1506.02626) with the inputs' scale as in Sun et al. 2024 (arXiv 2306.11695); the weights that
    stay make up for those that go, column by column.

    Args:
        sparsities: Shares of weights to remove, each in (0, 1).
    """

    name = "magnitude_pruning"

    def __init__(self, sparsities: Sequence[float] = (0.5, 0.75, 0.9)) -> None:
        self._sparsities = tuple(sparsities)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.kind != "linear":
            return ()
        # A stored weight takes 32 bits, and every weight one bit to say whether it is stored.
        saving = [s for s in self._sparsities if self._kept(site, s) * 32 + site.weights < site.weights * 32]
        return tuple(Choice.of(self.name, sparsity=sparsity) for sparsity in saving)

    def _kept(self, site: Site, sparsity: float) -> int:
        return max(1, round(site.weights * (1 - sparsity)))

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight = weight_matrix(layer)
        mask = self._mask(weight, calibration, self._kept(site, float(choice["sparsity"])))
        pruned = round_in_sequence(weight, calibration.covariance, lambda column, values: values * mask[:, column])
        module = SparseLinear(site.in_channels, site.out_channels, int(mask.sum()))
        module.store(pruned.float(), mask, corrected_bias(layer, pruned, calibration))
        return module

    def _mask(self, weight: Tensor, calibration: Calibration, count: int) -> Tensor:
        scores = weight.abs() * calibration.covariance.diagonal().sqrt()
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[scores.flatten().topk(count).indices] = True
        return mask.view_as(weight)

"""L3: the fully connected layers at the end give way to a global average and one linear layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import solve_right
from ..layers import PooledHead
from ..site import Site
from ..technique import Technique

__all__ = ["GlobalAveragePooling"]


class GlobalAveragePooling(Technique):
    """Outputs as a linear function of each channel's average, fitted to the outputs of the whole head.

    Lin et al. 2013 (arXiv 1312.4400, sec. 3.2). The hidden layers are not linear, so the fit is the regression of their
    outputs on the averages: W = C_yx P^T (P C P^T)^-1 with P the averaging.
    """

    name = "global_average_pooling"

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        is_smaller = site.kind == "head" and site.in_channels * site.out_channels < site.weights
        return (Choice.of(self.name),) if is_smaller else ()

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert calibration.output_covariance is not None
        assert calibration.output_mean is not None
        positions = site.input_shape[1] * site.input_shape[2]
        averaging = _averaging(site.in_channels, positions)
        pooled_covariance = averaging @ calibration.covariance @ averaging.T
        weight = solve_right(calibration.output_covariance @ averaging.T, pooled_covariance)
        head = PooledHead(site.in_channels, positions, site.out_channels)
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(calibration.output_mean - weight @ averaging @ calibration.mean)
        return head


def _averaging(channels: int, positions: int) -> Tensor:
    """From flattened feature maps to channel averages: shape (channels, channels * positions)."""
    identity = torch.eye(channels, dtype=torch.float64)
    return identity.repeat_interleave(positions, 1) / positions

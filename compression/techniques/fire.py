"""L1: a Fire module in the place of a convolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import least_squares
from ..layers import FireConv2d
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import at_least_one, shares, shares_or_all
from .ranks import aligned, distinct
from .tucker2 import channel_directions, channel_features

__all__ = ["Fire"]


class Fire(Technique):
    """Squeeze to s channels by 1x1, expand by 1x1 and by the full kernel side by side.

    Iandola et al. 2016 (arXiv 1602.07360). The squeeze is the best s directions of the input channels; the outputs
    that lose least by it get the 1x1 kernels; given both, the expand weights are the least-squares solution.

    Args:
        squeezes: Squeezed channels as shares of the input channels, each in (0, 1).
        pointwise_share: Share of the outputs that come from 1x1 kernels, in (0, 1).
        rank_multiple: Squeezed channels are rounded down to multiples of this.
    """

    name = "fire"

    def __init__(
        self, squeezes: Sequence[float] = (0.5, 0.25), pointwise_share: float = 0.5, rank_multiple: int = 8
    ) -> None:
        self._squeezes = shares_or_all("fire.squeezes", *squeezes)
        (self._pointwise_share,) = shares("fire.pointwise_share", pointwise_share)
        (self._rank_multiple,) = at_least_one("fire.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not self._fits(site):
            return ()

        def saves(width: int) -> bool:
            return self._weights(site, width) < site.weights and self._macs(site, width) < site.macs

        offered = (Choice.of(self.name, squeeze=value) for value in self._squeezes)
        return distinct(offered, lambda choice: self._squeezed(site, choice), saves)

    def _fits(self, site: Site) -> bool:
        """The 1x1 kernels must see the middle of the patches that the full kernels see."""
        if site.geometry is None or site.groups != 1 or max(site.geometry.kernel) < 2:
            return False
        axes = zip(site.geometry.kernel, site.geometry.dilation, site.geometry.padding, strict=True)
        return site.in_channels > 1 and all(k % 2 == 1 and d * (k - 1) == 2 * p for k, d, p in axes)

    def _squeezed(self, site: Site, choice: Choice) -> int:
        return aligned(site.in_channels * float(choice["squeeze"]), self._rank_multiple)

    def _pointwise(self, site: Site) -> int:
        return aligned(site.out_channels * self._pointwise_share, self._rank_multiple)

    def _expand_weights(self, site: Site, squeezed: int) -> int:
        assert site.geometry is not None
        kernel = site.geometry.kernel[0] * site.geometry.kernel[1]
        pointwise = self._pointwise(site)
        return squeezed * (pointwise + (site.out_channels - pointwise) * kernel)

    def _weights(self, site: Site, squeezed: int) -> int:
        return site.in_channels * squeezed + self._expand_weights(site, squeezed)

    def _macs(self, site: Site, squeezed: int) -> int:
        before, after = site.input_shape[1] * site.input_shape[2], site.output_shape[1] * site.output_shape[2]
        return site.in_channels * squeezed * before + self._expand_weights(site, squeezed) * after

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        geometry = site.geometry
        assert geometry is not None
        weight, covariance = weight_matrix(layer), calibration.covariance
        positions = weight.shape[1] // site.in_channels
        directions = channel_directions(weight, site, covariance)[: self._squeezed(site, choice)]
        features = channel_features(directions, positions)
        middle_features = features.view(len(directions), positions, -1)[:, positions // 2]
        full = least_squares(weight, covariance, features)
        middle = least_squares(weight, covariance, middle_features)
        order = _cheapest_first(weight, covariance, full @ features, middle @ middle_features)
        count = self._pointwise(site)
        pointwise, rest = order[:count].sort().values, order[count:].sort().values
        effective = full @ features
        effective[pointwise] = middle[pointwise] @ middle_features
        bias = corrected_bias(layer, effective, calibration)
        module = FireConv2d(site.in_channels, site.out_channels, len(directions), count, geometry)
        module.squeeze.weight.copy_(directions.view_as(module.squeeze.weight))
        for part, rows, values in ((module.expand_pointwise, pointwise, middle), (module.expand, rest, full)):
            part.weight.copy_(values[rows].view(part.weight.shape))
            assert part.bias is not None
            part.bias.copy_(bias[rows])
        module.order.copy_(torch.cat([pointwise, rest]).argsort())
        return module


def _cheapest_first(weight: Tensor, covariance: Tensor, full: Tensor, middle: Tensor) -> Tensor:
    """Outputs in the order of what they lose when their kernel shrinks to its middle."""
    losses = [((weight - fit) @ covariance).mul(weight - fit).sum(1) for fit in (middle, full)]
    return (losses[0] - losses[1]).argsort()

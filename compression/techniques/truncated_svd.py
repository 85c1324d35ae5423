"""W1: a low-rank pair of layers in the place of a linear layer or a 1x1 convolution."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import output_basis
from ..layers import ConvGeometry
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import above_one, at_least_one
from .ranks import aligned, distinct

__all__ = ["TruncatedSvd"]


class TruncatedSvd(Technique):
    """W ~ U_r U_r^T W with U_r the first r principal components of the layer's outputs; m n becomes (m + n) r weights.

    Xue et al. 2013 (Interspeech) by plain SVD; the data-aware form is Zhang et al. 2016 (arXiv 1505.06798, eq. 4).
    Error: the variance of the outputs along the components left out.

    Args:
        speedups: By how many times fewer multiply-accumulates the layer should need, each above 1.
        rank_multiple: Ranks are rounded down to multiples of this.
    """

    name = "truncated_svd"

    def __init__(self, speedups: Sequence[float] = (2, 4, 8), rank_multiple: int = 8) -> None:
        self._speedups = above_one("truncated_svd.speedups", *speedups)
        (self._rank_multiple,) = at_least_one("truncated_svd.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        is_pointwise = site.geometry is not None and site.geometry.kernel == (1, 1) and site.groups == 1
        if site.kind != "linear" and not is_pointwise:
            return ()

        def saves(rank: int) -> bool:
            return rank * (site.in_channels + site.out_channels) < site.weights

        offered = (Choice.of(self.name, speedup=value) for value in self._speedups)
        return distinct(offered, lambda choice: self.rank(site, choice), saves)

    def rank(self, site: Site, choice: Choice) -> int:
        """Width of the layer between."""
        budget = site.weights / float(choice["speedup"]) / (site.in_channels + site.out_channels)
        return aligned(budget, self._rank_multiple)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight = weight_matrix(layer)
        basis = output_basis(weight, calibration.covariance)[:, : self.rank(site, choice)]
        inner = basis.T @ weight
        bias = corrected_bias(layer, basis @ inner, calibration)
        first, second = self._layers(site, inner.shape[0])
        first.weight.copy_(inner.view_as(first.weight))
        second.weight.copy_(basis.view_as(second.weight))
        assert second.bias is not None
        second.bias.copy_(bias)
        return nn.Sequential(first, second)

    def _layers(self, site: Site, rank: int) -> tuple[nn.Conv2d | nn.Linear, nn.Conv2d | nn.Linear]:
        if site.geometry is None:
            return nn.Linear(site.in_channels, rank, bias=False), nn.Linear(rank, site.out_channels)
        inner = site.geometry.layer(site.in_channels, rank, bias=False)
        return inner, ConvGeometry((1, 1)).layer(rank, site.out_channels, bias=True)

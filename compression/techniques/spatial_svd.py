"""C4: a vertical and a horizontal convolution in the place of a square one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import least_squares, whitened_basis
from ..layers import ConvGeometry
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import above_one, at_least_one
from .ranks import aligned, distinct

__all__ = ["SpatialSvd"]


class SpatialSvd(Technique):
    """W[o, i, h, w] ~ sum_r H[o, r, w] V[r, i, h]: kernel (kh, 1) to r channels, then (1, kw).

    Jaderberg et al. 2014 (arXiv 1405.3866, scheme 2). V are the best r directions of (input channel, row) under the
    inputs' covariance averaged over columns; given V, H is the least-squares solution for the outputs.

    Args:
        speedups: By how many times fewer multiply-accumulates the layer should need, each above 1.
        rank_multiple: Ranks are rounded down to multiples of this.
    """

    name = "spatial_svd"

    def __init__(self, speedups: Sequence[float] = (2, 4), rank_multiple: int = 8) -> None:
        self._speedups = above_one("spatial_svd.speedups", *speedups)
        (self._rank_multiple,) = at_least_one("spatial_svd.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or min(site.geometry.kernel) < 2:
            return ()

        def saves(rank: int) -> bool:
            return rank * self._macs_per_rank(site) < site.macs and rank * self._weights_per_rank(site) < site.weights

        offered = (Choice.of(self.name, speedup=value) for value in self._speedups)
        return distinct(offered, lambda choice: self.rank(site, choice), saves)

    def rank(self, site: Site, choice: Choice) -> int:
        """Channels between the two convolutions."""
        return aligned(site.macs / float(choice["speedup"]) / self._macs_per_rank(site), self._rank_multiple)

    def _macs_per_rank(self, site: Site) -> int:
        assert site.geometry is not None
        height, width = site.output_shape[1:]
        rows, columns = site.geometry.kernel
        return site.in_channels * rows * height * site.input_shape[2] + site.out_channels * columns * height * width

    def _weights_per_rank(self, site: Site) -> int:
        assert site.geometry is not None
        rows, columns = site.geometry.kernel
        return site.in_channels * rows + site.out_channels * columns

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        geometry = site.geometry
        assert geometry is not None
        weight = weight_matrix(layer)
        vertical = self._vertical(weight, site, calibration.covariance)[: self.rank(site, choice)]
        features = _column_features(vertical, geometry.kernel[1])
        horizontal = least_squares(weight, calibration.covariance, features)
        bias = corrected_bias(layer, horizontal @ features, calibration)
        first, second = _layers(geometry, site.in_channels, vertical.shape[0], site.out_channels)
        first.weight.copy_(vertical.view_as(first.weight))
        second.weight.copy_(horizontal.view_as(second.weight))
        assert second.bias is not None
        second.bias.copy_(bias)
        return nn.Sequential(first, second)

    def _vertical(self, weight: Tensor, site: Site, covariance: Tensor) -> Tensor:
        """All directions (channel, row), the most important first: shape (in_channels * kh, in_channels * kh)."""
        assert site.geometry is not None
        rows, columns = site.geometry.kernel
        lines = site.in_channels * rows
        by_column = covariance.view(lines, columns, lines, columns)
        marginal = torch.einsum("acbc->ab", by_column) / columns
        unfolded = weight.view(site.out_channels, lines, columns).transpose(1, 2).reshape(-1, lines)
        return whitened_basis(unfolded, marginal)


def _column_features(vertical: Tensor, columns: int) -> Tensor:
    """The map from patches to what the second convolution reads: shape (rank * columns, lines * columns)."""
    rank, lines = vertical.shape
    identity = torch.eye(columns, dtype=vertical.dtype)
    return torch.einsum("rl,cd->rcld", vertical, identity).reshape(rank * columns, lines * columns)


def _layers(geometry: ConvGeometry, inputs: int, rank: int, outputs: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The vertical convolution moves over rows, the horizontal one over columns."""
    axes = zip(geometry.kernel, geometry.stride, geometry.padding, geometry.dilation, strict=True)
    (kh, sh, ph, dh), (kw, sw, pw, dw) = axes
    vertical = ConvGeometry((kh, 1), (sh, 1), (ph, 0), (dh, 1)).layer(inputs, rank, bias=False)
    horizontal = ConvGeometry((1, kw), (1, sw), (0, pw), (1, dw)).layer(rank, outputs, bias=True)
    return vertical, horizontal

"""Tucker-2: a narrow convolution between two 1x1 convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import least_squares, output_basis, whitened_basis
from ..layers import ConvGeometry
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import above_one, at_least_one
from .ranks import aligned, distinct

__all__ = ["Tucker2", "channel_directions", "channel_features"]


class Tucker2(Technique):
    """W[o, i, :, :] ~ sum_pq U[o, p] G[p, q, :, :] V[q, i]: 1x1, kernel, 1x1.

    Kim et al. 2016 (arXiv 1511.06530). U are principal components of the outputs, V the best input directions under
    the covariance averaged over kernel positions; given both, G is the least-squares solution for the outputs.

    Args:
        speedups: By how many times fewer multiply-accumulates the layer should need, each above 1.
        rank_multiple: Ranks are rounded down to multiples of this.
    """

    name = "tucker2"

    def __init__(self, speedups: Sequence[float] = (2, 4), rank_multiple: int = 8) -> None:
        self._speedups = above_one("tucker2.speedups", *speedups)
        (self._rank_multiple,) = at_least_one("tucker2.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or max(site.geometry.kernel) < 2:
            return ()

        def saves(ranks: tuple[int, int]) -> bool:
            return _macs(site, *ranks) < site.macs and _weights(site, *ranks) < site.weights

        offered = (Choice.of(self.name, speedup=value) for value in self._speedups)
        return distinct(offered, lambda choice: self.ranks(site, choice), saves)

    def ranks(self, site: Site, choice: Choice) -> tuple[int, int]:
        """Channels after the first and after the second convolution: the same share of inputs and outputs."""
        budget = site.macs / float(choice["speedup"])
        shares = (step / 256 for step in range(255, 0, -1))
        candidates = ((self._aligned(site.in_channels, s), self._aligned(site.out_channels, s)) for s in shares)
        return next((ranks for ranks in candidates if _macs(site, *ranks) <= budget), (1, 1))

    def _aligned(self, channels: int, share: float) -> int:
        return aligned(channels * share, self._rank_multiple)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        geometry = site.geometry
        assert geometry is not None
        weight = weight_matrix(layer)
        inner, outer = self.ranks(site, choice)
        directions = channel_directions(weight, site, calibration.covariance)[:inner]
        features = channel_features(directions, weight.shape[1] // site.in_channels)
        basis = output_basis(weight, calibration.covariance)[:, :outer]
        core = least_squares(basis.T @ weight, calibration.covariance, features)
        bias = corrected_bias(layer, basis @ core @ features, calibration)
        reduce = ConvGeometry((1, 1)).layer(site.in_channels, inner, bias=False)
        middle = geometry.layer(inner, outer, bias=False)
        expand = ConvGeometry((1, 1)).layer(outer, site.out_channels, bias=True)
        for part, values in ((reduce, directions), (middle, core), (expand, basis)):
            part.weight.copy_(values.reshape(part.weight.shape))
        assert expand.bias is not None
        expand.bias.copy_(bias)
        return nn.Sequential(reduce, middle, expand)


def channel_directions(weight: Tensor, site: Site, covariance: Tensor) -> Tensor:
    """Directions of the input channels, the most important first: shape (in_channels, in_channels)."""
    channels = site.in_channels
    positions = weight.shape[1] // channels
    by_position = covariance.view(channels, positions, channels, positions)
    marginal = torch.einsum("apbp->ab", by_position) / positions
    unfolded = weight.view(-1, channels, positions).transpose(1, 2).reshape(-1, channels)
    return whitened_basis(unfolded, marginal)


def channel_features(directions: Tensor, positions: int) -> Tensor:
    """The map from patches to patches of the projected channels: (rank * positions, channels * positions)."""
    rank, channels = directions.shape
    identity = torch.eye(positions, dtype=directions.dtype)
    return torch.einsum("rc,pq->rpcq", directions, identity).reshape(rank * positions, channels * positions)


def _macs(site: Site, inner: int, outer: int) -> int:
    assert site.geometry is not None
    kernel = site.geometry.kernel[0] * site.geometry.kernel[1]
    before = site.input_shape[1] * site.input_shape[2]
    after = site.output_shape[1] * site.output_shape[2]
    return site.in_channels * inner * before + (inner * kernel + site.out_channels) * outer * after


def _weights(site: Site, inner: int, outer: int) -> int:
    assert site.geometry is not None
    kernel = site.geometry.kernel[0] * site.geometry.kernel[1]
    return site.in_channels * inner + (inner * kernel + site.out_channels) * outer

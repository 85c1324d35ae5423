"""CP: two 1x1 convolutions around two thin depthwise ones."""

from collections.abc import Sequence

import torch
from tensorly.decomposition import parafac
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import least_squares
from ..layers import ConvGeometry
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .ranges import above_one, at_least_one
from .ranks import aligned, distinct

__all__ = ["CanonicalPolyadic"]

_ITERATIONS = 60


class CanonicalPolyadic(Technique):
    """W[o, i, h, w] ~ sum_r O[o, r] I[r, i] H[r, h] V[r, w]: 1x1, (kh, 1) and (1, kw) channel by channel, 1x1.

    Lebedev et al. 2015 (arXiv 1412.6553). The factors are those of alternating least squares; then O is solved again
    for the layer's outputs on its own inputs.

    Args:
        speedups: By how many times fewer multiply-accumulates the layer should need, each above 1.
        rank_multiple: Ranks are rounded down to multiples of this.
    """

    name = "cp"

    def __init__(self, speedups: Sequence[float] = (3, 6), rank_multiple: int = 8) -> None:
        self._speedups = above_one("cp.speedups", *speedups)
        (self._rank_multiple,) = at_least_one("cp.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or min(site.geometry.kernel) < 2:
            return ()

        def saves(rank: int) -> bool:
            return rank * _macs_per_rank(site) < site.macs and rank * _weights_per_rank(site) < site.weights

        offered = (Choice.of(self.name, speedup=value) for value in self._speedups)
        return distinct(offered, lambda choice: self.rank(site, choice), saves)

    def rank(self, site: Site, choice: Choice) -> int:
        """Channels of the two convolutions between."""
        return aligned(site.macs / float(choice["speedup"]) / _macs_per_rank(site), self._rank_multiple)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        geometry = site.geometry
        assert geometry is not None
        weight = weight_matrix(layer)
        inputs, rows, columns = _factors(weight, site, self.rank(site, choice))
        features = torch.einsum("ir,hr,wr->rihw", inputs, rows, columns).flatten(1)
        outputs = least_squares(weight, calibration.covariance, features)
        bias = corrected_bias(layer, outputs @ features, calibration)
        layers = _layers(geometry, site, inputs.shape[1])
        factors = (inputs.T, rows.T, columns.T, outputs)
        for part, values in zip(layers, factors, strict=True):
            part.weight.copy_(values.reshape(part.weight.shape))
        assert layers[-1].bias is not None
        layers[-1].bias.copy_(bias)
        return nn.Sequential(*layers)


def _factors(weight: Tensor, site: Site, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of inputs, rows and columns, columns of unit length: shapes (sizes, rank)."""
    assert site.geometry is not None
    tensor = weight.view(site.out_channels, site.in_channels, *site.geometry.kernel).numpy()
    _, factors = parafac(
        tensor, rank, n_iter_max=_ITERATIONS, init="random", random_state=0, normalize_factors=True, tol=1e-7
    )
    inputs, rows, columns = (torch.from_numpy(factor) for factor in factors[1:])
    return inputs, rows, columns


def _layers(geometry: ConvGeometry, site: Site, rank: int) -> list[nn.Conv2d]:
    axes = zip(geometry.kernel, geometry.stride, geometry.padding, geometry.dilation, strict=True)
    (kh, sh, ph, dh), (kw, sw, pw, dw) = axes
    return [
        ConvGeometry((1, 1)).layer(site.in_channels, rank, bias=False),
        ConvGeometry((kh, 1), (sh, 1), (ph, 0), (dh, 1), rank).layer(rank, rank, bias=False),
        ConvGeometry((1, kw), (1, sw), (0, pw), (1, dw), rank).layer(rank, rank, bias=False),
        ConvGeometry((1, 1)).layer(rank, site.out_channels, bias=True),
    ]


def _macs_per_rank(site: Site) -> int:
    assert site.geometry is not None
    (rows, columns), (height, width) = site.geometry.kernel, site.output_shape[1:]
    before = site.input_shape[1] * site.input_shape[2]
    after = height * width
    return site.in_channels * before + rows * height * site.input_shape[2] + (columns + site.out_channels) * after


def _weights_per_rank(site: Site) -> int:
    assert site.geometry is not None
    return site.in_channels + sum(site.geometry.kernel) + site.out_channels

"""C1: kernels as sparse combinations of a few bases for each input channel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import compensation, least_squares, round_in_sequence
from ..layers import ConvGeometry, SparseCodec, StoredLayer
from ..site import Site
from ..technique import Technique, corrected_bias, weight_matrix
from .depthwise_separable import channel_kernels, stacked_depthwise
from .ranges import at_least_one, shares_or_all

__all__ = ["SparseKernels"]


class SparseKernels(Technique):
    """W[o, i, :, :] ~ sum_q S[o, (i, q)] B[(i, q), :, :] with S sparse: bases over each channel, then a sparse mixture.

    Liu et al. 2015, Sparse convolutional neural networks (CVPR, eqs. 2 to 4), which AdaDeep's C1 names, without their
    rotation of the channels. The bases are each channel's best under its own patches; S is the least-squares solution,
    of which the most salient entries stay and make up for the others. Engines execute S densely.

    Args:
        bases: Bases per input channel, each at least 1.
        kept: Share of the entries of S that stay, in (0, 1).
    """

    name = "sparse_kernels"

    def __init__(self, bases: Sequence[int] = (2, 4), kept: float = 0.5) -> None:
        self._bases = at_least_one("sparse_kernels.bases", *bases)
        (self._kept,) = shares_or_all("sparse_kernels.kept", kept)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or site.in_channels == 1:
            return ()
        positions = site.geometry.kernel[0] * site.geometry.kernel[1]
        saving = [q for q in self._bases if q < positions and self._macs_share(site, q, positions) < 1]
        return tuple(Choice.of(self.name, bases=bases) for bases in saving)

    @staticmethod
    def _macs_share(site: Site, bases: int, positions: int) -> float:
        return site.in_channels * bases * (positions + site.out_channels) / site.weights

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight, bases = weight_matrix(layer), int(choice["bases"])
        kernels = channel_kernels(weight, site.in_channels, calibration.covariance)[:, :bases]
        features: Tensor = torch.block_diag(*kernels)  # type: ignore[no-untyped-call]
        dense = least_squares(weight, calibration.covariance, features)
        covariance = features @ calibration.covariance @ features.T
        covariance.diagonal().add_(1e-9 * covariance.diagonal().mean())
        mixture, mask = _thinned(dense, covariance, max(1, round(dense.numel() * self._kept)))
        depthwise = stacked_depthwise(kernels, site)
        pointwise = ConvGeometry((1, 1)).layer(len(features), site.out_channels, bias=True)
        shape = pointwise.weight.shape
        codec = SparseCodec.store(mixture.view(shape).float(), mask.view(shape))
        bias = corrected_bias(layer, mixture @ features, calibration)
        return nn.Sequential(depthwise, StoredLayer.of(pointwise, {"weight": codec}, {"bias": bias}))


def _thinned(dense: Tensor, covariance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most salient entries, fitted, and where they are; both of the shape of `dense`."""
    salience = dense.abs() * covariance.diagonal().sqrt()
    mask = torch.zeros(dense.numel(), dtype=torch.bool)
    mask[salience.flatten().topk(count).indices] = True
    mask = mask.view_as(dense)
    factor = compensation(covariance)
    kept = mask.T.numpy()
    return round_in_sequence(dense, factor, lambda column, values: values * kept[column]), mask

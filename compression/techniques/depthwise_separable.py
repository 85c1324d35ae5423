"""C2: a depthwise and a pointwise convolution in the place of a full one."""

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
from .ranges import at_least_one

__all__ = ["DepthwiseSeparable", "channel_kernels", "stacked_depthwise"]


class DepthwiseSeparable(Technique):
    """W[o, i, :, :] ~ sum_m P[o, (i, m)] D[(i, m), :, :]: m kernels per input channel, then 1x1.

    Howard et al. 2017 (arXiv 1704.04861) with a depth multiplier. D are each channel's best m kernels under the
    covariance of its own patches; given D, P is the least-squares solution for the outputs.

    Args:
        multipliers: Kernels per input channel, each at least 1.
    """

    name = "depthwise_separable"

    def __init__(self, multipliers: Sequence[int] = (1, 2)) -> None:
        self._multipliers = at_least_one("depthwise_separable.multipliers", *multipliers)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or max(site.geometry.kernel) < 2 or site.in_channels == 1:
            return ()
        kernel = site.geometry.kernel[0] * site.geometry.kernel[1]
        saving = [m for m in self._multipliers if site.in_channels * m * (kernel + site.out_channels) < site.weights]
        return tuple(Choice.of(self.name, multiplier=multiplier) for multiplier in saving)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        weight = weight_matrix(layer)
        multiplier = int(choice["multiplier"])
        kernels = channel_kernels(weight, site.in_channels, calibration.covariance)[:, :multiplier]
        features: Tensor = torch.block_diag(*kernels)  # type: ignore[no-untyped-call]
        mixing = least_squares(weight, calibration.covariance, features)
        bias = corrected_bias(layer, mixing @ features, calibration)
        depthwise = stacked_depthwise(kernels, site)
        pointwise = ConvGeometry((1, 1)).layer(site.in_channels * multiplier, site.out_channels, bias=True)
        pointwise.weight.copy_(mixing.view_as(pointwise.weight))
        assert pointwise.bias is not None
        pointwise.bias.copy_(bias)
        return nn.Sequential(depthwise, pointwise)


def channel_kernels(weight: Tensor, channels: int, covariance: Tensor) -> Tensor:
    """Each channel's kernels, the most important first: shape (channels, positions, positions)."""
    positions = weight.shape[1] // channels
    blocks = covariance.view(channels, positions, channels, positions)
    own = torch.einsum("cpcq->cpq", blocks)
    return whitened_basis(weight.view(-1, channels, positions).transpose(0, 1), own)


@torch.no_grad()
def stacked_depthwise(kernels: Tensor, site: Site) -> nn.Conv2d:
    """The convolution that applies several kernels to each input channel of a site.

    Args:
        kernels: Shape (in_channels, kernels per channel, positions).
        site: Of an ungrouped convolution.
    """
    geometry = site.geometry
    assert geometry is not None
    apart = ConvGeometry(geometry.kernel, geometry.stride, geometry.padding, geometry.dilation, site.in_channels)
    layer = apart.layer(site.in_channels, kernels.shape[0] * kernels.shape[1], bias=False)
    layer.weight.copy_(kernels.reshape(layer.weight.shape))
    return layer

"""Depth skip: the branch of a residual block goes, the shortcut stays."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..layers import Constant
from ..site import Site
from ..technique import Technique

__all__ = ["DepthSkip"]


class DepthSkip(Technique):
    """y = f(x) + s(x) becomes E[f(x)] + s(x): of all constants the mean loses least, channel by channel.

    Huang et al. 2016 (arXiv 1603.09382) and Wu et al. 2018, BlockDrop (arXiv 1711.08393), drop whole blocks.
    """

    name = "depth_skip"

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        return (Choice.of(self.name),) if site.kind == "block" else ()

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert calibration.output_mean is not None
        constant = Constant(site.out_channels, len(site.output_shape) - 1)
        constant.value.copy_(calibration.output_mean)
        return constant

"""Channel pruning: output channels that nobody misses are taken away, and the layers after become narrower."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..site import Site
from ..technique import ChannelTechnique
from .ranks import aligned

__all__ = ["ChannelPruning"]


class ChannelPruning(ChannelTechnique):
    """Keep the channels that the consumers' outputs depend on most.

    The order comes from removing channels one group after the other, each time those whose loss the consumers can
    best make up for by their other inputs (optimal brain surgeon, Hassibi and Stork 1993, for groups of weights). The
    consumers are refitted for the channels left.

    Args:
        kept: Shares of channels to keep, each in (0, 1).
        channel_multiple: Channels are rounded down to multiples of this.
    """

    name = "channel_pruning"

    def __init__(self, kept: Sequence[float] = (0.75, 0.5, 0.25), channel_multiple: int = 8) -> None:
        self._kept = tuple(kept)
        self._channel_multiple = channel_multiple

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if not site.prunable:
            return ()
        choices: dict[int, Choice] = {}
        for share in self._kept:
            choice = Choice.of(self.name, kept=share)
            if self.kept_channels(site, choice) < site.out_channels:
                choices.setdefault(self.kept_channels(site, choice), choice)
        return tuple(choices.values())

    @override
    def kept_channels(self, site: Site, choice: Choice) -> int:
        return aligned(site.out_channels * float(choice["kept"]), self._channel_multiple)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert isinstance(layer, nn.Conv2d)
        assert site.geometry is not None
        assert calibration.channel_order is not None
        kept = calibration.channel_order[: self.kept_channels(site, choice)].sort().values
        narrow = site.geometry.layer(site.in_channels, len(kept), bias=layer.bias is not None)
        narrow.weight.copy_(layer.weight[kept])
        if layer.bias is not None:
            assert narrow.bias is not None
            narrow.bias.copy_(layer.bias[kept])
        return narrow

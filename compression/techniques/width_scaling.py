"""Width scaling: a residual stream loses channels as a whole, in every layer that writes, carries or reads them."""

from collections.abc import Sequence

from torch import nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..importance import STREAM_CRITERIA
from ..site import Site
from .keeping import KeepingTechnique

__all__ = ["WidthScaling"]


class WidthScaling(KeepingTechnique):
    """Keep a share of the channels that residual additions tie together.

    The width multiplier of Howard et al. 2017 (MobileNets, arXiv 1704.04861, sec. 3.3), per stage and for a network
    that is trained already: all convolutions that write into the stream lose the same filters, as in group pruning
    (Fang et al. 2023, DepGraph, arXiv 2301.12900), and all layers that read it make up for the inputs that are gone.

    Args:
        kept: Shares of channels to keep, each in (0, 1).
        channel_multiple: Channels are rounded down to multiples of this.
        criterion: "consumers": channels whose loss the layers that read the stream can best make up for go first,
            summed over these (optimal brain surgeon, Hassibi and Stork 1993, for groups of weights). "l1" (Li et al.
            2017, arXiv 1608.08710) and "geometric_median" (He et al. 2019, arXiv 1811.00250): by the filters of all
            convolutions that write into it.

    Raises:
        EspalierError: There is no such criterion, or a share is not between 0 and 1.
    """

    def __init__(
        self, kept: Sequence[float] = (0.75, 0.5), channel_multiple: int = 8, criterion: str = "consumers"
    ) -> None:
        super().__init__("width_scaling", kept, channel_multiple, criterion, STREAM_CRITERIA)

    @override
    def fits(self, site: Site) -> bool:
        return site.kind == "width"

    @override
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        """Nothing: a width has no layer of its own, the layers around it become narrower in the bank."""
        return nn.Sequential()

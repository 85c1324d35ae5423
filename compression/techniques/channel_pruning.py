"""Channel pruning: output channels that nobody misses are taken away, and the layers after become narrower."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import reduced_weight
from ..importance import CRITERIA
from ..layers import build_module, describe_module
from ..narrowing import with_output_channels
from ..site import Site
from .keeping import KeepingTechnique

__all__ = ["ChannelPruning"]


class ChannelPruning(KeepingTechnique):
    """Keep the channels that matter most by some criterion; the consumers are refitted for the channels left.

    Of a recurrent layer the channels are its hidden units; those left make up for the others in the recurrence.

    Args:
        kept: Shares of channels to keep, each in (0, 1).
        channel_multiple: Channels are rounded down to multiples of this.
        criterion: "consumers": groups whose loss the consumers can best make up for by their other inputs go first
            (optimal brain surgeon, Hassibi and Stork 1993, for groups of weights). "l1": filters of least absolute sum
            (Li et al. 2017, arXiv 1608.08710). "geometric_median": filters closest to the others (He et al. 2019,
            arXiv 1811.00250). "taylor": channels without which the loss changes least (Molchanov et al. 2019, arXiv
            1906.10771).

    Raises:
        EspalierError: There is no such criterion.
    """

    def __init__(
        self, kept: Sequence[float] = (0.75, 0.5, 0.25), channel_multiple: int = 8, criterion: str = "consumers"
    ) -> None:
        super().__init__("channel_pruning", kept, channel_multiple, criterion, CRITERIA)

    @override
    def fits(self, site: Site) -> bool:
        return site.prunable

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert calibration.channel_order is not None
        kept = calibration.channel_order[: self.kept_channels(site, choice)].sort().values
        if isinstance(layer, nn.GRU | nn.LSTM):
            return _with_fewer_units(layer, kept, calibration)
        assert isinstance(layer, nn.Conv2d)
        return with_output_channels(layer, kept)


def _with_fewer_units(layer: nn.GRU | nn.LSTM, kept: Tensor, calibration: Calibration) -> nn.Module:
    """A recurrent layer of one cell without some hidden units."""
    assert calibration.hidden_covariance is not None
    assert calibration.hidden_mean is not None
    narrow = build_module(describe_module(layer) | {"hidden_size": len(kept)})
    hidden = layer.hidden_size
    rows = torch.cat([kept + gate * hidden for gate in range(layer.get_parameter("weight_hh_l0").shape[0] // hidden)])
    state = {name: tensor[rows].clone() for name, tensor in layer.state_dict().items()}
    recurrent = state["weight_hh_l0"].double()
    reduced = reduced_weight(recurrent, calibration.hidden_covariance, kept)
    state["weight_hh_l0"] = reduced.float()
    if "bias_hh_l0" in state:
        mean = calibration.hidden_mean
        state["bias_hh_l0"] += (recurrent @ mean - reduced @ mean[kept]).float()
    narrow.load_state_dict(state)
    return narrow

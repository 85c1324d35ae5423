"""W1 for recurrent layers: the input's weights read a few directions of the features instead of all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..fitting import output_basis
from ..layers import build_module, describe_module
from ..site import Site
from ..technique import Technique
from .ranges import above_one, at_least_one
from .ranks import aligned, distinct

__all__ = ["RecurrentSvd"]


class RecurrentSvd(Technique):
    """W_ih ~ (U_r) (U_r^T W_ih): a linear layer to r features before the recurrence.

    Prabhavalkar et al. 2016 (arXiv 1603.08042) by plain SVD; here U_r are the first r principal components of W_ih x
    as in `TruncatedSvd`. The recurrent weights stay: what they multiply changes at every step.

    Args:
        speedups: By how many times fewer multiply-accumulates the input's product should need, each above 1.
        rank_multiple: Ranks are rounded down to multiples of this.
    """

    name = "recurrent_svd"

    def __init__(self, speedups: Sequence[float] = (2, 4), rank_multiple: int = 8) -> None:
        self._speedups = above_one("recurrent_svd.speedups", *speedups)
        (self._rank_multiple,) = at_least_one("recurrent_svd.rank_multiple", rank_multiple)

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.kind != "recurrent" or site.cells != 1:
            return ()

        def saves(rank: int) -> bool:
            return rank * (site.in_channels + self._rows(site)) < site.in_channels * self._rows(site)

        offered = (Choice.of(self.name, speedup=value) for value in self._speedups)
        return distinct(offered, lambda choice: self.rank(site, choice), saves)

    @staticmethod
    def _rows(site: Site) -> int:
        """Rows of W_ih: gates times hidden units."""
        return site.weights // (site.in_channels + site.out_channels)

    def rank(self, site: Site, choice: Choice) -> int:
        """Features between the two products."""
        rows = self._rows(site)
        budget = site.in_channels * rows / float(choice["speedup"]) / (site.in_channels + rows)
        return aligned(budget, self._rank_multiple)

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        assert isinstance(layer, nn.GRU | nn.LSTM)
        weight = layer.get_parameter("weight_ih_l0").double()
        basis = output_basis(weight, calibration.covariance)[:, : self.rank(site, choice)]
        inner = basis.T @ weight
        first = nn.Linear(site.in_channels, len(inner), bias=False)
        first.weight.copy_(inner)
        second = build_module(describe_module(layer) | {"input_size": len(inner)})
        second.load_state_dict(self._state(layer, weight, basis, inner, calibration))
        return nn.Sequential(first, second)

    @staticmethod
    def _state(
        layer: nn.Module, weight: Tensor, basis: Tensor, inner: Tensor, calibration: Calibration
    ) -> dict[str, Tensor]:
        state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
        state["weight_ih_l0"] = basis.float()
        if "bias_ih_l0" in state:
            state["bias_ih_l0"] += ((weight - basis @ inner) @ calibration.mean).float()
        return state

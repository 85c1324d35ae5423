"""C3: a convolution whose outputs each read a random part of the input channels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from ..choice import Choice
from ..layers import Codec, SparseCodec
from ..site import Site
from .magnitude_pruning import pruned, salience
from .ranges import checked, shares
from .storing import StoringTechnique, Weight

__all__ = ["SparseRandom"]


class SparseRandom(StoringTechnique):
    """Random connections between channels, the weakest of them exchanged for the strongest missing ones.

    Changpinyo et al. 2017 (arXiv 1702.06257) for the random connections; AdaDeep lets some grow again in training, as
    does Mocanu et al. 2018 (arXiv 1707.04780): here the exchange is made once, by salience. The connections that stay
    make up for those that go.

    Args:
        kept: Shares of connections to keep, each in (0, 1).
        regrown: Share of the kept connections that are exchanged, in [0, 1].
        seed: Of the random connections.
    """

    name = "sparse_random"

    def __init__(self, kept: Sequence[float] = (0.75, 0.5), regrown: float = 0.3, seed: int = 0) -> None:
        self._kept = shares("sparse_random.kept", *kept)
        (self._regrown,) = checked(
            "sparse_random.regrown", (regrown,), "at least 0 and below 1", lambda share: 0 <= share < 1
        )
        self._seed = seed

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        if site.geometry is None or site.groups != 1 or site.in_channels == 1:
            return ()
        return tuple(Choice.of(self.name, kept=share) for share in self._kept)

    @override
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        outputs, positions = weight.shape[0], weight.shape[2:].numel()
        connections = salience(weight).square().view(outputs, -1, positions).sum(2)
        chosen = self._connections(connections, float(choice["kept"]))
        mask = chosen.repeat_interleave(positions, 1)
        matrix = pruned(weight, mask)
        codec = SparseCodec.store(matrix.view(weight.shape).float(), mask.view(weight.shape), positions)
        return codec, matrix

    def _connections(self, energies: Tensor, share: float) -> Tensor:
        """Which connections stay: bool, of the shape (outputs, inputs) of `energies`."""
        count = max(1, round(energies.numel() * share))
        order = torch.from_numpy(np.random.default_rng(self._seed).permutation(energies.numel()))
        kept, missing = order[:count], order[count:]
        flat = energies.flatten()
        exchanged = min(round(count * self._regrown), len(missing))
        weakest = kept[flat[kept].argsort()[:exchanged]]
        strongest = missing[flat[missing].argsort(descending=True)[:exchanged]]
        chosen = torch.zeros(energies.numel(), dtype=torch.bool)
        chosen[kept] = True
        # An exchange must gain: the weakest that is kept against the strongest that is missing, and so on inwards.
        gains = flat[strongest] > flat[weakest]
        chosen[weakest[gains]] = False
        chosen[strongest[gains]] = True
        return chosen.view_as(energies)

"""What techniques have in common that store a layer's own weights small and leave its arithmetic as it is."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import EspalierError
from ..calibration import Calibration
from ..choice import Choice
from ..fitting import compensation
from ..layers import Codec, SparseCodec, StoredLayer
from ..site import Site
from ..technique import Technique

__all__ = ["LAYER_KINDS", "StoringTechnique", "Weight"]

#: Kinds of sites that are one layer.
LAYER_KINDS = ("conv2d", "linear", "recurrent")

FLOAT_BITS = 32


@dataclass(frozen=True)
class Weight:
    """One weight tensor of a layer, and the inputs that it is multiplied with.

    Attributes:
        name: Of the parameter.
        bias: Name of the bias that is added to its product; "" where there is none.
        shape: Of the parameter.
        matrix: The parameter as float64 (outputs, K).
        covariance: Of its inputs, float64, (K, K).
        mean: Of its inputs, float64, (K,).
        factor: See `fitting.compensation`; float64, (K, K).
        gates: Of a recurrent layer, whose matrices lie below each other; 1 for others.
        sparse: Which elements an earlier technique kept; None where none was pruned.
    """

    name: str
    bias: str
    shape: torch.Size
    matrix: Tensor
    covariance: Tensor
    mean: Tensor
    factor: Tensor
    gates: int = 1
    sparse: SparseCodec | None = None

    @property
    def deviations(self) -> Tensor:
        """Standard deviation of each input, shape (K,)."""
        return self.covariance.diagonal().sqrt()

    @property
    def mask(self) -> Tensor | None:
        """Which elements of the matrix are left; None where all are."""
        return None if self.sparse is None else self.sparse.mask().view_as(self.matrix)


class StoringTechnique(Technique):
    """Stores every weight tensor of a layer by a codec; the biases make up for the mean of what is lost.

    An engine without kernels for it executes the layer it decodes to: storage is saved and no time.

    Args:
        kinds: Of the layers it is offered at: "conv2d", "linear", "recurrent".

    Raises:
        EspalierError: There is no such kind.
    """

    def __init__(self, kinds: Sequence[str] = LAYER_KINDS) -> None:
        if unknown := [kind for kind in kinds if kind not in LAYER_KINDS]:
            raise EspalierError(f"{self.name}.kinds must be some of {', '.join(LAYER_KINDS)}, got {unknown[0]!r}")
        self._kinds = tuple(kinds)

    def fits(self, site: Site) -> bool:
        """Whether the site is a layer of a wanted kind."""
        return site.kind in self._kinds

    @abstractmethod
    def encode(self, weight: Weight, choice: Choice) -> tuple[Codec, Tensor]:
        """Store one tensor.

        Args:
            weight: The tensor.
            choice: One of `choices`.

        Returns:
            The codec, and the matrix that it stands for, float64 (outputs, K).
        """

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        dense = layer.dense() if isinstance(layer, StoredLayer) else layer
        codecs: dict[str, Codec] = {}
        plain: dict[str, Tensor] = {}
        for weight in _weights(layer, dense, calibration):
            codecs[weight.name], effective = self.encode(weight, choice)
            bias = getattr(dense, weight.bias, None)
            if site.kind != "recurrent" or bias is not None:
                start = bias if isinstance(bias, Tensor) else torch.zeros(())
                plain[weight.bias] = (start + (weight.matrix - effective) @ weight.mean).float()
        return StoredLayer.of(dense, codecs, plain)


def _weights(layer: nn.Module, dense: nn.Module, calibration: Calibration) -> Iterator[Weight]:
    stored = dict(layer.codecs.items()) if isinstance(layer, StoredLayer) else {}
    for name, parameter in dense.named_parameters():
        if not name.startswith("weight"):
            continue
        matrix = parameter.detach().flatten(1).double()
        codec = stored.get(name)
        sparse = codec if isinstance(codec, SparseCodec) else None
        inputs = _inputs(name, matrix.shape[1], calibration)
        gates = len(matrix) // dense.hidden_size if isinstance(dense, nn.RNNBase) else 1
        yield Weight(name, name.replace("weight", "bias"), parameter.shape, matrix, *inputs, gates, sparse)


def _inputs(name: str, size: int, calibration: Calibration) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance, mean and compensation of what a tensor is multiplied with; white noise where none was measured."""
    if name in ("weight", "weight_ih_l0", "weight_ih_l0_reverse") and calibration.mean.numel() == size:
        return calibration.covariance, calibration.mean, calibration.compensation
    hidden, mean = calibration.hidden_covariance, calibration.hidden_mean
    if name == "weight_hh_l0" and hidden is not None and mean is not None:
        return hidden, mean, compensation(hidden)
    white = torch.eye(size, dtype=torch.float64)
    return white, torch.zeros(size, dtype=torch.float64), white

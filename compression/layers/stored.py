"""Linear layers that are stored small and computed dense: a shared codebook, a sparse matrix.

An engine without kernels for them runs them as the dense layer they decode to, so they save storage and no time.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ...graph.opspec import OpSpec, Shape
from .bits import pack_bits, packed_length, unpack_bits
from .layer import CompressedLayer, register_layer

__all__ = ["SharedLinear", "SparseLinear"]


class _StoredLinear(CompressedLayer):
    """Decodes its weight once and again whenever the stored values change."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.bias = nn.Parameter(torch.zeros(out_features))
        self._decoded: tuple[Tensor, object, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy has values of its own, whose version counter starts anew.
        return {**self.__dict__, "_decoded": None}

    @property
    @abstractmethod
    def stored_values(self) -> nn.Parameter:
        """The float values that are stored and can be trained."""

    @abstractmethod
    def decode(self) -> Tensor:
        """The dense weight, shape (out_features, in_features)."""

    @property
    def weight(self) -> Tensor:
        """The dense weight, shape (out_features, in_features)."""
        if torch.is_grad_enabled() and self.stored_values.requires_grad:
            return self.decode()
        values = self.stored_values
        # Conversions and assignments put other values in place without counting up the version.
        state = (values._version, values.dtype, values.device)
        if self._decoded is None or self._decoded[0] is not values or self._decoded[1] != state:
            self._decoded = (values, state, self.decode().detach())
        return self._decoded[2]

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape (..., in_features) to (..., out_features)."""
        return functional.linear(inputs, self.weight, self.bias)

    @torch.no_grad()
    def dense(self) -> nn.Linear:
        """The linear layer that engines execute."""
        layer = nn.Linear(self.in_features, self.out_features)
        layer.weight.copy_(self.weight)
        layer.bias.copy_(self.bias)
        return layer.requires_grad_(False)

    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        return (OpSpec("linear", input_shape, (*input_shape[:-1], self.out_features), bias=True),)


@register_layer
class SharedLinear(_StoredLinear):
    """Weights that share few values: indices of a few bits into a codebook (Han et al. 2016, Deep Compression, sec. 3).

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        bits: Bits of an index, 1 to 8; the codebook has 2^bits values.
    """

    absorbs = False
    packed: Tensor

    def __init__(self, in_features: int, out_features: int, bits: int) -> None:
        super().__init__(in_features, out_features)
        self.bits = bits
        self.codebook = nn.Parameter(torch.zeros(2**bits))
        length = packed_length(in_features * out_features, bits)
        self.register_buffer("packed", torch.zeros(length, dtype=torch.uint8))

    @torch.no_grad()
    def store(self, indices: Tensor, codebook: Tensor, bias: Tensor) -> None:
        """Keep `indices` (out_features, in_features) into `codebook` (2^bits,), and `bias` (out_features,)."""
        self.packed.copy_(pack_bits(indices, self.bits))
        self.codebook.copy_(codebook)
        self.bias.copy_(bias)

    @property
    @override
    def stored_values(self) -> nn.Parameter:
        return self.codebook

    @override
    def decode(self) -> Tensor:
        indices = unpack_bits(self.packed, self.bits, self.in_features * self.out_features)
        return self.codebook[indices].view(self.out_features, self.in_features)

    @property
    @override
    def n_parameters(self) -> int:
        return self.in_features * self.out_features + self.out_features

    @override
    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "bits": self.bits}

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        raise TypeError("one codebook serves all outputs: there is no scale per output")


@register_layer
class SparseLinear(_StoredLinear):
    """A matrix stored as one bit per weight (kept or not) and the kept values in row order.

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        kept: How many weights are kept.
    """

    mask: Tensor

    def __init__(self, in_features: int, out_features: int, kept: int) -> None:
        super().__init__(in_features, out_features)
        self.values = nn.Parameter(torch.zeros(kept))
        length = packed_length(in_features * out_features, 1)
        self.register_buffer("mask", torch.zeros(length, dtype=torch.uint8))

    @torch.no_grad()
    def store(self, weight: Tensor, mask: Tensor, bias: Tensor) -> None:
        """Keep the values of `weight` where `mask` is true (both (out_features, in_features)), and `bias`."""
        self.mask.copy_(pack_bits(mask, 1))
        self.values.copy_(weight[mask])
        self.bias.copy_(bias)

    @property
    @override
    def stored_values(self) -> nn.Parameter:
        return self.values

    def _positions(self) -> Tensor:
        return unpack_bits(self.mask, 1, self.in_features * self.out_features).nonzero().squeeze(1)

    @override
    def decode(self) -> Tensor:
        flat = self.values.new_zeros(self.in_features * self.out_features)
        return flat.index_put((self._positions(),), self.values).view(self.out_features, self.in_features)

    @override
    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "kept": self.values.numel()}

    @torch.no_grad()
    @override
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        rows = self._positions() // self.in_features
        self.values.mul_(scale[rows])
        self.bias.mul_(scale).add_(shift)

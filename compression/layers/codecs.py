"""How the elements of one weight tensor are stored: few of them, few bits each, or few different ones.

A codec's `state_dict()` is what a file holds. Rows are the first axis of the tensor: a layer's outputs.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import override

from ...errors import FormatError
from .symbols import decode_symbols, encode_symbols

__all__ = ["Codec", "SharedCodec", "SparseCodec", "SparseSharedCodec", "UniformCodec"]

#: Weights whose mask is one symbol where zeros have no structure of their own.
_UNSTRUCTURED = 8


class Codec(nn.Module):
    """Stores one tensor.

    Args:
        shape: Of the tensor.
    """

    #: Classes by name; nothing else is ever instantiated from a file.
    known: ClassVar[dict[str, type["Codec"]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Codec.known[cls.__name__] = cls

    def __init__(self, shape: list[int] | tuple[int, ...]) -> None:
        super().__init__()
        self.shape = torch.Size(shape)

    @property
    def row_length(self) -> int:
        """Elements of a row."""
        return self.shape.numel() // self.shape[0]

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON."""
        return {"shape": list(self.shape)}

    def describe(self) -> dict[str, Any]:
        """Class and arguments, ready for JSON."""
        return {"codec": type(self).__name__, **self.config()}

    @classmethod
    def build(cls, description: Any) -> "Codec":
        """A codec of that structure with its state still to be loaded.

        Raises:
            FormatError: There is no such codec.
        """
        if not isinstance(description, dict) or description.get("codec") not in cls.known:
            raise FormatError(f"unknown way to store a weight: {description!r}; known: {', '.join(cls.known)}")
        arguments = {name: value for name, value in description.items() if name != "codec"}
        return cls.known[description["codec"]](**arguments)

    @abstractmethod
    def decode(self) -> Tensor:
        """The tensor; differentiable in the codec's parameters."""

    @abstractmethod
    def scale_rows(self, scale: Tensor) -> None:
        """Multiply each row by an element of `scale`."""

    def start_training(self) -> None:
        """Make everything trainable that can be; before the optimiser is made."""

    def end_training(self) -> None:
        """Store what was learnt."""

    @property
    def n_parameters(self) -> int:
        """Elements that are stored, without those that were pruned."""
        return self.shape.numel()

    def _hold(self, name: str, length: int) -> None:
        self.register_buffer(name, torch.zeros(length, dtype=torch.uint8))


class UniformCodec(Codec):
    """Whole numbers of few bits with one symmetric scale a row, entropy-coded.

    In training the weights are real numbers, rounded when they are used; gradients pass the rounding as they are
    (Bengio et al. 2013, arXiv 1308.3432), and the steps learn with them (Esser et al. 2020, arXiv 1902.08153, eq. 3).

    Args:
        shape: Of the tensor.
        bits: 2 to 8; the numbers are -limit to limit with limit 2^(bits-1) - 1.
        coded_bytes: Length of the coded numbers.
    """

    coded: Tensor
    latent: nn.Parameter | None

    def __init__(self, shape: list[int] | tuple[int, ...], bits: int, coded_bytes: int) -> None:
        super().__init__(shape)
        self.bits = bits
        self._hold("coded", coded_bytes)
        self.scale = nn.Parameter(torch.ones(self.shape[0]))
        self.register_parameter("latent", None)

    @classmethod
    def store(cls, codes: Tensor, scale: Tensor, bits: int) -> "UniformCodec":
        """Keep whole numbers.

        Args:
            codes: int64, -limit to limit.
            scale: Of each row, shape (rows,).
            bits: 2 to 8.
        """
        coded = encode_symbols(codes + cls.limit_of(bits), bits)
        codec = cls(tuple(codes.shape), bits, len(coded))
        codec.coded.copy_(coded)
        codec.scale.data.copy_(scale)
        return codec

    @staticmethod
    def limit_of(bits: int) -> int:
        """The largest number of a symmetric grid of `bits` bits."""
        return int(2 ** (bits - 1) - 1)

    @override
    def config(self) -> dict[str, Any]:
        return {**super().config(), "bits": self.bits, "coded_bytes": len(self.coded)}

    @override
    def decode(self) -> Tensor:
        if self.latent is None:
            codes = decode_symbols(self.coded, self.bits, self.shape.numel()) - self.limit_of(self.bits)
        else:
            real = self._steps(self.latent)
            codes = real + (real.round() - real).detach()
        return (codes.view(self.shape[0], -1) * self.scale[:, None]).view(self.shape)

    def _steps(self, latent: Tensor) -> Tensor:
        """Weights in steps of their rows, cut off at the grid's ends; shape (rows, row length)."""
        limit = self.limit_of(self.bits)
        return (latent.view(self.shape[0], -1) / self.scale[:, None]).clamp(-limit, limit)

    @override
    def start_training(self) -> None:
        self.latent = nn.Parameter(self.decode().detach())

    @torch.no_grad()
    @override
    def end_training(self) -> None:
        if self.latent is not None:
            codes = self._steps(self.latent).round().long()
            self.coded = encode_symbols(codes.view(self.shape) + self.limit_of(self.bits), self.bits)
            self.latent = None

    @override
    @torch.no_grad()
    def scale_rows(self, scale: Tensor) -> None:
        self.scale.mul_(scale)


class SharedCodec(Codec):
    """Indices into a codebook, entropy-coded, and one scale a row (Han et al. 2016, Deep Compression, secs. 3 and 4).

    Args:
        shape: Of the tensor.
        bits: Of an index, 1 to 8; the codebook has 2^bits values.
        coded_bytes: Length of the coded indices.
    """

    coded: Tensor

    def __init__(self, shape: list[int] | tuple[int, ...], bits: int, coded_bytes: int) -> None:
        super().__init__(shape)
        self.bits = bits
        self._hold("coded", coded_bytes)
        self.codebook = nn.Parameter(torch.zeros(2**bits))
        self.scale = nn.Parameter(torch.ones(self.shape[0]))

    @classmethod
    def store(cls, indices: Tensor, codebook: Tensor, scale: Tensor) -> "SharedCodec":
        """Keep indices (any shape) into `codebook` (2^bits,) and a scale a row (rows,)."""
        bits = (len(codebook) - 1).bit_length()
        coded = encode_symbols(indices, bits)
        codec = cls(tuple(indices.shape), bits, len(coded))
        codec.coded.copy_(coded)
        codec.codebook.data.copy_(codebook)
        codec.scale.data.copy_(scale)
        return codec

    @override
    def config(self) -> dict[str, Any]:
        return {**super().config(), "bits": self.bits, "coded_bytes": len(self.coded)}

    @override
    def decode(self) -> Tensor:
        indices = decode_symbols(self.coded, self.bits, self.shape.numel())
        return (_chosen(self.codebook, indices).view(self.shape[0], -1) * self.scale[:, None]).view(self.shape)

    @override
    @torch.no_grad()
    def scale_rows(self, scale: Tensor) -> None:
        self.scale.mul_(scale)


class SparseCodec(Codec):
    """Which weights are kept, and their values.

    The elements are divided into groups of equal length; each group's mask is one symbol, entropy-coded: eight weights
    a group where the zeros have no structure, else what the structure repeats (a kernel, M weights of N:M). Where a
    mask does not fit into a symbol the distinct masks are kept in a table.

    Args:
        shape: Of the tensor.
        group: Elements of a group.
        kept: How many elements are kept.
        masks: How many distinct masks the table has; 0 where the symbol is the mask.
        coded_bytes: Length of the coded symbols.
    """

    coded: Tensor
    table: Tensor

    def __init__(self, shape: list[int] | tuple[int, ...], group: int, kept: int, masks: int, coded_bytes: int) -> None:
        super().__init__(shape)
        self.group = group
        self.masks = masks
        self._kept = kept
        self._hold("coded", coded_bytes)
        self._hold("table", masks * ((group + 7) // 8))
        self._hold_values(kept)

    def _hold_values(self, kept: int) -> None:
        self.values = nn.Parameter(torch.zeros(kept))

    @classmethod
    def store(cls, weight: Tensor, mask: Tensor, group: int = _UNSTRUCTURED) -> "SparseCodec":
        """Keep the values of `weight` where `mask` is true.

        Args:
            weight: Any shape.
            mask: Of the same shape.
            group: Elements that share a symbol.

        Raises:
            ValueError: The groups have more than 256 distinct masks.
        """
        codec: SparseCodec = cls._of_mask(mask, group)
        codec.values.data.copy_(weight[mask])
        return codec

    @classmethod
    def _of_mask(cls, mask: Tensor, group: int) -> Any:
        table, symbols, bits = _mask_symbols(mask, group)
        coded = encode_symbols(symbols, bits)
        codec = cls(tuple(mask.shape), group, int(mask.sum()), len(table), len(coded))
        codec.coded.copy_(coded)
        codec.table.copy_(table.flatten())
        return codec

    @override
    def config(self) -> dict[str, Any]:
        own = {"group": self.group, "kept": self._kept, "masks": self.masks, "coded_bytes": len(self.coded)}
        return {**super().config(), **own}

    @property
    @override
    def n_parameters(self) -> int:
        return self._kept

    def mask(self) -> Tensor:
        """Which elements are kept: bool, of the tensor's shape.

        Raises:
            FormatError: The stored masks keep another number.
        """
        groups = -(-self.shape.numel() // self.group)
        symbols = decode_symbols(self.coded, _symbol_bits(self.masks, self.group), groups)
        if self.masks and groups and int(symbols.max()) >= self.masks:
            raise FormatError(f"the stored weights are damaged: a mask is not among the {self.masks} of the table")
        rows = self.table.view(self.masks, -1)[symbols] if self.masks else symbols[:, None]
        bits = (rows[:, :, None] >> torch.arange(8) & 1).flatten(1)[:, : self.group]
        mask = bits.flatten()[: self.shape.numel()].bool().view(self.shape)
        if int(mask.sum()) != self._kept:
            raise FormatError(f"the stored weights are damaged: expected {self._kept} kept, got {int(mask.sum())}")
        return mask

    @override
    def decode(self) -> Tensor:
        positions = self.mask().flatten().nonzero().squeeze(1)
        kept = self._kept_values(positions // self.row_length)
        flat = kept.new_zeros(self.shape.numel())
        return flat.index_put((positions,), kept).view(self.shape)

    def _kept_values(self, rows: Tensor) -> Tensor:  # noqa: ARG002  # a codec with a scale a row needs them
        """The kept elements in order.

        Args:
            rows: The row of each.
        """
        return self.values

    @override
    @torch.no_grad()
    def scale_rows(self, scale: Tensor) -> None:
        positions = self.mask().flatten().nonzero().squeeze(1)
        self.values.mul_(scale[positions // self.row_length])


class SparseSharedCodec(SparseCodec):
    """Pruned, and the kept weights share a codebook: all three stages of Deep Compression.

    Args:
        shape: Of the tensor.
        group: Elements of a group.
        kept: How many elements are kept.
        masks: How many distinct masks the table has.
        coded_bytes: Length of the coded masks.
        bits: Of an index.
        index_bytes: Length of the coded indices.
    """

    indices: Tensor

    def __init__(
        self,
        shape: list[int] | tuple[int, ...],
        group: int,
        kept: int,
        masks: int,
        coded_bytes: int,
        bits: int = 1,
        index_bytes: int = 0,
    ) -> None:
        super().__init__(shape, group, kept, masks, coded_bytes)
        self.bits = bits
        self._hold("indices", index_bytes)
        self.codebook = nn.Parameter(torch.zeros(2**bits))
        self.scale = nn.Parameter(torch.ones(self.shape[0]))

    @override
    def _hold_values(self, kept: int) -> None:
        """The values are in the codebook."""

    @classmethod
    def store_shared(cls, sparse: SparseCodec, indices: Tensor, codebook: Tensor, scale: Tensor) -> "SparseSharedCodec":
        """Keep the mask of `sparse`, and for each kept weight, in order, an index into `codebook`.

        Args:
            sparse: Whose mask is taken.
            indices: int64, shape (kept,).
            codebook: Shape (2^bits,).
            scale: Of each row.
        """
        bits = (len(codebook) - 1).bit_length()
        coded = encode_symbols(indices, bits)
        codec = cls(**sparse.config(), bits=bits, index_bytes=len(coded))
        codec.coded.copy_(sparse.coded)
        codec.table.copy_(sparse.table)
        codec.indices.copy_(coded)
        codec.codebook.data.copy_(codebook)
        codec.scale.data.copy_(scale)
        return codec

    @override
    def config(self) -> dict[str, Any]:
        return {**super().config(), "bits": self.bits, "index_bytes": len(self.indices)}

    @override
    def _kept_values(self, rows: Tensor) -> Tensor:
        indices = decode_symbols(self.indices, self.bits, len(rows))
        return _chosen(self.codebook, indices) * _chosen(self.scale, rows)

    @override
    @torch.no_grad()
    def scale_rows(self, scale: Tensor) -> None:
        self.scale.mul_(scale)


def _chosen(values: Tensor, indices: Tensor) -> Tensor:
    """`values[indices]`, shape of `indices`, whose gradient several threads add up in the same order every time."""
    return values.index_select(0, indices.reshape(-1)).view(indices.shape)


def _symbol_bits(masks: int, group: int) -> int:
    return max(1, (masks - 1).bit_length()) if masks else group


def _mask_symbols(mask: Tensor, group: int) -> tuple[Tensor, Tensor, int]:
    """The table of distinct masks (masks, bytes), each group's symbol, and the bits of a symbol."""
    flat = torch.nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % group)).view(-1, group)
    in_bytes = torch.nn.functional.pad(flat, (0, -group % 8)).view(len(flat), -1, 8)
    rows = (in_bytes.long() << torch.arange(8)).sum(2)
    if group == _UNSTRUCTURED:
        return torch.zeros(0, 1, dtype=torch.uint8), rows.squeeze(1), _symbol_bits(0, group)
    table, symbols = torch.unique(rows, dim=0, return_inverse=True)
    if len(table) > 256:  # a symbol is a byte
        raise ValueError(f"groups of {group} weights have {len(table)} distinct masks, at most 256 can be stored")
    return table.to(torch.uint8), symbols, _symbol_bits(len(table), group)

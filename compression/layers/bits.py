"""Whole numbers of a few bits each, packed without gaps."""

import torch
from torch import Tensor

__all__ = ["pack_bits", "packed_length", "unpack_bits"]


def packed_length(count: int, bits: int) -> int:
    """Bytes that `count` numbers of `bits` bits take."""
    return (count * bits + 7) // 8


def pack_bits(numbers: Tensor, bits: int) -> Tensor:
    """Pack numbers into bytes, the first number in the highest bits.

    Args:
        numbers: Any shape, whole numbers in [0, 2^bits).
        bits: 1 to 8.

    Returns:
        uint8, shape (packed_length(count, bits),).
    """
    shifts = torch.arange(bits - 1, -1, -1)
    stream = (numbers.reshape(-1, 1).to(torch.uint8) >> shifts & 1).flatten()
    stream = torch.nn.functional.pad(stream, (0, -stream.numel() % 8)).view(-1, 8)
    return (stream << torch.arange(7, -1, -1)).sum(1).to(torch.uint8)


def unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo `pack_bits`.

    Args:
        packed: uint8 bytes.
        bits: 1 to 8.
        count: How many numbers there are.

    Returns:
        int64, shape (count,).
    """
    stream = (packed.view(-1, 1) >> torch.arange(7, -1, -1) & 1).flatten()[: count * bits]
    weights = 1 << torch.arange(bits - 1, -1, -1)
    return (stream.view(count, bits).long() * weights).sum(1)

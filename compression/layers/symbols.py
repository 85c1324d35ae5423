"""Small whole numbers as few bytes: packed at a fixed width, or entropy-coded where that is shorter."""

import zlib

import torch
from torch import Tensor

from ...errors import FormatError

__all__ = ["decode_symbols", "encode_symbols", "pack_bits", "packed_length", "unpack_bits"]

_PACKED, _CODED = 0, 1


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


def encode_symbols(symbols: Tensor, bits: int) -> Tensor:
    """Write symbols in the shorter of two forms: packed, or in Huffman's code (Han et al. 2016, sec. 4).

    The Huffman code is that of DEFLATE (RFC 1951) without its repetitions.

    Args:
        symbols: Any shape, whole numbers in [0, 2^bits).
        bits: 1 to 8.

    Returns:
        uint8: one byte that says which form it is, and the form.
    """
    packed = bytes(pack_bits(symbols, bits).numpy())
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    coded = coder.compress(symbols.to(torch.uint8).contiguous().numpy().tobytes()) + coder.flush()
    form = bytes([_CODED]) + coded if len(coded) < len(packed) else bytes([_PACKED]) + packed
    return torch.frombuffer(bytearray(form), dtype=torch.uint8)


def decode_symbols(data: Tensor, bits: int, count: int) -> Tensor:
    """Undo `encode_symbols`.

    Args:
        data: What it returned.
        bits: 1 to 8.
        count: How many symbols there are.

    Returns:
        int64, shape (count,).

    Raises:
        FormatError: The data do not hold that many symbols of that width.
    """
    form, rest = int(data[0]) if len(data) else -1, data[1:]
    if form == _PACKED and len(rest) == packed_length(count, bits):
        return unpack_bits(rest, bits, count)
    symbols = _inflate(bytes(rest.numpy()), count) if form == _CODED else b""
    decoded = torch.frombuffer(bytearray(symbols), dtype=torch.uint8).long() if symbols else torch.zeros(0).long()
    if len(decoded) != count or (count and int(decoded.max()) >= 2**bits):
        raise FormatError(f"the stored weights are damaged: expected {count} symbols of {bits} bits")
    return decoded


def _inflate(data: bytes, count: int) -> bytes:
    """At most one byte more than `count`, so that a forged file cannot fill the memory."""
    try:
        return zlib.decompressobj(-15).decompress(data, count + 1)
    except zlib.error:
        return b""

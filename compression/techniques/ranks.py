"""Ranks and widths that suit the vector units of processors."""

__all__ = ["aligned"]


def aligned(size: float, multiple: int) -> int:
    """The largest multiple of `multiple` that is no more than `size`; below the first, the whole part; at least 1."""
    whole = max(1, int(size))
    return whole if whole < multiple else whole // multiple * multiple

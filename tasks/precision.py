"""In which numbers networks compute."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

__all__ = ["Precision", "computing_in"]

Precision = Literal["float32", "bfloat16"]


def computing_in(precision: Precision) -> AbstractContextManager[None]:
    """Convolutions and products of this thread are computed so; what is sensitive to rounding stays float32."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")

"""Networks with compressed layers while they are trained."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .codecs import Codec

__all__ = ["trainable"]


@contextmanager
def trainable(network: nn.Module) -> Iterator[None]:
    """Let all that a network's layers can learn be trained; afterwards it is stored as before, and fixed.

    Args:
        network: Changed in place.
    """
    codecs = [module for module in network.modules() if isinstance(module, Codec)]
    for codec in codecs:
        codec.start_training()
    network.requires_grad_(True)
    try:
        yield
    finally:
        for codec in codecs:
            codec.end_training()
        network.requires_grad_(False)

"""Memory layout of weights and inputs."""

import torch
from torch import Tensor, nn

__all__ = ["channels_last", "laid_out"]

_IMAGE_AXES = 4


def channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights out channels last, which convolutions on processors read about a fifth faster; in place."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]  # not in the stubs


def laid_out(inputs: Tensor) -> Tensor:
    """Inputs as `channels_last` networks read them fastest: images channels last, all else contiguous."""
    is_image = inputs.ndim == _IMAGE_AXES
    return inputs.contiguous(memory_format=torch.channels_last if is_image else torch.contiguous_format)

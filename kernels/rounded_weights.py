"""PyTorch with the weights that a compiled network has: what its outputs are compared with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary
from typing_extensions import override

from .weight_types import FLOAT32, rounded

__all__ = ["RoundedWeights"]

#: Places of a convolution's weight and of its number of groups among its arguments.
_WEIGHT, _GROUPS = 1, 6

#: Place of all weights and biases among a recurrent layer's arguments.
_PARAMETERS = 2


class RoundedWeights(TorchFunctionMode):
    """While it is entered, networks compute with the numbers that the compiler stores for their weights.

    Convolutions but the depthwise ones, linear and recurrent layers round their weights; nothing of the network is
    changed.

    Args:
        weight_type: One of `WEIGHT_TYPES`.
    """

    def __init__(self, weight_type: str) -> None:
        super().__init__()
        self._weight_type = weight_type
        self._known = WeakTensorKeyDictionary()

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, given = getattr(func, "__name__", ""), list(args)
        named = dict(kwargs or {})
        if name in ("conv1d", "conv2d", "linear"):
            place, key = (given, _WEIGHT) if len(given) > _WEIGHT else (named, "weight")
            groups = given[_GROUPS] if len(given) > _GROUPS else named.get("groups", 1)
            place[key] = self._rounded(place[key], groups)  # type: ignore[index]  # a list or a mapping
        if name in ("gru", "lstm"):
            given[_PARAMETERS] = [self._rounded(one) if one.ndim > 1 else one for one in given[_PARAMETERS]]
        return func(*given, **named)

    def _rounded(self, weight: Tensor, groups: int = 1) -> Tensor:
        is_depthwise = groups > 1 and tuple(weight.shape[:2]) == (groups, 1)
        if is_depthwise or self._weight_type == FLOAT32:
            return weight
        if weight not in self._known:
            values, scale = rounded(weight.detach().float().flatten(1).numpy(), self._weight_type)
            matrix = torch.from_numpy(values) * torch.from_numpy(scale)[:, None]
            self._known[weight] = matrix.view(weight.shape).to(weight.dtype)
        return cast(Tensor, self._known[weight])

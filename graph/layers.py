"""What a layer of ours tells the tracer and the engines about itself."""

from collections.abc import Callable
from typing import Protocol, TypeGuard, runtime_checkable

from torch import nn

from .opspec import OpSpec, Shape

__all__ = ["Realisable", "SelfDescribing", "StoredSmall", "executable", "is_stored_small", "replaced"]


@runtime_checkable
class SelfDescribing(Protocol):
    """A layer that knows which operators an engine executes for it."""

    def op_specs(self, input_shape: Shape) -> tuple[OpSpec, ...]:
        """The operators in order of execution.

        Args:
            input_shape: Shape of the layer's input without the batch axis.
        """


@runtime_checkable
class Realisable(Protocol):
    """A layer that simulates integer arithmetic in float and can be exchanged for the real thing."""

    def realised(self) -> nn.Module:
        """A module of the same function that PyTorch executes in integer arithmetic."""


@runtime_checkable
class StoredSmall(Protocol):
    """A layer that is stored in few bytes and executed as an ordinary layer."""

    def dense(self) -> nn.Module:
        """The ordinary layer, of PyTorch's own classes."""


def is_stored_small(layer: nn.Module) -> TypeGuard[StoredSmall]:
    """Whether the class of a layer has the method; a user's layer may hold a layer of that name."""
    return issubclass(type(layer), StoredSmall)


def replaced(module: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A copy of a module tree with some layers replaced; the other layers share their tensors with the original.

    Args:
        module: The tree.
        replacement: Gives what takes a layer's place, None where it stays.
    """
    new = replacement(module)
    if new is not None:
        return new
    twin = module.__class__.__new__(module.__class__)
    children = module.__dict__["_modules"]
    copies = {name: child and replaced(child, replacement) for name, child in children.items()}
    twin.__dict__ = {**module.__dict__, "_modules": copies}
    return twin


def executable(module: nn.Module) -> nn.Module:
    """The network as PyTorch executes it: simulated integers become real ones, what is stored small becomes dense."""
    return replaced(module, _executed)


def _executed(layer: nn.Module) -> nn.Module | None:
    if is_stored_small(layer):
        return layer.dense()
    return layer.realised() if isinstance(layer, Realisable) else None

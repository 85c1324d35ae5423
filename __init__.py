"""Espalier fits a trained PyTorch network to the device that will run it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .envs import register_environments
from .version import __version__

if TYPE_CHECKING:
    from .finish.loading import load
    from .kernels.engine import load_compiled

__all__ = ["__version__", "load", "load_compiled", "register_environments"]

#: Name -> the module that it is imported from.
_HOMES = {"load": ".finish.loading", "load_compiled": ".kernels.engine"}


def __getattr__(name: str) -> Any:
    """Import what needs PyTorch, which takes a second to start, when somebody asks for it."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

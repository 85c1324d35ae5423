"""Espalier fits a trained PyTorch network to the device that will run it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .envs import register_environments

if TYPE_CHECKING:
    from .finish.loading import load

__all__ = ["__version__", "load", "register_environments"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `load` when somebody asks for it: PyTorch takes a second to start."""
    if name == "load":
        return import_module(".finish.loading", __name__).load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

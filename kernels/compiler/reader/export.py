"""torch.export, quietly, with errors in the user's terms."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ....errors import ModelError
from ....graph.failure import describe_failure

__all__ = ["exported"]


def exported(module: nn.Module, example_input: Tensor) -> torch.export.ExportedProgram:
    """The graph of a network.

    Raises:
        ModelError: The network fails on the input, or torch.export cannot follow it.
    """
    _check_runs(module, example_input)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _no_log():
            return torch.export.export(module, (example_input,), strict=False)
    except Exception as error:  # what export cannot follow surfaces as many types
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} cannot be compiled: torch.export stopped at {reason}") from error


def _check_runs(module: nn.Module, example_input: Tensor) -> None:
    shape = tuple(example_input.shape)
    if example_input.ndim < 2 or shape[0] != 1:
        raise ModelError(f"the example input must have batch size 1, got shape {shape}")
    try:
        with torch.no_grad():
            module(example_input)
    except Exception as error:  # a user's forward can raise anything
        reason = describe_failure(error)
        raise ModelError(f"{type(module).__name__} fails on an input of shape {shape}: {reason}") from error


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(previous)

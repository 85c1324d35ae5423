"""Tracing any network into a graph of operators: torch.fx first, torch.export where fx fails."""

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ._export import trace_with_export
from ._fx import trace_with_fx
from .failure import describe_failure
from .graph import Graph

__all__ = ["trace"]


def trace(model: nn.Module, example_input: Tensor) -> Graph:
    """Trace `model` in evaluation mode.

    Args:
        model: Any module that takes one tensor and returns one tensor.
        example_input: An input of batch size 1.

    Returns:
        The operators with their shapes at batch size 1.

    Raises:
        ModelError: The model fails on the example, returns no single tensor, or neither front end can follow it;
            the construct that stopped them is named.
    """
    if example_input.ndim < 2 or example_input.shape[0] != 1:
        raise ModelError(f"the example input must have batch size 1, got shape {tuple(example_input.shape)}")
    was_training = model.training
    model.eval()
    try:
        _check_output(model, example_input)
        return _trace(model, example_input)
    finally:
        model.train(was_training)


def _check_output(model: nn.Module, example_input: Tensor) -> None:
    name = type(model).__name__
    try:
        with torch.no_grad():
            output = model(example_input)
    except Exception as error:  # a user's forward can raise anything
        shape = tuple(example_input.shape)
        raise ModelError(f"{name} fails on an input of shape {shape}: {describe_failure(error)}") from error
    if not isinstance(output, Tensor):
        raise ModelError(
            f"{name} returns a {type(output).__name__}, expected one tensor; "
            "wrap it in a module that returns the scores alone"
        )


def _trace(model: nn.Module, example_input: Tensor) -> Graph:
    try:
        return trace_with_fx(model, example_input)
    except Exception as fx_error:  # what fx cannot follow surfaces as many types
        try:
            return trace_with_export(model, example_input)
        except Exception as export_error:
            raise ModelError(
                f"{type(model).__name__} cannot be traced; torch.fx stopped at {describe_failure(fx_error)}; "
                f"torch.export stopped at {describe_failure(export_error)}"
            ) from export_error

"""torch.export without its noise, and what its nodes are called."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

__all__ = ["aten_name", "exported", "quiet"]


def exported(model: nn.Module, example_input: Tensor) -> torch.export.ExportedProgram:
    """The model's ATen graph; what torch.export cannot follow raises its errors."""
    with quiet():
        return torch.export.export(model, (example_input,), strict=False)


def aten_name(node: fx.Node) -> str:
    """The operator's name without its namespace and overload, such as "conv2d" for aten.conv2d.default."""
    name = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(name, "__name__", name)).rstrip("_").split(".")[-1]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters print and log what no user can act on; the errors that they raise say enough."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(previous)

"""Loading what a run delivered."""

from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from torch import nn

from ..compression.storage import load_network
from ..errors import FormatError
from ..files import read_json

__all__ = ["MODEL_FILE", "load", "load_original"]

MODEL_FILE = "checkpoint/model.json"
NETWORK_FILE = "model.safetensors"

#: A run folder may name only our own models: to load a file must not mean to run what it says.
_TRUSTED = "espalier.tasks.models."


def load_original(run_folder: Path) -> nn.Module:
    """A network of the original's architecture, from what the run wrote down of its configuration.

    Raises:
        FormatError: The folder names no model, or one that is not Espalier's own.
    """
    node: Any = read_json(run_folder / MODEL_FILE, "a model's configuration")
    target = node.get("_target_") if isinstance(node, dict) else None
    if not isinstance(target, str) or not target.startswith(_TRUSTED):
        raise FormatError(
            f"{run_folder} was made from the model {target!r}, which is not Espalier's own: build it yourself and give "
            "it as load(run_folder, model)"
        )
    model: nn.Module = instantiate(node)
    return model


def load(run_folder: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The compressed network of a run.

    Args:
        run_folder: As `espalier search` wrote it.
        model: A network of the original's architecture; needed only for models that are not Espalier's own.

    Returns:
        The network in evaluation mode; its 8-bit layers simulate integers, as the ONNX file executes them.

    Raises:
        FormatError: The folder is not a finished run, its files are damaged, or the model has other shapes than the
            original.
    """
    folder = Path(run_folder)
    if not (folder / NETWORK_FILE).is_file():
        what = f"it has no {NETWORK_FILE}" if folder.is_dir() else "there is no such folder"
        raise FormatError(f"{folder} is no run folder: {what}; expected one that `espalier search` finished")
    return load_network(folder / NETWORK_FILE, (model or load_original(folder)).eval())

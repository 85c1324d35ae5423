"""Loading weights that somebody trained."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError

__all__ = ["check_finite", "load_checkpoint"]


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights into `model`.

    Args:
        model: Of the architecture that was trained.
        path: A safetensors file, or a state dict saved by torch.save, which is read without running code in it.

    Raises:
        ModelError: The file is missing or damaged, does not fit the model, or holds infinities or not-a-numbers.
    """
    state = _read(path)
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit {type(model).__name__}: {_last_line(error)}") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        counts = f"{len(missing)} tensors missing (such as {missing[:2]}), {len(unexpected)} unknown ({unexpected[:2]})"
        raise ModelError(f"{path} does not fit {type(model).__name__}: {counts}")
    check_finite(model, str(path))


def check_finite(model: nn.Module, source: str) -> None:
    """Refuse weights that are no numbers.

    Args:
        model: The network.
        source: Where its weights come from, for the error message.

    Raises:
        ModelError: A weight is infinite or not a number.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"the weights of {source} are unusable: {name} holds infinite or not-a-number values")


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"the checkpoint {path} does not exist; point at one with task.checkpoint=FILE")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file surfaces as anything, IndexError included
        raise ModelError(f"the checkpoint {path} cannot be read: {_last_line(error)}") from error
    if not isinstance(state, Mapping) or not all(_is_named_tensor(item) for item in state.items()):
        raise ModelError(f"the checkpoint {path} must hold a state dict of tensors, got {type(state).__name__}")
    return state


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _last_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[-1].strip()

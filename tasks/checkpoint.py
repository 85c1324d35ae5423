"""Loading weights that somebody trained."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelError

__all__ = ["check_finite", "load_checkpoint"]

_NESTED = ("state_dict", "model_state_dict", "model")
_NAMES_SHOWN = 3


def load_checkpoint(model: nn.Module, path: Path, prefix: str = "") -> None:
    """Load weights into `model`.

    Counts of batches that batch-norms keep may be missing: nothing computes with them.

    Args:
        model: Of the architecture that was trained.
        path: A safetensors file, or a state dict saved by torch.save, which is read without running code in it. The
            state dict may be the entry "state_dict", "model_state_dict" or "model" of a dictionary.
        prefix: Taken from the names in the file, such as "module."; tensors without it are left out.

    Raises:
        ModelError: The file is missing or damaged, does not fit the model, or holds infinities or not-a-numbers.
    """
    state, expected = _without_prefix(_read(path), prefix, path), model.state_dict()
    if differences := _differences(expected, state):
        hint = _prefix_hint(expected, state)
        raise ModelError(f"{path} does not fit {type(model).__name__}: {'; '.join(differences)}{hint}")
    model.load_state_dict(state, strict=False)
    check_finite(model, str(path))


def _without_prefix(state: Mapping[str, Tensor], prefix: str, path: Path) -> Mapping[str, Tensor]:
    found = _beginning_with(prefix, state)
    if state and not found:
        raise ModelError(f"no tensor of {path} begins with {prefix!r}; its names are like {_named(sorted(state))}")
    return found


def _beginning_with(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _differences(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """What is missing, too much or of another shape in a file, each in a few words."""
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in expected]
    both = [(name, tuple(state[name].shape), tuple(expected[name].shape)) for name in expected if name in state]
    other = [f"{name} is {got}, the model has {wanted}" for name, got, wanted in both if got != wanted]
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": other}
    return [f"{len(names)} {what} ({_named(names)})" for what, names in groups.items() if names]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")


def _prefix_hint(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """What to do where the file has all names of the model behind one prefix."""
    first = next(iter(expected), "")
    for name in state:
        prefix = name.removesuffix(first)
        if prefix != name and prefix and not _differences(expected, _beginning_with(prefix, state)):
            return f"; give task.checkpoint_prefix={prefix}"
    return ""


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
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file surfaces as anything, IndexError included
        raise ModelError(f"the checkpoint {path} cannot be read: {_reason(error)}") from error
    state = _nested(saved)
    if not isinstance(state, Mapping) or not all(_is_named_tensor(item) for item in state.items()):
        raise ModelError(f"the checkpoint {path} must hold a state dict of tensors, got {type(state).__name__}")
    return state


def _nested(saved: object) -> object:
    """The state dict in what training scripts save beside it: epochs, optimisers."""
    if isinstance(saved, Mapping):
        for name in _NESTED:
            if isinstance(saved.get(name), Mapping):
                return saved[name]
    return saved


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _reason(error: Exception) -> str:
    """One line of what PyTorch says in many."""
    if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
        return f"it holds {found[1]}, not only tensors; save those alone: torch.save(model.state_dict(), FILE)"
    return "it is neither a safetensors file nor a state dict that torch.load reads safely (weights_only=True)"

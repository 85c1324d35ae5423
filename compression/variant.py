"""One prepared way to execute one site."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..graph.opspec import OpSpec, Shape
from .layers import build_module, describe_module, layer_specs, parameter_count

__all__ = ["Variant", "state_bytes"]


@dataclass(frozen=True)
class Variant:
    """A compressed layer with what is known of it.

    Attributes:
        module: What takes the place of the site's layer (of a head, of its last linear layer).
        specs: The operators that an engine executes for it.
        error: How far it alone moves the network's outputs, relative to them and to first order (see `sensitivity`); 0
            for a perfect fit.
    """

    module: nn.Module
    specs: tuple[OpSpec, ...]
    error: float

    @property
    def parameters(self) -> int:
        """Weights and biases, without those that were pruned."""
        return parameter_count(self.module)

    @property
    def storage_bytes(self) -> int:
        """Bytes of everything that is stored for it."""
        return state_bytes(self.module)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Its state with names that begin with `prefix`."""
        return {f"{prefix}{name}": tensor.contiguous() for name, tensor in self.module.state_dict().items()}

    def describe(self) -> str:
        """Structure and error as JSON text."""
        return json.dumps({"structure": describe_module(self.module), "error": self.error})

    @classmethod
    def rebuild(cls, description: str, tensors: Mapping[str, Tensor], prefix: str, input_shape: Shape) -> "Variant":
        """A variant from what `describe` and `tensors` gave.

        Args:
            description: JSON text.
            tensors: Holds the state under names that begin with `prefix`.
            prefix: What to strip from the names.
            input_shape: Shape of the site's input without the batch axis.
        """
        values = json.loads(description)
        module = build_module(values["structure"])
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        module.load_state_dict(own)
        return cls(module.eval().requires_grad_(False), layer_specs(module, input_shape), float(values["error"]))


def state_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())

"""How far a network's outputs move when the outputs of one site do, to first order.

An error at a layer's outputs says little by itself: some directions reach the network's outputs, others die out on the
way, and what is added to a shortcut counts less than what replaces a whole layer. With J the Jacobian of the network's
scores in the site's outputs, a change d of these moves the scores by J d, and E (r . J d)^2 = |J d|^2 for a vector r of
independent random signs (Hutchinson 1989), so that a few backward passes serve every variant of every site.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .calibration import as_images
from .site import Site

__all__ = ["Sensitivity", "sensitivities"]

#: Backward passes, at most; fewer where the gradients would not fit in `_VALUES`.
_PROJECTIONS = 4
_VALUES = 2**27

#: Of the random signs.
_SEED = 0


@dataclass(frozen=True)
class Sensitivity:
    """How the network's scores depend on one site's outputs.

    Attributes:
        gradients: Of randomly signed sums of the scores, shape (projections, examples, *outputs).
        scale: Root mean square norm of the scores, each example's mean over the classes taken off.
        channel_axis: Axis of channels or features in the outputs, counted from the end.
    """

    gradients: Tensor
    scale: float
    channel_axis: int

    def change(self, difference: Tensor, channels: Tensor | None = None) -> float:
        """Root mean square change of the scores relative to their own, to first order.

        Args:
            difference: What is added to the site's outputs for the first examples, shape (examples, *outputs).
            channels: Output channels that `difference` has; all where None.
        """
        gradients = self.gradients if channels is None else self.gradients.index_select(self.channel_axis, channels)
        count = min(len(difference), gradients.shape[1])
        moved = (gradients[:, :count] * difference[:count]).flatten(2).sum(2)
        return float(moved.square().mean().sqrt()) / self.scale


def sensitivities(model: nn.Module, sites: Sequence[Site], inputs: Tensor) -> dict[str, Sensitivity]:
    """How the scores depend on each site.

    Args:
        model: In evaluation mode.
        sites: Their last layers' outputs are looked at; of a recurrent layer its outputs, not its last state.
        inputs: Of the network, shape (examples, ...).

    Returns:
        Site name -> its sensitivity.
    """
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Any], None]:
        def see(_: nn.Module, __: object, output: Any) -> None:
            outputs[name] = output if isinstance(output, Tensor) else output[0]

        return see

    hooks = [model.get_submodule(site.layers[-1]).register_forward_hook(watch(site.name)) for site in sites]
    try:
        with torch.enable_grad():
            scores = model(inputs.clone().requires_grad_(True))
            centred = scores - scores.mean(1, keepdim=True)
            gradients = _projected(centred, [outputs[site.name] for site in sites])
    finally:
        for hook in hooks:
            hook.remove()
    scale = float(centred.detach().square().sum(1).mean().sqrt().clamp_min(1e-12))
    return {
        site.name: Sensitivity(torch.stack([as_images(site, part) for part in parts]), scale, _channel_axis(site))
        for site, parts in zip(sites, gradients, strict=True)
    }


def _projected(scores: Tensor, outputs: list[Tensor]) -> list[list[Tensor]]:
    """For each site the gradients of randomly signed sums of the scores."""
    generator = torch.Generator().manual_seed(_SEED)
    values = sum(output.numel() for output in outputs)
    passes: list[tuple[Tensor, ...]] = []
    for _ in range(max(1, min(_PROJECTIONS, _VALUES // values))):
        signs = torch.randint(0, 2, scores.shape, generator=generator) * 2.0 - 1.0
        found = torch.autograd.grad((scores * signs).sum(), outputs, retain_graph=True, materialize_grads=True)
        passes.append(found)
    return [list(parts) for parts in zip(*passes, strict=True)]


def _channel_axis(site: Site) -> int:
    return -1 if site.kind in ("linear", "recurrent", "head") else -len(site.output_shape)

"""Refitting a finished plan: layer after layer, each on the inputs that the compressed layers before it really give.

A variant of the bank is fitted to the original's inputs. In a plan it gets the outputs of other variants instead, and
their errors add up. Here each layer is solved again for the original's outputs as targets and the compressed network's
activations as inputs (as for pruned channels in He et al. 2017, arXiv 1707.06168, eq. 3, applied to every technique),
in one pass over calibration images and without a gradient step.
"""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor, nn

from .assembly import assemble, structural_copy
from .bank import Bank
from .calibration import Calibration, Moments, as_images, eight_bit_range, input_vectors, kernel_positions
from .choice import KEEP, Choice
from .fitting import shrunk_covariance, solve_right
from .layers import OverSignals, as_image_layer
from .plan import Plan
from .site import Site
from .technique import weight_matrix

__all__ = ["Refit"]

#: Numbers of the patches that are unfolded at a time.
_CHUNK = 2**21

#: However large the maps are, so many images are looked at.
_FEWEST_IMAGES = 8

#: Rows per input of a layer that its moments are taken from: large maps have more than a fit can use. Four times as
#: many make a refit a third slower and rank plans alike (docs/benchmarks.md, "Where the time of a search goes").
_ROWS_PER_INPUT = 16
_SAMPLE = 16384

#: Inputs that compositions are fitted on behind their first stage.
_EXAMPLES = 64


class Refit:
    """Makes networks of plans with every layer after the first change solved again.

    Args:
        model: The original network in evaluation mode.
        bank: The variants, which are left as they are.
        inputs: Calibration inputs of the network, shape (examples, ...).
        remembered_bytes: Memory for layers of plans before, which plans that begin alike take from there.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module, bank: Bank, inputs: Tensor, remembered_bytes: int = 0) -> None:
        self._model = model
        self._bank = bank
        self._inputs = inputs
        self._remembered = _Remembered(remembered_bytes)
        self._targets = _site_outputs(model, [site for site in bank.space.sites if _is_solvable(site)], inputs)

    @torch.no_grad()
    def apply(self, plan: Plan) -> nn.Module:
        """The network of a plan of the bank's space, with its batch-norms as they were: recalibration comes after."""
        network = assemble(self._model, plan, self._bank)
        walk = self._bank.space.indices(plan)
        refitters: dict[str, tuple[tuple[int, ...], _Refitter]] = {}
        for position in _positions_to_refit(walk, plan, self._bank):
            site = self._bank.space.sites[position]
            path = site.layers[-1]
            # What arrives at a layer is decided by the choices before it.
            begin = walk[: position + 1]
            layer = self._remembered.get(begin)
            if layer is None:
                layer = _Refitter(self._model, plan, self._bank, site, self._targets[site.name])
                refitters[path] = begin, layer
            network.set_submodule(path, layer)
        if refitters:
            network(self._inputs)
        finished = structural_copy(network)
        for path, (begin, refitter) in refitters.items():
            finished.set_submodule(path, refitter.refitted)
            self._remembered.put(begin, refitter.refitted)
        return finished


class _Remembered:
    """Refitted layers by the choices up to them; several threads may ask at once.

    Args:
        most_bytes: Of all their tensors; those put first are forgotten first.
    """

    def __init__(self, most_bytes: int) -> None:
        self._left_bytes = most_bytes
        self._layers: dict[tuple[int, ...], tuple[nn.Module, int]] = {}
        self._lock = Lock()

    def get(self, begin: tuple[int, ...]) -> nn.Module | None:
        """The layer behind these choices, None where it is not known."""
        found = self._layers.get(begin)
        return found[0] if found else None

    def put(self, begin: tuple[int, ...], layer: nn.Module) -> None:
        """Remember a layer, as far as there is memory."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in layer.state_dict().values())
        with self._lock:
            if begin in self._layers:
                return
            self._layers[begin] = layer, size
            self._left_bytes -= size
            while self._left_bytes < 0 and self._layers:
                self._left_bytes += self._layers.pop(next(iter(self._layers)))[1]


def _is_solvable(site: Site) -> bool:
    """Depthwise convolutions, recurrent layers and blocks have no fit to repeat."""
    return site.kind == "head" or (site.kind in ("conv2d", "linear") and site.groups == 1)


def _positions_to_refit(walk: tuple[int, ...], plan: Plan, bank: Bank) -> list[int]:
    """Places of the sites whose inputs a plan changes and whose layers can be solved again."""
    space = bank.space
    affected: list[int] = []
    changed = False
    for position, site in enumerate(space.sites):
        is_kept_head = site.kind == "head" and walk[position] == 0
        if changed and _is_solvable(site) and not is_kept_head and not space.is_swallowed(position, walk):
            affected.append(position)
        # A width changes what is read after the first layer that writes into it, not what that one reads.
        is_replaced = walk[position] > 0 and site.kind != "width"
        changed = changed or is_replaced or any(space.state(site, plan))
    return affected


def _site_outputs(model: nn.Module, sites: list[Site], inputs: Tensor) -> dict[str, Tensor]:
    """What each site's layer gives in the original network, for as many inputs as its fit needs."""
    outputs: dict[str, Tensor] = {}

    def recorder(site: Site) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            # Copied, so that the rest can be forgotten.
            outputs[site.name] = output[: _images_needed(site, given[0].shape[1], output)].clone()

        return record

    hooks = [model.get_submodule(site.layers[-1]).register_forward_hook(recorder(site)) for site in sites]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _images_needed(site: Site, channels: int, outputs: Tensor) -> int:
    """Images whose patches tell enough of a layer that reads so many channels; for a linear layer, all of them."""
    if site.geometry is None:
        return len(outputs)
    return max(_FEWEST_IMAGES, -(-_ROWS_PER_INPUT * channels * kernel_positions(site) // outputs[0, 0].numel()))


def _over_images(layer: nn.Module) -> nn.Module:
    """A layer over signals as the one over images that techniques know; others as they are."""
    if isinstance(layer, OverSignals):
        return layer.inner
    return as_image_layer(layer) if isinstance(layer, nn.Conv1d) else layer


class _Refitter(nn.Module):
    """Stands in for a layer: solves it for the inputs it gets, then computes with the result."""

    refitted: nn.Module

    def __init__(self, model: nn.Module, plan: Plan, bank: Bank, site: Site, targets: Tensor) -> None:
        super().__init__()
        space = bank.space
        state = space.state(site, plan)
        self._choice: Choice = plan[site.name]
        self._technique = space.techniques.get(self._choice.technique)
        self._site = space.narrowed_site(site, state)
        untouched = bank.variants.get((site.name, state, KEEP)) if site.is_layer else None
        # Held in a tuple so that it does not become a part of the network.
        self._layer = (_over_images(untouched.module if untouched else model.get_submodule(site.layers[-1])),)
        narrowing = space.narrowing(site.name, self._choice)
        self._kept = bank.kept[site.name, narrowing] if narrowing else None
        outputs = bank.kept_outputs(site, state)
        self._targets = targets if outputs is None else targets.index_select(1, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        own, cross = self._moments(inputs)
        covariance = shrunk_covariance(own.covariance, own.count)
        layer = self._layer[0] if self._site.kind == "head" else self._solved(covariance, cross)
        if self._choice == KEEP or self._technique is None:
            self.refitted = layer
        else:
            calibration = self._calibration(inputs, covariance, own, cross)
            self.refitted = self._technique.build(layer, self._site, self._choice, calibration)
        if self._site.over_signals:
            self.refitted = OverSignals.of(self.refitted)
        self.refitted = self.refitted.eval().requires_grad_(False)
        outputs: Tensor = self.refitted(inputs)
        return outputs

    def _moments(self, inputs: Tensor) -> tuple[Moments, Moments]:
        """Of the inputs with themselves, and of the targets with the inputs."""
        positions = kernel_positions(self._site)
        own, cross = Moments(positions, positions), Moments(1, positions)
        images = _images_needed(self._site, inputs.shape[1], self._targets)
        rows_per_image = self._targets[0].numel() // self._targets.shape[1]
        together = max(1, _CHUNK // (rows_per_image * inputs.shape[1] * positions))
        pairs = (torch.split(tensor[:images], together) for tensor in (inputs, self._targets))
        for part, target in zip(*pairs, strict=True):
            vectors = input_vectors(self._site, part)
            own.update(vectors, vectors)
            cross.update(target.movedim(1, -1).reshape(-1, target.shape[1]), vectors)
        return own, cross

    def _calibration(self, inputs: Tensor, covariance: Tensor, own: Moments, cross: Moments) -> Calibration:
        """What a technique wants to know of the inputs."""
        flat = inputs.movedim(1, -1).flatten()  # as it lies in memory
        low, high = eight_bit_range(flat[:: max(1, flat.numel() // _SAMPLE)].contiguous())
        return Calibration(
            covariance,
            own.means[0],
            low,
            high,
            output_covariance=cross.covariance if self._site.kind == "head" else None,
            output_mean=cross.means[0] if self._site.kind == "head" else None,
            channel_order=self._channel_order(),
            examples=as_images(self._site, inputs[:_EXAMPLES]),
        )

    def _channel_order(self) -> Tensor | None:
        if self._kept is None:
            return None
        others = torch.ones(self._site.out_channels, dtype=torch.bool)
        others[self._kept] = False
        return torch.cat([self._kept, others.nonzero().squeeze(1)])

    def _solved(self, covariance: Tensor, cross: Moments) -> nn.Module:
        """The layer whose outputs on these inputs come closest to the original's.

        W_t = W + (Cov(y, x) - W Cov(x)) (Cov(x) + shrinkage)^-1 stays at the bank's W where the data say nothing.
        """
        base = self._layer[0]
        weight = weight_matrix(base)
        residual = cross.covariance - weight @ covariance
        solved = weight + solve_right(residual, covariance)
        output_mean, input_mean = cross.means
        layer = self._fresh_layer()
        layer.weight.copy_(solved.view_as(layer.weight))
        assert layer.bias is not None
        layer.bias.copy_(output_mean - solved @ input_mean)
        return layer

    def _fresh_layer(self) -> nn.Conv2d | nn.Linear:
        site = self._site
        if site.geometry is None:
            return nn.Linear(site.in_channels, site.out_channels)
        return site.geometry.layer(site.in_channels, site.out_channels, bias=True)

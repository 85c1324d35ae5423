"""What is known of a layer's inputs: their mean, covariance and range, collected in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .fitting import compensation, shrunk_covariance
from .site import Site

__all__ = ["Calibration", "Moments", "as_images", "calibrate", "calibrate_layer", "input_vectors", "kernel_positions"]

#: Values kept of each layer's inputs to fit the 8-bit grid.
_SAMPLE = 16384

#: Examples kept of each layer's inputs.
_IMAGES, _VECTORS = 16, 256

#: Columns of a block of a product that is symmetric.
_SYMMETRIC_BLOCK = 144


@dataclass(frozen=True)
class Calibration:
    """The inputs of one site as its techniques see them.

    Attributes:
        covariance: Of the input vectors (of a convolution: the patches under the kernel, channel by channel; of a
            recurrent layer: the features of a step), shrunk to be positive definite; float64, shape (K, K); (0, 0) for
            grouped convolutions and blocks, which no fit needs it for.
        mean: Of the input vectors; float64, shape (K,).
        low: Lower end of the range worth representing in 8 bits.
        high: Upper end of it.
        output_covariance: Of a head only: covariance of the network's outputs with the input vectors, (outputs, K).
        output_mean: Of a head: mean of the network's outputs, (outputs,); of a block: of what it adds, (channels,).
        channel_order: Of a prunable site only: its output channels, the most important first.
        examples: A few inputs of the layer as they are, to measure a fit on.
        example_outputs: Of a head: the network's outputs for `examples`; of a block: what it adds.
        hidden_covariance: Of a recurrent layer of one cell only: of the hidden state that a step starts from, shrunk;
            float64, shape (H, H).
        hidden_mean: Mean of that state; float64, shape (H,).
    """

    covariance: Tensor
    mean: Tensor
    low: float
    high: float
    output_covariance: Tensor | None = None
    output_mean: Tensor | None = None
    channel_order: Tensor | None = None
    examples: Tensor | None = None
    example_outputs: Tensor | None = None
    hidden_covariance: Tensor | None = None
    hidden_mean: Tensor | None = None

    @classmethod
    def empty(cls, low: float = 0.0, high: float = 0.0, examples: Tensor | None = None) -> Calibration:
        """Of a site that no fit needs statistics of."""
        nothing = torch.zeros(0, dtype=torch.float64)
        return cls(nothing.view(0, 0), nothing, low, high, examples=examples)

    @cached_property
    def compensation(self) -> Tensor:
        """See `fitting.compensation`."""
        return compensation(self.covariance)

    def ranked(self, channel_order: Tensor) -> Calibration:
        """The same with another order of channels."""
        known = replace(self, channel_order=channel_order)
        known.__dict__.update({name: value for name, value in vars(self).items() if name == "compensation"})
        return known

    def narrowed(self, kept: Tensor) -> Calibration:
        """The same inputs when only the indices `kept` are left."""
        cross = None if self.output_covariance is None else self.output_covariance[:, kept]
        covariance = self.covariance[kept][:, kept] if self.covariance.numel() else self.covariance
        mean = self.mean[kept] if self.mean.numel() else self.mean
        return replace(self, covariance=covariance, mean=mean, output_covariance=cross)

    def with_outputs(self, kept: Tensor) -> Calibration:
        """The same of a block that adds only the channels `kept`."""
        assert self.output_mean is not None
        assert self.example_outputs is not None
        return replace(self, output_mean=self.output_mean[kept], example_outputs=self.example_outputs[:, kept])


class Moments:
    """Running first and second moments of pairs of vectors.

    Args:
        left_positions: Kernel positions that the left vectors are ordered by (see `input_vectors`); what is read is
            ordered by channels.
        right_positions: Those of the right vectors.
    """

    def __init__(self, left_positions: int = 1, right_positions: int = 1) -> None:
        self.count = 0
        self._positions = left_positions, right_positions
        self._sum_left: Tensor | None = None
        self._sum_right: Tensor | None = None
        self._product: Tensor | None = None

    def update(self, left: Tensor, right: Tensor) -> None:
        """Add pairs.

        Args:
            left: Shape (pairs, A).
            right: Shape (pairs, B).
        """
        product = (_with_itself(left) if left is right else left.T @ right).double()
        sums = left.sum(0).double(), right.sum(0).double()
        self.count += left.shape[0]
        if self._product is None or self._sum_left is None or self._sum_right is None:
            self._product, (self._sum_left, self._sum_right) = product, sums
        else:
            self._product += product
            self._sum_left += sums[0]
            self._sum_right += sums[1]

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """Means of left and right vectors, shapes (A,) and (B,)."""
        assert self._sum_left is not None
        assert self._sum_right is not None
        sums = zip((self._sum_left, self._sum_right), self._positions, strict=True)
        left, right = (_by_channel(total, positions, 0) / self.count for total, positions in sums)
        return left, right

    @property
    def covariance(self) -> Tensor:
        """Covariance of left with right vectors, shape (A, B)."""
        assert self._product is not None
        left, right = self.means
        product = self._product
        for axis, positions in enumerate(self._positions):
            product = _by_channel(product, positions, axis)
        return product / self.count - torch.outer(left, right)


def _with_itself(vectors: Tensor) -> Tensor:
    """vectors.T @ vectors, without multiplying the blocks above the diagonal, which mirror those below."""
    size = vectors.shape[1]
    product = vectors.new_empty(size, size)
    for start in range(0, size, _SYMMETRIC_BLOCK):
        stop = min(start + _SYMMETRIC_BLOCK, size)
        product[start:stop, :stop] = vectors[:, start:stop].T @ vectors[:, :stop]
        product[:start, start:stop] = product[start:stop, :start].T
    return product


def _by_channel(values: Tensor, positions: int, axis: int) -> Tensor:
    """What is ordered by kernel positions along an axis, ordered by channels."""
    shape = values.shape
    apart = values.reshape(*shape[:axis], positions, shape[axis] // positions, *shape[axis + 1 :])
    return apart.transpose(axis, axis + 1).reshape(shape)


def kernel_positions(site: Site) -> int:
    """How many kernel positions the vectors of `input_vectors` are ordered by; 1 where there is no kernel."""
    return math.prod(site.geometry.kernel) if site.geometry else 1


def input_vectors(site: Site, inputs: Tensor) -> Tensor:
    """The vectors that the site's weight matrix is multiplied with, one a row; those of a kernel position by position.

    Args:
        site: A linear or recurrent layer, a head or an ungrouped convolution.
        inputs: What arrives at the layer: (N, C, H, W), (N, C, T), (N, steps, features) or (N, features).
    """
    if site.geometry is None:
        return inputs.reshape(-1, inputs.shape[-1])
    return site.geometry.patch_rows(as_images(site, inputs))


def as_images(site: Site, inputs: Tensor) -> Tensor:
    """Signals (N, C, T) as images of one row, other inputs as they are."""
    return inputs.unsqueeze(2) if site.over_signals else inputs


def eight_bit_range(values: Tensor) -> tuple[float, float]:
    """The range whose 256-level grid represents `values` with the least squared error.

    Clipping rare extremes buys finer steps for the rest; ten shares of the full range are tried.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    shares = [1.0 - 0.08 * step for step in range(10)]
    errors = [_grid_error(values, low * share, high * share) for share in shares]
    best = shares[errors.index(min(errors))]
    return low * best, high * best


def _grid_error(values: Tensor, low: float, high: float) -> float:
    step = max(high - low, 1e-12) / 255
    rounded = ((values.clamp(low, high) - low) / step).round() * step + low
    return float((values - rounded).square().sum())


class _Collector:
    """Collects one site's statistics from what goes into its first layer and comes out of its last."""

    def __init__(self, site: Site) -> None:
        self.site = site
        positions = kernel_positions(site)
        self.moments = Moments(positions, positions)
        self.outputs = Moments()
        self.hidden = Moments()
        self.samples: list[Tensor] = []
        self.examples: list[Tensor] = []
        self.example_outputs: list[Tensor] = []
        self._vectors: Tensor | None = None

    def see_inputs(self, inputs: Tensor) -> None:
        self._keep_example(self.examples, as_images(self.site, inputs))
        flat = inputs.flatten()
        self.samples.append(flat[:: max(1, flat.numel() * 8 // _SAMPLE)].clone())
        if self.site.groups == 1 and self.site.kind != "block":
            self._vectors = input_vectors(self.site, inputs)
            self.moments.update(self._vectors, self._vectors)

    def see_layer_outputs(self, outputs: Any) -> None:
        """What the last layer of the site gives."""
        if self.site.kind == "block":
            values = outputs.movedim(1, -1).reshape(-1, outputs.shape[1])
            self.outputs.update(values, values[:, :1])
            self._keep_example(self.example_outputs, outputs)
        elif self.site.kind == "recurrent" and self.site.cells == 1:
            states = outputs[0]
            before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], 1).flatten(0, 1)
            self.hidden.update(before, before)

    def see_outputs(self, outputs: Tensor) -> None:
        """What the network gives."""
        if self.site.kind == "head" and self._vectors is not None:
            self.outputs.update(outputs, self._vectors)
            self._keep_example(self.example_outputs, outputs)

    def _keep_example(self, examples: list[Tensor], batch: Tensor) -> None:
        limit = _VECTORS if self.site.kind in ("linear", "head") else _IMAGES
        missing = limit - sum(len(part) for part in examples)
        if missing > 0:
            examples.append(batch[:missing].clone())

    def result(self) -> Calibration:
        low, high = eight_bit_range(torch.cat(self.samples))
        examples = torch.cat(self.examples)
        if self.site.kind == "block" or self.site.groups > 1:
            known = Calibration.empty(low, high, examples)
        else:
            covariance = shrunk_covariance(self.moments.covariance, self.moments.count)
            known = Calibration(covariance, self.moments.means[0], low, high, examples=examples)
        if self.hidden.count:
            hidden = shrunk_covariance(self.hidden.covariance, self.hidden.count)
            known = replace(known, hidden_covariance=hidden, hidden_mean=self.hidden.means[0])
        if not self.example_outputs:
            return known
        cross = self.outputs.covariance if self.site.kind == "head" else None
        outputs = torch.cat(self.example_outputs)
        return replace(known, output_covariance=cross, output_mean=self.outputs.means[0], example_outputs=outputs)


@torch.no_grad()
def calibrate(
    model: nn.Module, sites: Sequence[Site], batches: Iterable[Tensor], advance: Callable[[], object] = lambda: None
) -> dict[str, Calibration]:
    """Run the network once over calibration inputs and collect every site's statistics.

    Args:
        model: The network in evaluation mode.
        sites: Where to collect.
        batches: Inputs of the network.
        advance: Called after each batch.

    Returns:
        Site name -> its statistics.
    """
    collectors = {site.name: _Collector(site) for site in sites}
    hooks = [hook for collector in collectors.values() for hook in _hooks(model, collector)]
    try:
        for batch in batches:
            outputs = model(batch)
            for collector in collectors.values():
                collector.see_outputs(outputs)
            advance()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: collector.result() for name, collector in collectors.items()}


@torch.no_grad()
def calibrate_layer(site: Site, layer: nn.Module, inputs: Tensor) -> Calibration:
    """Statistics of one layer from its inputs alone.

    Args:
        site: The layer's site.
        layer: The layer.
        inputs: What it reads; shape (n, ...).
    """
    collector = _Collector(site)
    collector.see_inputs(inputs)
    collector.see_layer_outputs(layer(inputs))
    return collector.result()


def _hooks(model: nn.Module, collector: _Collector) -> list[RemovableHandle]:
    def see_inputs(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        collector.see_inputs(arguments[0])

    def see_outputs(_: nn.Module, __: tuple[Tensor, ...], outputs: Any) -> None:
        collector.see_layer_outputs(outputs)

    layers = collector.site.layers
    first = model.get_submodule(layers[0]).register_forward_pre_hook(see_inputs)
    return [first, model.get_submodule(layers[-1]).register_forward_hook(see_outputs)]

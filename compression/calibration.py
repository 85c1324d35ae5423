"""What is known of a layer's inputs: their mean, covariance and range, collected in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .fitting import shrunk_covariance
from .site import Site

__all__ = ["Calibration", "Moments", "calibrate", "input_vectors"]

#: Values kept of each layer's inputs to fit the 8-bit grid.
_SAMPLE = 16384

#: Examples kept of each layer's inputs.
_IMAGES, _VECTORS = 16, 256


@dataclass(frozen=True)
class Calibration:
    """The inputs of one site as its techniques see them.

    Attributes:
        covariance: Of the input vectors (of a convolution: the patches under the kernel, channel by channel), shrunk to
            be positive definite; float64, shape (K, K); (0, 0) for grouped convolutions, which no fit needs it for.
        mean: Of the input vectors; float64, shape (K,).
        low: Lower end of the range worth representing in 8 bits.
        high: Upper end of it.
        output_covariance: Of a head only: covariance of the network's outputs with the input vectors, (outputs, K).
        output_mean: Of a head only: mean of the network's outputs, (outputs,).
        channel_order: Of a prunable site only: its output channels, the most important to its consumers first.
        examples: A few inputs of the layer as they are, to measure a fit on.
        example_outputs: Of a head only: the network's outputs for `examples`.
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

    def narrowed(self, kept: Tensor) -> Calibration:
        """The same inputs when only the indices `kept` are left."""
        cross = None if self.output_covariance is None else self.output_covariance[:, kept]
        covariance = self.covariance[kept][:, kept] if self.covariance.numel() else self.covariance
        mean = self.mean[kept] if self.mean.numel() else self.mean
        return replace(self, covariance=covariance, mean=mean, output_covariance=cross)


class Moments:
    """Running first and second moments of pairs of vectors."""

    def __init__(self) -> None:
        self.count = 0
        self._sum_left: Tensor | None = None
        self._sum_right: Tensor | None = None
        self._product: Tensor | None = None

    def update(self, left: Tensor, right: Tensor) -> None:
        """Add pairs.

        Args:
            left: Shape (pairs, A).
            right: Shape (pairs, B).
        """
        product = (left.T @ right).double()
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
        return self._sum_left / self.count, self._sum_right / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance of left with right vectors, shape (A, B)."""
        assert self._product is not None
        left, right = self.means
        return self._product / self.count - torch.outer(left, right)


def input_vectors(site: Site, inputs: Tensor) -> Tensor:
    """The vectors that the site's weight matrix is multiplied with, one a row.

    Args:
        site: A linear layer, a head or an ungrouped convolution.
        inputs: What arrives at the layer: (N, C, H, W), or (N, features).
    """
    if site.geometry is None:
        return inputs
    patches = site.geometry.patches(inputs.contiguous())
    return patches.transpose(1, 2).reshape(-1, patches.shape[1])


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
    """Collects one site's statistics from the inputs of its first layer."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.moments = Moments()
        self.outputs = Moments()
        self.samples: list[Tensor] = []
        self.examples: list[Tensor] = []
        self.example_outputs: list[Tensor] = []
        self._vectors: Tensor | None = None

    def see_inputs(self, inputs: Tensor) -> None:
        self._keep_example(self.examples, inputs)
        flat = inputs.flatten()
        self.samples.append(flat[:: max(1, flat.numel() * 8 // _SAMPLE)].clone())
        if self.site.groups == 1:
            self._vectors = input_vectors(self.site, inputs)
            self.moments.update(self._vectors, self._vectors)

    def see_outputs(self, outputs: Tensor) -> None:
        if self.site.kind == "head" and self._vectors is not None:
            self.outputs.update(outputs, self._vectors)
            self._keep_example(self.example_outputs, outputs)

    def _keep_example(self, examples: list[Tensor], batch: Tensor) -> None:
        limit = _IMAGES if self.site.kind == "conv2d" else _VECTORS
        missing = limit - sum(len(part) for part in examples)
        if missing > 0:
            examples.append(batch[:missing].clone())

    def result(self) -> Calibration:
        low, high = eight_bit_range(torch.cat(self.samples))
        examples = torch.cat(self.examples)
        if self.site.groups > 1:
            nothing = torch.zeros(0, dtype=torch.float64)
            return Calibration(nothing.view(0, 0), nothing, low, high, examples=examples)
        covariance = shrunk_covariance(self.moments.covariance, self.moments.count)
        known = Calibration(covariance, self.moments.means[0], low, high, examples=examples)
        if self.site.kind != "head":
            return known
        return replace(
            known,
            output_covariance=self.outputs.covariance,
            output_mean=self.outputs.means[0],
            example_outputs=torch.cat(self.example_outputs),
        )


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
    hooks = [
        model.get_submodule(site.layers[0]).register_forward_pre_hook(_hook(collectors[site.name])) for site in sites
    ]
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


def _hook(collector: _Collector) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def see(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        collector.see_inputs(arguments[0])

    return see

"""Measuring the result live against the original."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ..hw_models.cost import Estimate
from ..hw_models.profiling.timing import one_processor, paired_ratio, summarise, time_alternating
from ..hw_models.runtimes.runtime import Runtime
from ..progress import step

__all__ = ["LiveLatency", "measure_latency"]

_PARTS = 10


class LiveLatency:
    """Latencies of two networks that took turns.

    Attributes:
        original: Milliseconds of the original.
        final: Milliseconds of the result.
        ratio: Median of the ratios of neighbouring samples.
    """

    def __init__(self, original: Estimate, final: Estimate, ratio: float) -> None:
        self.original = original
        self.final = final
        self.ratio = ratio


def measure_latency(
    runtime: Runtime,
    original: nn.Module,
    final: nn.Module,
    example_input: Tensor,
    rounds: int,
    final_onnx: Path | None = None,
) -> LiveLatency:
    """Time both networks in alternation, at batch size 1.

    Args:
        runtime: The engine.
        original: Batch-norms folded, as every engine does it.
        final: The result.
        example_input: Shape (1, C, H, W).
        rounds: Samples of each.
        final_onnx: The result as ONNX file, when it was exported.
    """
    networks = [runtime.network(original, example_input), runtime.network(final, example_input, final_onnx)]
    parts = []
    with step("measuring live", _PARTS) as advance, one_processor(runtime.threads):
        for _ in range(_PARTS):
            parts.append(time_alternating(networks, max(1, rounds // _PARTS)))
            advance()
    samples = np.concatenate(parts, axis=1)
    title = f"{runtime.name} on this machine, {runtime.threads} thread{'s' if runtime.threads > 1 else ''}"
    estimates = [Estimate(t.median_ms, t.std_ms, "measured", title) for t in map(summarise, samples)]
    return LiveLatency(estimates[0], estimates[1], paired_ratio(samples[0], samples[1]))

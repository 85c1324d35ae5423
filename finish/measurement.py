"""Measuring the result live against the original."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from ..errors import EspalierError
from ..hw_models.cost import Estimate
from ..hw_models.energy.counter import energy_per_call, find_counter
from ..hw_models.profiling.timing import one_processor, paired_ratio, summarise, time_alternating
from ..hw_models.runtimes.runtime import Runtime
from ..progress import step

__all__ = ["LiveLatency", "latency_ratio", "measure_latency"]

_PARTS = 10

#: Alternations of the two networks while energy is counted, and how long each of them runs.
_ENERGY_ROUNDS, _ENERGY_SECONDS = 7, 0.3


class LiveLatency:
    """Latencies of two networks that took turns.

    Attributes:
        original: Milliseconds of the original.
        final: Milliseconds of the result.
        ratio: Median of the ratios of neighbouring samples.
        energies: Millijoules of the original and of the result, by a counter; None where there is none.
    """

    def __init__(
        self,
        original: Estimate,
        final: Estimate,
        ratio: float,
        energies: tuple[Estimate, Estimate] | None = None,
    ) -> None:
        self.original = original
        self.final = final
        self.ratio = ratio
        self.energies = energies


def measure_latency(
    runtime: Runtime,
    original: nn.Module,
    final: nn.Module,
    example_input: Tensor,
    rounds: int,
    final_onnx: Path | None = None,
) -> LiveLatency:
    """Time both networks in alternation, at batch size 1; count their energy where the machine has a counter.

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
    energies = _measure_energy(networks)
    return LiveLatency(estimates[0], estimates[1], paired_ratio(samples[0], samples[1]), energies)


def latency_ratio(runtime: Runtime, original: nn.Module, other: nn.Module, example_input: Tensor, rounds: int) -> float:
    """Latency of the original over that of another network, from samples in alternation, at batch size 1.

    Args:
        runtime: The engine.
        original: Batch-norms folded.
        other: The other network.
        example_input: Shape (1, C, H, W).
        rounds: Samples of each.
    """
    networks = [runtime.network(original, example_input), runtime.network(other, example_input, None)]
    with step("timing the best plan"), one_processor(runtime.threads):
        samples = time_alternating(networks, rounds)
    return paired_ratio(samples[0], samples[1])


def _measure_energy(networks: Sequence[Callable[[], object]]) -> tuple[Estimate, Estimate] | None:
    """Energy of both in alternation, each for long enough that the counter's ticks do not matter."""
    try:
        counter = find_counter()
    except EspalierError:
        return None
    with step("counting energy", _ENERGY_ROUNDS) as advance:
        rows = []
        for _ in range(_ENERGY_ROUNDS):
            rows.append([energy_per_call(counter, network, _ENERGY_SECONDS) for network in networks])
            advance()
    figures = [summarise(row) for row in np.array(rows).T]
    title = f"{counter.name}, on this machine"
    original, final = (Estimate(figure.median_ms, figure.std_ms, "measured", title) for figure in figures)
    return original, final

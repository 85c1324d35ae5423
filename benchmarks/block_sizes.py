"""Which block size suits which layer: layers with random weights, timed at several sizes of blocks.

    python benchmarks/block_sizes.py [--rates 8,16] [--tolerance 0.1] [--threads 1] [--json FILE]

For each shape and rate the microseconds of each block, and the smallest block within the tolerance: what a search with
`space.techniques.bcr_pruning.block=measured` takes.
"""

import argparse
import json
from pathlib import Path

from espalier.evaluation.block_sizes import block_times_ms, pruned_layer, smallest_fast_block
from espalier.graph.opspec import OpSpec, Shape
from espalier.hw_models.machine import cpu_model
from espalier.hw_models.profiled_device import ProfiledDevice

_BLOCKS = [(rows, columns) for rows in (4, 8, 16, 32) for columns in (36, 144, 576)]


def _convolution(channels: int, pixels: int) -> OpSpec:
    shape: Shape = channels, pixels, pixels
    return OpSpec("conv2d", shape, shape, (3, 3), padding=(1, 1), bias=True)


_LAYERS = {
    "3x3, 16 to 16, 32x32": _convolution(16, 32),
    "3x3, 64 to 64, 8x8": _convolution(64, 8),
    "3x3, 64 to 64, 56x56": _convolution(64, 56),
    "3x3, 128 to 128, 28x28": _convolution(128, 28),
    "3x3, 256 to 256, 14x14": _convolution(256, 14),
    "3x3, 512 to 512, 7x7": _convolution(512, 7),
    "3x3, 512 to 512, 2x2": _convolution(512, 2),
    "linear, 1024 to 1024": OpSpec("linear", (1024,), (1024,), bias=True),
    "GRU, 160 to 160, 50 steps": OpSpec("gru", (50, 160), (50, 160), bias=True),
}


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="8,16")
    parser.add_argument("--tolerance", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = ProfiledDevice("block_sizes", "espalier", options.threads)
    rates = [float(rate) for rate in options.rates.split(",")]
    device.prepare(
        spec
        for layer in _LAYERS.values()
        for rate in rates
        for block in _BLOCKS
        for spec in pruned_layer([layer], rate, block)
    )
    rows = []
    for name, layer in _LAYERS.items():
        for rate in rates:
            times = block_times_ms([layer], rate, _BLOCKS, device)
            best = smallest_fast_block(times, options.tolerance)
            listed = "  ".join(f"{block[0]}x{block[1]} {1e3 * time:.1f}" for block, time in times.items())
            print(f"{name}, {rate:g}x: {best[0]}x{best[1]}\n    us: {listed}", flush=True)
            us = {f"{block[0]}x{block[1]}": 1e3 * time for block, time in times.items()}
            rows.append({"layer": name, "rate": rate, "chosen": best, "us": us})
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_model(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""Which block size suits which layer: synthetic layers of many shapes, timed at several sizes of blocks.

    python benchmarks/block_sizes.py [--rates 8,16] [--tolerance 0.1] [--threads 1] [--json FILE]

For each shape and rate the microseconds of each block, and the smallest block within the tolerance.
"""

import argparse
import json
from pathlib import Path

from espalier.hw_models.machine import cpu_model
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.tuning.block_size import LayerShape, block_times_us, smallest_fast_block

_BLOCKS = [(rows, columns) for rows in (4, 8, 16, 32) for columns in (36, 144, 576)]

_SHAPES = {
    "3x3, 64 to 64, 56x56": LayerShape((64, 56, 56), 64, (3, 3), padding=(1, 1)),
    "3x3, 128 to 128, 28x28": LayerShape((128, 28, 28), 128, (3, 3), padding=(1, 1)),
    "3x3, 256 to 256, 14x14": LayerShape((256, 14, 14), 256, (3, 3), padding=(1, 1)),
    "3x3, 512 to 512, 7x7": LayerShape((512, 7, 7), 512, (3, 3), padding=(1, 1)),
    "3x3, 512 to 512, 2x2": LayerShape((512, 2, 2), 512, (3, 3), padding=(1, 1)),
    "linear, 4096 to 4096": LayerShape((4096, 1, 1), 4096),
}


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="8,16")
    parser.add_argument("--tolerance", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name, shape in _SHAPES.items():
        for rate in map(float, options.rates.split(",")):
            tools = host_instruction_set(), find_toolchain()
            times = block_times_us(shape, rate, _BLOCKS, *tools, options.threads)
            best = smallest_fast_block(times, options.tolerance)
            listed = "  ".join(f"{block[0]}x{block[1]} {time:.0f}" for block, time in times.items())
            print(f"{name}, {rate:g}x: {best[0]}x{best[1]}\n    us: {listed}", flush=True)
            rows.append({"layer": name, "rate": rate, "chosen": best, "us": {str(b): t for b, t in times.items()}})
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_model(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

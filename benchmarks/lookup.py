"""How long a table takes to answer for a plan of 60 layers, warm.

    python benchmarks/lookup.py [--layers 60] [--json FILE]

Target: under 50 microseconds. Latency alone (`summed_latency`), and latency with energy (`TableDevice.cost`) of a table
with all operators, of one that estimates half of them, and of fitted efficiencies; the last row makes every descriptor
anew before each call, as somebody would who keeps no plans, and holds what that costs.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from espalier.graph.opspec import OpSpec
from espalier.hw_models.calibrated_device import CalibratedDevice
from espalier.hw_models.machine import cpu_model
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.sums import summed_latency
from espalier.hw_models.tables.table import Entry, LookupTable


def layers(count: int) -> list[OpSpec]:
    """Convolutions of rising width."""
    shapes = [(8 + 4 * index, 14, 14) for index in range(count)]
    return [OpSpec("conv2d", s, s, (3, 3), padding=(1, 1), bias=True, activation="relu") for s in shapes]


def table_of(specs: list[OpSpec]) -> LookupTable:
    """A table that knows these operators and a thousand others."""
    others = [OpSpec("linear", (width,), (10,)) for width in range(1, 1001)]
    table = LookupTable("benchmark", "none", {}, "none")
    for spec in (*specs, *others):
        table.add(Entry(spec, 1e-6 * (spec.macs + 1000), 1e-8, 9))
    return table


def microseconds(call: Callable[[], object], rounds: int = 200) -> dict[str, float]:
    """Median and quartiles of calls after a warm-up."""
    for _ in range(20):
        call()
    samples = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        samples.append(1e6 * (time.perf_counter() - started))
    low, median, high = np.percentile(samples, [25, 50, 75])
    return {"median_us": round(median, 1), "low_us": round(low, 1), "high_us": round(high, 1)}


def measure(count: int) -> dict[str, Any]:
    """Every way of asking."""
    specs = layers(count)
    whole, half = table_of(specs), table_of(specs[::2])
    kinds = {"conv2d_3x3": {"mmacs": 0.1, "written_mb": 1.0}}
    fitted = CalibratedDevice("benchmark", 0.0, kinds, other={}, relative_std=0.1)
    with tempfile.TemporaryDirectory() as folder:
        devices = {}
        for name, table in (("whole", whole), ("half", half)):
            table.save(Path(folder) / f"{name}.json")
            devices[name] = TableDevice(str(Path(folder) / f"{name}.json"), interpolate=True)
    return {
        "summed latency": microseconds(lambda: summed_latency(whole, specs, "table")),
        "table device, latency and energy": microseconds(lambda: devices["whole"].cost(specs)),
        "table device, half estimated": microseconds(lambda: devices["half"].cost(specs)),
        "fitted efficiencies, latency and energy": microseconds(lambda: fitted.cost(specs)),
        "summed latency, new descriptors": microseconds(lambda: summed_latency(whole, layers(count), "table")),
    }


def main() -> None:
    """Print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = {"layers": options.layers, "cpu": cpu_model(), "rows": measure(options.layers)}
    for name, row in report["rows"].items():
        print(f"{name:<40} {row['median_us']:>8.1f} us  [{row['low_us']:.1f}, {row['high_us']:.1f}]")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

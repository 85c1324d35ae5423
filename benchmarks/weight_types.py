"""Compiled sparse networks with their weights as float32, bfloat16 and int8, in turns in one process, batch size 1.

    python benchmarks/weight_types.py [--networks vgg16_32,gru_1024] [--rates 8,16,30] [--rounds 30] [--calls 10]
        [--others 8] [--artifacts FOLDER] [--prepare] [--json FILE]

The networks and layers of `sparse_inference.py`, compared with the masked PyTorch networks whose weights are rounded
alike before anything is timed. In each round each type has its turn: two inferences that are not timed, then some that
are; `--others` megabytes of other data are written before each, so that weights come from the last cache as they do in
an application that does something between two inferences (0: they stay where the last inference left them). *ms* is
the median over rounds of the medians of turns, *ratio* that of the rounds' ratios, with the interval that holds the
middle half of them. *rounding* is what rounded weights change of the largest output of an untrained network.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from espalier.kernels.engine import load_compiled
from espalier.kernels.weight_types import FLOAT32, WEIGHT_TYPES
from numpy.typing import NDArray
from sparse_cases import LAYERS, NETWORKS, Compiled, compiled, example

#: Inferences at the beginning of a turn that are not timed.
WARM_UP = 2

Calls = Mapping[str, Callable[[], object]]


def compiled_as(name: str, rate: float, artifacts: Path) -> dict[str, Compiled]:
    """The network at a rate with each type of weights."""
    return {
        weight_type: compiled(name, rate, artifacts / f"{name}_{rate:g}_{weight_type}", weight_type=weight_type)
        for weight_type in WEIGHT_TYPES
    }


def turn(call: Callable[[], object], calls: int, others: NDArray[np.float32]) -> float:
    """The median of some inferences in a row, in milliseconds, other data being written before each."""
    for _ in range(WARM_UP):
        call()
    seconds = []
    for _ in range(calls):
        others += 1
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return 1e3 * median(seconds)


def timed(calls: Calls, options: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of each type in each round."""
    others = np.zeros(options.others * 2**18, np.float32)
    found: dict[str, list[float]] = {weight_type: [] for weight_type in calls}
    for _ in range(options.rounds):
        for weight_type, call in calls.items():
            found[weight_type].append(turn(call, options.calls, others))
    return found


def compare(name: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """One network at one rate with all types."""
    made = compiled_as(name, rate, options.artifacts)
    inputs = example(name).numpy()
    times = timed({one: load_compiled(result.folder).prepared(inputs) for one, result in made.items()}, options)
    types = {}
    for weight_type, result in made.items():
        ratios = np.array(times[FLOAT32]) / np.array(times[weight_type])
        types[weight_type] = {
            "ms": median(times[weight_type]),
            "ratio": float(np.median(ratios)),
            "interval": np.quantile(ratios, (0.25, 0.75)).tolist(),
            "bytes_per_kept_weight": result.weights_bytes / result.kept,
            "error": result.error,
            "rounding": result.rounding,
        }
    return {"network": name, "rate": rate, "types": types, "rounds": times}


def rows(result: Mapping[str, Any]) -> Sequence[str]:
    """The figures as rows of Markdown."""
    lines = []
    for weight_type, figures in result["types"].items():
        low, high = figures["interval"]
        cells = [result["network"], f"{result['rate']:g}x", weight_type, f"{figures['ms']:.4f}"]
        cells += [f"{figures['ratio']:.2f}x", f"{low:.2f}-{high:.2f}", f"{figures['bytes_per_kept_weight']:.2f}"]
        cells += [f"{figures['error']:.1e}", f"{figures['rounding']:.1e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def parsed() -> argparse.Namespace:
    """What the user asks for."""

    def words(text: str) -> list[str]:
        return text.split(",")

    known = ", ".join([*NETWORKS, *LAYERS])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=words, default=["vgg16_32", "gru_1024"], help=known)
    parser.add_argument("--rates", type=lambda text: [float(rate) for rate in words(text)], default=[8.0, 16.0, 30.0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--calls", type=int, default=10, help="timed inferences of a turn")
    parser.add_argument("--others", type=int, default=8, help="megabytes of other data written before each inference")
    parser.add_argument("--artifacts", type=Path, help="folder that keeps what is compiled")
    parser.add_argument("--prepare", action="store_true", help="make the files, time nothing")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Compare and print."""
    results = []
    print("| network | rate | weights | ms | ratio | middle half | bytes per kept weight | error | rounding |")
    print(f"|{'---|' * 9}", flush=True)
    for name in options.networks:
        for rate in options.rates:
            if options.prepare:
                compiled_as(name, rate, options.artifacts)
                continue
            results.append(compare(name, rate, options))
            print("\n".join(rows(results[-1])), flush=True)
    if options.json and results:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run with files that are kept or not."""
    options = parsed()
    with TemporaryDirectory() as folder:
        options.artifacts = options.artifacts.resolve() if options.artifacts else Path(folder)
        run(options)


if __name__ == "__main__":
    main()

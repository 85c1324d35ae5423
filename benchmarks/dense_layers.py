"""Layers that nothing is pruned of, in our kernels and in dense engines: a pruned network has such layers, too.

    python benchmarks/dense_layers.py [--layers depthwise_144_56,...] [--engines onnxruntime,openvino,torch]
        [--tune] [--rounds 20] [--artifacts FOLDER] [--prepare] [--json FILE]

A network of eight equal layers (pointwise ones: wider and narrower in turns; recurrent ones: one) is run in a loop by
one thread at batch size 1, each engine in a process of its own, in turns: inside a network no engine copies or converts
what goes from layer to layer. Target: no network takes more than 1 / 0.9 of PyTorch's time; the other engines stand
beside.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from espalier.hw_models.machine import cpu_model
from espalier.kernels.compiler.emit.tiles import Tile
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.tuning.tuner import tune
from sparse_cases import DENSE_CHAINS, compiled, example, make
from sparse_inference import OWN_ENGINES, Worker, interval, measured, started


def own_folder(name: str, options: argparse.Namespace) -> str:
    """The layer compiled by us, made if it is not there."""
    folder = options.artifacts / f"{name}_dense{'_tuned' if options.tune else ''}"
    is_made = (folder / "account.json").is_file()
    tiles = tuned(name) if options.tune and not is_made else None
    return compiled(name, 1.0, folder, tiles).folder


def tuned(name: str) -> dict[str, Tile]:
    """A tuner's choices."""
    network = lower(make(name), example(name))
    return tune(network, host_instruction_set(), find_toolchain(), cpu_model())


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One layer in all engines."""
    workers = {engine: started(engine, name, 1, options) for engine in options.engines}
    workers["espalier"] = Worker(sys.executable, "espalier", 1, {"dense": own_folder(name, options)})
    times = measured(workers, {engine: (engine, "dense") for engine in workers}, options.rounds)
    for worker in workers.values():
        worker.close()
    ratios = {engine: median(times[engine]) / median(times["espalier"]) for engine in options.engines}
    intervals = {engine: interval(times[engine], times["espalier"]) for engine in options.engines}
    milliseconds = {engine: 1e3 * median(seconds) for engine, seconds in times.items()}
    return {"layer": name, "ms": milliseconds, "ratios": ratios, "intervals": intervals}


def line(result: dict[str, Any]) -> str:
    """A row of Markdown."""
    cells = [result["layer"], f"{result['ms']['espalier']:.4f}"]
    for engine, ratio in result["ratios"].items():
        low, high = result["intervals"][engine]
        cells.append(f"{ratio:.2f}x ({low:.2f} to {high:.2f})")
    return f"| {' | '.join(cells)} |"


def run(options: argparse.Namespace) -> None:
    """Compare all layers and print."""
    if options.prepare:
        for name in options.layers:
            print(own_folder(name, options), flush=True)
        return
    print(f"| layer | ms | {' | '.join(options.engines)} |\n|{'---|' * (2 + len(options.engines))}", flush=True)
    results = []
    for name in options.layers:
        results.append(compare(name, options))
        print(line(results[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"cpu": cpu_model(), "layers": results}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run with files that are kept or not."""

    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=words, default=list(DENSE_CHAINS), help=", ".join(DENSE_CHAINS))
    parser.add_argument("--engines", type=words, default=list(OWN_ENGINES))
    parser.add_argument("--tune", action="store_true", help="with the tuner's choices")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--artifacts", type=Path, help="folder that keeps what is compiled")
    parser.add_argument("--prepare", action="store_true", help="compile, time nothing")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        options.artifacts = options.artifacts.resolve() if options.artifacts else Path(folder)
        run(options)


if __name__ == "__main__":
    main()

"""Single pruned layers against dense engines and compressed sparse rows, and what each step of the compiler gives.

    python benchmarks/sparse_layers.py [--sections layers,ablation] [--layers conv_64_56] [--rates 8,16] [--threads 1]
        [--networks vgg16_32,gru_1024] [--engines onnxruntime,openvino,torch] [--rounds 20] [--artifacts FOLDER]
        [--prepare] [--json FILE]

*layers*: networks of one layer, timed as in `sparse_inference.py`. Such a loop keeps everything in the caches, which
flatters large dense layers; ONNX Runtime converts between its layouts in every call. *ablation*: networks with the rows
of layers over pixels one by one in their own order (none), in the order of groups with equal columns (reorder), in
register tiles, so that an input is loaded once for several rows (load elimination, the default), and with the tiles
that the tuner finds now, which takes a minute or two. Of layers over points, whose vectors are rows, one vector and one
point take the place of one row, and the gates of recurrent layers are computed one by one.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from espalier.kernels.bcrc import Bcrc
from espalier.kernels.compiler.emit import over_pixels, over_rows
from espalier.kernels.compiler.emit.tiles import PixelTile, PointTile, Tile
from espalier.kernels.compiler.ir import Convolution
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.tuning.cache import TileCache
from espalier.kernels.tuning.layers import tunable_layers
from espalier.kernels.tuning.tuner import tune
from espalier.kernels.weight_types import FLOAT32, WEIGHT_TYPES
from sparse_cases import LAYERS, compiled, example, pruned
from sparse_inference import OWN_ENGINES, Worker, compiled_at, interval, measured, started

#: Libraries for compressed sparse rows.
SPARSE_ROWS = ("csr_scipy", "csr_torch", "csr_c")

#: The networks of the ablation.
ABLATED = ("vgg16_32", "gru_1024", "linear_4096_4096")


def layer_workers(name: str, threads: int, options: argparse.Namespace) -> tuple[dict[str, Worker], dict[str, Any]]:
    """Processes with one layer in all forms, and the variants they time."""
    workers = {engine: started(engine, name, threads, options) for engine in options.engines}
    variants = {engine: (engine, "dense") for engine in options.engines}
    files = {f"{rate:g}x": f"{name}@{rate}" for rate in options.rates}
    folders = {f"{rate:g}x": result.folder for rate, result in compiled_at(name, options).items()}
    for engine in (*SPARSE_ROWS, "espalier"):
        models = folders if engine == "espalier" else files
        workers[engine] = Worker(sys.executable, engine, threads, models)
        variants |= {f"{engine} {rate}": (engine, rate) for rate in models}
    return workers, variants


def compare_layer(name: str, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One layer in all forms."""
    workers, variants = layer_workers(name, threads, options)
    times = measured(workers, variants, options.rounds)
    for worker in workers.values():
        worker.close()
    milliseconds = {variant: 1e3 * median(seconds) for variant, seconds in times.items()}
    fastest = min(options.engines, key=lambda engine: milliseconds[engine])
    ratios = {}
    for rate in (f"{rate:g}x" for rate in options.rates):
        own = f"espalier {rate}"
        rivals = (fastest, *(f"{engine} {rate}" for engine in SPARSE_ROWS))
        ratios[rate] = {rival.split()[0]: milliseconds[rival] / milliseconds[own] for rival in rivals}
        ratios[rate]["interval"] = interval(times[fastest], times[own])
    return {"layer": name, "threads": threads, "ms": milliseconds, "fastest": fastest, "ratios": ratios}


def layer_lines(result: Mapping[str, Any]) -> list[str]:
    """The figures of a layer as rows of Markdown."""
    lines = []
    for rate, ratios in result["ratios"].items():
        low, high = ratios["interval"]
        rows = [f"{ratios[engine]:.1f}x" for engine in SPARSE_ROWS]
        own, dense = result["ms"][f"espalier {rate}"], result["ms"][result["fastest"]]
        cells = [result["layer"], rate, f"{own:.4f}", f"{dense:.4f}", result["fastest"]]
        cells += [f"{ratios[result['fastest']]:.1f}x", f"{low:.1f}-{high:.1f}", *rows]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def layers(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All layers."""
    print("\n| layer | rate | ms | dense, ms | fastest | vs fastest | 95 % | vs SciPy's CSR | PyTorch's | C |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for name in options.layers:
        for threads in options.threads:
            results.append(compare_layer(name, threads, options))
            print("\n".join(layer_lines(results[-1])), flush=True)
    return results


def single_tiles(name: str, rate: float) -> dict[str, Tile]:
    """Of every layer the default tile, but of one row, or of one vector of rows and one point."""
    network = lower(pruned(name, rate), example(name))
    works = tunable_layers(network, host_instruction_set())
    return {layer: single(work.default) for layer, work in works.items()}


def single(tile: Tile) -> Tile:
    """A tile in which nothing that is loaded serves twice."""
    if isinstance(tile, PixelTile):
        return replace(tile, rows=1)
    if isinstance(tile, PointTile):
        return PointTile(1, 1)
    return replace(tile, copies=4, is_joint=False)


def in_own_order(layer: Convolution, row_multiple: int) -> Bcrc:
    """The rows of a layer in their order, so many at a time, with the columns that any of them keeps."""
    matrix = layer.matrix
    groups = [np.arange(first, min(first + row_multiple, len(matrix))) for first in range(0, len(matrix), row_multiple)]
    return Bcrc.of_groups(matrix, [(rows, np.flatnonzero(matrix[rows].any(0))) for rows in groups])


def steps(name: str, rate: float, options: argparse.Namespace) -> dict[str, Callable[[Path], Any]]:
    """What compiles the network at each step of the ablation."""

    def none(folder: Path) -> Any:
        with ExitStack() as stack:
            for module in (over_pixels, over_rows):
                stack.enter_context(patch.object(module, "stored_matrix", in_own_order))
            return compiled(name, rate, folder, single_tiles(name, rate))

    def tuning(folder: Path) -> Any:
        network = lower(pruned(name, rate), example(name))
        cache = TileCache(options.artifacts / f"{folder.name}_tiles.json")
        started = time.perf_counter()
        tiles = tune(network, host_instruction_set(), find_toolchain(), "ablation", cache=cache)
        return compiled(name, rate, folder, tiles, time.perf_counter() - started)

    return {
        "none": none,
        "reorder": lambda folder: compiled(name, rate, folder, single_tiles(name, rate)),
        "load_elimination": lambda folder: compiled(name, rate, folder),
        "tuning": tuning,
    }


def ablated(name: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Step -> the network compiled so; tuning is done once, what an earlier run has found is taken."""
    return {
        step: compiling(options.artifacts / f"{name}_{rate:g}_{step}")
        for step, compiling in steps(name, rate, options).items()
    }


def ablation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each network at each step, all in one process."""
    results = []
    for name in options.networks:
        print(f"\n**{name}**, ms by step\n", flush=True)
        results += [ablation_at(name, rate, options) for rate in options.rates]
    return results


def ablation_at(name: str, rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """A network at a rate."""
    made = ablated(name, rate, options)
    models = {step: result.folder for step, result in made.items()}
    worker = Worker(sys.executable, "espalier", 1, models)
    times = measured({"espalier": worker}, {model: ("espalier", model) for model in models}, options.rounds)
    worker.close()
    milliseconds = {model: 1e3 * median(seconds) for model, seconds in times.items()}
    first, seconds = milliseconds["none"], made["tuning"].tuning_seconds
    told = (f"{step} {value:.4g} ({first / value:.2f}x)" for step, value in milliseconds.items())
    print(f"- {rate:g}x: {', '.join(told)}; tuning took {seconds:.0f} s", flush=True)
    gain = interval(times["load_elimination"], times["tuning"])
    return {"network": name, "rate": rate, "ms": milliseconds, "tuning_seconds": seconds, "tuning_interval": gain}


def prepare(options: argparse.Namespace) -> None:
    """Make all files."""
    if "layers" in options.sections:
        for name in options.layers:
            compiled_at(name, options)
    if "ablation" in options.sections:
        for name in options.networks:
            for rate in options.rates:
                ablated(name, rate, options)


def parsed() -> argparse.Namespace:
    """What the user asks for."""

    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=words, default=["layers", "ablation"], help="layers, ablation")
    parser.add_argument("--layers", type=words, default=list(LAYERS), help=", ".join(LAYERS))
    parser.add_argument("--networks", type=words, default=list(ABLATED), help="of the ablation")
    parser.add_argument("--rates", type=lambda text: [float(rate) for rate in words(text)], default=[8.0, 16.0])
    parser.add_argument("--threads", type=lambda text: [int(count) for count in words(text)], default=[1])
    parser.add_argument("--engines", type=words, default=list(OWN_ENGINES))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--weights", choices=WEIGHT_TYPES, default=FLOAT32, help="that ours are stored as")
    parser.add_argument("--environments", type=Path, help="as in sparse_inference.py")
    parser.add_argument("--artifacts", type=Path, help="folder that keeps what is compiled")
    parser.add_argument("--processor", default="", help="as in sparse_inference.py")
    parser.add_argument("--prepare", action="store_true", help="make the files, time nothing")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def main() -> None:
    """Run the sections."""
    options = parsed()
    with TemporaryDirectory() as folder:
        options.artifacts = options.artifacts.resolve() if options.artifacts else Path(folder)
        if options.prepare:
            prepare(options)
            return
        sections = {"layers": layers, "ablation": ablation}
        report = {section: sections[section](options) for section in options.sections}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Single pruned layers against dense engines and compressed sparse rows, and what each step of the compiler gives.

    python benchmarks/sparse_layers.py [--sections layers,ablation] [--layers conv_64_56] [--rates 8,16] [--threads 1]
        [--engines onnxruntime,openvino,torch] [--rounds 20] [--artifacts FOLDER] [--prepare] [--json FILE]

*layers*: networks of one layer, timed as in `sparse_inference.py`. Such a loop keeps everything in the caches, which
flatters large dense layers; ONNX Runtime converts between its layouts in every call. *ablation*: VGG-16 at 32x32 with
the rows of layers over pixels one by one in their own order (none), in the order of groups with equal columns
(reorder), in register tiles, so that an input is loaded once for several rows (load elimination, the default), and with
the tiles that the tuner finds now, which takes a minute or two.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from espalier.kernels.bcrc import Bcrc
from espalier.kernels.compiler.emit import over_pixels
from espalier.kernels.compiler.emit.tiles import Tile, default_tile
from espalier.kernels.compiler.ir import Convolution
from espalier.kernels.compiler.layout import choose_layouts
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import host_instruction_set
from espalier.kernels.toolchain import find_toolchain
from espalier.kernels.tuning.cache import TileCache
from espalier.kernels.tuning.tuner import tune
from espalier.kernels.weight_types import FLOAT32, WEIGHT_TYPES
from sparse_cases import LAYERS, compiled, example, pruned
from sparse_inference import OWN_ENGINES, Worker, compiled_at, interval, measured, started

#: Libraries for compressed sparse rows.
SPARSE_ROWS = ("csr_scipy", "csr_torch", "csr_c")

#: The network of the ablation.
ABLATED = "vgg16_32"


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


def row_tiles(rate: float) -> dict[str, Tile]:
    """Of every layer over pixels the default tile, but of one row."""
    network = lower(pruned(ABLATED, rate), example(ABLATED))
    isa = host_instruction_set()
    layouts = choose_layouts(network, isa.lanes)
    tiles = {}
    for layer in network.layers:
        if isinstance(layer, Convolution) and layouts[layer.name].is_planar:
            default = default_tile(isa, -(-layouts[layer.name].points // isa.lanes))
            tiles[layer.name] = Tile(1, default.vectors, default.block)
    return tiles


def in_own_order(layer: Convolution, row_multiple: int) -> Bcrc:  # noqa: ARG001  # as of what it replaces
    """Every row of a layer as a group of its own."""
    matrix = layer.matrix
    return Bcrc.of_groups(matrix, [(np.array([row]), np.flatnonzero(matrix[row])) for row in range(len(matrix))])


def steps(rate: float, options: argparse.Namespace) -> dict[str, Callable[[Path], Any]]:
    """What compiles the network at each step of the ablation."""

    def none(folder: Path) -> Any:
        with patch.object(over_pixels, "stored_matrix", in_own_order):
            return compiled(ABLATED, rate, folder, row_tiles(rate))

    def tuning(folder: Path) -> Any:
        network = lower(pruned(ABLATED, rate), example(ABLATED))
        cache = TileCache(options.artifacts / f"{folder.name}_tiles.json")
        started = time.perf_counter()
        tiles = tune(network, host_instruction_set(), find_toolchain(), "ablation", cache=cache)
        return compiled(ABLATED, rate, folder, tiles, time.perf_counter() - started)

    return {
        "none": none,
        "reorder": lambda folder: compiled(ABLATED, rate, folder, row_tiles(rate)),
        "load_elimination": lambda folder: compiled(ABLATED, rate, folder),
        "tuning": tuning,
    }


def ablated(rate: float, options: argparse.Namespace) -> dict[str, Any]:
    """Step -> the network compiled so; tuning is done once, what an earlier run has found is taken."""
    return {
        step: compiling(options.artifacts / f"{ABLATED}_{rate:g}_{step}")
        for step, compiling in steps(rate, options).items()
    }


def ablation(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The network at each step, all in one process."""
    print(f"\n**{ABLATED}**, ms by step\n", flush=True)
    results = []
    for rate in options.rates:
        made = ablated(rate, options)
        models = {step: result.folder for step, result in made.items()}
        worker = Worker(sys.executable, "espalier", 1, models)
        times = measured({"espalier": worker}, {model: ("espalier", model) for model in models}, options.rounds)
        worker.close()
        milliseconds = {model: 1e3 * median(seconds) for model, seconds in times.items()}
        seconds = made["tuning"].tuning_seconds
        results.append({"rate": rate, "ms": milliseconds, "tuning_seconds": seconds})
        first = milliseconds["none"]
        told = (f"{step} {value:.3f} ({first / value:.2f}x)" for step, value in milliseconds.items())
        print(f"- {rate:g}x: {', '.join(told)}; tuning took {seconds:.0f} s", flush=True)
    return results


def prepare(options: argparse.Namespace) -> None:
    """Make all files."""
    if "layers" in options.sections:
        for name in options.layers:
            compiled_at(name, options)
    if "ablation" in options.sections:
        for rate in options.rates:
            ablated(rate, options)


def parsed() -> argparse.Namespace:
    """What the user asks for."""

    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=words, default=["layers", "ablation"], help="layers, ablation")
    parser.add_argument("--layers", type=words, default=list(LAYERS), help=", ".join(LAYERS))
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

"""Pruned networks compiled by Espalier against dense engines: one process per engine, in turns, batch size 1.

    python benchmarks/sparse_inference.py [--networks vgg16_32,gru_1024] [--rates 4,8,16] [--threads 1,2]
        [--engines onnxruntime,openvino,torch,mnn] [--rounds 20] [--environments FOLDER] [--artifacts FOLDER]
        [--prepare] [--json FILE]

Networks have random weights; every convolution but the depthwise ones, every linear and every recurrent layer is
pruned at the nominal rate. Before anything is timed, compiled networks are compared with the masked PyTorch networks.
In each round every engine has its turn: two inferences that are not timed, then some that are. Figures are medians
over rounds of the medians of turns; ratios are against the fastest dense engine, with the interval that holds 95 % of
them when rounds are drawn anew. MNN, TVM and LiteRT need `--environments`, where they are installed.

`--prepare` makes all files in `--artifacts` and times nothing, so that a later run on a quiet machine only measures.
Single layers, the ablation and the processor's peak: `sparse_layers.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
from engine_environments import ENVIRONMENTS, EngineUnavailableError, convert, python_of
from espalier.hw_models.machine import cpu_model, usable_cpus
from espalier.kernels.weight_types import FLOAT32, WEIGHT_TYPES
from machine_peak import peak_gflops
from sparse_cases import NETWORKS, Compiled, compiled, dense_onnx, example, exported_program

#: Engines of the main environment.
OWN_ENGINES = ("onnxruntime", "openvino", "torch")

RATES = (4.0, 8.0, 10.0, 16.0, 30.0)

#: Seconds that a turn of an engine should take, and the most inferences in it.
TURN_SECONDS, MOST_CALLS = 0.25, 20

#: Times that rounds are drawn anew for an interval.
DRAWS = 1000

_COLUMNS = (
    *("rate", "kept", "ms", "vs fastest", "95 %", "vs each"),
    *("GFLOP/s", "of peak", "bytes/weight", "compile, s", "error"),
)

_HERE = Path(__file__).parent


class Worker:
    """A process that times one engine on some models."""

    def __init__(self, python: str, engine: str, threads: int, models: Mapping[str, str]) -> None:
        command = [python, str(_HERE / "engine_worker.py"), engine, str(threads)]
        settings = {**os.environ, "OMP_NUM_THREADS": str(threads), "TVM_NUM_THREADS": str(threads)}
        self._errors = TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [*command, *(f"{name}={file}" for name, file in models.items())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=settings,
            text=True,
        )
        self._answer()

    def times(self, model: str, count: int) -> list[float]:
        """Seconds of so many inferences in a row."""
        assert self._process.stdin is not None
        print(model, count, file=self._process.stdin, flush=True)
        found: list[float] = self._answer()
        return found

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines() or [f"exit status {self._process.returncode}"]
            raise EngineUnavailableError(f"running: {lines[-1][:200]}")
        return json.loads(line)


def started(engine: str, name: str, threads: int, options: argparse.Namespace) -> Worker:
    """A process with the dense network."""
    if engine in OWN_ENGINES:
        return Worker(sys.executable, engine, threads, {"dense": file_of(engine, name, options)})
    file = file_of(engine, name, options)
    return Worker(str(python_of(engine, options.environments)), engine, threads, {"dense": file})


def file_of(engine: str, name: str, options: argparse.Namespace) -> str:
    """What an engine reads of a network, made if it is not there.

    Raises:
        EngineUnavailableError: The engine has no environment, or cannot be given the network.
    """
    if engine == "torch":
        return name
    if engine in OWN_ENGINES:
        return str(dense_onnx(name, options.artifacts))
    if engine not in ENVIRONMENTS:
        raise SystemExit(f"unknown engine {engine!r}; known: {', '.join((*OWN_ENGINES, *ENVIRONMENTS))}")
    if options.environments is None:
        raise EngineUnavailableError("not installed: no --environments")
    make = exported_program if engine == "litert" else dense_onnx
    file = convert(engine, make(name, options.artifacts), options.environments, options.processor)
    facts = {"shape": list(example(name).shape)}
    file.with_name(f"{file.name}.json").write_text(json.dumps(facts), encoding="utf-8")
    return str(file)


def compiled_at(name: str, options: argparse.Namespace) -> dict[float, Compiled]:
    """The network compiled at every rate."""
    ending = "" if options.weights == FLOAT32 else f"_{options.weights}"
    return {
        rate: compiled(name, rate, options.artifacts / f"{name}_{rate:g}{ending}", weight_type=options.weights)
        for rate in options.rates
    }


def measured(workers: Mapping[str, Worker], variants: Mapping[str, tuple[str, str]], rounds: int) -> dict[str, Any]:
    """Seconds of each variant in each round: the median of its turn.

    Args:
        workers: By engine.
        variants: Name -> engine and model.
        rounds: Turns of each.
    """
    counts = {}
    for variant, (engine, model) in variants.items():
        seconds = median(workers[engine].times(model, 3))
        counts[variant] = max(1, min(MOST_CALLS, round(TURN_SECONDS / seconds)))
    found: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant, (engine, model) in variants.items():
            found[variant].append(median(workers[engine].times(model, counts[variant])))
    return found


def interval(slow: list[float], fast: list[float]) -> tuple[float, float]:
    """What holds 95 % of the ratios of medians when rounds are drawn anew."""
    draws = np.random.default_rng(0).integers(len(slow), size=(DRAWS, len(slow)))
    ratios = np.median(np.array(slow)[draws], axis=1) / np.median(np.array(fast)[draws], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


def compare(name: str, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """One network in all engines."""
    own = compiled_at(name, options)
    workers, missing = {}, {}
    for engine in options.engines:
        try:
            workers[engine] = started(engine, name, threads, options)
        except EngineUnavailableError as error:
            missing[engine] = str(error)
    models = {f"{rate:g}x": result.folder for rate, result in own.items()}
    variants = {engine: (engine, "dense") for engine in workers}
    variants |= {model: ("espalier", model) for model in models}
    workers["espalier"] = Worker(sys.executable, "espalier", threads, models)
    times = measured(workers, variants, options.rounds)
    for worker in workers.values():
        worker.close()
    return account(name, threads, own, times, missing)


def account(
    name: str, threads: int, own: Mapping[float, Compiled], times: Mapping[str, list[float]], missing: Mapping[str, str]
) -> dict[str, Any]:
    """The figures of one network."""
    rates = {f"{rate:g}x": asdict(result) for rate, result in own.items()}
    dense = {engine: median(seconds) for engine, seconds in times.items() if engine not in rates}
    fastest = min(dense, key=lambda engine: dense[engine])
    for model, result in rates.items():
        seconds = median(times[model])
        result["ms"] = 1e3 * seconds
        result["ratios"] = {engine: value / seconds for engine, value in dense.items()}
        result["interval"] = interval(times[fastest], times[model])
        result["gflops"] = 2e-9 * result["multiplications"] / seconds
        result["bytes_per_kept_weight"] = result["weights_bytes"] / result["kept"]
    return {
        "network": name,
        "threads": threads,
        "dense_ms": {engine: 1e3 * seconds for engine, seconds in dense.items()},
        "missing": dict(missing),
        "fastest": fastest,
        "rates": rates,
        "rounds": {variant: list(seconds) for variant, seconds in times.items()},
    }


def shown(result: Mapping[str, Any], peak: float) -> str:
    """The figures as Markdown."""
    dense = ", ".join(f"{engine} {value:.2f}" for engine, value in sorted(result["dense_ms"].items()))
    lines = [f"\n**{result['network']}**, threads: {result['threads']}; dense, ms: {dense}", ""]
    lines += [f"- {engine}: {reason}" for engine, reason in result["missing"].items()]
    lines += ["", f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    lines += [_row(rate, figures, result["fastest"], peak) for rate, figures in result["rates"].items()]
    return "\n".join(lines)


def _row(rate: str, figures: Mapping[str, Any], fastest: str, peak: float) -> str:
    low, high = figures["interval"]
    each = ", ".join(f"{engine} {ratio:.1f}" for engine, ratio in figures["ratios"].items())
    cells = [
        rate,
        f"{figures['kept'] / figures['total']:.2%}",
        f"{figures['ms']:.3f}",
        f"{figures['ratios'][fastest]:.1f}x",
        f"{low:.1f}-{high:.1f}",
        each,
        f"{figures['gflops']:.0f}",
        f"{figures['gflops'] / peak:.0%}",
        f"{figures['bytes_per_kept_weight']:.2f}",
        f"{figures['compile_seconds']:.1f}",
        f"{figures['error']:.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def prepare(name: str, options: argparse.Namespace) -> None:
    """Make the files of one network."""
    for engine in options.engines:
        try:
            print(f"{name}, {engine}: {file_of(engine, name, options)}", flush=True)
        except EngineUnavailableError as error:
            print(f"{name}, {engine}: {error}", flush=True)
    for rate, result in compiled_at(name, options).items():
        print(f"{name}, {rate:g}x: compiled in {result.compile_seconds:.1f} s, error {result.error:.1e}", flush=True)


def parsed() -> argparse.Namespace:
    """What the user asks for."""

    def words(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=words, default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--rates", type=lambda text: [float(rate) for rate in words(text)], default=list(RATES))
    parser.add_argument("--threads", type=lambda text: [int(count) for count in words(text)], default=[1, 2])
    parser.add_argument("--engines", type=words, default=[*OWN_ENGINES, *ENVIRONMENTS])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--weights", choices=WEIGHT_TYPES, default=FLOAT32, help="that ours are stored as")
    parser.add_argument("--environments", type=Path, help="folder where MNN, TVM and LiteRT are or will be installed")
    parser.add_argument("--artifacts", type=Path, help="folder that keeps what is compiled and converted")
    parser.add_argument("--processor", default="", help="LLVM's name of this processor, for TVM")
    parser.add_argument("--prepare", action="store_true", help="make the files, time nothing")
    parser.add_argument("--json", type=Path, help="write the figures there")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    """Compare all networks and print."""
    if options.prepare:
        for name in options.networks:
            prepare(name, options)
        return
    peaks = {threads: peak_gflops(threads) for threads in options.threads}
    report: dict[str, Any] = {"cpu": cpu_model(), "cpus": usable_cpus(), "peak_gflops": peaks, "networks": []}
    told = ", ".join(f"{peak:.0f} GFLOP/s of {threads} threads" for threads, peak in peaks.items())
    print(f"{report['cpu']}, {report['cpus']} processors; peak {told}", flush=True)
    for name in options.networks:
        for threads in options.threads:
            result = compare(name, threads, options)
            report["networks"].append(result)
            print(shown(result, peaks[threads]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run with files that are kept or not."""
    options = parsed()
    if options.artifacts is not None:
        options.artifacts = options.artifacts.resolve()
        run(options)
        return
    with TemporaryDirectory() as folder:
        options.artifacts = Path(folder)
        run(options)


if __name__ == "__main__":
    main()

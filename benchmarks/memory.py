"""Counted peak memory of activations against what engines really take.

    python benchmarks/memory.py [--models vgg16 resnet18 mobilenet_v2 resnet20] [--json FILE]

Counted is `graph/memory.py` on the operators after fusion, at batch size 1, weights left out. Measured are, each in a
process of its own and in an inference after the first:

- torch: the most bytes that PyTorch's allocator has handed out at a time, by its profiler;
- torch rss, onnxruntime rss: how far the resident set rises above what it was before the inference (Linux, VmHWM), with
  ONNX Runtime's arena switched off, which else keeps what it once took;
- onnxruntime arena: how far the resident set rises in the very first inference with the arena.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from composing import compose_config
from espalier.commands.building import build
from espalier.compression.assembly import batch_norm_pairs, fold_batch_norms
from espalier.graph.fusion import fuse
from espalier.graph.graph import Graph
from espalier.graph.memory import peak_activation_bytes
from espalier.graph.trace import trace
from espalier.hw_models.runtimes.onnx_export import export_onnx
from espalier.hw_models.runtimes.runtime import make_runtime
from torch import Tensor, nn

#: Model -> overrides that leave its activations as they are and its weights small, and the shape of its input.
_MODELS: Mapping[str, tuple[list[str], tuple[int, ...]]] = {
    "vgg16": (["model.hidden=64"], (3, 224, 224)),
    "resnet18": ([], (3, 224, 224)),
    "mobilenet_v2": ([], (3, 224, 224)),
    "resnet20": ([], (3, 32, 32)),
}
_WAYS = ("counted", "torch", "torch rss", "onnxruntime rss", "onnxruntime arena")

#: glibc keeps small blocks that were freed; larger ones go back to the system at once.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}

_ONCE_MORE = 2


def original(name: str) -> tuple[nn.Module, Graph, Tensor]:
    """A network with its first weights, its trace and an input."""
    overrides, shape = _MODELS[name]
    torch.manual_seed(0)
    model = build(compose_config([f"model={name}", *overrides])["model"]).eval()
    example = torch.rand(1, *shape)
    return model, trace(model, example), example


def counted(name: str) -> int:
    """Bytes by counting, without the operators that an engine merges into others."""
    _, graph, _ = original(name)
    owner = fuse(graph).owner
    executed = [
        replace(operator, inputs=tuple(owner.get(source, source) for source in operator.inputs))
        for operator in graph.operators
        if operator.name not in owner
    ]
    return peak_activation_bytes(executed, graph.input_shape, owner.get(graph.output, graph.output))


def allocated(call: Callable[[], object]) -> int:
    """The most bytes that PyTorch's allocator holds during a call, above what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def resident(call: Callable[[], object]) -> int:
    """Bytes by which the resident set rises during a call."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, proc(5)
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measured(name: str, way: str) -> int:
    """Bytes of one way of measuring; to be called in a fresh process."""
    model, graph, example = original(name)
    network = fold_batch_norms(model, batch_norm_pairs(graph, fuse(graph)))
    torch.set_num_threads(1)
    is_torch = way.startswith("torch")
    call = make_runtime("torch", 1).network(network, example) if is_torch else _onnx_call(network, example, way)
    for _ in range(0 if way.endswith("arena") else _ONCE_MORE):
        call()
    return allocated(call) if way == "torch" else resident(call)


def _onnx_call(network: nn.Module, example: Tensor, way: str) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = way.endswith("arena")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(network, example, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {session.get_inputs()[0].name: example.numpy()}
    return lambda: session.run(None, feeds)


def in_a_process(name: str, way: str) -> int:
    """The figure of a fresh process, in bytes."""
    if way == "counted":
        return counted(name)
    words = [sys.executable, __file__, "--one", name, way]
    done = subprocess.run(words, env=os.environ | _ENVIRONMENT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=_MODELS, default=list(_MODELS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measured(*options.one))
        return
    results: dict[str, Any] = {}
    print(f"{'KiB':<14}" + "".join(f"{way:>19}" for way in _WAYS))
    for name in options.models:
        results[name] = {way: in_a_process(name, way) for way in _WAYS}
        print(f"{name:<14}" + "".join(f"{results[name][way] / 1024:>19.0f}" for way in _WAYS), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

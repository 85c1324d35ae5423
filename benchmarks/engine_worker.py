"""One engine in a process of its own, which times inferences when it is told to.

    python benchmarks/engine_worker.py ENGINE THREADS MODEL [MODEL ...]

Needs nothing but the engine: it also runs where Espalier is not installed. A model is NAME=FILE, a file that the engine
reads (for "torch" the name of a network, for "espalier" the folder of a compiled one). Each line on the standard
input, "NAME COUNT", is answered by a line of JSON, the seconds of COUNT inferences in a row after two more.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Call = Callable[[], object]

WARM_UP = 2


def inputs_of(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers to compute with; latency does not depend on them."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def espalier(file: str, threads: int) -> Call:
    """A network compiled by Espalier."""
    from espalier.kernels.engine import load_compiled  # noqa: PLC0415  # each process has one engine

    network = load_compiled(file, threads)
    inputs, out = inputs_of((1, *network.input_shape)), np.empty((1, *network.output_shape), np.float32)
    return lambda: network(inputs, out)


def torch(file: str, threads: int) -> Call:
    """Eager PyTorch, channels last."""
    from espalier.hw_models.runtimes.runtime import make_runtime  # noqa: PLC0415
    from sparse_cases import example, folded  # noqa: PLC0415

    return make_runtime("torch", threads).network(folded(file), example(file))


def onnxruntime(file: str, threads: int) -> Call:
    """ONNX Runtime."""
    return _by_onnx("onnxruntime", file, threads)


def openvino(file: str, threads: int) -> Call:
    """OpenVINO."""
    return _by_onnx("openvino", file, threads)


def _by_onnx(engine: str, file: str, threads: int) -> Call:
    from espalier.hw_models.runtimes.runtime import make_runtime  # noqa: PLC0415
    from sparse_cases import example  # noqa: PLC0415

    path = Path(file)
    return make_runtime(engine, threads).network(None, example(path.stem), path)


def mnn(file: str, threads: int) -> Call:
    """MNN, float32, told to be exact and fast."""
    import MNN  # noqa: PLC0415

    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    manager = MNN.nn.create_runtime_manager((settings,))
    facts = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))
    network = MNN.nn.load_module_from_file(file, [], [], runtime_manager=manager, shape_mutable=False)
    variable = MNN.expr.placeholder(list(facts["shape"]), MNN.expr.NCHW)
    variable.write(inputs_of(tuple(facts["shape"])))
    return lambda: network.forward(variable).read()


def tvm(file: str, threads: int) -> Call:
    """TVM's virtual machine on a library that `engine_environments.py` has built."""
    os.environ["TVM_NUM_THREADS"] = str(threads)
    import tvm  # noqa: PLC0415
    from tvm import relax  # noqa: PLC0415

    device = tvm.cpu()
    machine = relax.VirtualMachine(tvm.runtime.load_module(file), device)
    facts = json.loads(Path(f"{file}.json").read_text(encoding="utf-8"))
    inputs = tvm.runtime.tensor(inputs_of(tuple(facts["shape"])), device)
    return lambda: machine["main"](inputs)


def litert(file: str, threads: int) -> Call:
    """LiteRT with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], inputs_of(tuple(given["shape"])))
    return interpreter.invoke


def csr(kind: str, file: str, threads: int) -> Call:
    """A pruned layer in compressed sparse rows."""
    import csr_engines  # noqa: PLC0415

    return getattr(csr_engines, kind)(file, threads)


ENGINES = {one.__name__: one for one in (espalier, torch, onnxruntime, openvino, mnn, tvm, litert)}
ENGINES |= {kind: partial(csr, kind) for kind in ("csr_scipy", "csr_torch", "csr_c")}


def timed(call: Call, count: int) -> list[float]:
    """Seconds of each of so many calls."""
    for _ in range(WARM_UP):
        call()
    found = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    """Serve until the input ends; whatever engines print goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engine, threads = sys.argv[1], int(sys.argv[2])
    models = dict(model.split("=", 1) for model in sys.argv[3:])
    calls = {name: ENGINES[engine](file, threads) for name, file in models.items()}
    for call in calls.values():
        call()
    print(json.dumps(sorted(calls)), file=answers, flush=True)
    for line in sys.stdin:
        name, count = line.split()
        print(json.dumps(timed(calls[name], int(count))), file=answers, flush=True)


if __name__ == "__main__":
    main()

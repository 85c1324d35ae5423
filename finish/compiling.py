"""Compiling a network, and comparing what came out with PyTorch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import EspalierError
from ..graph.layers import Realisable
from ..hw_models.machine import cpu_model
from ..hw_models.profiling.timing import one_processor, relative_half_width, summarise, time_alternating
from ..hw_models.runtimes.pytorch import PyTorchRuntime
from ..kernels.compile_network import CompiledFiles, compile_network
from ..kernels.compiler.emit.tiles import Tile
from ..kernels.compiler.lower import lower
from ..kernels.emulation import build_program, emulated_outputs
from ..kernels.engine import CompiledNetwork
from ..kernels.rounded_weights import RoundedWeights
from ..kernels.target import Target
from ..kernels.tuning.tuner import Tuning, tune
from ..kernels.weight_types import FLOAT32
from ..progress import step

__all__ = ["Compiled", "Speed", "compile_and_check"]

#: Floats summed in another order differ by less, as a share of the largest output.
_TOLERANCE = 1e-3

#: Such a difference may round the input of an 8-bit layer to the neighbouring number.
_ROUNDED_TOLERANCE = 0.1

#: Samples of each of the two networks.
_ROUNDS = 50

#: An emulator takes its time.
_EMULATED_INPUTS = 4


@dataclass(frozen=True)
class Speed:
    """Medians of two networks that took turns on this machine, batch size 1.

    Attributes:
        compiled_ms: Milliseconds of the compiled network, called from Python.
        pytorch_ms: Milliseconds of the same network in PyTorch.
        spread: The wider of the two medians' 95 % intervals, half of it, as a share of the median.
    """

    compiled_ms: float
    pytorch_ms: float
    spread: float


@dataclass(frozen=True)
class Compiled:
    """What was compiled, and how it did.

    Attributes:
        sizes: Bytes of each file by name.
        error: Largest difference from the outputs of PyTorch with the same weights, rounded ones if they are stored
            so, as a share of the largest of them; None where it did not run.
        where: It ran, or why it did not.
        n_inputs: How many were compared.
        speed: On this machine; None where it cannot run it.
        rounding: What rounding the weights changes of PyTorch's outputs, the same way; None where they stay floats.
    """

    sizes: dict[str, int]
    error: float | None
    where: str
    n_inputs: int = 0
    speed: Speed | None = None
    rounding: float | None = None


def compile_and_check(
    network: nn.Module,
    inputs: Tensor,
    folder: Path,
    target: Target,
    prefix: str,
    threads: int,
    tuning: Tuning | None = None,
    version: str = "",
    *,
    weight_type: str = FLOAT32,
) -> Compiled:
    """Compile a network and run it, here or under an emulator.

    Args:
        network: In evaluation mode.
        inputs: Some, to compare outputs on; shape (N, ...).
        folder: Is written into.
        target: What to compile for.
        prefix: Of the files' and the functions' names.
        threads: Of the compiled network and of PyTorch.
        tuning: How long to look for each layer's fastest kernel where this machine can run them; None for not at all.
        version: Of Espalier, written into the library.
        weight_type: That the weights are rounded to, and stored as.

    Raises:
        ModelError: The network holds something that is not compiled.
        EspalierError: There is no compiler, it fails, or the outputs are not PyTorch's.
    """
    toolchain = target.toolchain()
    example = inputs[:1].contiguous()
    tiles: dict[str, Tile] = {}
    if tuning is not None and target.runs_here:
        tiles = _tiles(network, example, target, threads, tuning, weight_type)
    with step("compiling"):
        files = compile_network(
            network, example, folder, target.instruction_set, toolchain, tiles, prefix, version, weight_type=weight_type
        )
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    expected = _expected(network, inputs, weight_type)
    rounding = None
    if weight_type != FLOAT32:
        rounding = _difference(expected, _expected(network, inputs))
    if target.runs_here:
        found = _run_here(network, inputs, expected, files, threads)
    elif target.is_native:
        found = Compiled({}, None, "not run: this processor lacks instructions that it was compiled for")
    elif not target.emulator:
        found = Compiled({}, None, f"not run: that would need qemu-{target.machine} and zig")
    else:
        found = _run_emulated(network, inputs, expected, files, target, threads)
    return replace(found, sizes=sizes, rounding=rounding)


def _tiles(
    network: nn.Module, example: Tensor, target: Target, threads: int, tuning: Tuning, weight_type: str
) -> dict[str, Tile]:
    """The fastest kernel of each layer on this machine."""
    with step("tuning"), one_processor(threads):
        layers = lower(network, example, weight_type)
        return tune(layers, target.instruction_set, target.toolchain(), cpu_model(), tuning, threads)


def _run_here(
    network: nn.Module, inputs: Tensor, expected: NDArray[np.float32], files: CompiledFiles, threads: int
) -> Compiled:
    engine = CompiledNetwork(files.library, files.weights, threads, files.library.stem)
    given = inputs.contiguous().numpy()
    error = _checked_error(network, expected, engine(given))
    speed = _speed(network, inputs[:1], engine.prepared(given[:1]), threads)
    engine.close()
    return Compiled({}, error, "on this machine", len(inputs), speed)


def _run_emulated(
    network: nn.Module,
    inputs: Tensor,
    expected: NDArray[np.float32],
    files: CompiledFiles,
    target: Target,
    threads: int,
) -> Compiled:
    inputs, expected = inputs[:_EMULATED_INPUTS], expected[:_EMULATED_INPUTS]
    name = Path(target.emulator).name
    with TemporaryDirectory() as folder:
        # The first time zig makes the C library, too, which may take minutes.
        with step("compiling a program to check"):
            program = build_program(files, target, Path(folder))
        with step(f"running under {name}"):
            given = inputs.contiguous().numpy()
            outputs = emulated_outputs(program, files.weights, target.emulator, given, expected.shape[1:], threads)
    error = _checked_error(network, expected, outputs)
    return Compiled({}, error, f"under {name}, which says nothing of its speed", len(inputs))


@torch.no_grad()
def _expected(network: nn.Module, inputs: Tensor, weight_type: str = FLOAT32) -> NDArray[np.float32]:
    """What PyTorch makes of the inputs with weights that are rounded so."""
    with RoundedWeights(weight_type):
        outputs: NDArray[np.float32] = network(inputs).numpy()
    return outputs


def _difference(outputs: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference as a share of the largest output."""
    return float(np.abs(outputs - expected).max() / max(float(np.abs(expected).max()), 1e-30))


def _checked_error(network: nn.Module, expected: NDArray[np.float32], outputs: NDArray[np.float32]) -> float:
    """The difference of what was compiled.

    Raises:
        EspalierError: It is more than rounding explains.
    """
    error = _difference(outputs, expected)
    is_rounded = any(isinstance(layer, Realisable) for layer in network.modules())
    if not error <= (_ROUNDED_TOLERANCE if is_rounded else _TOLERANCE):
        raise EspalierError(f"the compiled network's outputs differ from PyTorch's by {error:.2g} of the largest")
    return error


def _speed(network: nn.Module, example_input: Tensor, compiled: Callable[[], object], threads: int) -> Speed:
    reference = PyTorchRuntime(threads).network(network, example_input)
    with step("measuring live"), one_processor(threads):
        samples = time_alternating([compiled, reference], _ROUNDS)
    compiled_ms, pytorch_ms = (summarise(row).median_ms for row in samples)
    return Speed(compiled_ms, pytorch_ms, max(relative_half_width(row) for row in samples))

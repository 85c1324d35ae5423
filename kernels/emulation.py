"""Running a compiled network for another processor on this one, by an emulator: its outputs count, not its time."""

import math
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EspalierError
from .compile_network import CompiledFiles
from .target import Target

__all__ = ["build_program", "emulated_outputs"]

_SECONDS = 600

_DRIVER = """#include "@PREFIX@.h"
#include <stdio.h>
#include <stdlib.h>

int main(int n, char **words) {
  if (n != 6) return 100;
  const int batch = atoi(words[3]), inputs = batch * atoi(words[4]), outputs = batch * atoi(words[5]);
  float *input = malloc(4 * (size_t)inputs), *output = malloc(4 * (size_t)outputs);
  @PREFIX@_network *network;
  const int error = @PREFIX@_load(words[1], atoi(words[2]), &network);
  if (error) return error;
  if (fread(input, 4, inputs, stdin) != (size_t)inputs) return 101;
  if (@PREFIX@_run(network, input, output, batch)) return 102;
  @PREFIX@_free(network);
  return fwrite(output, 4, outputs, stdout) == (size_t)outputs ? 0 : 103;
}
"""


def emulated_outputs(
    program: Path,
    weights: Path,
    emulator: str,
    inputs: NDArray[np.float32],
    output_shape: tuple[int, ...],
    threads: int = 1,
) -> NDArray[np.float32]:
    """What a compiled network gives under the target's emulator.

    Args:
        program: By `build_program`.
        weights: The network's.
        emulator: The command.
        inputs: Shape (N, ...).
        output_shape: Of one output, without the batch axis.
        threads: Of the network.

    Returns:
        Shape (N, *output_shape).

    Raises:
        EspalierError: The program ends with an error, or does not end.
    """
    sizes = (len(inputs), inputs[0].size, math.prod(output_shape))
    words = [emulator, program, weights.resolve(), threads, *sizes]
    result = _finished([str(word) for word in words], np.ascontiguousarray(inputs, np.float32).tobytes())
    if result.returncode or len(result.stdout) != 4 * sizes[0] * sizes[2]:
        raise EspalierError(f"the network fails under {emulator}: exit status {result.returncode}")
    return np.frombuffer(result.stdout, np.float32).reshape(-1, *output_shape)


def build_program(files: CompiledFiles, target: Target, folder: Path) -> Path:
    """A program around a compiled network that needs no shared library.

    Args:
        files: What was compiled.
        target: What for.
        folder: Is written into.

    Raises:
        EspalierError: The compiler fails.
    """
    prefix = files.source.stem
    sources = [folder / files.source.name, folder / f"run_{prefix}.c"]
    sources[0].write_bytes(files.source.read_bytes())
    (folder / files.header.name).write_bytes(files.header.read_bytes())
    sources[1].write_text(_DRIVER.replace("@PREFIX@", prefix), encoding="utf-8")
    program = folder / "program"
    target.static_toolchain().static_program(sources, program, target.instruction_set)
    return program


def _finished(words: list[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(words, input=data, capture_output=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EspalierError(f"the network does not end under {words[0]} in {_SECONDS} s") from error

"""A program in C around an emitted network: for sanitizers and for other machines."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from espalier.kernels.compiler.emit.network import Source, emit_network
from espalier.kernels.compiler.lower import lower
from espalier.kernels.instruction_set import INSTRUCTION_SETS
from espalier.kernels.weight_types import FLOAT32
from torch import Tensor, nn

#: Loads each file that is named, runs it twice on the inputs, writes the outputs of the last that loads.
_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "espalier.h"

int main(int count, char **arguments) {
  const int batch = atoi(arguments[1]), threads = atoi(arguments[2]);
  const size_t n_in = (size_t)batch * @IN@, n_out = (size_t)batch * @OUT@;
  float *in = malloc(4 * n_in), *out = malloc(4 * n_out), *again = malloc(4 * n_out);
  FILE *file = fopen("inputs", "rb");
  if (!file || fread(in, 4, n_in, file) != n_in) return 20;
  fclose(file);
  for (int i = 3; i < count; i++) {
    espalier_network *network = NULL;
    const int error = espalier_load(arguments[i], threads, &network);
    printf("%d\\n", error);
    if (error) continue;
    if (espalier_run(network, in, out, batch) || espalier_run(network, in, again, batch)) return 21;
    if (memcmp(out, again, 4 * n_out)) return 22;
    espalier_free(network);
    file = fopen("outputs", "wb");
    fwrite(out, 4, n_out, file);
    fclose(file);
  }
  free(in); free(out); free(again);
  return 0;
}
"""


class Driver:
    """A network and a main function in one executable.

    Args:
        folder: Is filled.
        module: The network.
        inputs: A batch of inputs.
        isa: The instruction set.
        command: The compiler and its flags.
        runner: What runs the executable, such as an emulator.
        weight_type: That weights are rounded to.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        inputs: Tensor,
        isa: str,
        command: Sequence[str],
        runner: Sequence[str] = (),
        weight_type: str = FLOAT32,
    ) -> None:
        self._folder = folder
        self._batch = len(inputs)
        self._runner = runner
        network = lower(module.eval(), inputs[:1], weight_type)
        self.source = emit_network(network, INSTRUCTION_SETS[isa])
        self._shape = (self._batch, *network.output_shape)
        self._write(self.source, inputs)
        flags = [*INSTRUCTION_SETS[isa].flags, "-std=gnu11", "-ffp-contract=fast", "-pthread", "-Wno-psabi"]
        files = ["main.c", "espalier.c", "-o", "program", "-lm"]
        subprocess.run([*command, *flags, *files], cwd=folder, check=True, capture_output=True)

    def _write(self, source: Source, inputs: Tensor) -> None:
        folder, facts = self._folder, source.facts
        folder.mkdir(parents=True, exist_ok=True)
        main = _MAIN.replace("@IN@", str(facts.input_floats)).replace("@OUT@", str(facts.output_floats))
        # In memory of large pages a sanitizer would not see the end of what is used.
        c = source.c.replace("huge = 1 << 21;", "huge = 64;")
        assert c != source.c
        for name, text in (("main.c", main), ("espalier.c", c), ("espalier.h", source.header)):
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "weights").write_bytes(source.weights)
        (folder / "inputs").write_bytes(inputs.numpy().tobytes())

    def errors(self, *weights: bytes, threads: int = 1) -> list[int]:
        """What loading each of some weights files returns; those that load are run."""
        names = [f"weights_{place}" for place in range(len(weights))]
        for name, content in zip(names, weights, strict=True):
            (self._folder / name).write_bytes(content)
        return self._run(threads, *names)

    def outputs(self, threads: int = 1) -> Tensor:
        """What the network's own weights give."""
        assert self._run(threads, "weights") == [0]
        content = (self._folder / "outputs").read_bytes()
        return torch.from_numpy(np.frombuffer(content, np.float32).copy()).view(self._shape)

    def _run(self, threads: int, *names: str) -> list[int]:
        command = [*self._runner, "./program", str(self._batch), str(threads), *names]
        result = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return [int(line) for line in result.stdout.split()]

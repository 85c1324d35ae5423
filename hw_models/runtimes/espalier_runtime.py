"""The engine that compiles networks to C itself, and skips what block pruning took away."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from ...graph.opspec import FREE_KINDS, OpSpec
from ...kernels.compiler.emit.network import Source, emit_network
from ...kernels.compiler.ir import Network
from ...kernels.compiler.lower import lower
from ...kernels.engine import CompiledNetwork
from ...kernels.instruction_set import host_instruction_set
from ...kernels.library_cache import LibraryCache
from ...kernels.toolchain import find_toolchain
from ...version import __version__
from .operator_networks import chain_network, operator_network

__all__ = ["EspalierRuntime"]

Call = Callable[[], object]

_CHAIN = 21

#: Kinds that are nothing in this engine: it rounds inputs of 8-bit layers and computes in floats.
_NOTHING = (*FREE_KINDS, "dequantize")

#: Libraries that are compiled at once, before any of them is measured.
_BATCH = 32


class EspalierRuntime:
    """Networks and single operators compiled for this machine.

    A single operator is a network of one layer whose inputs lie where the layer before would leave them. Compiled
    libraries are kept in the cache folder.

    Args:
        threads: Threads that an inference may use, up to 16.

    Raises:
        EspalierError: There is no C compiler.
    """

    name = "espalier"
    keeps_integers = False
    skips_blocks = True

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._instruction_set = host_instruction_set()
        self._toolchain = find_toolchain()
        self._cache = LibraryCache(self._instruction_set, self._toolchain)
        self._ready: set[str] = set()

    def versions(self) -> dict[str, str]:
        """Version of Espalier, its instruction set and the compiler."""
        return {"espalier": f"{__version__}, {self._instruction_set.name}", "compiler": self._compiler}

    @cached_property
    def _compiler(self) -> str:
        return self._toolchain.version

    def compile_ahead(self, specs: Iterable[OpSpec]) -> Iterator[int]:
        """Compile operators in batches.

        Yields:
            How many more are ready.
        """
        wanted = {_key(spec): spec for spec in specs if _key(spec) not in self._ready}
        keys = list(wanted)
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            for _ in self._cache.compile_ahead(self._source(wanted[key]) for key in batch):
                yield 1
            self._ready.update(batch)

    def compile_networks_ahead(self, modules: Iterable[nn.Module], example_input: Tensor) -> Iterator[None]:
        """Compile whole networks.

        Yields:
            Whenever one more is ready.
        """
        example = example_input.contiguous()
        yield from self._cache.compile_ahead(self._emitted(lower(module, example)) for module in modules)

    def operator(self, spec: OpSpec) -> Call:
        """One operator, copied neither in nor out."""
        return self._bare_call(self._source(spec))

    def network(self, module: nn.Module, example_input: Tensor, onnx_file: Path | None = None) -> "_CompiledExecutable":  # noqa: ARG002
        """The whole network, its input and output included."""
        example = example_input.contiguous()
        return _CompiledExecutable(self._loaded(self._emitted(lower(module, example))), example)

    def call_overhead(self) -> tuple[Call, Call, int]:
        """Networks of one and of many trivial layers."""
        one, many = (self._bare_call(self._trivial(length)) for length in (1, _CHAIN))
        return one, many, _CHAIN - 1

    def _source(self, spec: OpSpec) -> Source:
        return self._trivial(1) if spec.kind in _NOTHING else self._bare(operator_network(spec))

    def _trivial(self, length: int) -> Source:
        return self._bare(chain_network(length))

    def _emitted(self, network: Network) -> Source:
        return emit_network(network, self._instruction_set, version=__version__)

    def _bare(self, network: Network) -> Source:
        """In a whole network inputs and outputs are copied once and not at each layer."""
        return emit_network(network, self._instruction_set, version=__version__, is_bare=True)

    def _bare_call(self, source: Source) -> Call:
        """A call with memory of its own."""
        compiled = self._loaded(source)
        return compiled.prepared(np.zeros((1, *compiled.input_shape), np.float32))

    def _loaded(self, source: Source) -> CompiledNetwork:
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "weights"
            weights.write_bytes(source.weights)
            return CompiledNetwork(self._cache.library(source), weights, self.threads)


def _key(spec: OpSpec) -> str:
    """Operators that differ in bits alone are one here."""
    return spec.replace(bits=32).key


class _CompiledExecutable:
    def __init__(self, compiled: CompiledNetwork, example_input: Tensor) -> None:
        self._compiled = compiled
        self._call = compiled.prepared(example_input.numpy())

    def __call__(self) -> object:
        return self._call()

    def outputs(self, inputs: Tensor) -> Tensor:
        return torch.from_numpy(self._compiled(inputs.contiguous().numpy()))

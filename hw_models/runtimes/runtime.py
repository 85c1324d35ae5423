"""What an engine must offer: single operators to time, and whole networks to run."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ...errors import EspalierError
from ...graph.opspec import OpSpec

__all__ = ["CompilesAhead", "Executable", "Runtime", "make_runtime", "missing_modules"]

Call = Callable[[], object]

_KNOWN = ("espalier", "onnxruntime", "openvino", "torch")


class Executable(Protocol):
    """A network prepared for one engine."""

    def __call__(self) -> object:
        """Run one inference on the example input."""

    def outputs(self, inputs: Tensor) -> Tensor:
        """Run the network on inputs of the example's shape."""


class Runtime(Protocol):
    """An engine on this machine, with a fixed number of threads.

    One that skips what block pruning took away says so in an attribute `skips_blocks`.
    """

    name: str
    threads: int
    #: Whether integers stay integers between quantised layers.
    keeps_integers: bool

    def versions(self) -> dict[str, str]:
        """Library -> version, of what decides the speed."""

    def operator(self, spec: OpSpec) -> Call:
        """One operator, ready to run on random data of the right shapes."""

    def network(self, module: nn.Module, example_input: Tensor, onnx_file: Path | None = None) -> Executable:
        """A whole network, ready to run.

        Args:
            module: In evaluation mode, batch-norms folded.
            example_input: Batch size 1.
            onnx_file: The same network as ONNX, for engines that read it; exported anew when None.
        """

    def call_overhead(self) -> tuple[Call, Call, int]:
        """A call of one trivial operator, one of several, and how many more the second has."""


@runtime_checkable
class CompilesAhead(Protocol):
    """An engine that prepares many operators or networks in less time than one after the other."""

    def compile_ahead(self, specs: Iterable[OpSpec]) -> Iterator[int]:
        """Prepare operators.

        Yields:
            How many more are ready.
        """

    def compile_networks_ahead(self, modules: Iterable[nn.Module], example_input: Tensor) -> Iterator[None]:
        """Prepare whole networks.

        Args:
            modules: As `Runtime.network` takes them.
            example_input: Of all of them.

        Yields:
            Whenever one more is ready.
        """


def missing_modules(*names: str) -> list[str]:
    """Those of the modules `names` that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def make_runtime(name: str, threads: int) -> Runtime:
    """The engine of that name.

    Args:
        name: "espalier", "onnxruntime", "openvino" or "torch".
        threads: Threads that an inference may use.

    Raises:
        EspalierError: The name is unknown, the threads are fewer than 1, or the library is not installed.
    """
    if threads < 1:
        raise EspalierError(f"device.threads must be at least 1, got {threads}")
    if name == "torch":
        from .pytorch import PyTorchRuntime  # noqa: PLC0415  # engines are optional

        return PyTorchRuntime(threads)
    if name == "onnxruntime":
        _require(name, "export", "onnx", "onnxruntime", "onnxscript")
        from .onnx_runtime import OnnxRuntime  # noqa: PLC0415  # engines are optional

        return OnnxRuntime(threads)
    if name == "openvino":
        _require(name, "openvino", "onnx", "onnxscript", "openvino")
        from .openvino_runtime import OpenVinoRuntime  # noqa: PLC0415  # engines are optional

        return OpenVinoRuntime(threads)
    if name == "espalier":
        from .espalier_runtime import EspalierRuntime  # noqa: PLC0415  # needs a C compiler

        return EspalierRuntime(threads)
    raise EspalierError(f"unknown runtime {name!r}; known: {', '.join(_KNOWN)}")


def _require(runtime: str, extra: str, *modules: str) -> None:
    if missing := missing_modules(*modules):
        raise EspalierError(
            f"runtime {runtime!r} needs {', '.join(missing)}: pip install 'espalier[{extra}]', or runtime=torch"
        )

"""Running a compiled network from Python."""

import ctypes
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import EspalierError, FormatError
from .compiler.emit.program import MAX_THREADS
from .compiler.emit.runtime import ERRORS
from .elf import check_library

__all__ = ["LIBRARY_FILE", "WEIGHTS_FILE", "CompiledNetwork", "load_compiled"]

LIBRARY_FILE = "{prefix}.so"
WEIGHTS_FILE = "{prefix}.weights"


class CompiledNetwork:
    """A compiled network, ready to run. Threads of Python may share it: their calls wait for each other.

    Args:
        library: The shared library.
        weights: The weights file.
        threads: 1 to 16.
        prefix: Of the library's functions.

    Raises:
        FormatError: The files are damaged or do not belong together.
        EspalierError: The processor cannot run it, or the threads are out of range.
    """

    _free: Any = None

    def __init__(self, library: Path, weights: Path, threads: int = 1, prefix: str = "espalier") -> None:
        self._handle = ctypes.c_void_p()
        self._process = os.getpid()
        if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
            raise EspalierError(f"threads must be a whole number from 1 to {MAX_THREADS}, got {threads!r}")
        functions = _functions(library, prefix)
        account = json.loads(functions["version"]())
        self.input_shape: tuple[int, ...] = tuple(account["input_shape"])
        self.output_shape: tuple[int, ...] = tuple(account["output_shape"])
        self.instruction_set: str = account["instruction_set"]
        self.threads = threads
        self._run = functions["run"]
        error = functions["load"](str(weights).encode(), threads, ctypes.byref(self._handle))
        if error:
            raise _failure(error, weights)
        self._free = functions["free"]

    def __call__(self, inputs: Tensor | NDArray[np.float32], out: Any = None) -> Any:
        """Run a batch.

        Args:
            inputs: float32 of shape (N, *input_shape), a NumPy array or a tensor; read where it lies if contiguous.
            out: What the result is written into, of shape (N, *output_shape), contiguous float32; made if None.

        Returns:
            Shape (N, *output_shape), of the inputs' class.

        Raises:
            EspalierError: The inputs have another shape or type, the network was closed, or its threads are those of
                another process.
        """
        if self._free is None:
            raise EspalierError("the compiled network was closed; load it again")
        if self.threads > 1 and os.getpid() != self._process:
            raise EspalierError(
                "the threads of a compiled network stay in the process that loaded it; load it again in this one"
            )
        array = self._inputs(inputs)
        outputs = self._outputs(len(array), out)
        pointers = (array.ctypes.data_as(_FLOATS), outputs.ctypes.data_as(_FLOATS))
        error = self._run(self._handle, *pointers, len(array))
        assert error == 0, ERRORS.get(error)
        if out is not None:
            return out
        return torch.from_numpy(outputs) if isinstance(inputs, Tensor) else outputs

    def prepared(self, inputs: NDArray[np.float32]) -> Callable[[], NDArray[np.float32]]:
        """A call that runs always the same inputs and writes always into the same outputs, which it returns.

        Args:
            inputs: Contiguous float32 of shape (N, *input_shape).
        """
        outputs = self(inputs)
        pointers = (inputs.ctypes.data_as(_FLOATS), outputs.ctypes.data_as(_FLOATS))
        run, handle, batch = self._run, self._handle, len(inputs)

        def call() -> NDArray[np.float32]:
            run(handle, *pointers, batch)
            # The call keeps the network and its inputs alive.
            assert self._free is not None
            assert len(inputs) == batch
            return outputs  # type: ignore[no-any-return]

        return call

    def _inputs(self, given: Any) -> NDArray[np.float32]:
        """What is run, contiguous.

        Raises:
            EspalierError: It is something else.
        """
        if isinstance(given, Tensor):
            if given.dtype != torch.float32 or given.device.type != "cpu" or given.layout != torch.strided:
                got = f"a tensor of {given.dtype}, {given.layout} on {given.device}"
                raise EspalierError(f"expected a dense float32 tensor on the CPU, got {got}; convert it first")
            given = given.detach().numpy()
        wanted = f"(N, {', '.join(map(str, self.input_shape))})"
        if not isinstance(given, np.ndarray) or given.dtype != np.float32:
            got = f"an array of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__
            advice = "convert with numpy.asarray(inputs, 'float32')"
            raise EspalierError(f"expected a float32 array or tensor of shape {wanted}, got {got}; {advice}")
        if given.shape[1:] != self.input_shape:
            advice = "; the batch axis is missing: give inputs[None]" if given.shape == self.input_shape else ""
            raise EspalierError(f"expected inputs of shape {wanted}, got {given.shape}{advice}")
        return np.ascontiguousarray(given)

    def _outputs(self, batch: int, out: Any) -> NDArray[np.float32]:
        shape = (batch, *self.output_shape)
        if out is None:
            return np.empty(shape, np.float32)
        array: NDArray[np.float32] = out.detach().numpy() if isinstance(out, Tensor) else out
        if array.dtype != np.float32 or array.shape != shape or not array.flags["C_CONTIGUOUS"]:
            raise EspalierError(f"out must be contiguous float32 of shape {shape}, got {array.dtype} {array.shape}")
        return array

    @property
    def output_floats(self) -> int:
        """Numbers of one output."""
        return math.prod(self.output_shape)

    def close(self) -> None:
        """End its threads and give its memory back; nothing else can be run then."""
        # A process that was forked off has the handle, but not the threads that would have to end.
        if self._free is not None and (self.threads == 1 or os.getpid() == self._process):
            self._free(self._handle)
        self._free = None

    def __enter__(self) -> "CompiledNetwork":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        """Neither copied nor sent to other processes.

        Raises:
            EspalierError: Always.
        """
        raise EspalierError("a compiled network cannot be copied or pickled; load it again, in each process its own")

    def __del__(self) -> None:
        self.close()


_FLOATS = ctypes.POINTER(ctypes.c_float)


def _functions(library: Path, prefix: str) -> dict[str, Any]:
    if not library.is_file():
        raise FormatError(f"there is no compiled network {library}; `espalier compile` makes one")
    check_library(library)
    try:
        loaded = _loaded(library.resolve())
        functions = {name: getattr(loaded, f"{prefix}_{name}") for name in ("load", "run", "free", "version")}
    except (OSError, AttributeError) as error:
        # Without the path that it was loaded by.
        reason = str(error).split(": ", 1)[-1]
        raise FormatError(f"{library} is no network compiled for this machine: {reason}") from error
    functions["version"].restype = ctypes.c_char_p
    functions["load"].argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
    functions["run"].argtypes = [ctypes.c_void_p, _FLOATS, _FLOATS, ctypes.c_int]
    functions["free"].argtypes = [ctypes.c_void_p]
    functions["free"].restype = None
    return functions


def _loaded(library: Path) -> ctypes.CDLL:
    """The library under a name of its own: by the same name the loader would give one that was there before."""
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / library.name
        link.symlink_to(library)
        return ctypes.CDLL(str(link))


def _failure(error: int, weights: Path) -> EspalierError:
    meaning = ERRORS.get(error, f"error {error}")
    return (FormatError if error in (1, 2, 3, 4) else EspalierError)(f"{weights}: {meaning}")


def load_compiled(path: str | Path, threads: int = 1) -> CompiledNetwork:
    """A network that `espalier compile` wrote.

    Args:
        path: The folder, or the shared library in it.
        threads: 1 to 16.

    Raises:
        FormatError: There is none, or its files are damaged.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.so"))
        if len(found) != 1:
            inner = [str(library.parent) for library in sorted(path.glob("compiled/*/*.so"))]
            advice = f"; give {' or '.join(inner)}" if inner else ""
            raise FormatError(
                f"{path} holds {len(found)} shared libraries, expected the one that `espalier compile` wrote{advice}"
            )
        path = found[0]
    return CompiledNetwork(path, path.with_suffix(".weights"), threads, path.stem)

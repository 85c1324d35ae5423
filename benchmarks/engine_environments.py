"""Engines that live in environments of their own, because their converters need other versions of what we need.

Each is installed with its pinned packages into a folder, and converts there the networks that it is given. What cannot
be installed or converted is told with its reason.

MNN's command `mnnconvert` calls whatever `pip` comes first on the path, which need not be its environment's, and
reports the use to its makers; the converter inside it is called directly instead.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ENVIRONMENTS", "EngineUnavailableError", "convert", "python_of"]

#: Seconds after which a converter is given up.
PATIENCE_SECONDS = 900

#: Engine -> what pip installs.
ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "mnn": ("MNN==3.6.1", "numpy==2.4.6"),
    "tvm": ("apache-tvm==0.27.0.post1", "onnx==1.22.0", "numpy==2.4.6"),
    "litert": ("litert-torch==0.10.0", "torch==2.13.0"),
}

#: Engine -> ending of its files.
ENDINGS = {"mnn": "mnn", "tvm": "so", "litert": "tflite"}

_MNN = """
import sys, _tools
source, target = sys.argv[1:3]
_tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", target, "--bizCode", "none"])
"""

_TVM = """
import sys, onnx, tvm
from tvm.relax.frontend.onnx import from_onnx
source, target, processor = sys.argv[1:4]
module = from_onnx(onnx.load(source), keep_params_in_input=False)
kind = {"kind": "llvm", "mcpu": processor} if processor else "llvm"
tvm.compile(module, target=tvm.target.Target(kind)).export_library(target)
"""

_LITERT = """
import sys, torch, litert_torch
source, target = sys.argv[1:3]
program = torch.export.load(source)
litert_torch.convert(program.module(), program.example_inputs[0]).export(target)
"""

_SCRIPTS = {"mnn": _MNN, "tvm": _TVM, "litert": _LITERT}


class EngineUnavailableError(Exception):
    """An engine cannot be installed, or cannot be given a network."""


def python_of(engine: str, folder: Path) -> Path:
    """The interpreter of an engine's environment, which is made if it is not there.

    Raises:
        EngineUnavailableError: pip fails.
    """
    place = (folder / engine).resolve()
    python, done = place / "bin" / "python", place / "installed"
    if not done.is_file():
        venv.create(place, with_pip=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[engine]], place, "installing")
        done.write_text("\n".join(ENVIRONMENTS[engine]) + "\n", encoding="utf-8")
    return python


def convert(engine: str, source: Path, environments: Path, processor: str) -> Path:
    """A network in an engine's own format, made if it is not there.

    Args:
        engine: One of `ENVIRONMENTS`.
        source: An ONNX file; for LiteRT an exported PyTorch program.
        environments: Folder of the environments.
        processor: LLVM's name of this processor, for compilers; "" if unknown.

    Raises:
        EngineUnavailableError: It cannot.
    """
    target = source.with_suffix(f".{engine}.{ENDINGS[engine]}")
    if not target.is_file():
        python = python_of(engine, environments)
        _run([str(python), "-c", _SCRIPTS[engine], str(source), str(target), processor], source.parent, "converting")
    if not target.is_file():
        raise EngineUnavailableError(f"{engine} writes no file")
    return target


def _run(command: Sequence[str], folder: Path, doing: str) -> None:
    """Run in the environment alone: nothing of the caller's Python, the environment's programs first on the path."""
    own = str(Path(command[0]).parent)
    settings = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    settings["PATH"] = own + os.pathsep + settings.get("PATH", "")
    try:
        result = subprocess.run(
            command, cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise EngineUnavailableError(f"{doing} takes more than {PATIENCE_SECONDS} s") from error
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or [f"exit status {result.returncode}"]
        print(result.stderr[-2000:], file=sys.stderr)
        raise EngineUnavailableError(f"{doing}: {lines[-1][:200]}")

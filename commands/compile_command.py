"""`espalier compile`: the network of a run as C and a shared library."""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.table import Table
from torch import nn

from ..errors import EspalierError
from ..files import atomic_folder
from ..finish.compiling import Compiled, compile_and_check
from ..finish.loading import load
from ..kernels.compiler.emit.program import MAX_THREADS
from ..kernels.rounded_weights import RoundedWeights
from ..kernels.target import Target
from ..kernels.tuning.tuner import Tuning
from ..kernels.weight_types import FLOAT32, WEIGHT_TYPES
from ..progress import results, step
from ..reports.units import formatted
from ..tasks.accuracy import accuracy
from ..tasks.data.split import Split
from ..version import __version__
from .arguments import Words, config_folders, parsed, yes_or_no
from .building import build
from .catalogue import option_file, options
from .search import CONFIG_FILE
from .suggestions import did_you_mean
from .validation import check_node

__all__ = ["run"]

_USAGE = """Turn a run's network into C: one source file, its header, a shared library and a file of weights.

usage: espalier compile RUN_FOLDER [target=TARGET] [KEY=VALUE] ...

  target=host                 {targets}
                              (espalier list targets says more)
  output=FOLDER               default: RUN_FOLDER/compiled/TARGET
  weights=float32             or bfloat16 or int8: a half or a quarter of the bytes, faster where weights come from afar
  tune=true                   looks for each layer's fastest kernel on this machine first: a minute or two, remembered
  name=espalier               of the files, and what the functions' names begin with
  threads=1                   1 to 16, for the comparison below; whoever loads the network gives his own number
  target.triple=TRIPLE        another processor and system, as zig calls them, such as riscv64-linux-musl
  target.compiler=COMMAND     another C compiler, or zig
  --config-dir FOLDER         your own targets, FOLDER/target/NAME.yaml

The library has four functions (NAME_load, NAME_run, NAME_free, NAME_version) and needs nothing but libc and pthreads.
Outputs are compared with PyTorch's on inputs of the search split, and both are timed, where this machine can run what
was compiled; code for another processor runs under qemu where that is installed, for its outputs. Rounded weights are
compared with PyTorch's on the same rounded weights; what the rounding costs is told beside it. The C compiler is the
system's, else and for other processors zig's: pip install 'espalier[compile]'.

From Python: espalier.load_compiled(FOLDER). From C: examples/main.c.
"""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")

_SUFFIXES = (".c", ".h", ".so", ".weights")

#: What the source files begin with.
_MARK = b"/* A network compiled by Espalier. */"

#: Inputs whose outputs are compared.
_INPUTS = 32

#: A median that is less certain is said to be.
_MOST_SPREAD = 0.1

_TARGET_KEYS = ("instructions", "triple", "compiler")


def run(arguments: Sequence[str]) -> None:
    """Compile the run on the command line."""
    words = list(arguments)
    folders = config_folders(words)
    if "-h" in words or "--help" in words:
        sys.stdout.write(_USAGE.format(targets=", ".join(options("target", folders))))
        return
    known = ("target", "output", "name", "threads", "tune", "weights", *(f"target.{key}" for key in _TARGET_KEYS))
    given = parsed("compile", words, 1, known, "run folder")
    target = _target(given, folders)
    name, threads = _name(given), _threads(given)
    tuning = Tuning() if yes_or_no("tune", given.options.get("tune", "false")) else None
    weight_type = _weight_type(given)
    output = Path(given.options.get("output") or given.files[0] / "compiled" / target.name).expanduser()
    _check_replaceable(output)
    toolchain = target.toolchain()  # before anything is loaded
    network, split = _network(given.files[0])
    inputs = split.inputs(slice(0, _INPUTS))
    with atomic_folder(output) as folder:
        compiled = compile_and_check(
            network, inputs, folder, target, name, threads, tuning, __version__, weight_type=weight_type
        )
    title = f"{target.name}, {target.instruction_set.name} instructions"
    _show(compiled, title, threads, _accuracies(network, split, weight_type))
    results().print(f"compiled by {toolchain.version}: {output}", soft_wrap=True)


def _target(words: Words, folders: Sequence[Path]) -> Target:
    """The target's file, with what the command line changes of it."""
    name = words.options.get("target", "host")
    path = option_file("target", name, folders)
    if path is None:
        raise EspalierError(f"target={name}: there is no such target{did_you_mean(name, options('target', folders))}")
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise EspalierError(f"{path} is not YAML in UTF-8: {str(error).splitlines()[0]}") from error
    if not isinstance(node, dict):
        raise EspalierError(f"{path} is no target: expected keys and values")
    changes = {key: words.options[f"target.{key}"] for key in _TARGET_KEYS if f"target.{key}" in words.options}
    check_node("target", node | changes)
    target = build(node | changes)
    if not isinstance(target, Target):
        raise EspalierError(f"{path}: _target_ must build a Target, got {type(target).__name__}")
    return target


def _name(words: Words) -> str:
    name = words.options.get("name", "espalier")
    if not _NAME.fullmatch(name):
        raise EspalierError(f"name must be letters, digits and _, the first a letter, got {name!r}")
    return name


def _threads(words: Words) -> int:
    text = words.options.get("threads", "1")
    if not text.isdecimal() or len(text) > 2 or not 1 <= int(text) <= MAX_THREADS:
        raise EspalierError(f"threads must be a whole number from 1 to {MAX_THREADS}, got {text[:40]!r}")
    return int(text)


def _weight_type(words: Words) -> str:
    name = words.options.get("weights", FLOAT32)
    if name not in WEIGHT_TYPES:
        raise EspalierError(f"weights={name}: there is no such type{did_you_mean(name, WEIGHT_TYPES)}")
    return name


def _check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but what was compiled before.

    Raises:
        EspalierError: Names what else it holds.
    """
    if not folder.exists():
        return
    if not folder.is_dir() or folder.is_symlink() or folder.absolute() == Path.cwd():
        what = "the current folder" if folder.is_dir() and not folder.is_symlink() else "a file or a link"
        raise EspalierError(f"output must be a folder that can be replaced, {folder} is {what}")
    others = sorted(path.name for path in folder.iterdir() if not _is_compiled(path))
    if others:
        raise EspalierError(
            f"{folder} holds what espalier compile did not write ({', '.join(others[:3])}): give another output=FOLDER"
        )


def _is_compiled(path: Path) -> bool:
    source = path.with_suffix(".c")
    if path.suffix not in _SUFFIXES or not path.is_file() or not source.is_file():
        return False
    with source.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def _network(folder: Path) -> tuple[nn.Module, Split]:
    """The network of a run, and its search split."""
    config = _config(folder)
    network = load(folder, build(config["model"]))
    split: Split = build(config["data"]).search
    return network, split


def _accuracies(network: nn.Module, split: Split, weight_type: str) -> dict[str, float]:
    """Of PyTorch with floats and with rounded weights, which is what was compiled; nothing where these are one."""
    if weight_type == FLOAT32:
        return {}
    with step("accuracy on the search split"), RoundedWeights(weight_type):
        rounded = accuracy(network, split)
    return {FLOAT32: accuracy(network, split), weight_type: rounded}


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        what = f"it has no {CONFIG_FILE}" if folder.is_dir() else "it is a file"
        what = what if folder.exists() else "there is no such folder"
        raise EspalierError(f"{folder} is no run folder: {what}; expected one that `espalier search` finished")
    try:
        values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise EspalierError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict) or not {"model", "data"} <= set(values):
        raise EspalierError(f"{path} is damaged: it names no model and no data")
    for name in ("model", "data"):
        check_node(name, values[name])
    return values


def _show(compiled: Compiled, title: str, threads: int, accuracies: Mapping[str, float]) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    for name, size in compiled.sizes.items():
        table.add_row(name, formatted("storage_bytes", size))
    if compiled.error is not None:
        table.add_row("largest relative error", f"{compiled.error:.2g}")
    if compiled.rounding is not None:
        table.add_row("changed by rounding the weights", f"{compiled.rounding:.2g}")
    for weight_type, share in accuracies.items():
        table.add_row(f"accuracy, {weight_type}, search split", formatted("accuracy", share))
    if speed := compiled.speed:
        table.add_row("latency, compiled", formatted("latency_ms", speed.compiled_ms))
        table.add_row("latency, PyTorch", formatted("latency_ms", speed.pytorch_ms))
    shown = results()
    shown.print(table)
    shown.print(_how(compiled, threads), soft_wrap=True)


def _how(compiled: Compiled, threads: int) -> str:
    """What the figures were got on."""
    if compiled.error is None:
        return compiled.where
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    text = f"{compiled.n_inputs} inputs of the search split, run {compiled.where}, {count}"
    if (speed := compiled.speed) is None:
        return text
    text += f"; latencies: medians in alternation, batch size 1, within {100 * speed.spread:.0f} %"
    return f"{text}: the machine was busy, measure again" if speed.spread > _MOST_SPREAD else text

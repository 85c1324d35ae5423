"""`espalier profile`: the lookup table of this machine."""

import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from ..errors import EspalierError
from ..hw_models.cost import HardwareModel
from ..hw_models.profiled_device import ProfiledDevice
from ..hw_models.profiling.saying import noise_text
from ..hw_models.tables.correction import correction_text
from ..hw_models.tables.table import LookupTable
from ..progress import results
from .building import build_device, resolved
from .hydra_app import run_jobs
from .profile_subcommands import SUBCOMMANDS, run_subcommand
from .runner_command import IMPORT, export, export_folder, import_result
from .search import prepare

__all__ = ["run"]

_USAGE = """Time every operator that a search space can lead to, and some whole networks, and write the lookup table.

usage: espalier profile [output=FILE] [GROUP=OPTION] [KEY=VALUE] ...
       espalier profile --export-runner FOLDER [GROUP=OPTION] [KEY=VALUE] ...     to measure another device
       espalier profile import-result RESULT output=FILE                         what was measured there
       espalier profile show|diff|merge|check|import|fit ... tables that are there already (--help says more)

  output=host.json               the file (default: tables/DEVICE-RUNTIME.json)
  task=cifar10_resnet20          whose operators
  device=host                    a device that is measured live
  runtime=torch                  engine: onnxruntime, openvino, torch or espalier (short for device.runtime)
  device.threads=1               threads of an inference
  device.tolerance=0.05          repeat until the 95 % interval of a median is within this share of it,
  device.max_rounds=45           but no more often than this
  device.networks=32             whole networks to measure, which the sum of operators is corrected by; 0 for none
  space=all                      whose choices
  space.include='[layer3.*]'     only what these layers can become

What was measured before is not measured again, also after an interruption. Use the table anywhere:
espalier search device=table device.table=FILE
The folder for another device holds models and a program that needs Python, onnxruntime and numpy; see its README.txt.
"""

_SLOWEST = 5

_RUNTIME = re.compile(r"^runtime=")


def run(arguments: Sequence[str]) -> None:
    """Profile as the command line says."""
    if arguments and arguments[0] in SUBCOMMANDS:
        run_subcommand(arguments[0], arguments[1:])
        return
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(_USAGE)
        return
    if arguments and arguments[0] == IMPORT:
        import_result(arguments[1:])
        return
    folder, arguments = export_folder(arguments)
    outputs = [Path(word.removeprefix("output=")) for word in arguments if word.startswith("output=")]
    if outputs:
        _check_output(outputs[0])
    others = [word for word in arguments if not word.startswith("output=")]
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", "tracker=none"]
    # Hydra wants all overrides side by side, and flags before or after them.
    place = next((i for i, word in enumerate(others) if "=" in word and not word.startswith("-")), len(others))
    words = [*others[:place], *quiet, *others[place:]]
    words = [_RUNTIME.sub("device.runtime=", word) for word in words]
    job = partial(export, folder) if folder else partial(_profile, outputs[0] if outputs else None)
    run_jobs("espalier profile", words, job)


def _check_output(path: Path) -> None:
    """Refuse what cannot be written, before anything is measured."""
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if path.is_dir() or not path.name or not parent.is_dir() or not os.access(parent, os.W_OK):
        raise EspalierError(f"output must be a file that can be written, such as output=host.json, got {path}")


def _profile(output: Path | None, config: DictConfig, _: Path) -> None:
    values = resolved(config)
    _check_measured(build_device(values))  # before the network is trained and its variants are made
    device = _check_measured(prepare(values).evaluator.device)
    path = output or Path("tables") / f"{device.name}-{device.runtime.name}.json"
    device.table.save(path)
    shown = results()
    shown.print(_slowest(device.table))
    shown.print(noise_text(device.table.noise), soft_wrap=True)
    if device.correction:
        shown.print(correction_text(device.correction), soft_wrap=True)
    shown.print(f"{len(device.table.entries)} operators of {device.table.cpu}, {device.table.runtime}: {path}")


def _check_measured(device: HardwareModel) -> ProfiledDevice:
    if not isinstance(device, ProfiledDevice):
        raise EspalierError(f"device {device.name!r} is not measured on this machine; use device=host")
    return device


def _slowest(table: LookupTable) -> Table:
    shown = Table(title="slowest operators", title_justify="left")
    for column in ("operator", "us", "std", "samples"):
        shown.add_column(column, overflow="fold")
    entries = sorted(table.entries.values(), key=lambda entry: -entry.mean)[:_SLOWEST]
    for entry in entries:
        shown.add_row(entry.spec.key, f"{1e3 * entry.mean:.1f}", f"{1e3 * entry.std:.2f}", str(entry.samples))
    return shown

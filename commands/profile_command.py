"""`espalier profile`: the lookup table of this machine."""

import difflib
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
from .runner_command import export, export_folder
from .search import prepare
from .table_output import check_place, check_same_table, save_into

__all__ = ["run"]

_USAGE = """Time every operator that a search space can lead to, and some whole networks, and write the lookup table.

usage: espalier profile [output=FILE] [GROUP=OPTION] [KEY=VALUE] ...
       espalier profile --export-runner FOLDER [GROUP=OPTION] [KEY=VALUE] ...     to measure another device
       espalier profile show|diff|merge|check|import|import-result|fit ...   (--help says more)

  output=host.json               the file (default: tables/DEVICE-RUNTIME.json), or a .parquet; a table of this machine
                                 that is there already is gone on with, any other file is left alone
  task=cifar10_resnet20          whose operators
  device=host                    a device that is measured live
  runtime=torch                  engine: onnxruntime, openvino, torch or espalier (short for device.runtime)
  device.threads=1               threads of an inference
  device.tolerance=0.05          repeat until the 95 % interval of a median is within this share of it,
  device.max_rounds=45           but no more often than this
  device.networks=32             whole networks to measure, which the sum of operators is corrected by; 0 for none
  remeasure=true                 measure again what is known already (short for device.remeasure)
  space=all                      whose choices
  space.include='[layer3.*]'     only what these layers can become

What was measured before is not measured again, also after an interruption, unless device.max_rounds leaves room to
bring an uncertain median within device.tolerance. Use the table anywhere:
espalier search device=table device.table=FILE
The folder for another device holds models and a program that needs Python, onnxruntime and numpy; see its README.txt.
"""

_SLOWEST = 5

#: Options of the device that need not be written with its name.
_OF_THE_DEVICE = re.compile(r"^(runtime|remeasure)=")


def run(arguments: Sequence[str]) -> None:
    """Profile as the command line says."""
    if arguments and arguments[0] in SUBCOMMANDS:
        run_subcommand(arguments[0], arguments[1:])
        return
    if arguments and (near := difflib.get_close_matches(arguments[0], SUBCOMMANDS, n=1)):
        raise EspalierError(f"espalier profile has no {arguments[0]!r}; did you mean {near[0]!r}?")
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(_USAGE)
        return
    folder, arguments = export_folder(arguments)
    outputs = [Path(word.removeprefix("output=")) for word in arguments if word.startswith("output=")]
    if outputs:
        check_place(outputs[0])
    others = [word for word in arguments if not word.startswith("output=")]
    quiet = ["hydra.run.dir=.", "hydra.output_subdir=null", "tracker=none"]
    words = [*quiet, *(_OF_THE_DEVICE.sub(r"device.\1=", word) for word in others)]
    job = partial(export, folder) if folder else partial(_profile, outputs[0] if outputs else None)
    run_jobs("espalier profile", words, job)


def _profile(output: Path | None, config: DictConfig, _: Path) -> None:
    values = resolved(config)
    known = _check_measured(build_device(values))
    path = output or Path("tables") / f"{known.name}-{known.runtime.name}.json"
    check_same_table(path, known.table)  # before the network is trained and its variants are made
    device = _check_measured(prepare(values).evaluator.device)
    save_into(path, device.table)
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

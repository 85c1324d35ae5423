"""`espalier profile check`: whether a table is sound, and whether it knows a search space."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import EspalierError
from ..hw_models.table_device import TableDevice
from ..hw_models.tables.coverage import Coverage
from ..hw_models.tables.curve import LEAST_POINTS
from ..hw_models.tables.formats import read_table
from ..hw_models.tables.interpolation import Interpolation
from ..hw_models.tables.overview import NOISY, lines
from ..hw_models.tables.table import LookupTable
from ..progress import results
from .building import build_device, resolved
from .hydra_app import run_jobs
from .space_operators import space_operators

__all__ = ["USAGE", "run"]

USAGE = """Check a lookup table: whether the file is sound, and whether it knows every operator of a search space.

usage: espalier profile check FILE
       espalier profile check FILE task=TASK [space=SPACE] [GROUP=OPTION] [KEY=VALUE] ...

  task=cifar10_resnet20          whose operators (the network is trained where it is not in the cache yet)
  space=standard                 which techniques
  device.only_bits=8             the only number format of the device; see espalier list devices
  device.free_kinds=[add]        kinds of operators that cost nothing there

Without a space it also says how far off estimates of operators that are left out of the table are. With one it says
which operators are known, which would be estimated (device.interpolate=true), which of these lie beyond what was
measured, and which are unknown; if there are any of the last, the exit status is 2.
"""

_QUIET = ["hydra.run.dir=.", "hydra.output_subdir=null", "tracker=none"]

#: Operators that are named of each sort.
_NAMED = 8


def run(arguments: Sequence[str]) -> None:
    """Check the table on the command line."""
    if not arguments or "=" in arguments[0] or arguments[0].startswith("-"):
        raise EspalierError("espalier profile check takes a file and then options KEY=VALUE")
    path, words = Path(arguments[0]), list(arguments[1:])
    table = read_table(path)
    if table.is_empty:
        raise EspalierError(
            f"{path} holds nothing: no operators, blocks or networks; measure some with espalier profile"
        )
    if not words:
        results().print(Group(Text(_soundness(path, table)), _errors(table)))
        return
    device = [] if any(word.startswith("device=") for word in words) else ["device=table"]
    table_words = [*device, f"device.table='{path.resolve()}'", "device.interpolate=true"]
    run_jobs(
        "espalier profile check", [*_QUIET, *table_words, *words], partial(_check_space, path, _soundness(path, table))
    )


def _soundness(path: Path, table: LookupTable) -> str:
    found = lines(table)
    noisy = sum(line.noise > NOISY for line in found)
    zero = sum(line.mean == 0 for line in found)
    remarks = [f"{noisy} noisier than {100 * NOISY:.0f} %"] if noisy else []
    remarks += [f"{zero} of no time"] if zero else []
    unit = "milliseconds" if table.unit == "ms" else "relative units"
    counts = f"{len(table.entries)} operators and {len(table.blocks)} blocks of {table.device} in {unit}"
    return f"{path} is sound: {', '.join([counts, *remarks])}"


def _errors(table: LookupTable) -> RenderableType:
    """How far off the estimates of operators are that the curves were not fitted to, or why nobody can tell."""
    interpolation = Interpolation(table.measurements())
    curves = [(spec, curve) for spec in interpolation.kinds if (curve := interpolation.curve(spec)) is not None]
    if not curves:
        return Text(_why_untold(table))
    shown = Table(title="estimates of operators that are left out", title_justify="left")
    for column in ("operators like", "known", "mean error", "largest error"):
        shown.add_column(column, overflow="fold", justify="left" if column == "operators like" else "right")
    for spec, curve in curves:
        errors = 100 * np.abs(curve.held_out_errors)
        shown.add_row(Text(spec.key), str(len(errors)), f"{errors.mean():.1f} %", f"{errors.max():.1f} %")
    return shown


def _why_untold(table: LookupTable) -> str:
    alone = f"{len(table.entries)} operators measured alone" if table.entries else "no operator measured alone"
    reason = f"that takes at least {LEAST_POINTS} operators of one kind, and the table has {alone}"
    also = "; estimates come from its blocks, by time per unit of work" if table.blocks else ""
    return f"how far off estimates would be cannot be told: {reason}{also}"


def _check_space(path: Path, soundness: str, config: DictConfig, _: Path) -> None:
    values = resolved(config)
    device = build_device(values)
    if not isinstance(device, TableDevice):
        raise EspalierError(f"device {device.name!r} is not known by a table: leave device= out")
    covered = device.coverage(space_operators(values, device.keeps_integers, device.skips_blocks))
    results().print(Group(Text(soundness), _coverage(covered)))
    if covered.unknown:
        named = covered.unknown[0]
        raise EspalierError(
            f"{path} knows nothing like {len(covered.unknown)} operators of this search space, such as {named}"
        )


def _coverage(covered: Coverage) -> Group:
    shown = Table(title="operators of the search space", title_justify="left")
    for column in ("", "operators", "standard deviation", "such as"):
        shown.add_column(column, overflow="fold", justify="left" if column in ("", "such as") else "right")
    for label, keys, share in covered.rows():
        named = "\n".join([*keys[:_NAMED], *([f"and {len(keys) - _NAMED} more"] if len(keys) > _NAMED else [])])
        shown.add_row(label, str(len(keys)), "" if share is None else f"{100 * share:.1f} %", Text(named))
    return Group(shown)

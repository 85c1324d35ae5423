"""`espalier profile show`: what a table holds."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..hw_models.tables.correction import correction_text, fitted_correction
from ..hw_models.tables.formats import read_table
from ..hw_models.tables.overview import NOISY, KindRow, kind_rows, lines
from ..hw_models.tables.table import LookupTable
from ..progress import results
from .arguments import parsed, whole_number
from .profile_subcommands import amount

__all__ = ["USAGE", "run"]

USAGE = f"""Show what a lookup table holds.

usage: espalier profile show FILE [slowest=N]

  slowest=10      how many of the slowest operators to list

FILE is a table of Espalier's (JSON or Parquet) or one that `espalier profile import` can read. Noise is the standard
deviation as a share of the mean: above {100 * NOISY:.0f} % an operator is called noisy; of one sample it is unknown.
"""


def run(arguments: Sequence[str]) -> None:
    """Show the table on the command line."""
    words = parsed("profile show", arguments, 1, ("slowest",))
    count = whole_number("slowest", words.options.get("slowest", "10"))
    table = read_table(words.files[0])
    if table.is_empty:
        results().print(
            Group(Text(provenance(table)), Text("the table holds nothing: no operators, blocks or networks"))
        )
        return
    results().print(Group(Text(provenance(table)), _kinds(table), *([_slowest(table, count)] if count else [])))


def provenance(table: LookupTable) -> str:
    """Where a table comes from, a line per fact."""
    unit = "relative units, not documented by the source" if table.unit == "relative" else "milliseconds"
    energy = {"": "none", "mJ": "millijoules"}.get(table.energy_unit, "relative units, not documented by the source")
    overhead = f"{amount(table.call_overhead_ms, table.unit)} per call beside the operators"
    facts = {
        "device": table.device,
        "engine": table.runtime,
        "processor": table.cpu,
        "begun": table.created,
        "versions": ", ".join(f"{name} {version}" for name, version in table.versions.items()) or "not stated",
        "source": table.source,
        "latency": f"{unit}; {overhead}",
        "energy": energy,
        "networks": networks_text(table),
    }
    return "\n".join(f"{name:<10} {text}" for name, text in facts.items() if text)


def networks_text(table: LookupTable) -> str:
    """How far the sum of operators is off for the whole networks of a table; "" where it has too few."""
    ops = {op for network in table.networks.values() for op in network.ops}
    correction = fitted_correction(table, ops)
    return correction_text(correction) if correction else ""


def _kinds(table: LookupTable) -> Table:
    count = len(table.entries) + len(table.blocks)
    shown = Table(title=f"{count} operators and blocks", title_justify="left")
    for column in ("kind", "count", "fastest", "slowest", "median noise", "noisy", "sampled once"):
        shown.add_column(column, justify="left" if column == "kind" else "right")
    for row in kind_rows(table):
        shown.add_row(*_cells(row, table.unit))
    return shown


def _cells(row: KindRow, unit: str) -> list[str]:
    noise = "unknown" if row.median_noise is None else f"{100 * row.median_noise:.1f} %"
    counts = [str(row.noisy), str(row.single)]
    span = [amount(row.fastest, unit), amount(row.slowest, unit)]
    return [row.kind, str(row.count), *span, noise, *counts]


def _slowest(table: LookupTable, count: int) -> Table:
    shown = Table(title="slowest", title_justify="left")
    for column in ("operator", "mean", "noise", "samples"):
        shown.add_column(column, overflow="fold", justify="left" if column == "operator" else "right")
    for line in lines(table)[:count]:
        shown.add_row(
            Text(line.key),
            amount(line.mean, table.unit),
            "unknown" if line.samples == 1 else f"{100 * line.noise:.1f} %",
            str(line.samples),
        )
    return shown

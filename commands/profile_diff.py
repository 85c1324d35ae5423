"""`espalier profile diff`: what two tables disagree on."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..hw_models.tables.comparison import Comparison, compare_tables
from ..hw_models.tables.formats import read_table
from ..progress import results
from .arguments import parsed, whole_number
from .profile_subcommands import amount

__all__ = ["USAGE", "run"]

USAGE = """Show what two lookup tables disagree on.

usage: espalier profile diff FIRST SECOND [most=N]

  most=20         how many of the operators that differ to list

Operators differ when their means lie more than two standard deviations of both together apart. Ratios are the second
table's figures over the first's; per kind, their geometric mean.
"""


def run(arguments: Sequence[str]) -> None:
    """Compare the tables on the command line."""
    words = parsed("profile diff", arguments, 2, ("most",))
    most = whole_number("most", words.options.get("most", "20"))
    first, second = map(read_table, words.files)
    found = compare_tables(first, second)
    parts: list[RenderableType] = [Text(_summary(found))]
    parts += [_provenance(found)] if found.provenance else [Text("both come from the same place")]
    parts += [_ratios(found)] if found.ratios else []
    parts += [_differences(found, most, first.unit)] if found.differences and most else []
    results().print(Group(*parts))


def _summary(found: Comparison) -> str:
    only = f"{len(found.only_first)} only in the first table, {len(found.only_second)} only in the second"
    return f"{len(found.differences)} of {found.shared} shared operators differ by more than their uncertainty; {only}"


def _provenance(found: Comparison) -> Table:
    shown = Table(title="where they come from", title_justify="left")
    for column in ("", "first", "second"):
        shown.add_column(column, overflow="fold")
    for name, (first, second) in found.provenance.items():
        shown.add_row(*map(Text, (name, first, second)))
    return shown


def _ratios(found: Comparison) -> Table:
    shown = Table(title="second over first, by kind", title_justify="left")
    for column in ("kind", "ratio", "operators"):
        shown.add_column(column, justify="left" if column == "kind" else "right")
    for kind, (ratio, count) in found.ratios.items():
        shown.add_row(kind, f"{ratio:.3f}", str(count))
    return shown


def _differences(found: Comparison, most: int, unit: str) -> Table:
    title = f"differing most, {min(most, len(found.differences))} of {len(found.differences)}"
    shown = Table(title=title, title_justify="left")
    for column in ("operator", "first", "second", "ratio", "deviations"):
        shown.add_column(column, overflow="fold", justify="left" if column == "operator" else "right")
    for difference in found.differences[:most]:
        apart = f"{difference.deviations:.1f}" if difference.deviations < math.inf else "no noise stated"
        figures = (amount(difference.first, unit), amount(difference.second, unit), f"{difference.ratio:.3f}", apart)
        shown.add_row(Text(difference.key), *figures)
    return shown

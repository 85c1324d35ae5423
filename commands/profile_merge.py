"""`espalier profile merge`: two tables as one."""

from collections.abc import Sequence

from ..errors import EspalierError
from ..hw_models.tables.comparison import merge_tables
from ..hw_models.tables.table import LookupTable
from ..progress import results
from .arguments import parsed, yes_or_no
from .table_output import table_path

__all__ = ["USAGE", "run"]

USAGE = """Write two lookup tables as one.

usage: espalier profile merge FIRST SECOND output=FILE [force=true]

  output=FILE     JSON, or Parquet where the name ends in .parquet
  force=true      also where device, engine, processor or the handling of integers differ; both names are kept

What both tables have is pooled: means are weighted with their samples, and how far they lie apart counts as
uncertainty. Tables in different units are never merged.
"""


def run(arguments: Sequence[str]) -> None:
    """Merge the tables on the command line."""
    words = parsed("profile merge", arguments, 2, ("output", "force"))
    output = table_path("profile merge", words)
    first, second = map(LookupTable.load, words.files)
    merged = merge_tables(first, second, yes_or_no("force", words.options.get("force", "false")))
    if output.exists() and output.resolve() not in [file.resolve() for file in words.files]:
        raise EspalierError(f"{output} exists already: remove it, or give another output=FILE")
    merged.save(output)
    first_count, second_count, count = map(_count, (first, second, merged))
    what = f"{count} operators, blocks and networks" if merged.networks else f"{count} operators and blocks"
    results().print(f"{what}, {first_count + second_count - count} of them pooled: {output}", soft_wrap=True)


def _count(table: LookupTable) -> int:
    return len(table.entries) + len(table.blocks) + len(table.networks)

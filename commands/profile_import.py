"""`espalier profile import`: a table of ours from somebody else's."""

from collections.abc import Sequence
from dataclasses import replace

from ..errors import EspalierError
from ..hw_models.tables.formats import FORMATS, import_table
from ..progress import results
from .arguments import parsed
from .table_output import table_path

__all__ = ["USAGE", "run"]

USAGE = f"""Write somebody else's latency table as one of ours.

usage: espalier profile import FILE output=TABLE [format=NAME] [device=NAME]

  output=TABLE    JSON, or Parquet where the name ends in .parquet
  format=NAME     {", ".join(FORMATS)}; guessed from the content where it is not given
  device=NAME     name of the device (default: the file's name)

A file whose entries are whole blocks gives a table with blocks: device=table device.table=TABLE device.interpolate=true
estimates single operators from them. What no operator descriptor can state is left out, and said.
"""


def run(arguments: Sequence[str]) -> None:
    """Import the file on the command line."""
    words = parsed("profile import", arguments, 1, ("output", "format", "device"))
    output = table_path("profile import", words)
    if output.exists():
        raise EspalierError(f"{output} exists already: remove it, or give another output=TABLE")
    imported = import_table(words.files[0], words.options.get("format"))
    table = replace(imported.table, device=words.options.get("device", imported.table.device))
    table.save(output)
    shown = results()
    unit = "milliseconds" if table.unit == "ms" else "relative units, because the source does not say which"
    counts = f"{len(table.entries)} operators and {len(table.blocks)} blocks of {table.device}"
    shown.print(f"{counts}, in {unit}: {output}", soft_wrap=True)
    for entry in imported.left_out:
        shown.print(f"left out: {entry}", soft_wrap=True)

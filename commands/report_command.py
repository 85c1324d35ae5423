"""`espalier report`: a run, or the runs of a sweep side by side."""

import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import EspalierError
from ..files import write_json
from ..progress import results
from ..reports.comparison import compare, run_folders
from ..reports.summary import read_summary
from ..reports.tables import comparison_table, summary_tables

__all__ = ["run"]

_USAGE = """Show a run folder again, or compare the runs of a sweep.

usage: espalier report FOLDER

Of a sweep (espalier search -m ...), the runs of one agent are taken together: the median over its seeds and, in
brackets, the 95 % bootstrap interval of the median; of fewer than five runs, the least and the most instead. The
comparison is written to FOLDER/comparison.json too.
"""


def run(arguments: Sequence[str]) -> None:
    """Print the report of the folder on the command line."""
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(_USAGE)
        return
    if len(arguments) != 1:
        raise EspalierError(f"espalier report takes one folder, got {len(arguments)} arguments")
    folder = Path(arguments[0])
    if not folder.is_dir():
        raise EspalierError(f"the folder {folder} does not exist")
    runs = run_folders(folder)
    output = results()
    if runs == [folder]:
        output.print(summary_tables(read_summary(folder)))
        output.print(f"report: {folder / 'report.html'}", soft_wrap=True)
        return
    rows = compare(runs)
    write_json(folder / "comparison.json", rows)
    output.print(comparison_table(rows))

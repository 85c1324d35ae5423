"""`espalier profile import-result`: a lookup table from what a device without Espalier measured."""

from collections.abc import Sequence

from ..hw_models.profiling.saying import noise_text
from ..hw_models.runner.results import read_result
from ..progress import results
from .arguments import parsed
from .table_output import save_into, table_path

__all__ = ["USAGE", "run"]

USAGE = """Write what measure.pyz measured on another device as a lookup table.

usage: espalier profile import-result RESULT output=FILE

  RESULT          result.json, copied from the device (espalier profile --export-runner says how to get there)
  output=FILE     JSON, or Parquet where the name ends in .parquet; a table of the same device that is there already is
                  gone on with, any other file is left alone

A result of a measurement that was cut short is a table of what it has; run measure.pyz again and import again. Then:
espalier search device=table device.table=FILE
"""


def run(arguments: Sequence[str]) -> None:
    """Turn the result on the command line into a table."""
    words = parsed("profile import-result", arguments, 1, ("output",))
    path = table_path("profile import-result", words)
    table, operators, networks = read_result(words.files[0].expanduser())
    save_into(path, table)
    shown = results()
    if operators or networks:
        missing = " and ".join([f"{operators} operators"] * bool(operators) + [f"{networks} networks"] * bool(networks))
        shown.print(f"{missing} are not measured yet: run measure.pyz again on the device", soft_wrap=True)
    shown.print(noise_text(table.noise), soft_wrap=True)
    shown.print(f"{len(table.entries)} operators of {table.cpu}, {table.runtime}: {path}", soft_wrap=True)
    shown.print(f"use it: espalier search device=table device.table={path}", soft_wrap=True)

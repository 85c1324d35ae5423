"""Lookup tables of other people's: one module per format, each of which gives a table of ours."""

from .detection import FORMATS, Imported, guess_format, import_table, read_table

__all__ = ["FORMATS", "Imported", "guess_format", "import_table", "read_table"]

"""Lookup tables of other people's: one module per format, each of which gives a table of ours."""

from .detection import FORMATS, Imported, import_table

__all__ = ["FORMATS", "Imported", "import_table"]

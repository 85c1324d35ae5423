"""Tables of encoded files and labels in Parquet, the layout of Hugging Face's data sets."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ...errors import DataError

__all__ = ["encoded_bytes", "read_labels", "read_table"]


def read_table(path: Path, *columns: str) -> "pa.Table":
    """Read a table that has rows and these columns.

    Raises:
        DataError: The file is damaged or empty, or a column is missing.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    for column in columns:
        if column not in table.column_names:
            raise DataError(f"{path} has no column {column!r}; columns: {', '.join(table.column_names)}")
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows")
    return table


def read_labels(table: "pa.Table", column: str, n_classes: int, path: Path) -> Tensor:
    """The labels, int64, shape (rows,).

    Args:
        table: Of the file.
        column: Column of labels.
        n_classes: Labels must lie below.
        path: For the error message.

    Raises:
        DataError: A label is no number or out of range.
    """
    values = table.column(column).to_pylist()
    for number, value in enumerate(values):
        if not isinstance(value, int) or not 0 <= value < n_classes:
            raise DataError(f"the label in row {number} of {path} must be 0 to {n_classes - 1}, got {value!r}")
    return torch.tensor(values, dtype=torch.int64)


def encoded_bytes(row: object, what: str) -> bytes:
    """The bytes of an encoded file.

    Args:
        row: A struct with "bytes".
        what: What and where it is, such as "the image in row 3 of x.parquet".

    Raises:
        DataError: The row is something else.
    """
    encoded = row.get("bytes") if isinstance(row, dict) else None
    if not isinstance(encoded, bytes):
        raise DataError(f"{what} must be a struct with 'bytes', got {type(row).__name__}")
    return encoded

"""Finding a data set's files."""

import os
from pathlib import Path

from ...errors import DataError

__all__ = ["data_folder", "existing_file"]

_HELP = "point at the folder that holds it with data.root=FOLDER or the environment variable ESPALIER_DATA"


def data_folder(root: str | None) -> Path:
    """The folder of data files: `root`, else the environment variable ESPALIER_DATA.

    Raises:
        DataError: Neither is given, or there is no such folder.
    """
    name = root or os.environ.get("ESPALIER_DATA")
    if not name:
        raise DataError(f"no data folder is given; {_HELP}")
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"the data folder {folder} does not exist; {_HELP}")
    return folder


def existing_file(folder: Path, *names: str) -> Path:
    """The first of `names` that exists in `folder`.

    Raises:
        DataError: None of them exists.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{' or '.join(names)} is missing in {folder}; {_HELP}")

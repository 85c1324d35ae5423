"""`evaluations.jsonl`: one line per evaluation, written when it happens."""

import json
import os
from pathlib import Path
from typing import Any

from ..envs.problem import Callback
from ..errors import FormatError
from ..evaluation.archive import Evaluation

__all__ = ["JOURNAL_FILE", "Journal", "read_journal"]

JOURNAL_FILE = "evaluations.jsonl"


class Journal(Callback):
    """Appends each evaluation to a file.

    A resumed run makes the same evaluations again, answered from the store; what the file holds already is not
    written twice. Half a line, as a killed process leaves it, is cut off.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_FILE
        self._known = [str(row["plan_hash"]) for row in read_journal(self._path)] if self._path.exists() else []
        if self._path.exists():
            _cut_half_line(self._path)

    @property
    def n_known(self) -> int:
        """Evaluations that the file held at the start."""
        return len(self._known)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Append a line, unless the file holds it.

        Raises:
            FormatError: The file holds another plan at this place: it is another run's.
        """
        if evaluation.index < len(self._known):
            if self._known[evaluation.index] != evaluation.plan.hash:
                raise FormatError(
                    f"{self._path} holds another plan as evaluation {evaluation.index}: the run cannot be resumed "
                    "because its configuration, data or libraries changed"
                )
            return
        line = json.dumps(evaluation.to_dict()) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _cut_half_line(path: Path) -> None:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The rows of a journal; half a line at its end is left out.

    Raises:
        FormatError: The file is missing, or a whole line is no record of an evaluation.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise FormatError(f"cannot read the evaluations from {path}: {error.strerror or error}") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise FormatError(f"{path}, line {number}: not JSON") from error
        if not isinstance(row, dict) or not {"index", "plan_hash", "metrics", "reward"} <= set(row):
            raise FormatError(f"{path}, line {number}: not a record of an evaluation")
        rows.append(row)
    return rows

"""Everything ever evaluated, in one SQLite file that several processes share."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EspalierError

__all__ = ["Record", "Store"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
    context TEXT NOT NULL,
    plan TEXT NOT NULL,
    choices TEXT NOT NULL,
    accuracy REAL NOT NULL,
    seconds REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    PRIMARY KEY (context, plan)
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What is expensive to know of a plan.

    Attributes:
        accuracy: On the search split, 0 to 1.
        seconds: How long the evaluation took.
    """

    accuracy: float
    seconds: float


class Store:
    """Accuracies by context and plan; a row is there whole or not at all, whatever kills the writer.

    Args:
        path: The database file; created when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_SCHEMA)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            # A connection per use can never be shared by a forked process by mistake.
            with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as connection, connection:
                connection.execute("PRAGMA synchronous=NORMAL")
                yield connection
        except sqlite3.DatabaseError as error:
            raise EspalierError(f"the evaluation store {self._path} cannot be used: {error}") from error

    def get(self, context: str, plan: str) -> Record | None:
        """The record of a plan, if it was ever evaluated in this context.

        Args:
            context: Hash of all that the accuracy depends on beside the plan.
            plan: The plan's hash.
        """
        query = "SELECT accuracy, seconds FROM evaluations WHERE context = ? AND plan = ?"
        with self._connection() as connection:
            row = connection.execute(query, (context, plan)).fetchone()
        return Record(*row) if row else None

    def put(self, context: str, plan: str, choices: str, record: Record) -> None:
        """Remember a record; the first one for a plan stays.

        Args:
            context: Hash of all that the accuracy depends on beside the plan.
            plan: The plan's hash.
            choices: The plan as JSON, for people who open the file.
            record: What was found.
        """
        query = "INSERT OR IGNORE INTO evaluations (context, plan, choices, accuracy, seconds) VALUES (?, ?, ?, ?, ?)"
        with self._connection() as connection:
            connection.execute(query, (context, plan, choices, record.accuracy, record.seconds))

    def count(self, context: str) -> int:
        """How many plans are known in a context."""
        with self._connection() as connection:
            (number,) = connection.execute("SELECT count(*) FROM evaluations WHERE context = ?", (context,)).fetchone()
        return int(number)

"""Where a run is told of; an author of a new tracker writes one module and one YAML file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..envs.problem import Callback
from ..evaluation.archive import Archive, Evaluation

__all__ = ["Callbacks", "NullTracker", "Tracker"]


class Tracker(Callback):
    """Told of a run from its beginning to its end; a subclass overrides what it wants to know."""

    def started(self, config: Mapping[str, Any], folder: Path) -> None:
        """A run begins.

        Args:
            config: The composed configuration, of plain values.
            folder: The run folder.
        """

    def finished(self, summary: Mapping[str, Any], archive: Archive, folder: Path) -> None:
        """Everything is written.

        Args:
            summary: What `summary.json` holds.
            archive: All evaluations.
            folder: The run folder.
        """

    def closed(self, failed: bool) -> None:
        """The run is over, whether it finished or not; called exactly once after `started`."""


class NullTracker(Tracker):
    """Tells nobody; the run folder holds everything anyway."""


class Callbacks(Callback):
    """Several callbacks as one.

    Args:
        callbacks: Told in this order.
    """

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Tell all."""
        for callback in self._callbacks:
            callback.evaluated(evaluation)

    def trained(self, metrics: Mapping[str, float]) -> None:
        """Tell all."""
        for callback in self._callbacks:
            callback.trained(metrics)

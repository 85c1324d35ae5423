"""A search as it happens."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ..envs.problem import Callback
from ..evaluation.archive import Evaluation
from ..progress import Advance, step

__all__ = ["LiveSearch"]


class LiveSearch(Callback):
    """Shows how many plans were evaluated and how good the best is.

    Args:
        budget: Evaluations of the whole search.
        n_known: Evaluations of it that an earlier run made.
    """

    def __init__(self, budget: int, n_known: int) -> None:
        self._budget = budget
        self._title = f"searching (resumed at {n_known})" if n_known else "searching"
        self._stack = ExitStack()
        self._advance: Advance | None = None
        self._best: Evaluation | None = None
        self._first: Evaluation | None = None

    def __enter__(self) -> Self:
        self._advance = self._stack.enter_context(step(self._title, self._budget))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Advance by one."""
        assert self._advance is not None
        self._first = self._first or evaluation
        best = self._best
        if best is None or (evaluation.feasible, evaluation.reward) > (best.feasible, best.reward):
            self._best = best = evaluation
        ratios = best.metrics.ratios(self._first.metrics)
        self._advance(
            1,
            f"best: accuracy {100 * best.metrics.accuracy:.1f} %, latency {ratios['latency_ms']:.1f}x, "
            f"storage {ratios['storage_bytes']:.1f}x",
        )

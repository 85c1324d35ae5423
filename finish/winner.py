"""Which of the best plans is delivered."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..progress import console
from .refitting import Candidate

__all__ = ["choose_winner"]

#: Below this ratio a network is slower than the original beyond what noise explains.
_SLOWEST_RATIO = 0.97


def choose_winner(
    groups: Iterable[Sequence[Candidate]],
    rank: Callable[[Candidate], Any],
    latency_ratio: Callable[[Candidate], float],
    meets_demand: Callable[[Candidate], bool],
) -> Candidate:
    """The candidate of highest rank in the first group that has one which is not slower than the original.

    A sum of operators can be wrong where starting them takes most of the time; only a network that runs shows it. A
    plan that breaks the demand never takes the place of a slow one that meets it.

    Args:
        groups: Candidates; a group is made only when the ones before it were all slower.
        rank: The higher the better.
        latency_ratio: Measured latency of the original over that of a candidate; infinite where it does not matter.
        meets_demand: Whether a candidate keeps to every bound.
    """
    passed_over: list[tuple[bool, float, Candidate]] = []
    for group in groups:
        for candidate in sorted(group, key=rank, reverse=True):
            meets = meets_demand(candidate)
            if not meets and any(met for met, _, _ in passed_over):
                continue
            ratio = latency_ratio(candidate)
            if ratio >= _SLOWEST_RATIO:
                return candidate
            passed_over.append((meets, ratio, candidate))
    _, ratio, least_slow = max(passed_over, key=lambda one: one[:2])
    console.print(
        f"the best {len(passed_over)} plans are all slower than the original when measured, whatever the sum of their "
        f"operators says; the least slow of them is delivered ({ratio:.2f}x)",
        soft_wrap=True,
    )
    return least_slow

"""Which candidate is delivered."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from espalier.finish.winner import choose_winner


def _candidate(rank: float, ratio: float, meets: bool = True) -> Any:
    return SimpleNamespace(rank=(meets, rank), ratio=ratio)


def _choose(groups: Any) -> Any:
    return choose_winner(groups, lambda c: c.rank, lambda c: c.ratio, lambda c: c.rank[0])  # type: ignore[attr-defined]


def test_a_faster_plan_that_breaks_the_demand_does_not_win_over_a_slow_one_that_meets_it() -> None:
    slow, slower, breaking = _candidate(2.0, 0.9), _candidate(1.0, 0.8), _candidate(9.0, 2.0, meets=False)
    assert _choose([[slow, breaking], [slower]]) is slow
    fast = _candidate(1.0, 1.1)
    assert _choose([[slow, breaking], [fast]]) is fast
    assert _choose([[breaking]]) is breaking
    worse = _candidate(8.0, 0.99, meets=False)
    assert _choose([[_candidate(9.0, 0.5, meets=False), worse]]) is worse


def test_the_best_that_is_not_slower_wins_and_later_groups_are_not_made() -> None:
    slow, fast, worse = _candidate(3.0, 0.9), _candidate(2.0, 0.99), _candidate(1.0, 5.0)

    def groups() -> Iterator[list[Any]]:
        yield [worse, slow, fast]
        raise AssertionError("a second group was made")

    assert _choose(groups()) is fast


def test_equals_stay_in_order() -> None:
    first, second = _candidate(1.0, 1.0), _candidate(1.0, 2.0)
    assert _choose([[first, second]]) is first


def test_where_all_are_slower_the_least_slow_is_delivered_and_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    groups = [[_candidate(3.0, 0.8)], [_candidate(2.0, 0.95), _candidate(1.0, 0.9)]]
    assert _choose(groups) is groups[1][0]
    said = capsys.readouterr().err
    assert "the best 3 plans are all slower than the original when measured" in said
    assert "(0.95x)" in said

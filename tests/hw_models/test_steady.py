"""Passes over what is measured, and groups that met a slower machine."""

import random
from collections import Counter

import numpy as np
import pytest
from espalier.graph.opspec import OpSpec
from espalier.hw_models.profiling import operator_times
from espalier.hw_models.profiling.adaptive import Sampling
from espalier.hw_models.profiling.operator_times import OperatorTimes
from espalier.hw_models.profiling.overhead import Overhead
from espalier.hw_models.profiling.profiler import Profile
from espalier.hw_models.profiling.steady import Passes
from espalier.hw_models.runtimes.pytorch import PyTorchRuntime

_ITEMS = [f"item {number}" for number in range(10)]


def test_every_item_comes_once_a_pass_in_other_company() -> None:
    passes: Passes[str, int] = Passes(4)
    groups = []
    for number, group in passes.over(_ITEMS, 3):
        groups.append(tuple(group))
        passes.take(number, 1.0, [number] * len(group))
    assert [len(group) for group in groups] == [4, 4, 2] * 3
    assert set(Counter(item for group in groups for item in group).values()) == {3}
    assert len({frozenset(group) for group in groups}) == len(groups)
    assert all(len(set(results)) == 3 for results in passes.results().values())


def test_a_machine_that_is_never_steady_costs_twice_the_time_at_most() -> None:
    passes: Passes[int, int] = Passes(1)
    chance = random.Random(0)
    speeds, measured = [chance.uniform(1.0, 2.0) for _ in range(200)], []
    for number, _ in passes.over(range(40)):
        measured.append(number)
        passes.take(number, speeds[len(measured)], [0])
    assert measured[:40] == list(range(40))
    assert 60 < len(measured) <= 80
    assert measured[40] == max(range(40), key=lambda number: speeds[number + 1]), "the slowest first"


def test_groups_on_a_slower_machine_are_measured_again() -> None:
    passes: Passes[str, float] = Passes(2)
    speeds = {2: iter([1.6, 1.0]), 4: iter([1.5, 1.3, 1.4, 1.2])}
    measured: Counter[int] = Counter()
    for number, group in passes.over(_ITEMS):
        measured[number] += 1
        slowness = next(speeds[number]) if number in speeds else 1.0
        passes.take(number, slowness, [slowness] * len(group))
    assert measured == {0: 1, 1: 1, 2: 2, 3: 1, 4: 4}
    assert {slow for item in _ITEMS[4:6] for slow in passes.results()[item]} == {1.0}
    # It never met a fast machine: the best of its tries counts, the slower one before it was not taken.
    assert {slow for item in _ITEMS[8:] for slow in passes.results()[item]} == {1.2}
    assert passes.reference_ms == 1.0


def test_nothing_to_measure_is_nothing() -> None:
    passes: Passes[str, int] = Passes(4)
    assert list(passes.over([], 3)) == []
    assert passes.results() == {}


def test_one_bad_moment_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock says what we want: calls take .5 ms, operators 1 ms more; one pass meets a machine of half the speed.

    In another pass one operator is prepared so that it takes five times as long, in a group that is not slow.
    """
    specs = [OpSpec("linear", (width,), (4,)) for width in range(1, 9)]
    groups = iter([1.0, 2.0, 1.0, 1.0, 1.0])
    unlucky = iter([1.0, 1.0, 5.0, 1.0, 1.0])

    def clock(calls: list[object], sampling: Sampling) -> list[np.ndarray]:
        slowness, luck = next(groups), next(unlucky)
        return [np.full(sampling.rounds, slowness * (0.5 + own)) for own in [0.0, luck, *[1.0] * (len(calls) - 2)]]

    monkeypatch.setattr(operator_times, "time_until_tight", clock)
    profile = Profile(PyTorchRuntime(), specs, Overhead(0.5, 0.0), Sampling(15, 15, 0.02))
    entries = {entry.key: entry for group in profile.groups() for entry in group}
    assert [entry.mean for entry in entries.values()] == pytest.approx([1.0] * 8)
    assert {entry.samples for entry in entries.values()} == {15}
    assert [round(half_width, 3) for half_width in profile.unsettled.values()] == [2.0]


def test_operators_whose_median_is_uncertain_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [OpSpec("linear", (width,), (4,)) for width in range(1, 10)]
    rng = np.random.default_rng(0)
    prepared: Counter[int] = Counter()

    def clock(calls: list[float], sampling: Sampling) -> list[np.ndarray]:
        return [np.full(sampling.rounds, own) if own < 3 else rng.uniform(1, 9, sampling.rounds) for own in calls]

    def prepare(spec: OpSpec) -> float:
        prepared[spec.input_shape[0]] += 1
        return 3.0 if spec.input_shape == (5,) else 2.0

    monkeypatch.setattr(operator_times, "time_until_tight", clock)
    times = OperatorTimes(specs, 0.5, Overhead(0.5, 0.0), Sampling(15, 45, 0.02))
    turns = [{spec: len(samples) for spec, samples in found.items()} for found in times.measure(prepare)]
    assert times.turns == 6  # three passes over two groups
    assert prepared == Counter(dict.fromkeys(range(1, 10), 3)) + Counter({5: 6})
    assert turns[-1] == {specs[4]: 45}


def test_groups_that_met_a_slower_machine_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [OpSpec("linear", (width,), (4,)) for width in range(1, 17)]
    references = iter([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # the second group comes again

    def clock(calls: list[float], sampling: Sampling) -> list[np.ndarray]:
        return [np.full(sampling.rounds, own) for own in (next(references), *calls[1:])]

    monkeypatch.setattr(operator_times, "time_until_tight", clock)
    times = OperatorTimes(specs, 0.5, Overhead(0.5, 0.0), Sampling(15, 45, 0.02))
    assert [times.done for _ in times.measure(lambda _: 3.0)] == [1, 2, 3, 4, 5, 6, 6]
    assert next(references, None) is None


def test_the_call_is_subtracted_and_no_operator_takes_less_than_starting_it() -> None:
    overhead = Overhead(0.0, 0.25).beside(1.0)
    assert overhead.call_ms == 0.75
    assert overhead.net(np.array([0.7, 0.9, 2.0])) == pytest.approx([0.25, 0.25, 1.25])
    assert Overhead(0.0, 0.0).net(np.array([0.0])) > 0


def test_the_least_disturbed_try_tells_the_overhead(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([3.0, 1.0, 2.0, 4.0, 2.0])
    monkeypatch.setattr(
        "espalier.hw_models.profiling.overhead.time_alternating",
        lambda _, rounds: next(speeds) * np.array([[1.0] * rounds, [1.5] * rounds]),
    )
    overhead = Overhead.measured(lambda: None, lambda: None, extra=5, rounds=100)
    assert (overhead.operator_ms, overhead.call_ms) == (pytest.approx(0.1), pytest.approx(0.9))

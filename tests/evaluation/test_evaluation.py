"""Metrics, demand, archive, store, recalibration, evaluator."""

import json
import multiprocessing
import os
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from espalier.compression.choice import Choice
from espalier.compression.layers import describe_module
from espalier.compression.plan import Plan
from espalier.errors import DemandError, EspalierError, FormatError
from espalier.evaluation.archive import Archive, Evaluation, pareto_front
from espalier.evaluation.demand import Demand, Weights
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.metrics import COSTS, Metrics
from espalier.evaluation.recalibration import RelativeRecalibration
from espalier.evaluation.store import Record, Store
from espalier.hw_models.cost import Estimate
from espalier.tasks.accuracy import accuracy
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.conftest import Small


def _metrics(accuracy: float = 0.9, **costs: float) -> Metrics:
    values = dict.fromkeys(COSTS, 10.0) | costs
    return Metrics(accuracy, **{name: Estimate(value, 0.0, "modelled", "test") for name, value in values.items()})


def test_metrics_round_trip_and_ratios() -> None:
    metrics = _metrics(latency_ms=2.5)
    assert Metrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics
    assert metrics.ratios(_metrics())["latency_ms"] == 4
    assert metrics.ratios(_metrics())["macs"] == 1


@pytest.mark.parametrize("values", [{}, {"accuracy": 1}, {**_metrics().to_dict(), "macs": {"value": "x"}}])
def test_other_records_are_refused(values: Any) -> None:
    with pytest.raises(FormatError, match="not a record of metrics"):
        Metrics.from_dict(values)
    infinite = _metrics(macs=float("inf")).to_dict()
    with pytest.raises(FormatError, match="a cost is not a finite number"):
        Metrics.from_dict(infinite)


def test_bounds_and_excesses_by_hand() -> None:
    demand = Demand(max_accuracy_drop_points=2.0, latency_ms=8.0, storage_bytes=20.0)
    baseline = _metrics(0.9)
    assert demand.accuracy_floor(baseline) == pytest.approx(0.88)
    assert demand.excesses(_metrics(0.77), baseline) == pytest.approx(
        {"accuracy": 0.11 / 0.88, "latency_ms": 0.25, "storage_bytes": 0.0}
    )
    assert not demand.is_met(_metrics(0.9), baseline)
    assert demand.is_met(_metrics(0.88, latency_ms=8.0), baseline)
    assert Demand(max_accuracy_drop_points=None).accuracy_floor(baseline) == 0
    assert Demand(min_accuracy=0.95).accuracy_floor(baseline) == 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Weights(accuracy=-1), "at least 0 and not all 0"),
        (lambda: Weights(accuracy=0, latency=0, storage=0), "at least 0 and not all 0"),
        (lambda: Demand(latency_ms=0), r"demand\.latency_ms must be above 0, got 0"),
        (lambda: Demand(min_accuracy=90), "a share from 0 to 1, got 90"),
        (lambda: Demand(max_accuracy_drop_points=-1), "must be percentage points from 0 to 100, got -1"),
        (lambda: Demand(max_accuracy_drop_points=100.5), "must be percentage points from 0 to 100, got 100.5"),
    ],
)
def test_impossible_demands_are_refused(make: Any, message: str) -> None:
    with pytest.raises(DemandError, match=message):
        make()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=20))
def test_pareto_front_equals_brute_force(points: list[tuple[int, int, int]]) -> None:
    def beaten(point: tuple[int, int, int]) -> bool:
        return any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)

    expected = {point for point in points if not beaten(point)}
    front = pareto_front(points)
    assert {points[i] for i in front} == expected
    assert len(front) == len(expected)


def _evaluation(index: int, reward: float, feasible: bool = True, **costs: float) -> Evaluation:
    plan = Plan.of({"a": Choice.of("x", number=index)})
    return Evaluation(index, plan, _metrics(**costs), reward, feasible, 0.1, False)


def test_archive_ranks_feasible_plans_first_and_keeps_each_once() -> None:
    archive = Archive()
    for index, (reward, feasible) in enumerate([(0.1, True), (0.9, False), (0.4, True), (0.4, True)]):
        archive.add(_evaluation(index, reward, feasible, latency_ms=10.0 - index))
    archive.add(replace(_evaluation(2, 99.0)))
    assert len(archive) == 4
    assert [e.index for e in archive.best(4)] == [2, 3, 0, 1]
    assert [e.index for e in archive.front()] == [3]
    assert _evaluation(1, 0).plan in archive
    assert archive.get(_evaluation(7, 0).plan) is None
    assert json.loads(json.dumps(_evaluation(1, 0.5).to_dict()))["reward"] == 0.5


def test_the_store_answers_what_was_put_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "s" / "store.sqlite")
    assert store.get("c", "p") is None
    store.put("c", "p", "{}", Record(0.5, 1.0))
    store.put("c", "p", "{}", Record(0.7, 1.0))
    assert Store(tmp_path / "s" / "store.sqlite").get("c", "p") == Record(0.5, 1.0)
    assert (store.count("c"), store.count("d")) == (1, 0)


def _fill(path: Path, name: str, count: int) -> None:
    store = Store(path)
    for number in range(count):
        store.put("c", f"{name}{number}", "{}", Record(0.5, 0.0))


def test_processes_write_at_once_and_a_killed_one_loses_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "store.sqlite"
    writers = [context.Process(target=_fill, args=(path, name, 40)) for name in "ab"]
    endless = context.Process(target=_fill, args=(path, "c", 10**9))
    for process in (*writers, endless):
        process.start()
    for process in writers:
        process.join(60)
        assert process.exitcode == 0
    while not (path.exists() and Store(path).count("c") > 90):
        time.sleep(0.02)
    assert endless.pid is not None
    os.kill(endless.pid, signal.SIGKILL)
    endless.join()
    assert all(Store(path).get("c", f"{name}{number}") for name in "ab" for number in range(40))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(EspalierError, match=r"evaluation store .*store\.sqlite cannot be used: file is not a database"):
        Store(tmp_path / "store.sqlite")


def test_recalibration_is_the_identity_without_compression(small: Small) -> None:
    inputs = small.task.calibrate.inputs(slice(0, 48))
    recalibrated = RelativeRecalibration(small.task.model, inputs).apply(small.task.model, {})
    for ours, original in zip(recalibrated.buffers(), small.task.model.buffers(), strict=True):
        if original.ndim:
            assert torch.allclose(ours, original, rtol=1e-5, atol=1e-6)


def test_recalibration_follows_its_equation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3)).eval().requires_grad_(False)
    model[1].running_mean.normal_()  # type: ignore[union-attr, operator]
    model[1].running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    inputs = torch.randn(20, 2, 5, 5)
    network = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), model[1]).eval().requires_grad_(False)
    recalibrated = RelativeRecalibration(model, inputs).apply(network, {})
    (old_var, old_mean), (new_var, new_mean) = (
        torch.var_mean(part[0](inputs), (0, 2, 3), correction=0) for part in (model, network)
    )
    eps = model[1].eps
    assert torch.allclose(recalibrated[1].running_mean, model[1].running_mean + new_mean - old_mean, atol=1e-6)  # type: ignore[index, operator]
    expected = model[1].running_var * (new_var + eps) / (old_var + eps)  # type: ignore[operator]
    assert torch.allclose(recalibrated[1].running_var, expected, rtol=1e-4)  # type: ignore[index]


def test_keeping_everything_has_the_originals_accuracy(small: Small) -> None:
    answer = small.evaluator.evaluate([small.survey.space.keep_plan])[0]
    assert answer.metrics.accuracy == accuracy(small.task.model, small.task.search)
    assert answer.metrics.parameters.value == sum(p.numel() for n, p in small.task.model.named_parameters()) - sum(
        layer.num_features for layer in small.task.model.modules() if isinstance(layer, nn.BatchNorm2d)
    )


def test_accuracy_is_that_of_the_network_it_returns(small: Small) -> None:
    rng = np.random.default_rng(3)
    space = small.survey.space
    for _ in range(5):
        plan = space.plan(space.random(rng))
        answer = small.evaluator.evaluate([plan])[0]
        network = small.evaluator.network(plan)
        # Integers executed for real may turn a tie.
        assert answer.metrics.accuracy == pytest.approx(accuracy(network, small.task.search), abs=0.011)
        assert describe_module(nn.Identity()) == {"layer": "Identity"}
        total = sum(cost["latency_ms"] for cost in small.evaluator.layer_costs(plan).values())
        assert total <= answer.metrics.latency_ms.value


def test_the_store_answers_repeats_and_other_contexts_do_not_mix(small: Small, tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")

    def evaluator(share: float) -> LocalEvaluator:
        return LocalEvaluator(small.task, small.survey, small.bank, small.device, store, recalibration_share=share)

    plan = small.survey.space.plan([1] * len(small.survey.space.sites))
    first = evaluator(0.1).evaluate([plan])[0]
    again = evaluator(0.1).evaluate([plan])[0]
    assert (first.repeated, again.repeated) == (False, True)
    assert again.metrics == first.metrics
    assert again.seconds == first.seconds
    assert not evaluator(0.2).evaluate([plan])[0].repeated


def test_evaluations_draw_no_random_numbers(small: Small) -> None:
    rng = np.random.default_rng(5)
    before = torch.random.get_rng_state()
    for _ in range(6):
        space = small.survey.space
        small.evaluator.evaluate([space.plan(space.random(rng))])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{}, {"refit_images": 32}, {"tuning_steps": 3}])
def test_plans_side_by_side_are_judged_as_if_alone(small: Small, settings: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    plans = [small.survey.space.plan(small.survey.space.random(rng)) for _ in range(11)]
    evaluator = LocalEvaluator(small.task, small.survey, small.bank, small.device, **settings)  # type: ignore[arg-type]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = evaluator.evaluate(plans)
        assert torch.get_num_threads() == 3
        torch.set_num_threads(1)
        assert [evaluator.evaluate([plan])[0].metrics for plan in plans] == [found.metrics for found in together]
    finally:
        torch.set_num_threads(threads)


def test_an_interrupted_evaluation_keeps_what_was_measured(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    plans = [small.survey.space.plan(small.survey.space.random(rng)) for _ in range(3)]
    store = Store(tmp_path / "store.sqlite")
    evaluator = LocalEvaluator(small.task, small.survey, small.bank, small.device, store)
    network = evaluator.network
    refused = plans[2].hash
    monkeypatch.setattr(evaluator, "network", lambda plan: network(plan if plan.hash != refused else None))  # type: ignore[arg-type]
    threads = torch.get_num_threads()
    with pytest.raises(AttributeError):
        evaluator.evaluate(plans)
    assert torch.get_num_threads() == threads
    assert [store.get(evaluator.context, plan.hash) is None for plan in plans] == [False, False, True]


def test_costs_are_free_of_accuracy(small: Small) -> None:
    costs = small.evaluator.costs(small.survey.space.keep_plan)
    assert np.isnan(costs.accuracy)
    assert costs.macs.value == small.survey.graph.macs

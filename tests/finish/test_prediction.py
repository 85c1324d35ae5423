"""Predicted against measured latencies of a sample of plans."""

from pathlib import Path

import pytest
from espalier.compression.choice import KEEP, Choice
from espalier.compression.plan import Plan
from espalier.compression.realised import Realiser
from espalier.errors import EspalierError
from espalier.evaluation.archive import Evaluation
from espalier.evaluation.metrics import Metrics
from espalier.finish.network_timing import NetworkTimer
from espalier.finish.prediction import PredictedPlan, PredictionReport, measured_sample, spread_evaluations
from espalier.finish.recipe import FinishRecipe
from espalier.hw_models.cost import Estimate
from espalier.hw_models.profiling.adaptive import Sampling
from espalier.hw_models.runtimes.espalier_runtime import EspalierRuntime
from espalier.hw_models.runtimes.pytorch import PyTorchRuntime
from espalier.reports.prediction import prediction_rows, prediction_text, prediction_verdict

from tests.conftest import Small


def _evaluation(number: int, latency_ms: float) -> Evaluation:
    plan = Plan.of({"layer": Choice("pruning", {"kept": number})})
    figure = Estimate(1.0, 0.0, "modelled", "test")
    costs = dict.fromkeys(("energy_mj", "storage_bytes", "peak_memory_bytes", "macs", "parameters"), figure)
    latency = Estimate(latency_ms, 0.1 * latency_ms, "modelled", "test")
    return Evaluation(number, plan, Metrics(accuracy=0.5, latency_ms=latency, **costs), 0.0, True, 0.0, False)


def test_the_sample_is_spread_over_the_latencies() -> None:
    evaluations = [_evaluation(number, float(100 - number)) for number in range(100)]
    latencies = [e.metrics.latency_ms.value for e in spread_evaluations(evaluations, 5)]
    assert latencies == [1.0, 26.0, 51.0, 75.0, 100.0]
    assert spread_evaluations([*evaluations[:2], evaluations[0]], 5) == [evaluations[1], evaluations[0]]
    assert spread_evaluations(evaluations, 0) == []
    assert spread_evaluations([], 5) == []


def _report(*pairs: tuple[float, float], original: tuple[float, float] = (1.0, 1.0)) -> PredictionReport:
    plan = Plan.of({"layer": Choice.of("int8")})
    plans = tuple(PredictedPlan(plan, predicted, 0.01, measured) for predicted, measured in pairs)
    return PredictionReport(plans, PredictedPlan(Plan.of({"layer": KEEP}), original[0], 0.01, original[1]))


def test_errors_are_those_of_the_definition() -> None:
    figures = _report((1.0, 1.0), (1.05, 1.0), (0.8, 1.0), (2.1, 2.0), (3.0, 4.0)).to_dict()
    assert figures["median_error_percent"] == pytest.approx(0.0)
    assert figures["worst_error_percent"] == pytest.approx(-25.0)
    assert figures["within_10_percent"] == 3 / 5
    # Ranks 2 3 1 4 5 against 2 2 2 4 5: covariance 8, variances 10 and 8.
    assert figures["spearman"] == pytest.approx(8 / 80**0.5)
    assert _report((1.0, 1.0), (2.0, 2.0)).to_dict()["spearman"] is None


def test_a_slower_machine_is_not_the_predictors_error() -> None:
    figures = _report((0.5, 0.7), (1.0, 1.25), (1.5, 1.9), original=(2.0, 2.5)).to_dict()
    assert figures["within_10_percent"] == 0
    assert figures["original_error_percent"] == pytest.approx(-20.0)
    # Predicted ratios .25, .5, .75; measured ones .28, .5, .76.
    assert figures["ratio_median_error_percent"] == pytest.approx(100 * (0.75 / 0.76 - 1))
    assert figures["ratio_within_10_percent"] == pytest.approx(2 / 3)


def test_people_read_it_in_one_line_and_a_table() -> None:
    summary = {"prediction_error_percent": -4.25, "prediction": _report((0.9, 1.0), (1.0, 1.0)).to_dict()}
    assert prediction_text(summary) == (
        "predicted latency against measured: the winner -4.2 %; 2 other plans -5.0 % in the median, -10.0 % at worst, "
        "2 of them within 10 %; the original +0.0 %, and over it the plans -5.0 % in the median, 2 of them within 10 %"
    )
    older = {name: value for name, value in summary["prediction"].items() if not name.startswith(("ratio", "original"))}
    assert prediction_text(summary | {"prediction": older}).endswith("at worst, 2 of them within 10 %")
    winner = summary | {"prediction_ratio_error_percent": 1.5}
    assert prediction_text(winner).startswith(
        "predicted latency against measured: the winner -4.2 % (+1.5 % over the original); 2 other plans"
    )
    assert prediction_text({"prediction_error_percent": None}) == ""
    assert prediction_text({"prediction_error_percent": 1.0}).endswith("the winner +1.0 %")
    assert prediction_rows({"prediction_error_percent": 1.0}) == []
    assert prediction_verdict({"prediction_error_percent": 1.0}) == ""


def test_rows_say_which_plan_is_which() -> None:
    cut = {"a": Choice.of("channel_pruning", kept=0.5), "b": Choice.of("int8"), "c": Choice.of("int8"), "d": KEEP}
    cut["e"] = Choice.of("cp+int8")
    plans = (
        PredictedPlan(Plan.of(cut), 0.9, 0.01, 1.0),
        PredictedPlan(Plan.of({"a": KEEP}), 2.0, 0.01, 2.0),
    )
    figures = {"latency_ms": {"value": 1.1, "std": 0.2}}, {"latency_ms": {"value": 1.0}}
    summary = {"prediction": PredictionReport(plans, plans[1]).to_dict(), "searched": figures[0], "final": figures[1]}
    rows = prediction_rows(summary)
    assert [(row["name"], row["changes"], row["error"], row["is_winner"]) for row in rows] == [
        ("sample 1", "2 x int8, 1 x channel pruning, 1 x cp + int8", "-10.0 %", False),
        ("winner", "the plan of this report", "+10.0 %", True),
        ("original", "nothing", "+0.0 %", False),
    ]
    assert [row["hash"] for row in rows] == [plans[0].plan.hash, "", plans[1].plan.hash]
    old = summary["prediction"] | {"plans": [{**row, "choices": None} for row in summary["prediction"]["plans"]]}
    assert [row["name"] for row in prediction_rows(summary | {"prediction": old})] == ["sample 1", "winner", "sample 2"]


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        (
            [(1.0, 1.0), (2.0, 2.0), (3.0, 3.1), (4.0, 4.0)],
            "The predictions can be trusted here: 4 of 4 predictions lie within 10 % of what was measured; the rank",
        ),
        (
            [(1.00, 1.03), (1.01, 1.02), (1.02, 1.01), (1.03, 1.00)],
            "The predictions are close, but plans that lie near each other change places: 4 of 4",
        ),
        (
            [(1.0, 1.5), (2.0, 3.0), (3.0, 4.5), (4.0, 4.0)],
            "Trust neither the milliseconds nor the order of the predictions, but measure what matters: 1 of 4",
        ),
        (
            [(1.0, 1.5), (2.0, 3.0), (3.0, 4.5), (4.0, 6.0)],
            "Trust the order of the predictions, not their milliseconds: 0 of 4 predictions",
        ),
        (
            [(1.0, 1.0)],
            "The predictions can be trusted here: 1 of 1 predictions lie within 10 % of what was measured; too",
        ),
    ],
)
def test_the_verdict_is_in_words(pairs: list[tuple[float, float]], verdict: str) -> None:
    assert prediction_verdict({"prediction": _report(*pairs).to_dict()}).startswith(verdict)


def test_speed_ups_can_be_right_where_milliseconds_are_not() -> None:
    figures = _report((0.5, 0.6), (1.0, 1.2), (1.5, 1.8), (2.0, 2.5), original=(3.0, 3.6)).to_dict()
    assert prediction_verdict({"prediction": figures}).startswith(
        "Trust the speed-ups over the original, not the milliseconds, which are off alike: 0 of 4"
    )


def test_whole_networks_are_timed_and_the_winner_left_out(small: Small) -> None:
    timer = NetworkTimer(small.task, small.survey, small.bank, PyTorchRuntime())
    plans = list(timer.different(4).values())
    assert plans[0] == small.survey.space.keep_plan
    assert len({timer.operators(plan) for plan in plans}) == 4
    evaluations = [
        Evaluation(index, plan, small.evaluator.costs(plan), 0.0, True, 0.0, False) for index, plan in enumerate(plans)
    ]
    original = evaluations[0].metrics.latency_ms
    report = measured_sample(evaluations, evaluations[0], original, 6, timer)
    assert report is not None
    assert (report.original.plan, report.original.predicted_ms) == (plans[0], original.value)
    assert {plan.plan for plan in report.plans} == set(plans[1:])
    assert all(plan.measured_ms > 0 for plan in (*report.plans, report.original))
    among = measured_sample(evaluations, evaluations[1], original, 6, timer)
    assert among is not None
    assert among.original in among.plans
    assert measured_sample(evaluations[:1], evaluations[0], original, 6, timer) is None
    assert measured_sample(evaluations, evaluations[0], original, 0, timer) is None


def test_a_measurement_names_the_operators_that_were_executed(small: Small) -> None:
    timer = NetworkTimer(small.task, small.survey, small.bank, PyTorchRuntime())
    plan = list(timer.different(3).values())[2]
    (measured,) = timer.measure([plan], "testing", Sampling(3, 3, 1.0))
    assert measured.label == timer.label(plan) != timer.label(small.survey.space.keep_plan)
    timed = [op for op in measured.ops if op.kind not in ("reshape", "quantize", "dequantize")]
    assert timed == list(Realiser(small.survey.graph, small.survey.fusion, small.bank).specs(plan))


def test_networks_that_fit_into_memory_one_by_one_are_measured_as_often(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = NetworkTimer(small.task, small.survey, small.bank, PyTorchRuntime())
    plans = list(timer.different(3).values())
    once = Sampling(2, 2, 1.0)
    kept = timer.measure(plans, "testing", once)
    monkeypatch.setattr("espalier.finish.network_timing._KEPT_BYTES", 0)
    anew = timer.measure(plans, "testing", once)
    assert [network.samples for network in kept] == [network.samples for network in anew] == [6, 6, 6]
    assert [network.label for network in kept] == [network.label for network in anew]


def test_an_engine_that_compiles_does_so_before_anything_is_timed(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path))
    runtime = EspalierRuntime()
    timer = NetworkTimer(small.task, small.survey, small.bank, runtime)
    networks = [timer.network(plan) for plan in timer.different(3).values()]
    assert len(list(runtime.compile_networks_ahead(networks, small.task.example_input))) == 3
    libraries = set(tmp_path.rglob("*.so"))
    assert libraries
    runtime.network(networks[0], small.task.example_input)()
    assert set(tmp_path.rglob("*.so")) == libraries


def test_a_negative_sample_is_refused() -> None:
    with pytest.raises(EspalierError, match=r"finish\.sampled_plans must be at least 0, got -1"):
        FinishRecipe(sampled_plans=-1)

"""Journal, summary, units, tracker."""

import json
from pathlib import Path
from typing import Any

import pytest
import wandb
from espalier.compression.choice import Choice
from espalier.compression.plan import Plan
from espalier.errors import EspalierError, FormatError
from espalier.evaluation.archive import Evaluation
from espalier.evaluation.metrics import COSTS, Metrics
from espalier.hw_models.cost import Estimate
from espalier.reports.comparison import compare, run_folders
from espalier.reports.journal import Journal, read_journal
from espalier.reports.summary import read_summary
from espalier.reports.tables import comparison_table
from espalier.reports.tracker import Callbacks, NullTracker, Tracker
from espalier.reports.units import choice_text, formatted, points_text
from espalier.reports.wandb_tracker import WandbTracker, _is_logged_in


def _evaluation(index: int, reward: float = 0.5) -> Evaluation:
    metrics = Metrics(0.9, **{name: Estimate(1.0, 0.0, "modelled", "t") for name in COSTS})
    return Evaluation(index, Plan.of({"a": Choice.of("x", number=index)}), metrics, reward, True, 0.1, False)


def test_a_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for index in range(3):
        journal.evaluated(_evaluation(index))
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(path.read_bytes() + b'{"half')
    again = Journal(tmp_path)
    assert again.n_known == 3
    for index in range(5):
        again.evaluated(_evaluation(index))
    assert [row["index"] for row in read_journal(path)] == [0, 1, 2, 3, 4]
    with pytest.raises(FormatError, match="holds another plan as evaluation 1"):
        Journal(tmp_path).evaluated(Evaluation(**{**vars_of(_evaluation(7)), "index": 1}))


def vars_of(evaluation: Evaluation) -> dict[str, Any]:
    return {name: getattr(evaluation, name) for name in Evaluation.__slots__}


@pytest.mark.parametrize(("line", "message"), [("{", "line 2: not JSON"), ("{}", "line 2: not a record")])
def test_damaged_journals_are_refused(tmp_path: Path, line: str, message: str) -> None:
    good = json.dumps(_evaluation(0).to_dict())
    (tmp_path / "evaluations.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(FormatError, match=message):
        read_journal(tmp_path / "evaluations.jsonl")
    with pytest.raises(FormatError, match="cannot read the evaluations"):
        read_journal(tmp_path / "nothing.jsonl")


def _summary(agent: str, **more: Any) -> dict[str, Any]:
    keys = ("task", "device", "seed", "evaluations", "original", "searched", "final", "prediction_error_percent")
    ratios = {"latency": 3.0, "storage": 8.0}
    figures = {"search_seconds": 2.0, "feasible": True, "accuracy_drop_points": 0.5, "ratios": ratios}
    return dict.fromkeys(keys, "x") | {"agent": agent} | figures | more


def test_summaries_are_checked(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"is not a finished run: it has no summary\.json"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(FormatError, match="is not a summary: expected an object"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"task": "x"}')
    with pytest.raises(FormatError, match="is not a summary: 'agent' is missing"):
        read_summary(tmp_path)


def test_comparisons_take_medians_over_seeds(tmp_path: Path) -> None:
    for number, (agent, rewards) in enumerate([("a", [0.1, 0.5]), ("a", [0.3, 0.2]), ("a", [0.0, 0.9]), ("b", [0.0])]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(_summary(agent)))
        journal = Journal(folder)
        for index, reward in enumerate(rewards):
            journal.evaluated(_evaluation(index, reward))
    rows = compare(run_folders(tmp_path))
    assert [row["agent"] for row in rows] == ["a", "b"]
    assert rows[0]["reward_at_2"] == "0.500 (0.300 to 0.900)"
    assert (rows[0]["runs"], rows[1]["reward_at_2"], rows[0]["feasible"]) == ("3", "0.000", "3/3")
    with pytest.raises(FormatError, match="holds no finished run"):
        run_folders(tmp_path / "0" / "nothing")


def _row(runs: int, text: str) -> dict[str, str]:
    return {"agent": "a", "runs": str(runs), "reward_at_2": text}


def test_an_interval_of_95_percent_needs_five_runs(tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(_summary("a")))
        Journal(folder).evaluated(_evaluation(0, number / 10))
    runs = run_folders(tmp_path)
    assert compare(runs[:4])[0]["reward_at_1"] == "0.150 (0.000 to 0.300)"
    # Of 5^5 resamples, 0.058 have a median of 0 (at least three of five), as many one of 0.4.
    assert compare(runs)[0]["reward_at_1"] == "0.200 [0.000, 0.400]"
    few, many, one = _row(4, "x"), _row(5, "x"), _row(1, "x")
    titles = [comparison_table(rows).title for rows in ([few], [many], [few, many], [one])]
    assert titles == [
        "runs compared: median (least to most) of fewer than 5 runs",
        "runs compared: median [95 % bootstrap interval]",
        "runs compared: median [95 % bootstrap interval] or (least to most) of fewer than 5 runs",
        "runs compared: median",
    ]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("accuracy", 0.98765, "98.77 %"),
        ("latency_ms", 1.234, "1.23 ms"),
        ("latency_ms", 0.01234, "12.3 us"),
        ("energy_mj", 0.5, "0.5 mJ"),
        ("storage_bytes", 1234567, "1.23 MB"),
        ("storage_bytes", 12, "12 B"),
        ("macs", 70_123_456, "70.1 M"),
        ("macs", 2.5e9, "2.5 G"),
        ("parameters", 7, "7"),
    ],
)
def test_figures_are_written_with_their_unit(name: str, value: float, text: str) -> None:
    assert formatted(name, value) == text


def test_choices_and_points_are_readable() -> None:
    assert choice_text(Choice.of("spatial_svd", speedup=2).to_dict()) == "spatial svd (speedup 2)"
    assert choice_text(Choice("keep").to_dict()) == "keep"
    joined = Choice.of("channel_pruning+low_bits", **{"channel_pruning.kept": 0.25, "low_bits.bits": 4})
    assert choice_text(joined.to_dict()) == "channel pruning (kept 0.25) + low bits (bits 4)"
    joined = Choice.of("channel_pruning+int8", **{"channel_pruning.kept": 0.5})
    assert choice_text(joined.to_dict()) == "channel pruning (kept 0.5) + int8"
    assert [points_text(value) for value in (-0.001, 0.0, 1.5, -2.0)] == ["0.00", "0.00", "+1.50", "-2.00"]


def test_wandb_is_offline_unless_somebody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not _is_logged_in()
    assert WandbTracker()._resolved_mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    assert WandbTracker()._resolved_mode() == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert WandbTracker()._resolved_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbTracker()._resolved_mode() == "disabled"
    assert WandbTracker(mode="offline")._resolved_mode() == "offline"
    with pytest.raises(EspalierError, match=r"tracker\.mode must be auto, online, offline or disabled, got 'maybe'"):
        WandbTracker(mode="maybe")  # type: ignore[arg-type]


def test_a_tracker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(**_: Any) -> None:
        raise wandb.errors.UsageError("no API key configured")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(EspalierError, match=r"W&B cannot start: no API key configured; log in, or use tracker\.mode"):
        WandbTracker(mode="online").started({}, tmp_path)


def test_callbacks_tell_all_and_trackers_need_nothing(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), NullTracker()
    both = Callbacks([first, second])
    both.evaluated(_evaluation(0))
    both.trained({"loss": 1.0})
    assert len(read_journal(tmp_path / "evaluations.jsonl")) == 1
    tracker = Tracker()
    tracker.started({}, tmp_path)
    tracker.closed(failed=False)

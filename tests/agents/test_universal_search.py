"""The searchers around a universal policy: its file, the policy's answers, Dyna after them, archive look-up."""

import json
from pathlib import Path

import pytest
from espalier.agents.dyna.planners import EvolutionPlanner
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.agents.universal.lookup import LookupSearch, rescored
from espalier.agents.universal.policy import UniversalPolicy
from espalier.agents.universal.search import UniversalDyna, UniversalSearch
from espalier.errors import EspalierError, FormatError
from espalier.evaluation.demand import Demand, Weights
from espalier.testing.contracts import SearcherContract
from espalier.testing.toy import toy_problem
from safetensors import safe_open
from safetensors.torch import load_file, save_file

_NEW = Demand(Weights(0.3, 0.0, 0.0, 0.7), None, latency_ms=0.05)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.safetensors"
    UniversalPolicy.untrained(16, {"worlds": ["none"]}).save(path)
    return path


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "evaluations.jsonl"
    archive = RandomSearch().search(toy_problem(), 30)
    path.write_text("".join(json.dumps(evaluation.to_dict()) + "\n" for evaluation in archive))
    return path


class TestContract(SearcherContract):
    @pytest.fixture(params=["universal", "universal_dyna", "lookup"])
    def searcher(self, request: pytest.FixtureRequest, file: Path, journal: Path) -> Searcher:
        if request.param == "universal":
            return UniversalSearch(str(file), seed=1)
        if request.param == "lookup":
            return LookupSearch(str(journal), seed=1)
        return UniversalDyna(EvolutionPlanner(40, 3), str(file), seed=1)


def test_a_policy_file_round_trips(file: Path) -> None:
    loaded = UniversalPolicy.load(file)
    assert loaded.facts == {"worlds": ["none"]}
    again = file.with_name("again.safetensors")
    loaded.save(again)
    assert again.read_bytes() == file.read_bytes()
    problem = toy_problem()
    assert UniversalPolicy.load(again).greedy(problem).tolist() == loaded.greedy(problem).tolist()


def _rewritten(path: Path, **changes: object) -> Path:
    with safe_open(path, "pt") as opened:
        header = json.loads(opened.metadata()["espalier-universal-policy"])
    save_file(load_file(path), path, {"espalier-universal-policy": json.dumps(header | changes)})
    return path


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read a universal policy from .*absent"):
        UniversalPolicy.load(tmp_path / "absent")


def test_a_damaged_file_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FormatError, match="cannot read a universal policy from") as caught:
        UniversalPolicy.load(file)
    assert "\n" not in str(caught.value)


def test_other_weights_are_refused(file: Path) -> None:
    save_file(load_file(file), file)
    with pytest.raises(FormatError, match="is no universal policy of version 1: make one with"):
        UniversalPolicy.load(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "is no universal policy of version 1"),
        ({"observation": {"size": 12}}, r"reads observations of \{'size': 12\}"),
        ({"hidden": 32}, "holds weights of another network"),
        ({"hidden": None}, "holds weights of another network"),
    ],
)
def test_mismatched_files_are_refused_in_one_line(file: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        UniversalPolicy.load(_rewritten(file, **changes))
    assert "\n" not in str(caught.value)


def test_the_greedy_walk_comes_first_and_the_budget_is_used(file: Path) -> None:
    problem = toy_problem()
    archive = list(UniversalSearch(str(file), samples=4).search(problem, 60))
    assert len(archive) == 60
    greedy = UniversalPolicy.load(file).greedy(problem)[0].tolist()
    assert problem.space.plan(greedy) in [evaluation.plan for evaluation in archive[:2]]  # it may keep everything


def test_dyna_goes_on_from_the_policy(file: Path) -> None:
    problem = toy_problem()
    agent = UniversalDyna(EvolutionPlanner(40, 3), str(file), trusted=3)
    archive = list(agent.search(problem, 20))
    greedy = UniversalPolicy.load(file).greedy(problem)[0].tolist()
    assert problem.space.plan(greedy) in [evaluation.plan for evaluation in archive[:2]]  # it may keep everything
    assert len(archive) == 20


def test_look_up_is_brute_force_over_the_archive(journal: Path) -> None:
    """The oracle judges every stored plan by evaluating it for real under the new demand."""
    fresh = toy_problem(demand=_NEW)
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    known = list(RandomSearch().search(toy_problem(), 30))
    assert [row["plan_hash"] for row in rows] == [e.plan.hash for e in known]
    expected = sorted((fresh.evaluate(e.plan).reward for e in known), reverse=True)
    judged = rescored([(e.plan, e.metrics.accuracy) for e in known], toy_problem(demand=_NEW))
    assert [reward for _, reward in judged] == pytest.approx(expected)
    archive = list(LookupSearch(str(journal)).search(toy_problem(demand=_NEW), 12))
    rewards = [e.reward for e in archive[1:]]
    assert rewards == sorted(rewards, reverse=True)
    assert max(rewards) == pytest.approx(expected[0])


def test_look_up_leaves_out_what_the_space_does_not_hold(journal: Path) -> None:
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    rows[5]["plan"]["choices"] = {"elsewhere": rows[5]["plan"]["choices"]["0"]}
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(LookupSearch(str(journal)).search(toy_problem(), 29)) == 29


@pytest.mark.parametrize(
    ("text", "message"),
    [("{]}\n", "is no journal of evaluations"), ('{"plan": 3}\n', "is no journal of evaluations")],
)
def test_a_broken_journal_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        LookupSearch(str(path))


def test_an_absent_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot read the evaluations from"):
        LookupSearch(str(tmp_path / "absent"))


def test_wrong_numbers_are_refused(file: Path) -> None:
    with pytest.raises(EspalierError, match=r"agent\.samples must be at least 1, got 0"):
        UniversalSearch(str(file), samples=0)
    with pytest.raises(EspalierError, match=r"agent\.trusted must be from 0 to recipe\.start - 1, got 10"):
        UniversalDyna(EvolutionPlanner(40, 3), str(file), trusted=10)

"""Tables of whole spaces: every plan, the evaluator's own figures, and files that say what they are for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from espalier.agents.exhaustive import ExhaustiveSearch
from espalier.compression.survey import survey
from espalier.compression.techniques import Int8
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.errors import EspalierError, FormatError
from espalier.evaluation.demand import Demand
from espalier.evaluation.metrics import COSTS
from espalier.hw_models.roofline import Roofline
from espalier.testing.tabular import Table, TabularEvaluator, build_table
from espalier.testing.toy import toy_network, toy_problem


@pytest.fixture(scope="module")
def problem() -> Problem:
    return toy_problem()


@pytest.fixture(scope="module")
def table(problem: Problem) -> Table:
    return build_table(problem.space, problem.evaluator)


def test_a_table_answers_like_the_evaluator(problem: Problem, table: Table) -> None:
    tabular = TabularEvaluator(problem.space, table)
    rng = np.random.default_rng(0)
    for _ in range(50):
        plan = problem.space.plan(problem.space.random(rng))
        assert tabular.evaluate([plan])[0].metrics == problem.evaluator.evaluate([plan])[0].metrics
        costs = tabular.costs(plan)
        assert np.isnan(costs.accuracy)
        assert [costs.cost(name) for name in COSTS] == [
            problem.costs(problem.space.indices(plan)).cost(n) for n in COSTS
        ]


def test_searches_on_a_table_find_what_the_table_holds(problem: Problem, table: Table) -> None:
    device = Roofline("toy", gflops=10.0, bandwidth_gbps=5.0)
    tabular = Problem(problem.bank, TabularEvaluator(problem.space, table), ConstrainedReward(), Demand(), device)
    rewards = [tabular.judge(table.metrics(row)) for row in range(len(table))]
    archive = ExhaustiveSearch().search(tabular, 10 * len(table))
    assert len(archive) == len(table)
    assert max(e.reward for e in archive) == max(rewards)


def test_tables_survive_the_disk(table: Table, tmp_path: Path) -> None:
    path = tmp_path / "tables" / "toy.safetensors"
    table.save(path)
    read = Table.load(path)
    assert read.space == table.space
    assert read.original == table.original
    for name in ("walks", "accuracies", "costs"):
        assert np.array_equal(getattr(read, name), getattr(table, name))


def test_what_is_no_table_is_refused(problem: Problem, table: Table, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    with pytest.raises(FormatError, match=r"cannot read a plan table from .*toy\.safetensors"):
        Table.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(FormatError, match="cannot read a plan table"):
        Table.load(path)
    from safetensors.numpy import save_file  # noqa: PLC0415

    save_file({"walks": table.walks}, path)
    with pytest.raises(FormatError, match="is no plan table of version 1"):
        Table.load(path)
    network = toy_network()
    other = survey(network, torch.zeros(1, 3, 8, 8), {"int8": Int8()})
    with pytest.raises(EspalierError, match="made for other sites or choices"):
        TabularEvaluator(other.space, table)

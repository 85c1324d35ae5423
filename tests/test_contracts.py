"""Espalier's own parts, and the examples', under the contract suites that are offered to others."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from espalier.agents.evolution import EvolutionSearch
from espalier.agents.greedy import GreedySearch
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.commands.building import build, resolved
from espalier.commands.catalogue import options
from espalier.commands.schema import register_schema
from espalier.compression.technique import Technique
from espalier.envs.rewards.absolute import AbsoluteReward
from espalier.envs.rewards.adadeep import AdaDeepReward
from espalier.envs.rewards.amc import AmcReward
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.envs.rewards.mnasnet import MnasNetReward
from espalier.envs.rewards.reward import Reward
from espalier.graph.opspec import OpSpec
from espalier.hw_models.calibrated_device import CalibratedDevice
from espalier.hw_models.cost import HardwareModel
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.roofline import Roofline
from espalier.hw_models.table_device import TableDevice
from espalier.hw_models.tables.table import LookupTable
from espalier.testing.contracts import HardwareModelContract, RewardContract, SearcherContract, TechniqueContract
from hydra import compose, initialize_config_module

from tests.conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples" / "own_parts"))
import own_parts


class TestSearchers(SearcherContract):
    @pytest.fixture(params=[RandomSearch, GreedySearch, EvolutionSearch, own_parts.AnnealingSearch])
    def searcher(self, request: pytest.FixtureRequest) -> Searcher:
        searcher: Searcher = request.param(seed=1)
        return searcher


class TestRewards(RewardContract):
    @pytest.fixture(
        params=[AdaDeepReward, AmcReward, MnasNetReward, AbsoluteReward, ConstrainedReward, own_parts.GreenReward]
    )
    def reward(self, request: pytest.FixtureRequest) -> Reward:
        reward: Reward = request.param()
        return reward


@cache
def _configured() -> dict[str, Any]:
    """The nodes of every technique, as the largest space composes them."""
    register_schema()
    with initialize_config_module("espalier.conf", version_base="1.3"):
        nodes: dict[str, Any] = resolved(compose("config", overrides=["space=all"]))["space"]["techniques"]
    return nodes


def test_the_largest_space_has_every_technique() -> None:
    assert set(_configured()) == set(options("technique"))


class TestTechniques(TechniqueContract):
    @pytest.fixture(params=[name for name in options("technique") if not name.startswith("channel_pruning_")])
    def technique(self, request: pytest.FixtureRequest) -> Technique:
        technique: Technique = build(_configured()[request.param])
        return technique


def _block_table(path: Path) -> Path:
    """Two blocks of two convolutions each, of which single ones are estimated."""
    table = LookupTable("d", "none", {}, "none")
    for width in (8, 32):
        ops = (OpSpec("conv2d", (8, 8, 8), (width, 8, 8)), OpSpec("conv2d", (width, 8, 8), (8, 8, 8)))
        table.add_block(Measurement(ops, 0.1 * width, label=str(width)))
    table.save(path)
    return path


class TestDevices(HardwareModelContract):
    @pytest.fixture(params=["roofline", "profiled", "table", "calibrated"])
    def device(self, request: pytest.FixtureRequest, tmp_path: Path) -> HardwareModel:
        if request.param == "roofline":
            return Roofline("d", gflops=5.0, bandwidth_gbps=1.0)
        if request.param == "calibrated":
            return CalibratedDevice("d", 0.1, {"conv2d_3x3": {"mmacs": 0.5}}, {"count": 0.01}, relative_std=0.1)
        if request.param == "table":
            return TableDevice(str(_block_table(tmp_path / "t.json")), interpolate=True)
        return ProfiledDevice(rounds=3, table=str(tmp_path / "t.json"))


@pytest.mark.parametrize(
    ("suite", "fixture"),
    [
        (SearcherContract, "searcher"),
        (RewardContract, "reward"),
        (TechniqueContract, "technique"),
        (HardwareModelContract, "device"),
    ],
)
def test_a_suite_without_its_fixture_says_which(suite: type, fixture: str) -> None:
    with pytest.raises(NotImplementedError, match=f"give a fixture `{fixture}`"):
        getattr(suite, fixture).__wrapped__(suite()) if hasattr(getattr(suite, fixture), "__wrapped__") else getattr(
            suite, fixture
        )._get_wrapped_function()(suite())

"""Espalier's own parts, and the examples', under the contract suites that are offered to others."""

import sys
from pathlib import Path

import pytest
from espalier.agents.evolution import EvolutionSearch
from espalier.agents.greedy import GreedySearch
from espalier.agents.random_search import RandomSearch
from espalier.agents.searcher import Searcher
from espalier.compression.technique import Technique
from espalier.envs.rewards.absolute import AbsoluteReward
from espalier.envs.rewards.adadeep import AdaDeepReward
from espalier.envs.rewards.amc import AmcReward
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.envs.rewards.mnasnet import MnasNetReward
from espalier.envs.rewards.reward import Reward
from espalier.hw_models.cost import HardwareModel
from espalier.hw_models.profiled_device import ProfiledDevice
from espalier.hw_models.roofline import Roofline
from espalier.testing.contracts import HardwareModelContract, RewardContract, SearcherContract, TechniqueContract

from tests.conftest import REPOSITORY, all_techniques

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


class TestTechniques(TechniqueContract):
    @pytest.fixture(params=sorted(all_techniques()))
    def technique(self, request: pytest.FixtureRequest) -> Technique:
        return all_techniques()[request.param]


class TestDevices(HardwareModelContract):
    @pytest.fixture(params=["roofline", "profiled"])
    def device(self, request: pytest.FixtureRequest, tmp_path: Path) -> HardwareModel:
        if request.param == "roofline":
            return Roofline("d", gflops=5.0, bandwidth_gbps=1.0)
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

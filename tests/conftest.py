"""What many tests share: a cache of their own, real data when it is there, a small problem."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from espalier.compression.bank import Bank
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import Survey, survey
from espalier.compression.technique import Technique
from espalier.compression.techniques import (
    ChannelPruning,
    DepthwiseSeparable,
    Fire,
    GlobalAveragePooling,
    Int8,
    MagnitudePruning,
    SpatialSvd,
    TruncatedSvd,
    Tucker2,
    WeightSharing,
)
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.store import Store
from espalier.hw_models.roofline import Roofline
from espalier.tasks.data.digits import digits
from espalier.tasks.models.vgg import VggSmall
from espalier.tasks.task import Task
from espalier.tasks.training import TrainingRecipe, train

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache; runs of the same session share one, those of all workers, too."""
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESPALIER_CACHE", str(shared / "cache"))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("COLUMNS", "200")
        if "PYTEST_XDIST_WORKER" in os.environ:
            # Workers that each take all processors wait for one another most of the time.
            patch.setenv("OMP_NUM_THREADS", "1")
            torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets."""
    folder = Path(os.environ.get("ESPALIER_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("needs the real data sets in $ESPALIER_DATA")
    return folder


def all_techniques() -> dict[str, Technique]:
    """Every technique with its defaults."""
    made: list[Technique] = [
        TruncatedSvd(),
        SpatialSvd(),
        Tucker2(),
        DepthwiseSeparable(),
        Fire(),
        ChannelPruning(),
        Int8(),
        MagnitudePruning(),
        WeightSharing(),
        GlobalAveragePooling(),
    ]
    return {technique.name: technique for technique in made}


@dataclass(frozen=True)
class Small:
    """A small trained network with everything that a search needs."""

    task: Task
    survey: Survey
    bank: Bank
    device: Roofline
    evaluator: LocalEvaluator

    def problem(self, demand: Demand | None = None) -> Problem:
        """A problem of its own."""
        return Problem(self.bank, self.evaluator, ConstrainedReward(), demand or Demand(), self.device)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Digits at 16x16, a VGG of 16 to 32 channels, a modelled device."""
    torch.manual_seed(0)
    splits = digits(size=16, calibrate=64, search=200, test=200)
    model = VggSmall([16, 24, 32], hidden=24, in_channels=1, image_size=16, n_classes=10)
    train(model, splits.fit, TrainingRecipe(epochs=4), seed=0)
    task = Task("small", model, splits)
    surveyed = survey(task.model, task.example_input, all_techniques())
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint)
    device = Roofline("toy", gflops=10.0, bandwidth_gbps=2.0, overhead_us=1.0, int8_speedup=3.0)
    # Tests ask for the same plans: each is evaluated once a session.
    store = Store(tmp_path_factory.mktemp("store") / "evaluations.sqlite")
    return Small(task, surveyed, bank, device, LocalEvaluator(task, surveyed, bank, device, store))

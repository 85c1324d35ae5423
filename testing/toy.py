"""A problem that is ready in a second: a real space and bank, an accuracy from an equation."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..compression.bank import Bank
from ..compression.bank_builder import build_bank
from ..compression.plan import Plan
from ..compression.survey import Survey, survey
from ..compression.technique import Technique
from ..compression.techniques import ChannelPruning, Int8, SpatialSvd, WeightSharing
from ..envs.problem import Problem
from ..envs.rewards.constrained import ConstrainedReward
from ..envs.rewards.reward import Reward
from ..evaluation.demand import Demand
from ..evaluation.evaluator import EvaluatedPlan
from ..evaluation.metrics import Metrics
from ..hw_models.cost import Estimate
from ..hw_models.roofline import Roofline

__all__ = ["ToyEvaluator", "toy_network", "toy_networks", "toy_problem"]


def toy_network() -> nn.Module:
    """Two convolutions and two linear layers on 3x8x8 images; random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )
    return network.eval().requires_grad_(False)


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(12, 16, batch_first=True)
        self.classifier = nn.Linear(16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, _ = self.layer(inputs)
        scores: Tensor = self.classifier(outputs[:, -1])
        return scores


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.classifier = nn.Linear(8, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        features = torch.relu(self.stem(inputs))
        features = torch.relu(features + self.branch(features))
        scores: Tensor = self.classifier(features.mean((2, 3)))
        return scores


def toy_networks() -> list[tuple[nn.Module, Tensor]]:
    """Networks with sites of every kind, and 32 inputs of each: convolutional, recurrent, residual."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(32, 3, 8, 8, generator=generator)
    sequences = torch.rand(32, 6, 12, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = [(_Recurrent(), sequences), (_Residual(), images)]
    others = [(network.eval().requires_grad_(False), inputs) for network, inputs in made]
    return [(toy_network(), images), *others]


class ToyEvaluator:
    """Accuracy .95 minus a twentieth of the summed output errors; costs of operators as a roofline sees them.

    Args:
        surveyed: The space.
        bank: Its variants.
        device: Costs.
    """

    def __init__(self, surveyed: Survey, bank: Bank, device: Roofline) -> None:
        self._space = surveyed.space
        self._bank = bank
        self._device = device

    def evaluate(self, plans: Sequence[Plan]) -> Sequence[EvaluatedPlan]:
        """Metrics of each plan, in no time."""
        return [EvaluatedPlan(replace(self.costs(plan), accuracy=self._accuracy(plan)), 0.0, False) for plan in plans]

    def _accuracy(self, plan: Plan) -> float:
        space = self._space
        errors = (self._bank.error(site, space.state(site, plan), plan[site.name]) for site in space.sites)
        return max(0.1, 0.95 - 0.05 * sum(errors))

    def costs(self, plan: Plan) -> Metrics:
        """Costs of the sites alone."""
        specs = []
        size = 0
        for site in self._space.sites:
            variant = self._bank.variant(site, plan)
            size += variant.storage_bytes if variant else 4 * site.weights
            specs += list(variant.specs) if variant else []
        kept = [site for site in self._space.sites if self._bank.variant(site, plan) is None and site.kind != "head"]
        macs = sum(spec.macs for spec in specs) + sum(site.macs for site in kept)
        cost = self._device.cost(specs)
        latency = cost.latency_ms.value + sum(2e-6 * site.macs / self._device.gflops for site in kept)
        figures = (latency, latency, size, size, macs, size / 4)
        return Metrics(float("nan"), *(Estimate(figure, 0.0, "modelled", "toy") for figure in figures))


def toy_problem(reward: Reward | None = None, demand: Demand | None = None) -> Problem:
    """A problem for tests of agents and rewards.

    Args:
        reward: How plans are judged.
        demand: What is wanted.
    """
    techniques: list[Technique] = [SpatialSvd(), ChannelPruning(), Int8(), WeightSharing()]
    network = toy_network()
    inputs = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    surveyed = survey(network, inputs[:1], {technique.name: technique for technique in techniques})
    bank = build_bank(network, surveyed.space, inputs, "toy")
    device = Roofline("toy", gflops=10.0, bandwidth_gbps=5.0, int8_speedup=4.0)
    evaluator = ToyEvaluator(surveyed, bank, device)
    return Problem(bank, evaluator, reward or ConstrainedReward(), demand or Demand(), device)

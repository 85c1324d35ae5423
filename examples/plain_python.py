"""The same search without Hydra: your own network, plain Python objects.

python examples/plain_python.py
"""

import torch
from espalier.agents.evolution import EvolutionSearch
from espalier.compression.assembly import assemble
from espalier.compression.bank_builder import build_bank
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, Int8, SpatialSvd
from espalier.envs.problem import Problem
from espalier.envs.rewards.constrained import ConstrainedReward
from espalier.evaluation.demand import Demand
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.hw_models.roofline import Roofline
from espalier.tasks.data.digits import digits
from espalier.tasks.task import Task
from espalier.tasks.training import TrainingRecipe, train
from torch import nn


def main() -> None:
    splits = digits(size=16)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    train(network, splits.fit, TrainingRecipe(epochs=10), seed=0)
    task = Task("my_digits", network, splits)

    techniques = {technique.name: technique for technique in (SpatialSvd(), ChannelPruning(), Int8())}
    surveyed = survey(task.model, task.example_input, techniques)
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint)
    device = Roofline("my_board", gflops=8.0, bandwidth_gbps=2.0, int8_speedup=2.0)
    evaluator = LocalEvaluator(task, surveyed, bank, device)
    problem = Problem(bank, evaluator, ConstrainedReward(), Demand(max_accuracy_drop_points=2.0), device)

    best = EvolutionSearch(seed=0).search(problem, budget=40).best()[0]
    for site, choice in best.plan:
        print(f"{site:4} {choice}")
    ratios = best.metrics.ratios(problem.baseline)
    print(f"accuracy {best.metrics.accuracy:.3f}, {ratios['latency_ms']:.2f} times faster")
    compressed = assemble(task.model, best.plan, bank)
    print(compressed(task.example_input).argmax(1).item())


if __name__ == "__main__":
    main()

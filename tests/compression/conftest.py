"""What tests of whole networks share: a network with its search space and its bank."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from espalier.compression.bank import Bank
from espalier.compression.bank_builder import build_bank
from espalier.compression.calibration import Calibration
from espalier.compression.survey import Survey, survey
from espalier.compression.technique import Technique
from torch import Tensor, nn


@dataclass
class Case:
    """A network, what can be done to it, and inputs."""

    model: nn.Module
    survey: Survey
    bank: Bank
    inputs: Tensor


def make_case(model: nn.Module, inputs: Tensor, techniques: Iterable[Technique]) -> Case:
    """The case of a network; its variants are fitted on the inputs."""
    model = model.eval().requires_grad_(False)
    found = survey(model, inputs[:1], {technique.name: technique for technique in techniques})
    return Case(model, found, build_bank(model, found.space, inputs, "x"), inputs)


def white_inputs(size: int) -> Calibration:
    """Inputs that know nothing of each other, all of one scale."""
    return Calibration(torch.eye(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0, 1)

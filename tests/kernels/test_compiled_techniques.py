"""What the techniques make of layers, compiled."""

import pytest
import torch
from espalier.compression import techniques
from espalier.compression.assembly import assemble
from espalier.compression.plan import Plan
from espalier.compression.technique import Technique
from espalier.compression.techniques import BcrPruning, Int8, RecurrentSvd
from espalier.tasks.models.recurrent import RecurrentClassifier
from espalier.tasks.models.vgg import VggSmall
from torch import Tensor, nn

from tests.compression.conftest import Case, make_case
from tests.kernels.programs import TOLERANCE, Compiler, error, randomised

#: Of other sites than single layers over images, made of others, or not computed in floats.
_ELSEWHERE = ("Composition", "DepthSkip", "Int8", "RecurrentSvd", "WidthScaling")

_TECHNIQUES = tuple(getattr(techniques, name) for name in techniques.__all__ if name not in _ELSEWHERE)


def _strongest(case: Case) -> Plan:
    """At each site the last choice that is open."""
    taken: list[int] = []
    for position in range(len(case.survey.space.sites)):
        open_choices = case.survey.space.mask(position, taken)
        taken.append(max(index for index, is_open in enumerate(open_choices) if is_open))
    return case.survey.space.plan(taken)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(16, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def _compared(compiler: Compiler, model: nn.Module, inputs: Tensor, technique: Technique) -> float:
    """How far a network compressed by one technique at every site is from what PyTorch makes of it."""
    case = make_case(model, inputs, [technique])
    network = assemble(case.model, _strongest(case), case.bank).eval()
    assert any(choice.technique == technique.name for _, choice in _strongest(case))
    with torch.no_grad():
        wanted = network(inputs[:2]).double()
    return error(compiler.network(network, inputs)(inputs[:2]), wanted)


@pytest.mark.parametrize("kind", _TECHNIQUES, ids=lambda kind: kind.__name__)
def test_techniques_on_images(compiler: Compiler, images: Tensor, kind: type[Technique]) -> None:
    torch.manual_seed(0)
    model = randomised(VggSmall([16, 24], hidden=24, in_channels=1, image_size=16, n_classes=10))
    assert _compared(compiler, model, images, kind()) <= TOLERANCE


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("technique", [RecurrentSvd(speedups=(2,), rank_multiple=1), BcrPruning(rates=(4,))])
def test_techniques_on_sequences(compiler: Compiler, kind: str, technique: Technique) -> None:
    torch.manual_seed(0)
    model = RecurrentClassifier(kind, n_features=12, hidden=32, n_classes=4)
    assert _compared(compiler, model, torch.randn(16, 9, 12), technique) <= TOLERANCE


def test_integers_are_simulated_up_to_a_step_of_their_grids(compiler: Compiler, images: Tensor) -> None:
    """A number half-way between two codes may become either."""
    torch.manual_seed(0)
    model = randomised(VggSmall([16, 24], hidden=24, in_channels=1, image_size=16, n_classes=10))
    assert _compared(compiler, model, images, Int8()) <= 0.02

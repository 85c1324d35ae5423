"""In which numbers right answers are counted."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from espalier.errors import EspalierError
from espalier.evaluation.evaluator import LocalEvaluator
from espalier.evaluation.precision import chosen_precision
from espalier.graph.layers import executable
from espalier.graph.trace import trace
from espalier.tasks.accuracy import count_right
from espalier.tasks.precision import computing_in
from torch import Tensor, nn

from tests.conftest import Small


class _Complex(nn.Module):
    """Does something that nobody computes in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 64, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.conv(inputs)
        return torch.complex(features, features).abs().mean((2, 3))


def _capabilities(monkeypatch: pytest.MonkeyPatch, **known: bool) -> None:
    def capabilities() -> Mapping[str, bool]:
        return known

    monkeypatch.setattr(torch.cpu, "get_capabilities", capabilities)


def _chosen(wanted: str, model: nn.Module, size: int = 96) -> str:
    example = torch.zeros(1, 3, size, size)
    return chosen_precision(wanted, model.eval(), trace(model, example), example)


@pytest.fixture
def convolution() -> nn.Module:
    """15.9 million multiply-accumulates on images of 96x96."""
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def test_auto_follows_the_processor_and_the_work(convolution: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    _capabilities(monkeypatch, avx512_bf16=True)
    assert _chosen("auto", convolution) == "bfloat16"
    assert _chosen("auto", convolution, size=32) == "float32"  # too small
    assert _chosen("auto", nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 500))) == "float32"  # no convolution
    _capabilities(monkeypatch, avx2=True)
    assert _chosen("auto", convolution) == "float32"
    assert _chosen("bfloat16", convolution) == "bfloat16"


def test_what_cannot_compute_in_it_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _capabilities(monkeypatch, amx_bf16=True)
    assert _chosen("auto", _Complex()) == "float32"
    with pytest.raises(EspalierError, match=r"evaluator.precision=bfloat16: the network fails \(.+\); choose float32"):
        _chosen("bfloat16", _Complex())


def test_other_precisions_are_refused(small: Small) -> None:
    with pytest.raises(EspalierError, match="must be one of auto, bfloat16, float32; got 'int3'"):
        LocalEvaluator(small.task, small.survey, small.bank, small.device, precision="int3")  # type: ignore[arg-type]


def test_eight_significant_bits_decide() -> None:
    # The second score is higher by one part in a thousand, which bfloat16 does not have.
    layer = nn.Linear(1, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.tensor([[1.0], [1.001]]))
    inputs, labels = torch.ones(3, 1), torch.ones(3, dtype=torch.long)
    for used, right in (("float32", 3), ("bfloat16", 0)):
        with computing_in(used):  # type: ignore[arg-type]
            assert count_right(layer, inputs, labels) == right


def test_every_technique_answers_nearly_the_same(small: Small) -> None:
    """Each choice at each site alone: what layers compute in bfloat16 is what they compute in float32."""
    space, inputs = small.survey.space, small.task.search.inputs(slice(0, 60))
    for position, choices in enumerate(space.choices):
        for index in range(len(choices)):
            walk = [0] * len(space.choices)
            walk[position] = index
            network = executable(small.evaluator.network(space.plan(walk)))
            with torch.inference_mode():
                exact = network(inputs).softmax(1)
                with computing_in("bfloat16"):
                    rounded = network(inputs).float().softmax(1)
            assert float((exact - rounded).abs().mean()) < 0.01, choices[index]


def test_an_evaluator_counts_in_its_precision(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bool] = set()

    def watching(network: nn.Module, inputs: Tensor, labels: Tensor) -> int:
        seen.add(torch.is_autocast_enabled("cpu"))
        return count_right(network, inputs, labels)

    monkeypatch.setattr("espalier.evaluation.evaluator.count_right", watching)
    plan = small.survey.space.plan(small.survey.space.random(np.random.default_rng(3)))
    made = {
        name: LocalEvaluator(small.task, small.survey, small.bank, small.device, precision=name)
        for name in ("float32", "bfloat16", "auto")
    }
    made["bfloat16"].evaluate([plan])
    assert seen == {True}
    made["auto"].evaluate([plan])  # a small network
    assert seen == {True, False}
    assert made["auto"].context == made["float32"].context
    assert made["auto"].context != made["bfloat16"].context

"""The search space against brute force."""

import itertools

import numpy as np
import pytest
import torch
from espalier.compression.choice import KEEP, Choice
from espalier.compression.plan import Plan
from espalier.compression.space import SearchSpace, selected
from espalier.compression.survey import survey
from espalier.compression.techniques import ChannelPruning, Int8, TruncatedSvd
from espalier.errors import EspalierError, ModelError
from espalier.tasks.models.resnet import CifarResNet
from torch import Tensor, nn

from tests.conftest import Small, all_techniques


class _Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(1, 16, 3, padding=1)
        self.two = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.two(torch.relu(self.one(inputs))).mean((2, 3)))


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    techniques = {t.name: t for t in (ChannelPruning(kept=(0.5,)), Int8(), TruncatedSvd(speedups=(2,)))}
    return survey(_Chain().eval(), torch.rand(1, 1, 6, 6), techniques).space


def test_size_counts_every_walk(space: SearchSpace) -> None:
    walks = list(itertools.product(*(range(len(choices)) for choices in space.choices)))
    assert len(walks) == space.size
    canonical = {space.canonical(walk) for walk in walks}
    hashes = {space.plan(walk).hash for walk in walks}
    assert len(hashes) == len(canonical)
    for walk in canonical:
        assert space.canonical(walk) == walk
        assert space.indices(space.plan(walk)) == walk
        assert all(mask[index] for mask, index in zip(space.masks(walk), walk, strict=True))


def test_random_walks_are_open_and_reach_everything(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    seen = {space.random(rng) for _ in range(3000)}
    walks = itertools.product(*(range(len(choices)) for choices in space.choices))
    assert seen == {space.canonical(walk) for walk in walks}


def test_keep_is_choice_zero_and_always_open(small: Small) -> None:
    space = small.survey.space
    rng = np.random.default_rng(0)
    assert all(choices[0] == KEEP for choices in space.choices)
    for _ in range(50):
        assert all(mask[0] for mask in space.masks(space.random(rng)))
    assert all(choice == KEEP for _, choice in space.keep_plan)
    assert space.n_actions == max(map(len, space.choices))


def test_a_replaced_head_closes_the_layers_inside(small: Small) -> None:
    space = small.survey.space
    head = space.positions["head"]
    walk = [0] * len(space.sites)
    walk[head] = 1
    for name in space.sites[head].layers:
        assert space.mask(space.positions[name], walk).tolist() == [True] + [False] * (
            len(space.choices[space.positions[name]]) - 1
        )


def test_include_and_exclude_leave_the_other_layers_alone() -> None:
    model, example = CifarResNet(20).eval(), torch.rand(1, 3, 32, 32)
    space = survey(model, example, all_techniques(), ["layer3.*"], ["*conv2"]).space
    open_sites = {site.name for site, choices in zip(space.sites, space.choices, strict=True) if len(choices) > 1}
    assert open_sites == {"layer3.0.conv1", "layer3.1.conv1", "layer3.2.conv1"}


def test_patterns_that_match_nothing_are_refused() -> None:
    with pytest.raises(EspalierError, match=r"no layer matches the pattern 'lay3\*'; layers: a, b"):
        selected(["a", "b"], ["lay3*"], [])
    assert selected(["a1", "a2", "b"], ["a*"], ["a2"]) == ("a1",)


def test_residual_layers_are_pruned_only_inside_their_block() -> None:
    """Channels that an addition ties to others stay; those that one block alone reads can go."""
    surveyed = survey(CifarResNet(20).eval(), torch.rand(1, 3, 32, 32), all_techniques())
    prunable = set(surveyed.space.groups)
    assert prunable == {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)}
    assert "layer1.0.conv2" in surveyed.unprunable


def test_foreign_plans_are_refused(space: SearchSpace) -> None:
    with pytest.raises(EspalierError, match=r"svd is not open at one; open: keep"):
        space.indices(Plan.of({"one": Choice("svd")}))
    with pytest.raises(EspalierError, match=r"unknown sites \['nowhere'\]"):
        space.indices(Plan.of({"nowhere": KEEP}))


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.shared(self.shared(inputs))


def test_networks_without_anything_to_compress_are_refused() -> None:
    with pytest.raises(ModelError, match=r"no layer that can be compressed \(shared: it is called more than once\)"):
        survey(_Twice().eval(), torch.rand(1, 4), all_techniques())
    with pytest.raises(EspalierError, match="the search space is empty"):
        survey(_Chain().eval(), torch.rand(1, 1, 6, 6), {})


def test_patterns_that_exclude_everything_are_refused() -> None:
    network, example = _Chain().eval(), torch.rand(1, 1, 6, 6)
    with pytest.raises(EspalierError, match=r"space\.exclude=\['\*'\] leaves out every layer of the network$"):
        survey(network, example, all_techniques(), exclude=["*"])
    first = survey(network, example, all_techniques()).space.sites[0].name
    with pytest.raises(EspalierError, match=rf"every layer that space\.include=\['{first}'\] opens$"):
        survey(network, example, all_techniques(), [first], [first])


def test_layers_that_no_technique_knows_are_named() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.Linear(6, 6),
    )
    skipped = survey(model.eval(), torch.rand(1, 1, 6, 6), all_techniques()).space.skipped
    assert "pads with 'reflect'" in skipped["0"]
    assert "padding is 'same'" in skipped["1"]
    assert "applied along an axis" in skipped["3"]

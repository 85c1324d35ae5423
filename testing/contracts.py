"""Contract suites: subclass one in your own tests, give one fixture, and pytest checks what Espalier relies on.

A suite needs pytest, which `pip install 'espalier[dev]'` brings.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ..agents.searcher import Searcher
from ..compression.assembly import assemble
from ..compression.bank_builder import build_bank
from ..compression.calibration import calibrate
from ..compression.layers import build_module, describe_module, layer_specs
from ..compression.plan import Plan
from ..compression.site import Site, find_sites
from ..compression.storage import load_network, save_network
from ..compression.survey import survey
from ..compression.technique import ChannelTechnique, Technique
from ..compression.variant import state_bytes
from ..envs.rewards.reward import Reward
from ..errors import EspalierError
from ..evaluation.demand import Demand, Weights
from ..graph.opspec import OpSpec
from ..graph.trace import trace
from ..hw_models.cost import HardwareModel
from .toy import toy_networks, toy_problem

__all__ = ["HardwareModelContract", "RewardContract", "SearcherContract", "TechniqueContract"]


class SearcherContract:
    """What every agent must keep to; give the fixture `searcher`."""

    @pytest.fixture
    def searcher(self) -> Searcher:
        """The agent under test, with a fixed seed."""
        raise NotImplementedError("give a fixture `searcher`")

    def test_it_stays_within_the_budget(self, searcher: Searcher) -> None:
        """At most the budget's different plans, the one that keeps everything first."""
        problem = toy_problem()
        archive = searcher.search(problem, 12)
        assert 1 <= len(archive) <= 12
        evaluations = list(archive)
        assert [evaluation.index for evaluation in evaluations] == list(range(len(archive)))
        assert evaluations[0].plan == problem.space.keep_plan

    def test_a_budget_of_one_is_enough(self, searcher: Searcher) -> None:
        """The smallest budget is no error."""
        assert len(searcher.search(toy_problem(), 1)) == 1

    def test_it_replays(self, searcher: Searcher) -> None:
        """The same seed makes the same evaluations."""
        first, second = ([e.plan.hash for e in searcher.search(toy_problem(), 12)] for _ in range(2))
        assert first == second


class RewardContract:
    """What every reward must keep to; give the fixture `reward`."""

    @pytest.fixture
    def reward(self) -> Reward:
        """The reward under test."""
        raise NotImplementedError("give a fixture `reward`")

    @pytest.fixture
    def demand(self) -> Demand:
        """A demand that the reward can judge by."""
        return Demand(Weights(0.4, 0.2, 0.2, 0.2), latency_ms=0.5, storage_bytes=5e4)

    def test_it_is_a_finite_number_for_every_plan(self, reward: Reward, demand: Demand) -> None:
        """No plan breaks it, and judging twice gives the same."""
        problem = toy_problem(reward, demand)
        rng = np.random.default_rng(0)
        for _ in range(20):
            metrics = problem.evaluate_walk(problem.space.random(rng)).metrics
            value = reward(metrics, problem.baseline, demand)
            assert np.isfinite(value)
            assert reward(metrics, problem.baseline, demand) == value

    def test_more_accuracy_at_equal_costs_is_never_worse(self, reward: Reward, demand: Demand) -> None:
        """Monotone in accuracy."""
        problem = toy_problem(reward, demand)
        for low, high in ((0.2, 0.3), (0.85, 0.9), (0.94, 0.95)):
            metrics = (dataclasses.replace(problem.baseline, accuracy=accuracy) for accuracy in (low, high))
            worse, better = (reward(one, problem.baseline, demand) for one in metrics)
            assert worse <= better


class TechniqueContract:
    """What every technique must keep to; give the fixture `technique`."""

    @pytest.fixture
    def technique(self) -> Technique:
        """The technique under test."""
        raise NotImplementedError("give a fixture `technique`")

    def test_its_choices_save_fit_and_can_be_written(self, technique: Technique) -> None:
        """On every site: the layer's shapes, finite outputs, less work or storage, and a structure for files."""
        offered = 0
        for network, inputs in toy_networks():
            sites, _ = find_sites(network, trace(network, inputs[:1]))
            calibrations = calibrate(network, sites, [inputs])
            for site in sites:
                layer = network.get_submodule(site.layers[-1])
                before = [tensor.clone() for tensor in layer.state_dict().values()]
                for choice in technique.choices(site):
                    offered += 1
                    assert choice.technique == technique.name
                    module = technique.build(layer, site, choice, calibrations[site.name])
                    self._check(module, layer, site, calibrations[site.name].examples)
                assert all(torch.equal(a, b) for a, b in zip(before, layer.state_dict().values(), strict=True))
        assert offered or isinstance(technique, ChannelTechnique)

    @torch.no_grad()
    def test_what_it_narrows_fits_together(self, technique: Technique, tmp_path: Path) -> None:
        """Every choice that takes channels away leaves a network that runs, is smaller, and can be written."""
        if not isinstance(technique, ChannelTechnique) or not technique.criterion:
            return  # it takes no channels away
        narrowing = 0
        for network, inputs in toy_networks():
            try:
                space = survey(network, inputs[:1], {technique.name: technique}).space
            except EspalierError:
                continue  # nothing in this network is for it
            bank = build_bank(network, space, inputs, "contract")
            for site in space.sites:
                for narrow in space.narrowings(site.name):
                    narrowing += 1
                    plan = Plan.of(space.narrowed({site.name: narrow}))
                    self._check_narrow(assemble(network, plan, bank), network, inputs, tmp_path)
        assert narrowing

    @staticmethod
    def _check_narrow(narrow: nn.Module, network: nn.Module, inputs: torch.Tensor, folder: Path) -> None:
        outputs = narrow(inputs)
        assert outputs.shape == network(inputs).shape
        assert torch.isfinite(outputs).all()
        assert state_bytes(narrow) < state_bytes(network)
        save_network(folder / "narrow.safetensors", narrow, network)
        assert torch.allclose(load_network(folder / "narrow.safetensors", network)(inputs), outputs, atol=1e-5)

    @staticmethod
    def _check(module: nn.Module, layer: nn.Module, site: Site, examples: torch.Tensor | None) -> None:
        assert examples is not None
        outputs = _outputs(module, examples)
        assert torch.isfinite(outputs).all()
        if site.is_layer:
            assert outputs.shape == _outputs(layer, examples).shape
            specs, original = (layer_specs(m, tuple(examples.shape[1:])) for m in (module, layer))
            saves_work = sum(spec.macs for spec in specs) < sum(spec.macs for spec in original)
            assert saves_work or state_bytes(module) < state_bytes(layer)
        twin = build_module(describe_module(module))
        twin.load_state_dict(module.state_dict())
        assert torch.allclose(_outputs(twin.eval(), examples), outputs, atol=1e-5)


def _outputs(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What a layer gives, of a recurrent one without its last state."""
    outputs: torch.Tensor | tuple[torch.Tensor, object] = module(inputs)
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


class HardwareModelContract:
    """What every hardware model must keep to; give the fixture `device`."""

    @pytest.fixture
    def device(self) -> HardwareModel:
        """The hardware model under test."""
        raise NotImplementedError("give a fixture `device`")

    def test_costs_add_up_and_say_where_they_come_from(self, device: HardwareModel) -> None:
        """Costs are positive, do not fall with more operators, and are labelled."""
        small = OpSpec("conv2d", (8, 8, 8), (8, 8, 8), (3, 3), padding=(1, 1), bias=True)
        large = OpSpec("conv2d", (32, 16, 16), (32, 16, 16), (3, 3), padding=(1, 1), bias=True)
        device.prepare([small, large])
        one, two = device.cost([small]), device.cost([small, large])
        for name in ("latency_ms", "energy_mj"):
            first, second = getattr(one, name), getattr(two, name)
            assert 0 < first.value < second.value
            assert first.std >= 0
            assert first.kind in ("measured", "modelled")
            assert first.on
        assert device.cost([small, large]) == two
        assert len(device.features()) == 4
        assert np.isfinite(device.features()).all()
        assert device.name

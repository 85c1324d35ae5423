"""Building a bank: calibrate once, fit every variant, remember each site on disk."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..files import content_hash, write_bytes
from ..progress import Advance, step
from .bank import Bank, VariantKey
from .calibration import Calibration, calibrate
from .choice import KEEP, Choice
from .effects import ChoiceEffects
from .importance import taylor_scores
from .layers import OverSignals, as_image_layer, layer_specs
from .narrowing import narrowed_layer, weight_columns, with_output_channels
from .ranking import ChannelRanking, placement_sites
from .site import Site
from .space import Narrowing, SearchSpace, State
from .technique import settings
from .variant import Variant

__all__ = ["build_bank"]

BANK_VERSION = 3
_BATCH_SIZE = 32


def build_bank(
    model: nn.Module, space: SearchSpace, inputs: Tensor, fingerprint: str, folder: Path | None = None
) -> Bank:
    """Build or load all variants of a space.

    A site that was built before, for the same network, data and choices, is read from disk; so a build that was
    interrupted goes on where it stopped.

    Args:
        model: The network in evaluation mode.
        space: What can be chosen.
        inputs: Calibration inputs of the network, shape (examples, ...).
        fingerprint: Hash of the network's weights and the calibration data.
        folder: Where to keep the variants; None keeps them in memory alone.
    """
    return _Builder(model, space, inputs, fingerprint, folder).build()


class _Builder:
    def __init__(
        self, model: nn.Module, space: SearchSpace, inputs: Tensor, fingerprint: str, folder: Path | None
    ) -> None:
        self._model = model
        self._space = space
        self._inputs = inputs
        self._fingerprint = fingerprint
        self._folder = folder
        self._ranking = ChannelRanking(model, space, lambda: self._calibrations, lambda: self._taylor_scores)
        self._effects = ChoiceEffects(model, space, inputs, self._ranking, lambda: self._calibrations, self._narrowed)

    def build(self) -> Bank:
        variants: dict[VariantKey, Variant] = {}
        jobs = {site.name: list(self._jobs(site)) for site in self._space.sites}
        with step("building the bank", sum(map(len, jobs.values()))) as advance:
            # Narrowing sites come first: their order of channels decides what the others read.
            for site in sorted(self._space.sites, key=lambda site: site.name not in self._space.groups):
                if not jobs[site.name]:
                    continue
                found = self._load(site, jobs[site.name])
                if found is None:
                    found = self._fit_site(site, jobs[site.name], advance)
                    self._save(site, found)
                else:
                    advance(len(found), site.name)
                variants |= {(site.name, *job): variant for job, variant in found.items()}
        return Bank(self._space, variants, self._all_kept())

    def _jobs(self, site: Site) -> Iterator[tuple[State, Choice]]:
        """Every state and choice of a site that needs a variant of its own."""
        choices = self._space.choices[self._space.positions[site.name]]
        for state in self._space.states(site):
            is_open = self._space.open_choices(site, state)
            for choice, possible in zip(choices, is_open, strict=True):
                is_original = choice == KEEP and (not site.is_layer or not any(state))
                if possible and not is_original:
                    yield state, choice

    @cached_property
    def _calibrations(self) -> dict[str, Calibration]:
        batches = torch.split(self._inputs, _BATCH_SIZE)
        with step("calibrating", len(batches)) as advance:
            sites = [site for site in self._space.sites if site.layers]
            return calibrate(self._model, (*sites, *placement_sites(self._space)), batches, advance)

    @cached_property
    def _taylor_scores(self) -> dict[str, Tensor]:
        batches = torch.split(self._inputs, _BATCH_SIZE)
        with step("measuring sensitivities", len(batches)) as advance:
            alone = tuple(name for name, group in self._space.groups.items() if not group.members)
            return taylor_scores(self._model, alone, batches, advance)

    def _all_kept(self) -> dict[tuple[str, Narrowing], Tensor]:
        return {
            (name, narrowing): self._ranking.kept(name, narrowing)
            for name in self._space.groups
            for narrowing in self._space.narrowings(name)
        }

    def _fit_site(
        self, site: Site, jobs: list[tuple[State, Choice]], advance: Advance
    ) -> dict[tuple[State, Choice], Variant]:
        fitted: dict[tuple[State, Choice], Variant] = {}
        by_state: dict[State, list[Choice]] = {}
        for state, choice in jobs:
            by_state.setdefault(state, []).append(choice)
        for state, choices in by_state.items():
            layer, narrowed, calibration = self._narrowed(site, state)
            for choice in choices:
                fitted[state, choice] = self._fit(layer, narrowed, state, choice, calibration)
                advance(1, site.name)
        return fitted

    def _narrowed(self, site: Site, state: State) -> tuple[nn.Module, Site, Calibration]:
        """The layer as its producers leave it, refitted; its site and its calibration.

        A convolution over signals comes as the one over images of one row that techniques know; a width as nothing.
        """
        if not site.layers:
            return nn.Sequential(), site, Calibration.empty()
        calibration = self._calibrations[site.name]
        layer = self._model.get_submodule(site.layers[-1])
        if isinstance(layer, nn.Conv1d):
            layer = as_image_layer(layer)
        kept = self._ranking.kept_inputs(site, state)
        if kept is not None:
            layer, calibration = _with_inputs(layer, site, kept, calibration)
        written = self._space.output_narrowing(site, state)
        if written is not None:
            layer, calibration = _with_outputs(layer, site, self._ranking.kept(*written), calibration)
        return layer, self._space.narrowed_site(site, state), calibration

    def _fit(self, layer: nn.Module, site: Site, state: State, choice: Choice, calibration: Calibration) -> Variant:
        narrowing = self._space.narrowing(site.name, choice)
        if narrowing is not None:
            calibration = calibration.ranked(self._ranking.order(site.name, narrowing.criterion))
        if choice == KEEP:
            module = layer
        else:
            module = self._space.techniques[choice.technique].build(layer, site, choice, calibration)
        module = module.eval().requires_grad_(False)
        error = self._effects.error(module, layer, site, state, choice, calibration)
        if site.over_signals:
            module = OverSignals.of(module).eval()
        return Variant(module, layer_specs(module, _read_shape(site)), error)

    def _path(self, site: Site) -> Path | None:
        if self._folder is None:
            return None
        space = self._space
        producers = [(name, space.choices[space.positions[name]]) for name in space.producers[site.name]]
        techniques = [settings(technique) for _, technique in sorted(space.techniques.items())]
        choices = space.choices[space.positions[site.name]]
        key = content_hash(self._fingerprint, repr((BANK_VERSION, site, choices, producers, techniques)))
        return self._folder / f"{key}.safetensors"

    def _save(self, site: Site, found: dict[tuple[State, Choice], Variant]) -> None:
        path = self._path(site)
        if path is None:
            return
        tensors = {name: t for i, variant in enumerate(found.values()) for name, t in variant.tensors(f"{i}|").items()}
        for narrowing in self._space.narrowings(site.name):
            tensors[f"channel_order|{narrowing.criterion}"] = self._ranking.order(site.name, narrowing.criterion)
        metadata = {str(i): variant.describe() for i, variant in enumerate(found.values())}
        write_bytes(path, save(tensors, metadata))

    def _load(self, site: Site, jobs: list[tuple[State, Choice]]) -> dict[tuple[State, Choice], Variant] | None:
        path = self._path(site)
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            found = {
                job: Variant.rebuild(metadata[str(i)], tensors, f"{i}|", self._input_shape(site, job[0]))
                for i, job in enumerate(jobs)
            }
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
            return None  # what is not whole is built again
        for name, order in tensors.items():
            if name.startswith("channel_order|"):
                self._ranking.remember(site.name, name.partition("|")[2], order)
        return found

    def _input_shape(self, site: Site, state: State) -> tuple[int, ...]:
        return _read_shape(self._space.narrowed_site(site, state))


def _with_inputs(layer: nn.Module, site: Site, kept: Tensor, calibration: Calibration) -> tuple[nn.Module, Calibration]:
    """A site's layer and calibration on fewer inputs."""
    if site.is_layer:
        layer = narrowed_layer(layer, site, kept, calibration)
    columns = weight_columns(site, kept) if site.groups == 1 else kept
    assert calibration.examples is not None
    examples = calibration.examples.index_select(1 if site.kind == "conv2d" else -1, kept)
    return layer, replace(calibration.narrowed(columns), examples=examples)


def _with_outputs(
    layer: nn.Module, site: Site, kept: Tensor, calibration: Calibration
) -> tuple[nn.Module, Calibration]:
    """A site's layer and calibration with fewer outputs: a convolution, or a block of which only the outputs matter."""
    if site.kind == "block":
        return layer, calibration.with_outputs(kept)
    assert isinstance(layer, nn.Conv2d)
    return with_output_channels(layer, kept), calibration


def _read_shape(site: Site) -> tuple[int, ...]:
    """What the site's first layer reads."""
    return (site.features[0],) if site.kind == "head" else site.input_shape

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
from .importance import Consumer, channel_order
from .narrowing import input_indices, narrowed_layer, weight_columns
from .site import Site
from .space import SearchSpace, State
from .technique import weight_matrix
from .variant import Variant, layer_specs

__all__ = ["build_bank"]

BANK_VERSION = 1
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
        inputs: Calibration inputs of the network, shape (images, C, H, W).
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
        self._orders: dict[str, Tensor] = {}

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
                is_original = choice == KEEP and (site.kind == "head" or all(made == KEEP for made in state))
                if possible and not is_original:
                    yield state, choice

    @cached_property
    def _calibrations(self) -> dict[str, Calibration]:
        batches = torch.split(self._inputs, _BATCH_SIZE)
        with step("calibrating", len(batches)) as advance:
            return calibrate(self._model, self._space.sites, batches, advance)

    def _order(self, name: str) -> Tensor:
        """The output channels of a narrowing site, the most important first."""
        if name not in self._orders:
            consumers = self._space.groups[name].consumers
            self._orders[name] = channel_order([self._consumer(reader, inputs) for reader, inputs in consumers.items()])
        return self._orders[name]

    def _consumer(self, reader: str, inputs: Tensor) -> Consumer:
        site = self._space.sites[self._space.positions[reader]]
        weight = weight_matrix(self._model.get_submodule(reader))
        columns = weight_columns(site, inputs.flatten()).view(inputs.shape[0], -1)
        return Consumer(weight, self._calibrations[reader].covariance, columns)

    def _kept_channels(self, name: str, choice: Choice) -> Tensor:
        return self._order(name)[: self._space.kept_channels(name, choice)].sort().values

    def _all_kept(self) -> dict[tuple[str, Choice], Tensor]:
        return {
            (name, choice): self._kept_channels(name, choice)
            for name in self._space.groups
            for choice in self._space.choices[self._space.positions[name]]
            if self._space.narrows(choice)
        }

    def _kept_inputs(self, site: Site, state: State) -> Tensor:
        gone = [torch.zeros(0, dtype=torch.long)]
        for producer, choice in zip(self._space.producers[site.name], state, strict=True):
            if choice != KEEP:
                channels = self._space.sites[self._space.positions[producer]].out_channels
                removed = torch.ones(channels, dtype=torch.bool)
                removed[self._kept_channels(producer, choice)] = False
                consumers = self._space.groups[producer].consumers
                inputs = consumers.get(site.layers[0], torch.arange(channels)[:, None])
                gone.append(inputs[removed].flatten())
        return input_indices(site, torch.cat(gone))

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
                fitted[state, choice] = self._fit(layer, narrowed, choice, calibration)
                advance(1, site.name)
        return fitted

    def _narrowed(self, site: Site, state: State) -> tuple[nn.Module, Site, Calibration]:
        """The layer as its producers leave it, refitted; its site and its calibration."""
        calibration = self._calibrations[site.name]
        if site.name in self._space.groups:
            calibration = replace(calibration, channel_order=self._order(site.name))
        layer = self._model.get_submodule(site.layers[-1])
        if all(choice == KEEP for choice in state):
            return layer, site, calibration
        kept = self._kept_inputs(site, state)
        if site.kind != "head":
            layer = narrowed_layer(layer, site, kept, calibration)
        columns = weight_columns(site, kept) if site.groups == 1 else kept
        assert calibration.examples is not None
        narrow = replace(calibration.narrowed(columns), examples=calibration.examples[:, kept])
        return layer, self._space.narrowed_site(site, state), narrow

    def _fit(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> Variant:
        if choice == KEEP:
            module = layer
        else:
            module = self._space.techniques[choice.technique].build(layer, site, choice, calibration)
        module = module.eval().requires_grad_(False)
        input_shape = (site.features[0],) if site.kind == "head" else site.input_shape
        error = self._error(module, layer, site, choice, calibration)
        return Variant(module, layer_specs(module, input_shape), error)

    @torch.no_grad()
    def _error(
        self, module: nn.Module, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration
    ) -> float:
        """Relative error on the examples; of a narrowing choice, what its consumers lose."""
        if choice == KEEP:
            return 0.0
        if self._space.narrows(choice):
            return self._consumers_loss(site, choice)
        assert calibration.examples is not None
        expected = layer(calibration.examples) if site.kind != "head" else calibration.example_outputs
        assert expected is not None
        centred = expected - expected.mean(0)
        return float((module(calibration.examples) - expected).norm() / centred.norm().clamp_min(1e-12))

    def _consumers_loss(self, site: Site, choice: Choice) -> float:
        """Root of the mean share of output energy that the consumers lose by reading fewer channels."""
        kept = self._kept_channels(site.name, choice)
        consumers = self._space.groups[site.name].consumers
        shares = [self._consumer(reader, inputs).loss(kept) for reader, inputs in consumers.items()]
        return float((sum(shares) / len(shares)) ** 0.5)

    def _path(self, site: Site) -> Path | None:
        if self._folder is None:
            return None
        space = self._space
        producers = [(name, space.choices[space.positions[name]]) for name in space.producers[site.name]]
        techniques = [(name, sorted(vars(technique).items())) for name, technique in sorted(space.techniques.items())]
        choices = space.choices[space.positions[site.name]]
        key = content_hash(self._fingerprint, repr((BANK_VERSION, site, choices, producers, techniques)))
        return self._folder / f"{key}.safetensors"

    def _save(self, site: Site, found: dict[tuple[State, Choice], Variant]) -> None:
        path = self._path(site)
        if path is None:
            return
        tensors = {name: t for i, variant in enumerate(found.values()) for name, t in variant.tensors(f"{i}|").items()}
        if site.name in self._space.groups:
            tensors["channel_order"] = self._order(site.name)
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
        if "channel_order" in tensors:
            self._orders[site.name] = tensors["channel_order"]
        return found

    def _input_shape(self, site: Site, state: State) -> tuple[int, ...]:
        narrowed = self._space.narrowed_site(site, state)
        return (narrowed.features[0],) if site.kind == "head" else narrowed.input_shape

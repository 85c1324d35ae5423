"""Building a bank: calibrate once, fit every variant, remember each site on disk."""

import math
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
from .importance import Consumer, channel_order, taylor_scores
from .layers import OverSignals, as_image_layer, layer_specs
from .narrowing import input_indices, narrowed_layer, weight_columns
from .sensitivity import Sensitivity, sensitivities
from .site import Site
from .space import Narrowing, SearchSpace, State
from .technique import settings, weight_matrix
from .variant import Variant

__all__ = ["build_bank"]

BANK_VERSION = 3
_BATCH_SIZE = 32

#: Inputs that errors are measured on.
_EXAMPLES = 16


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
        self._orders: dict[tuple[str, str], Tensor] = {}
        self._changes: dict[tuple[str, Narrowing], float] = {}

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
            return calibrate(self._model, self._space.sites, batches, advance)

    @cached_property
    def _taylor_scores(self) -> dict[str, Tensor]:
        batches = torch.split(self._inputs, _BATCH_SIZE)
        with step("measuring sensitivities", len(batches)) as advance:
            return taylor_scores(self._model, tuple(self._space.groups), batches, advance)

    @cached_property
    def _sensitivities(self) -> dict[str, Sensitivity]:
        return sensitivities(self._model, self._space.sites, self._inputs[:_EXAMPLES])

    def _order(self, name: str, criterion: str) -> Tensor:
        """The output channels of a narrowing site, the most important first."""
        if (name, criterion) not in self._orders:
            layer = self._model.get_submodule(name)
            if criterion == "taylor":
                order = self._taylor_scores[name].argsort(descending=True)
            else:
                order = channel_order(criterion, layer, self._consumers(name))
            self._orders[name, criterion] = order
        return self._orders[name, criterion]

    def _consumers(self, name: str) -> list[Consumer]:
        """Who reads the channels of a narrowing site; a recurrent layer reads its own hidden state."""
        consumers = self._space.groups[name].consumers
        found = [self._consumer(reader, inputs) for reader, inputs in consumers.items()]
        hidden = self._calibrations[name].hidden_covariance
        if hidden is not None:
            weight = self._model.get_submodule(name).get_parameter("weight_hh_l0")
            found.append(Consumer(weight.detach().double(), hidden, torch.arange(len(hidden))[:, None]))
        return found

    def _consumer(self, reader: str, inputs: Tensor) -> Consumer:
        site = self._space.sites[self._space.positions[reader]]
        layer = self._model.get_submodule(reader)
        is_recurrent = site.kind == "recurrent"
        weight = layer.get_parameter("weight_ih_l0").detach().double() if is_recurrent else weight_matrix(layer)
        columns = weight_columns(site, inputs.flatten()).view(inputs.shape[0], -1)
        return Consumer(weight, self._calibrations[reader].covariance, columns)

    def _kept_channels(self, name: str, narrowing: Narrowing) -> Tensor:
        return self._order(name, narrowing.criterion)[: narrowing.kept].sort().values

    def _all_kept(self) -> dict[tuple[str, Narrowing], Tensor]:
        return {
            (name, narrowing): self._kept_channels(name, narrowing)
            for name in self._space.groups
            for narrowing in self._space.narrowings(name)
        }

    def _kept_inputs(self, site: Site, state: State) -> Tensor:
        gone = [torch.zeros(0, dtype=torch.long)]
        for producer, narrowing in zip(self._space.producers[site.name], state, strict=True):
            if narrowing is not None:
                channels = self._space.sites[self._space.positions[producer]].out_channels
                removed = torch.ones(channels, dtype=torch.bool)
                removed[self._kept_channels(producer, narrowing)] = False
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
        """The layer as its producers leave it, refitted; its site and its calibration.

        A convolution over signals comes as the one over images of one row that techniques know.
        """
        calibration = self._calibrations[site.name]
        layer = self._model.get_submodule(site.layers[-1])
        if isinstance(layer, nn.Conv1d):
            layer = as_image_layer(layer)
        if not any(state):
            return layer, site, calibration
        kept = self._kept_inputs(site, state)
        if site.is_layer:
            layer = narrowed_layer(layer, site, kept, calibration)
        columns = weight_columns(site, kept) if site.groups == 1 else kept
        assert calibration.examples is not None
        examples = calibration.examples.index_select(1 if site.kind == "conv2d" else -1, kept)
        return layer, self._space.narrowed_site(site, state), replace(calibration.narrowed(columns), examples=examples)

    def _fit(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> Variant:
        narrowing = self._space.narrowing(site.name, choice)
        if narrowing is not None:
            calibration = calibration.ranked(self._order(site.name, narrowing.criterion))
        if choice == KEEP:
            module = layer
        else:
            module = self._space.techniques[choice.technique].build(layer, site, choice, calibration)
        module = module.eval().requires_grad_(False)
        error = self._error(module, layer, site, choice, calibration)
        if site.over_signals:
            module = OverSignals.of(module).eval()
        return Variant(module, layer_specs(module, _read_shape(site)), error)

    @torch.no_grad()
    def _error(
        self, module: nn.Module, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration
    ) -> float:
        """What the choice alone does to the network's outputs; of a narrowing one, what consumers lose counts, too."""
        if choice == KEEP:
            return 0.0
        assert calibration.examples is not None
        expected = _outputs(layer, calibration.examples) if site.is_layer else calibration.example_outputs
        assert expected is not None
        outputs = _outputs(module, calibration.examples)
        sensitivity = self._sensitivities[site.name]
        narrowing = self._space.narrowing(site.name, choice)
        if narrowing is None:
            return sensitivity.change(outputs - expected)
        kept = self._kept_channels(site.name, narrowing)
        own = sensitivity.change(outputs - expected.index_select(sensitivity.channel_axis, kept), kept)
        return math.hypot(own, self._consumers_change(site.name, narrowing))

    def _consumers_change(self, name: str, narrowing: Narrowing) -> float:
        """What it does to the network's outputs that the consumers read fewer channels, as if each did so alone."""
        if (name, narrowing) not in self._changes:
            changes = (self._consumer_change(reader, name, narrowing) for reader in self._space.groups[name].consumers)
            self._changes[name, narrowing] = math.hypot(*changes)
        return self._changes[name, narrowing]

    def _consumer_change(self, reader: str, name: str, narrowing: Narrowing) -> float:
        site = self._space.sites[self._space.positions[reader]]
        untouched: State = (None,) * len(self._space.producers[reader])
        narrowed = tuple(narrowing if producer == name else None for producer in self._space.producers[reader])
        before, after = (
            _outputs(layer, calibration.examples)
            for layer, _, calibration in (self._narrowed(site, state) for state in (untouched, narrowed))
            if calibration.examples is not None
        )
        return self._sensitivities[reader].change(after - before)

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
            tensors[f"channel_order|{narrowing.criterion}"] = self._order(site.name, narrowing.criterion)
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
                self._orders[site.name, name.partition("|")[2]] = order
        return found

    def _input_shape(self, site: Site, state: State) -> tuple[int, ...]:
        return _read_shape(self._space.narrowed_site(site, state))


def _read_shape(site: Site) -> tuple[int, ...]:
    """What the site's first layer reads."""
    return (site.features[0],) if site.kind == "head" else site.input_shape


def _outputs(layer: nn.Module, inputs: Tensor) -> Tensor:
    """What a layer gives, of a recurrent one without its last state."""
    outputs: Tensor | tuple[Tensor, object] = layer(inputs)
    return outputs if isinstance(outputs, Tensor) else outputs[0]

"""What an agent sees: numbers of order one, of the same count and meaning for every network, demand and device."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from ..compression.choice import KEEP
from ..compression.plan import Plan
from ..compression.site import Site, SiteKind
from ..compression.space import State
from ..evaluation.demand import BUDGETS, Demand
from ..evaluation.metrics import Metrics
from .problem import Problem

__all__ = ["COST_NAMES", "LAYOUT", "LIMIT", "SLOTS", "Observer", "SiteView", "demand_features"]

#: Choices of a site that an observation has room for.
SLOTS = 64

#: Observations are clipped to [-LIMIT, LIMIT].
LIMIT = 10.0

#: Costs that are observed per choice.
COST_NAMES = ("latency_ms", "energy_mj", "storage_bytes")

_PER_CHOICE = len(COST_NAMES) + 2
_SITE, _RUNNING, _DEMAND, _DEVICE = 16, 6, 12, 4

#: Kinds that an observation names; a width is known by having none of them.
_KINDS: tuple[SiteKind, ...] = ("conv2d", "linear", "recurrent", "head", "block")


def _layout(**sizes: int) -> dict[str, slice]:
    starts = [sum(list(sizes.values())[:i]) for i in range(len(sizes))]
    return {name: slice(start, start + size) for (name, size), start in zip(sizes.items(), starts, strict=True)}


#: Where each part of an observation lies.
LAYOUT = _layout(site=_SITE, choices=SLOTS * _PER_CHOICE, running=_RUNNING, demand=_DEMAND, device=_DEVICE)

Vector = NDArray[np.float32]


class SiteView:
    """What is known of one site in one state.

    Attributes:
        vector: The site's part of the observation.
        savings: Share of the original's cost that each choice saves, shape (choices, len(COST_NAMES)).
        errors: Error of each choice (see `Variant.error`), shape (choices,).
        mask: Which choices are open, shape (choices,).
    """

    def __init__(self, vector: Vector, savings: Vector, errors: Vector, mask: NDArray[np.bool_]) -> None:
        self.vector = vector
        self.savings = savings
        self.errors = errors
        self.mask = mask


class Observer:
    """Builds observations; what does not change during a walk is computed once.

    An observation has, in this order: the site (kind, shape, its share of work and weights), per choice its saving of
    latency, energy and storage, its error's logarithm and whether it is open, the walk's running sums, the demand, the
    device.

    Args:
        problem: The problem.

    Attributes:
        size: Length of an observation; it depends on nothing.
    """

    size = _SITE + SLOTS * _PER_CHOICE + _RUNNING + _DEMAND + _DEVICE

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._space = problem.space
        self._views: dict[tuple[int, State, bool], SiteView] = {}
        self._tail = np.array(
            [*demand_features(problem.demand, problem.baseline), *problem.device_features], np.float32
        )
        self._macs = max(1, sum(site.macs for site in self._space.sites if site.kind != "head"))
        self._weights = max(1, sum(site.weights for site in self._space.sites if site.kind != "head"))

    def view(self, position: int, walked: Sequence[int]) -> SiteView:
        """The site at `position` after the choices `walked` at the sites before it."""
        space = self._space
        site = space.sites[position]
        mask = space.mask(position, walked)
        before = {
            name: space.choices[space.positions[name]][walked[space.positions[name]]]
            for name in space.producers[site.name]
        }
        state = space.state(site, before)
        key = (position, state, bool(mask[1:].any()))
        if key not in self._views:
            self._views[key] = self._look(position, site, state, mask)
        return self._views[key]

    def _look(self, position: int, site: Site, state: State, mask: NDArray[np.bool_]) -> SiteView:
        choices = self._space.choices[position]
        made = self._space.made(site, state)
        plans = [
            Plan.of({s.name: {**made, site.name: choice}.get(s.name, KEEP) for s in self._space.sites})
            for choice in choices
        ]
        savings = np.zeros((len(choices), len(COST_NAMES)), np.float32)
        errors = np.zeros(len(choices), np.float32)
        kept = self._problem.evaluator.costs(plans[0])
        for index in np.flatnonzero(mask):
            costs = self._problem.evaluator.costs(plans[index])
            savings[index] = [
                (kept.cost(name) - costs.cost(name)) / self._problem.baseline.cost(name) for name in COST_NAMES
            ]
            errors[index] = self._problem.bank.error(site, state, choices[index])
        vector = np.concatenate([self._site_features(position, site), _slots(savings, errors, mask)])
        return SiteView(vector.astype(np.float32), savings, errors, mask)

    def _site_features(self, position: int, site: Site) -> list[float]:
        kernel = site.geometry.kernel if site.geometry else (1, 1)
        stride = site.geometry.stride if site.geometry else (1, 1)
        return [
            *(float(site.kind == kind) for kind in _KINDS),
            position / len(self._space.sites),
            1 - position / len(self._space.sites),
            math.log2(site.in_channels) / 10,
            math.log2(site.out_channels) / 10,
            math.log2(math.prod(site.output_shape[1:]) or 1) / 16,
            math.log2(math.prod(kernel)) / 4,
            math.log2(math.prod(stride)) / 4,
            float(site.groups > 1),
            float(site.prunable),
            site.macs / self._macs,
            site.weights / self._weights,
        ]

    def observe(self, view: SiteView, running: Sequence[float]) -> Vector:
        """An observation.

        Args:
            view: Of the site whose turn it is.
            running: Sums over the walk so far, as `Walk.running` gives them.

        Returns:
            float32, shape (size,).
        """
        whole = np.concatenate([view.vector, np.asarray(running, np.float32), self._tail])
        return np.clip(whole, -LIMIT, LIMIT, out=whole)


def _slots(savings: Vector, errors: Vector, mask: NDArray[np.bool_]) -> Vector:
    slots = np.zeros((SLOTS, _PER_CHOICE), np.float32)
    used = slots[: len(mask)]
    used[:, : len(COST_NAMES)] = savings * 4
    used[:, -2] = np.where(mask, np.log10(np.maximum(errors, 1e-3)) / 3 + 1, 0)
    used[:, -1] = mask
    return slots.flatten()


def demand_features(demand: Demand, baseline: Metrics) -> list[float]:
    """Weights, how tight each budget is against the original's cost, and the accuracy that may be lost."""
    weights = asdict(demand.weights)
    total = sum(weights.values())
    tightness = [min(2.0, demand.budgets.get(name, math.inf) / baseline.cost(name)) for name in BUDGETS]
    may_lose = min(1.0, 10 * (baseline.accuracy - demand.accuracy_floor(baseline)))
    return [*(weight / total for weight in weights.values()), *tightness, may_lose]

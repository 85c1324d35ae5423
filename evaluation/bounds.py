"""What a plan must cost at least, whatever is chosen at the sites that are still open."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..compression.plan import Plan
from ..compression.realised import Realiser
from ..compression.site import Site
from ..compression.space import SearchSpace, State
from ..graph.opspec import OpSpec
from ..hw_models.cost import HardwareModel
from .demand import BUDGETS

__all__ = ["CostBounds"]

Costs = NDArray[np.float64]


class CostBounds:
    """Lower bounds of the costs in `BUDGETS` that hold for every way to go on with a walk.

    A plan's operators are those of its sites, in the states that earlier choices leave them in, and those without
    choices; conversions between number formats, headers of files and live activations only add to them. So the costs
    of what is decided and the least cost of every site that is not are a bound. Operators inside a head or block that
    can be replaced count for nothing, and so does whatever a shortcut leads around.

    Args:
        realiser: Turns plans into operators.
        space: The search space.
        device: What operators cost; latency and energy of an operator must not be negative.
    """

    def __init__(self, realiser: Realiser, space: SearchSpace, device: HardwareModel) -> None:
        self._realiser = realiser
        self._space = space
        self._device = device
        self._known: dict[tuple[int, State], Costs] = {}

    def after(self, position: int, walked: Sequence[int]) -> Costs:
        """Bounds of the plan for each choice at a site.

        Args:
            position: Index of the site.
            walked: Choice indices of all sites before it.

        Returns:
            Shape (choices of the site, len(BUDGETS)); infinite where the choice is closed.
        """
        decided = sum((self._decided(q, walked) for q in range(position)), self._fixed)
        if self._space.is_swallowed(position, walked):
            own = np.full((len(self._space.choices[position]), len(BUDGETS)), np.inf)
            own[0] = 0.0
        else:
            own = self._costs(position, self._state(position, walked))
        return own + decided + self._open_after(position, walked)

    def least(self) -> dict[str, float]:
        """Bounds that every plan keeps to, by the name of the cost."""
        bounds = self.after(0, [0] * len(self._space.sites)).min(0)
        return dict(zip(BUDGETS, map(float, bounds), strict=True))

    def _decided(self, position: int, walked: Sequence[int]) -> Costs:
        if self._space.is_swallowed(position, walked):
            return np.zeros(len(BUDGETS))
        costs: Costs = self._costs(position, self._state(position, walked))[walked[position]]
        return costs

    def _state(self, position: int, walked: Sequence[int]) -> State:
        space, site = self._space, self._space.sites[position]
        before = {name: space.positions[name] for name in space.producers[site.name]}
        return space.state(site, {name: space.choices[at][walked[at]] for name, at in before.items()})

    def _open_after(self, position: int, walked: Sequence[int]) -> Costs:
        """Least cost of all sites after one: shape (choices of the site or 1, len(BUDGETS))."""
        sites = range(position + 1, len(self._space.sites))
        rest = np.zeros(len(BUDGETS))
        inside_this = np.zeros(len(BUDGETS))
        inner = self._space.inside(self._space.sites[position])
        for later in sites:
            if later in inner:
                inside_this += self._least[later]
            elif not self._space.is_swallowed(later, walked[:position]) and not self._around_later(position, later):
                rest += self._group_least[later]
        choices = len(self._space.choices[position])
        kept = np.arange(choices)[:, None] == 0
        bounds: Costs = rest + kept * inside_this
        return bounds

    def _around_later(self, position: int, later: int) -> bool:
        """Whether a head or block that is itself still open lies around a site: its own bound covers the site."""
        return any(outer > position for outer in self._space.around(later))

    @cached_property
    def _group_least(self) -> list[Costs]:
        """Each site's least cost; of a head or block what is least of replacing it and of all that is inside."""
        return [
            self._least[position] if site.is_layer else self._least_of_group(position, site)
            for position, site in enumerate(self._space.sites)
        ]

    def _least_of_group(self, position: int, site: Site) -> Costs:
        kept = sum((self._least[inner] for inner in self._space.inside(site)), np.zeros(len(BUDGETS)))
        replaced = [self._costs(position, state)[1:] for state in self._space.states(site)]
        least: Costs = np.concatenate([kept[None], *replaced]).min(0)
        return least

    @cached_property
    def _least(self) -> list[Costs]:
        """Each site's least cost over all states and open choices."""
        return [
            np.min([self._costs(position, state).min(0) for state in self._space.states(site)], 0)
            for position, site in enumerate(self._space.sites)
        ]

    def _costs(self, position: int, state: State) -> Costs:
        """Costs of a site's own operators: shape (choices, len(BUDGETS)), infinite where closed."""
        if (position, state) not in self._known:
            site, choices = self._space.sites[position], self._space.choices[position]
            made = self._space.made(site, state)
            costs = np.full((len(choices), len(BUDGETS)), np.inf)
            for index in np.flatnonzero(self._space.open_choices(site, state)):
                plan = Plan.of(made | {site.name: choices[index]})
                costs[index] = self._site_costs(site, plan)
            self._known[position, state] = costs
        return self._known[position, state]

    def _site_costs(self, site: Site, plan: Plan) -> Costs:
        specs, stored = self._realiser.site_operators(site, plan)
        return self._summed(specs, stored)

    def _summed(self, specs: Sequence[OpSpec], stored_bytes: float) -> Costs:
        cost = self._device.cost(specs)
        values: Mapping[str, float] = {
            "latency_ms": cost.latency_ms.value - self._overhead_ms,
            "energy_mj": cost.energy_mj.value,
            "storage_bytes": stored_bytes,
            "peak_memory_bytes": sum(spec.weight_bytes for spec in specs),
            "macs": sum(spec.macs for spec in specs),
        }
        return np.array([values[name] for name in BUDGETS])

    @cached_property
    def _overhead_ms(self) -> float:
        return self._device.cost([]).latency_ms.value

    @cached_property
    def _fixed(self) -> Costs:
        """Operators without choices that nothing can remove, as narrow as they can become; and the call."""
        total = np.array([self._overhead_ms if name == "latency_ms" else 0.0 for name in BUDGETS])
        for operator, carried in self._realiser.fixed_operators():
            options = [[*self._space.narrowings(name), None] for name in carried]
            costs = []
            for narrowings in product(*options):
                made = self._space.narrowed(dict(zip(carried, narrowings, strict=True)))
                costs.append(self._summed(self._realiser.operator_specs(operator, Plan.of(made)), 0.0))
            total = total + np.min(costs, 0)
        return total

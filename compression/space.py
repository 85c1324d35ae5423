"""The search space: every site, the choices open there, and which of them earlier choices close."""

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import EspalierError
from .channels import ChannelGroup, PlacedChannels
from .choice import KEEP, Choice
from .plan import Plan
from .site import Site
from .technique import ChannelTechnique, Technique

__all__ = ["Narrowing", "SearchSpace", "State", "is_selected", "selected"]


class Narrowing(NamedTuple):
    """What a choice does to a site's output channels: which criterion picks those that stay, and how many stay."""

    criterion: str
    kept: int


#: What a site's producers did to its channels: one narrowing per producer, None where nothing. Producers are the sites
#: that make what it reads, and the width that it writes into.
State = tuple[Narrowing | None, ...]

Mask = NDArray[np.bool_]


def selected(names: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """The names that match a pattern of `include` and none of `exclude`.

    Args:
        names: Layer names.
        include: Shell patterns such as "layer1.*"; every name where empty.
        exclude: Shell patterns.

    Raises:
        EspalierError: A pattern matches no name.
    """
    names = tuple(names)
    for pattern in (*include, *exclude):
        if not fnmatch.filter(names, pattern):
            raise EspalierError(f"no layer matches the pattern {pattern!r}; layers: {', '.join(names)}")
    return tuple(name for name in names if is_selected(name, include, exclude))


def is_selected(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a name matches a pattern of `include`, where there is one, and none of `exclude`."""
    is_wanted = not include or any(fnmatch.fnmatchcase(name, pattern) for pattern in include)
    return is_wanted and not any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude)


class SearchSpace:
    """Sites in order of execution and the choices open at each.

    A walk decides the sites in order. Choices are numbered per site, 0 is always to keep it. A choice can be closed by
    earlier ones: when the input became too narrow for it to save anything, or when the head was replaced and with it
    the linear layers inside it.

    Args:
        sites: In order of execution.
        techniques: By name.
        groups: By narrowing site: a prunable layer or a width.
        include: Patterns of the sites to compress; all where empty.
        exclude: Patterns of the sites to leave alone.
        skipped: Layers that are no sites, and why.
        placements: Shortcuts that put channels of one width into those of another.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        techniques: Mapping[str, Technique],
        groups: Mapping[str, ChannelGroup],
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        skipped: Mapping[str, str] | None = None,
        placements: Sequence[PlacedChannels] = (),
    ) -> None:
        self.techniques = dict(techniques)
        self.groups = dict(groups)
        self.skipped = dict(skipped or {})
        self.placements = tuple(placements)
        self.sites = tuple(sites)
        self.positions = {site.name: position for position, site in enumerate(self.sites)}
        open_sites = set(selected([site.name for site in sites], include, exclude))
        self.choices = tuple(self._all_choices(site) if site.name in open_sites else (KEEP,) for site in self.sites)
        self._narrowings: dict[tuple[str, Choice], Narrowing | None] = {}
        self.producers = {site.name: self._producers_of(site) for site in self.sites}
        self._masks: dict[tuple[str, State], Mask] = {}
        if not open_sites:
            raise EspalierError(
                f"the search space is empty: space.exclude={list(exclude)} leaves out every layer "
                + (f"that space.include={list(include)} opens" if include else "of the network")
            )
        if self.size == 1:
            raise EspalierError("the search space is empty: no technique of the space saves anything at any layer")

    @cached_property
    def _around(self) -> tuple[tuple[int, ...], ...]:
        """For each position those of the heads and blocks that the site lies inside."""
        outer = [(position, site) for position, site in enumerate(self.sites) if not site.is_layer]
        return tuple(
            tuple(p for p, around in outer if site.is_layer and site.name in around.layers) for site in self.sites
        )

    def around(self, position: int) -> tuple[int, ...]:
        """Positions of the heads and blocks that the site at `position` lies inside."""
        return self._around[position]

    def inside(self, site: Site) -> tuple[int, ...]:
        """Positions of the sites inside a head or block; none inside a layer."""
        position = self.positions[site.name]
        return tuple(inner for inner, around in enumerate(self._around) if position in around)

    def is_swallowed(self, position: int, walk: Sequence[int]) -> bool:
        """Whether the site lies inside a head or block that the walk replaces."""
        return any(outer < len(walk) and walk[outer] > 0 for outer in self._around[position])

    def _all_choices(self, site: Site) -> tuple[Choice, ...]:
        return (KEEP, *(choice for technique in self.techniques.values() for choice in technique.choices(site)))

    def _producers_of(self, site: Site) -> tuple[str, ...]:
        reaching = (name for name, group in self.groups.items() if group.reaches(site))
        return tuple(name for name in reaching if self.narrowings(name))

    def narrowing(self, name: str, choice: Choice) -> Narrowing | None:
        """What a choice at the site `name` does to the site's output channels; None where all stay."""
        if (name, choice) not in self._narrowings:
            self._narrowings[name, choice] = self._find_narrowing(name, choice)
        return self._narrowings[name, choice]

    def _find_narrowing(self, name: str, choice: Choice) -> Narrowing | None:
        site = self.sites[self.positions[name]]
        technique = self.techniques.get(choice.technique)
        if not isinstance(technique, ChannelTechnique):
            return None
        kept = technique.kept_channels(site, choice)
        return Narrowing(technique.criterion, kept) if kept < site.out_channels else None

    def narrowings(self, name: str) -> tuple[Narrowing, ...]:
        """The different narrowings that the choices at the site `name` can cause."""
        found = (self.narrowing(name, choice) for choice in self.choices[self.positions[name]])
        return tuple(dict.fromkeys(narrowing for narrowing in found if narrowing))

    def kept_channels(self, name: str, choice: Choice) -> int:
        """How many output channels of the site `name` a choice leaves."""
        narrowing = self.narrowing(name, choice)
        return narrowing.kept if narrowing else self.sites[self.positions[name]].out_channels

    def made(self, site: Site, state: State) -> dict[str, Choice]:
        """Choices at the site's producers that leave it in `state`."""
        return self.narrowed(dict(zip(self.producers[site.name], state, strict=True)))

    def narrowed(self, narrowings: Mapping[str, Narrowing | None]) -> dict[str, Choice]:
        """For each site by name the first choice that causes its narrowing."""
        return {
            name: next(c for c in self.choices[self.positions[name]] if self.narrowing(name, c) == narrowing)
            for name, narrowing in narrowings.items()
        }

    @cached_property
    def n_actions(self) -> int:
        """The largest number of choices at a site."""
        return max(len(choices) for choices in self.choices)

    @cached_property
    def size(self) -> int:
        """Number of plans, counting closed choices as open."""
        return math.prod(len(choices) for choices in self.choices)

    def states(self, site: Site) -> list[State]:
        """All states that the site's producers can leave it in, the untouched one first."""
        states: list[State] = [()]
        for name in self.producers[site.name]:
            states = [(*state, option) for state in states for option in (None, *self.narrowings(name))]
        return states

    def state(self, site: Site, chosen: Mapping[str, Choice] | Plan) -> State:
        """The state that the choices at the site's producers leave it in."""
        return tuple(self.narrowing(name, chosen[name]) for name in self.producers[site.name])

    def narrowed_site(self, site: Site, state: State) -> Site:
        """The site as its producers leave it."""
        gone = sum(self._inputs_gone(site, *pair) for pair in zip(self.producers[site.name], state, strict=True))
        if site.kind == "head":
            gone //= math.prod(site.input_shape[1:])
        narrowed = site.narrowed(site.in_channels - gone) if gone else site
        written = self.output_narrowing(site, state)
        return narrowed.with_outputs(written[1].kept) if written else narrowed

    def output_narrowing(self, site: Site, state: State) -> tuple[str, Narrowing] | None:
        """The width whose choice takes output channels of the site away, and how; None where none does."""
        for name, narrowing in zip(self.producers[site.name], state, strict=True):
            if narrowing is not None and site.name in self.groups[name].members:
                return name, narrowing
        return None

    def _inputs_gone(self, site: Site, producer: str, narrowing: Narrowing | None) -> int:
        group = self.groups[producer]
        if narrowing is None or not group.is_read_by(site):
            return 0
        channels = self.sites[self.positions[producer]].out_channels - narrowing.kept
        return channels * (group.consumers[site.layers[0]].shape[1] if site.layers[0] in group.consumers else 1)

    def mask(self, position: int, prefix: Sequence[int]) -> Mask:
        """Which choices are open at the site `position` after the choices `prefix` at the sites before it.

        Args:
            position: Index of the site.
            prefix: Choice indices of sites 0 to position - 1.

        Returns:
            Shape (number of choices at the site,); the first is always true.
        """
        site = self.sites[position]
        if self.is_swallowed(position, prefix):
            only_keep: Mask = np.arange(len(self.choices[position])) == 0
            return only_keep
        before = {name: self.positions[name] for name in self.producers[site.name]}
        state = self.state(site, {name: self.choices[i][prefix[i]] for name, i in before.items()})
        key = (site.name, state)
        if key not in self._masks:
            self._masks[key] = self.open_choices(site, state)
        return self._masks[key]

    def open_choices(self, site: Site, state: State) -> Mask:
        """Which choices still save something when the site's producers leave it in `state`."""
        still_saving = set(self._all_choices(self.narrowed_site(site, state)))
        return np.array([choice in still_saving for choice in self.choices[self.positions[site.name]]])

    def masks(self, indices: Sequence[int]) -> list[Mask]:
        """The mask at every site of one walk."""
        return [self.mask(position, indices) for position in range(len(self.sites))]

    def canonical(self, indices: Sequence[int]) -> tuple[int, ...]:
        """The same walk with every closed choice replaced by keeping the site."""
        walked: list[int] = []
        for position in range(len(self.sites)):
            index = int(indices[position])
            is_open = 0 <= index < len(self.choices[position]) and self.mask(position, walked)[index]
            walked.append(index if is_open else 0)
        return tuple(walked)

    def random(self, rng: np.random.Generator) -> tuple[int, ...]:
        """A random walk, uniform over the open choices of each site."""
        walked: list[int] = []
        for position in range(len(self.sites)):
            walked.append(int(rng.choice(np.flatnonzero(self.mask(position, walked)))))
        return tuple(walked)

    def plan(self, indices: Sequence[int]) -> Plan:
        """The plan of a walk; closed choices become keep."""
        walk = self.canonical(indices)
        pairs = zip(self.sites, self.choices, walk, strict=True)
        return Plan(tuple((site.name, choices[index]) for site, choices, index in pairs))

    def indices(self, plan: Plan) -> tuple[int, ...]:
        """The walk of a plan.

        Raises:
            EspalierError: The plan makes a choice that is not in this space.
        """
        found: list[int] = []
        for site, choices in zip(self.sites, self.choices, strict=True):
            if plan[site.name] not in choices:
                options = ", ".join(str(choice) for choice in choices)
                raise EspalierError(f"{plan[site.name]} is not open at {site.name}; open: {options}")
            found.append(choices.index(plan[site.name]))
        if unknown := [name for name, _ in plan if name not in self.positions]:
            raise EspalierError(f"the plan names unknown sites {unknown}; known: {list(self.positions)}")
        return tuple(found)

    @property
    def keep_plan(self) -> Plan:
        """The plan that changes nothing."""
        return self.plan([0] * len(self.sites))

"""Many walks at once: masks, canonical form and layer errors as array look-ups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...compression.bank import Bank
from ...compression.site import Site
from ...graph.opspec import FLOAT_BITS

__all__ = ["WalkTables", "Walks"]

#: Walks as rows of choice indices, shape (walks, sites).
Walks = NDArray[np.int64]


@dataclass(frozen=True)
class _SiteTable:
    """What is known of one site in each state that its producers leave it in.

    Attributes:
        producers: Positions of the producers.
        classes: Per producer, choice index -> what it is to this site: 0 where it takes no channel away.
        strides: Per producer, what a step of its class adds to the number of the state.
        masks: Which choices are open, shape (states, choices).
        errors: How far each choice alone moves the network's outputs, shape (states, choices).
    """

    producers: tuple[int, ...]
    classes: tuple[NDArray[np.int64], ...]
    strides: tuple[int, ...]
    masks: NDArray[np.bool_]
    errors: NDArray[np.float64]

    def states(self, walks: Walks) -> NDArray[np.int64]:
        """The number of the state that each walk leaves the site in, shape (walks,)."""
        numbers = np.zeros(len(walks), np.int64)
        for position, classes, stride in zip(self.producers, self.classes, self.strides, strict=True):
            numbers += stride * classes[walks[:, position]]
        return numbers


class WalkTables:
    """The space and the errors of a bank as tables.

    Args:
        bank: The variants and their space.

    Attributes:
        counts: Choices of each site.
        open_positions: Positions of the sites that have a choice.
        representatives: Per site, choice index -> the first choice that is the same to all other sites: that leaves as
            many channels by the same criterion, begins and ends in the same number format, and replaces as much.
    """

    def __init__(self, bank: Bank) -> None:
        self._space = bank.space
        self.counts = tuple(len(choices) for choices in bank.space.choices)
        self.open_positions = tuple(position for position, count in enumerate(self.counts) if count > 1)
        self._sites = tuple(_site_table(bank, site) for site in bank.space.sites)
        self.representatives = tuple(_representatives(bank, site) for site in bank.space.sites)

    def _swallowed(self, position: int, walks: Walks) -> NDArray[np.bool_] | None:
        """Where the site lies inside a head or block that the walk replaces; None where it never does."""
        around = self._space.around(position)
        if not around:
            return None
        swallowed: NDArray[np.bool_] = np.any(walks[:, around] > 0, axis=1)
        return swallowed

    def masks(self, position: int, walks: Walks) -> NDArray[np.bool_]:
        """Which choices of a site are open after those that the walks made before it, shape (walks, choices)."""
        site = self._sites[position]
        masks = site.masks[site.states(walks)]
        swallowed = self._swallowed(position, walks)
        if swallowed is not None:
            masks[swallowed, 1:] = False
        return masks

    def canonical(self, walks: Walks) -> Walks:
        """The same walks with every closed choice replaced by keeping the site."""
        walked = np.array(walks, np.int64)
        for position in self.open_positions:
            is_open = np.take_along_axis(self.masks(position, walked), walked[:, [position]], 1)[:, 0]
            walked[~is_open, position] = 0
        return walked

    def random(self, count: int, rng: np.random.Generator) -> Walks:
        """Random walks, uniform over the open choices of each site."""
        walks = np.zeros((count, len(self.counts)), np.int64)
        for position in self.open_positions:
            scores = np.where(self.masks(position, walks), rng.random((count, self.counts[position])), -1.0)
            walks[:, position] = scores.argmax(1)
        return walks

    def site_errors(self, position: int, walks: Walks) -> NDArray[np.float64]:
        """Error of every choice of a site after the choices before it (see `Variant.error`), shape (walks, choices)."""
        site = self._sites[position]
        errors = site.errors[site.states(walks)]
        swallowed = self._swallowed(position, walks)
        if swallowed is not None:
            errors[swallowed] = 0.0
        return errors

    def errors(self, walks: Walks) -> NDArray[np.float64]:
        """Error at each site of canonical walks (see `Variant.error`), shape (walks, sites).

        Where a head or block is replaced, the layers inside it count nothing: its own error stands for them.
        """
        columns = [
            np.take_along_axis(self.site_errors(position, walks), walks[:, [position]], 1)
            for position in range(len(self.counts))
        ]
        return np.concatenate(columns, 1)


def _representatives(bank: Bank, site: Site) -> NDArray[np.int64]:
    space = bank.space
    base = space.states(site)[0]
    seen: dict[object, int] = {}
    firsts = []
    for index, choice in enumerate(space.choices[space.positions[site.name]]):
        variant = bank.variants.get((site.name, base, choice))
        specs = variant.specs if variant else ()
        formats = (specs[0].bits, specs[-1].bits) if specs else ()
        is_replaced = not site.is_layer and index > 0
        kind = (space.narrowing(site.name, choice), formats or (FLOAT_BITS, FLOAT_BITS), is_replaced)
        firsts.append(seen.setdefault(kind, index))
    return np.array(firsts)


def _site_table(bank: Bank, site: Site) -> _SiteTable:
    space = bank.space
    producers = tuple(space.positions[name] for name in space.producers[site.name])
    sizes = [1 + len(space.narrowings(name)) for name in space.producers[site.name]]
    classes = []
    for name, position in zip(space.producers[site.name], producers, strict=True):
        numbers = {narrowing: number for number, narrowing in enumerate((None, *space.narrowings(name)))}
        classes.append(np.array([numbers[space.narrowing(name, choice)] for choice in space.choices[position]]))
    states = space.states(site)  # the last producer changes fastest
    choices = space.choices[space.positions[site.name]]
    errors = [[bank.error(site, state, choice) for choice in choices] for state in states]
    masks = np.array([space.open_choices(site, state) for state in states])
    strides = tuple(int(np.prod(sizes[i + 1 :])) for i in range(len(sizes)))
    return _SiteTable(producers, tuple(classes), strides, masks, np.array(errors))

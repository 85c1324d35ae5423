"""The two phases of AdaDeep and the walks that an episode of each takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...compression.site import SiteKind
from ...envs.observation import Observer
from ...envs.problem import Problem
from ...envs.walk import Walk, open_positions

__all__ = ["Phase", "find_phases", "inheriting_walk"]

_KINDS: dict[str, tuple[SiteKind, ...]] = {
    "convolutions": ("conv2d", "recurrent", "block", "width"),
    "fully_connected": ("head", "linear"),
}


@dataclass(frozen=True)
class Phase:
    """The sites that one agent decides.

    Attributes:
        name: "convolutions" (and recurrent layers, blocks and widths) or "fully_connected" (and the head).
        positions: Of its sites that have a choice, in order of execution.
        inherited: Positions of all other sites that have one.
    """

    name: str
    positions: tuple[int, ...]
    inherited: tuple[int, ...]


def find_phases(problem: Problem) -> list[Phase]:
    """The phases in their order; one whose sites have no choice is left out."""
    positions = open_positions(problem)
    phases = []
    for name, kinds in _KINDS.items():
        own = tuple(p for p in positions if problem.space.sites[p].kind in kinds)
        phases.append(Phase(name, own, tuple(p for p in positions if p not in own)))
    return [phase for phase in phases if phase.positions]


def inheriting_walk(problem: Problem, observer: Observer, phase: Phase, inherited: Sequence[int]) -> Walk:
    """A walk that has made the inherited choices at the other phase's sites, and decides the phase's next.

    The savings and errors of the inherited choices are in what it observes.

    Args:
        problem: The problem.
        observer: Of the same problem.
        phase: Whose sites are still to be decided.
        inherited: Choice indices, one per site of the space; those of the phase's own sites are not looked at.
    """
    walk = Walk(problem, observer, (*phase.inherited, *phase.positions))
    for position in phase.inherited:
        walk.choose(inherited[position])
    return walk

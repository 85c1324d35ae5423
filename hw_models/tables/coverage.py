"""How much of a search space a table knows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Coverage"]


@dataclass
class Coverage:
    """The operators of a search space by how a table comes to their figures.

    Attributes:
        known: Keys that are in the table.
        free: Keys of operators that cost nothing.
        twin: Keys of which another bias or activation is in the table.
        interpolated: Keys between operators of their kind.
        extrapolated: Keys beyond them.
        unknown: Keys that nothing in the table is like.
        relative_stds: Key of an estimate -> its standard deviation as a share of it.
    """

    known: list[str] = field(default_factory=list)
    free: list[str] = field(default_factory=list)
    twin: list[str] = field(default_factory=list)
    interpolated: list[str] = field(default_factory=list)
    extrapolated: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    relative_stds: dict[str, float] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, Sequence[str], float | None]]:
        """What it is called, its keys, and the mean relative standard deviation where there is one."""
        named = {
            "known": self.known,
            "free": self.free,
            "known but for bias or activation": self.twin,
            "interpolated": self.interpolated,
            "extrapolated": self.extrapolated,
            "unknown": self.unknown,
        }
        return [(label, keys, self._share(keys)) for label, keys in named.items() if keys]

    def _share(self, keys: Sequence[str]) -> float | None:
        shares = [self.relative_stds[key] for key in keys if key in self.relative_stds]
        return sum(shares) / len(shares) if shares else None

"""A plan: for each site, the choice made there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import FormatError
from ..files import content_hash, read_json, write_json
from .choice import KEEP, Choice

__all__ = ["PLAN_VERSION", "Plan"]

PLAN_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """Sites and their choices in order of execution; immutable and hashable.

    Attributes:
        choices: Pairs of site name and choice; a site that is missing is kept.
    """

    choices: tuple[tuple[str, Choice], ...]

    @classmethod
    def of(cls, choices: Mapping[str, Choice]) -> "Plan":
        """A plan from a mapping in order of execution."""
        return cls(tuple(choices.items()))

    @cached_property
    def _by_site(self) -> dict[str, Choice]:
        return dict(self.choices)

    def __getitem__(self, site: str) -> Choice:
        return self._by_site.get(site, KEEP)

    def __iter__(self) -> Iterator[tuple[str, Choice]]:
        return iter(self.choices)

    def __len__(self) -> int:
        return len(self.choices)

    @cached_property
    def hash(self) -> str:
        """A stable name: equal for plans that choose the same, in every process and version."""
        changed = [[site, choice.to_dict()] for site, choice in sorted(self.choices) if choice != KEEP]
        return content_hash(json.dumps(changed, sort_keys=True))

    def to_dict(self) -> dict[str, Any]:
        """The versioned JSON form."""
        return {
            "format": "espalier-plan",
            "version": PLAN_VERSION,
            "choices": {site: choice.to_dict() for site, choice in self.choices},
        }

    @classmethod
    def from_dict(cls, values: Any, source: str = "plan") -> "Plan":
        """Rebuild what `to_dict` wrote.

        Args:
            values: The JSON object.
            source: Where it comes from, for error messages.

        Raises:
            FormatError: It is no plan, or of another version.
        """
        if not isinstance(values, Mapping) or values.get("format") != "espalier-plan":
            raise FormatError(f"{source} is not a plan: expected an object with format 'espalier-plan'")
        if values.get("version") != PLAN_VERSION:
            raise FormatError(f"{source} has plan version {values.get('version')!r}, expected {PLAN_VERSION}")
        choices = values.get("choices")
        if not isinstance(choices, Mapping):
            raise FormatError(f"{source} has no object 'choices'")
        return cls.of({str(site): Choice.from_dict(choice) for site, choice in choices.items()})

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "Plan":
        """Read a plan that `save` wrote.

        Raises:
            FormatError: The file is missing, no JSON, or no plan.
        """
        return cls.from_dict(read_json(path, "a plan"), str(path))

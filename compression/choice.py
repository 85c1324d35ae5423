"""One way to compress one site."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import FormatError

__all__ = ["KEEP", "Choice", "Parameter"]

Parameter = int | float | str


@dataclass(frozen=True, slots=True)
class Choice:
    """A technique and its hyper-parameters.

    Attributes:
        technique: Name of the technique.
        parameters: Pairs of name and value, sorted by name.
    """

    technique: str
    parameters: tuple[tuple[str, Parameter], ...] = ()

    @classmethod
    def of(cls, technique: str, **parameters: Parameter) -> "Choice":
        """A choice from keyword arguments."""
        return cls(technique, tuple(sorted(parameters.items())))

    def __getitem__(self, name: str) -> Any:
        return dict(self.parameters)[name]

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.technique}({inside})" if inside else self.technique

    def to_dict(self) -> dict[str, Any]:
        """Technique and parameters, ready for JSON."""
        return {"technique": self.technique, "parameters": dict(self.parameters)}

    @classmethod
    def from_dict(cls, values: Any) -> "Choice":
        """Rebuild what `to_dict` wrote.

        Raises:
            FormatError: The object has another form.
        """
        if not isinstance(values, Mapping) or set(values) != {"technique", "parameters"}:
            raise FormatError(f"a choice must have exactly 'technique' and 'parameters', got {values!r}")
        technique, parameters = values["technique"], values["parameters"]
        if not isinstance(technique, str) or not isinstance(parameters, Mapping):
            raise FormatError(f"a choice needs a technique's name and an object of parameters, got {values!r}")
        for name, value in parameters.items():
            if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float | str):
                raise FormatError(f"parameter {name!r} of {technique!r} must be a number or a text, got {value!r}")
        return cls.of(technique, **parameters)


#: Leave the site alone: choice 0 everywhere.
KEEP = Choice("keep")

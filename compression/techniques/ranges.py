"""What the settings of techniques may be."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from ...errors import EspalierError

__all__ = ["above_one", "at_least_one", "checked", "shares", "shares_or_all", "zero_or_more"]

Value = TypeVar("Value")
Number = TypeVar("Number", int, float)


def checked(setting: str, values: Sequence[Value], wanted: str, holds: Callable[[Value], bool]) -> tuple[Value, ...]:
    """The values of a setting.

    Args:
        setting: Its name, such as "cp.speedups".
        values: What it was set to.
        wanted: What each must be, in words.
        holds: Whether one value is that.

    Raises:
        EspalierError: One of them is not.
    """
    if wrong := [value for value in values if not holds(value)]:
        raise EspalierError(f"{setting} must be {wanted}, got {wrong[0]}")
    return tuple(values)


def shares(setting: str, *values: float) -> tuple[float, ...]:
    """Values that must each be above 0 and below 1."""
    return checked(setting, values, "above 0 and below 1", lambda value: 0 < value < 1)


def shares_or_all(setting: str, *values: float) -> tuple[float, ...]:
    """Values that must each be above 0 and at most 1."""
    return checked(setting, values, "above 0 and at most 1", lambda value: 0 < value <= 1)


def above_one(setting: str, *values: float) -> tuple[float, ...]:
    """Values that must each be above 1."""
    return checked(setting, values, "above 1", lambda value: value > 1)


def zero_or_more(setting: str, *values: float) -> tuple[float, ...]:
    """Values that must each be at least 0."""
    return checked(setting, values, "at least 0", lambda value: value >= 0)


def at_least_one(setting: str, *values: int) -> tuple[int, ...]:
    """Whole numbers that must each be at least 1."""
    return checked(setting, values, "a whole number of at least 1", lambda value: value >= 1 and value == int(value))

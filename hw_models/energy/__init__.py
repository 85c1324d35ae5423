"""Energy: an equation, tables, and counters where a machine has them."""

from .equation import EnergyModel

__all__ = ["EnergyModel"]

"""Energy: an equation, tables, and counters where a machine has them."""

from .equation import EnergyModel
from .measured_power import MeasuredPower
from .power_time import PowerTime
from .source import EnergySource

__all__ = ["EnergyModel", "EnergySource", "MeasuredPower", "PowerTime"]

"""The YAML form of a device that was fitted to measurements, as `conf/device` holds them."""

from collections.abc import Mapping, Sequence

import numpy as np

from .efficiency import Efficiency

__all__ = ["device_yaml"]


def device_yaml(name: str, head: Sequence[str], efficiency: Efficiency, relative_std: float) -> str:
    """The text of a configuration file for `espalier.hw_models.calibrated_device.CalibratedDevice`.

    Args:
        name: Name of the device and of its file.
        head: Lines of the comment: what the device is, its held-out error, the source, what was not measured.
        efficiency: What was fitted.
        relative_std: Standard deviation of the model as a share of its value.
    """
    lines = [
        *(f"# {line}" for line in head),
        "defaults:",
        "  - /energy@energy: adadeep",
        "  - _self_",
        "",
        "_target_: espalier.hw_models.calibrated_device.CalibratedDevice",
        f'name: "{name}"',
        f"overhead_ms: {_figure(efficiency.overhead_ms)}",
        f"relative_std: {relative_std:.3f}",
        "int8_speedup: 1.0",
        "kinds:" if efficiency.kinds else "kinds: {}",
        *(f"  {kind}: {_flow(coefficients)}" for kind, coefficients in sorted(efficiency.kinds.items())),
        f"other: {_flow(efficiency.other)}",
    ]
    return "\n".join(lines) + "\n"


def _flow(coefficients: Mapping[str, float]) -> str:
    return "{" + ", ".join(f"{name}: {_figure(value)}" for name, value in coefficients.items()) + "}"


def _figure(value: float) -> str:
    """Four digits without an exponent: YAML 1.1 takes 1e-05 for a text."""
    return np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="0")

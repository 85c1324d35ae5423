"""8-bit integer weights and inputs."""

from collections.abc import Sequence

import torch
from torch import nn
from typing_extensions import override

from ..calibration import Calibration
from ..choice import Choice
from ..layers import QuantizedConv2d, QuantizedLinear
from ..site import Site
from ..technique import Technique

__all__ = ["Int8"]


class Int8(Technique):
    """Weights rounded per output channel, inputs on one grid fitted to the calibration inputs.

    Jacob et al. 2018 (arXiv 1712.05877). Executed in integers where the engine has integer kernels.
    """

    name = "int8"

    @override
    def choices(self, site: Site) -> Sequence[Choice]:
        return (Choice.of(self.name),) if site.kind in ("conv2d", "linear") else ()

    @override
    @torch.no_grad()
    def build(self, layer: nn.Module, site: Site, choice: Choice, calibration: Calibration) -> nn.Module:
        quantized: QuantizedConv2d | QuantizedLinear
        if isinstance(layer, nn.Conv2d):
            quantized = QuantizedConv2d.from_layer(layer)
        else:
            assert isinstance(layer, nn.Linear)
            quantized = QuantizedLinear.from_layer(layer)
        quantized.set_input_grid(calibration.low, calibration.high)
        return quantized

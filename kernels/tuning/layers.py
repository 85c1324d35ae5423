"""What can be tuned of a network."""

from typing import Any

from ..compiler.emit.recurrent import input_products
from ..compiler.ir import Convolution, Network, Recurrent
from ..compiler.layout import choose_layouts
from ..instruction_set import InstructionSet
from .pixel_work import PixelWork
from .point_work import PointWork
from .state_work import StateWork
from .work import Work

__all__ = ["tunable_layers"]


def tunable_layers(network: Network, instruction_set: InstructionSet) -> dict[str, Work[Any]]:
    """The layers whose tiles can be chosen, by name: convolutions and linear maps, and both parts of recurrent layers.

    The steps of a recurrent layer have its name, its inputs' products that of `input_products`.

    Args:
        network: After all passes.
        instruction_set: That is compiled for.
    """
    layouts = choose_layouts(network, instruction_set.lanes)
    works: dict[str, Work[Any]] = {}
    for layer in network.layers:
        if isinstance(layer, Recurrent):
            products = input_products(layer)
            works[products.name] = PointWork.of(products, products.shape[2], instruction_set)
            works[layer.name] = StateWork.of(layer, instruction_set)
        elif isinstance(layer, Convolution) and not layer.is_depthwise:
            layout = layouts[layer.name]
            if layout.is_planar:
                works[layer.name] = PixelWork.of(layer, layout, instruction_set)
            else:
                works[layer.name] = PointWork.of(layer, layout.row_stride, instruction_set)
    return works

"""In which numbers networks compute while their right answers are counted."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..errors import EspalierError
from ..graph.graph import Graph
from ..tasks.precision import Precision, computing_in

__all__ = ["WantedPrecision", "chosen_precision"]

#: What "auto" stands for depends on the processor and the network.
WantedPrecision = Literal["auto", "bfloat16", "float32"]

#: Below so many multiply-accumulates of convolutions, converting numbers takes what computing with them saves.
_FEWEST_MACS = 10_000_000


def chosen_precision(wanted: WantedPrecision, model: nn.Module, graph: Graph, example: Tensor) -> Precision:
    """What a precision means for a network on this machine.

    "auto" is bfloat16 where the processor multiplies it faster than float32, convolutions do most of the work, and all
    operators can compute with it. It has the range of float32 and eight significant bits; how many answers that
    changes is measured by benchmarks/precision.py.

    Args:
        wanted: What the user asked for.
        model: The original network in evaluation mode.
        graph: Its trace.
        example: An input of it, shape (1, ...).

    Raises:
        EspalierError: No such precision, or the network cannot compute in it.
    """
    if wanted not in get_args(WantedPrecision):
        known = ", ".join(get_args(WantedPrecision))
        raise EspalierError(f"evaluator.precision must be one of {known}; got {wanted!r}")
    if wanted == "float32" or (wanted == "auto" and not _is_worthwhile(graph)):
        return "float32"
    failure = _failure(model, example)
    if failure and wanted == "bfloat16":
        raise EspalierError(f"evaluator.precision=bfloat16: the network fails ({failure}); choose float32")
    return "float32" if failure else "bfloat16"


def _is_worthwhile(graph: Graph) -> bool:
    macs = sum(spec.macs for operator in graph.operators for spec in operator.specs if spec.kind == "conv2d")
    return macs >= _FEWEST_MACS and _multiplies_bfloat16()


def _failure(model: nn.Module, example: Tensor) -> str:
    """Why a network cannot compute in bfloat16; empty where it can."""
    try:
        with torch.inference_mode(), computing_in("bfloat16"):
            model(example)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""


def _multiplies_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

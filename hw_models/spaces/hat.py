"""Encoder-decoder transformers as HAT measured them (Wang et al. 2020, arXiv 2005.14187).

A row holds ten numbers that describe a network, some of them means over its layers, and the latency in milliseconds of
encoder and decoder. The means do not determine the operators, so a network here is its ten numbers.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from ...errors import FormatError
from ..predictors.measurement import Measurement
from .architecture import Architecture
from .latency_csv import read_rows

__all__ = ["HAT_NUMBERS", "HatMeasurements", "read_hat_csv"]

HAT_NUMBERS = (
    "encoder_embed_dim",
    "encoder_layer_num",
    "encoder_ffn_embed_dim_avg",
    "encoder_self_attention_heads_avg",
    "decoder_embed_dim",
    "decoder_layer_num",
    "decoder_ffn_embed_dim_avg",
    "decoder_self_attention_heads_avg",
    "decoder_ende_attention_heads_avg",
    "decoder_arbitrary_ende_attn_avg",
)
_LATENCIES = ("latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder")


@dataclass(frozen=True)
class HatMeasurements:
    """Transformers and what they took, in the file's order.

    Attributes:
        architectures: The networks; their decisions are the ten numbers.
        measurements: Latency of encoder and decoder together.
    """

    architectures: tuple[Architecture, ...]
    measurements: tuple[Measurement, ...]


def read_hat_csv(path: Path) -> HatMeasurements:
    """Read a file of HAT's.

    Raises:
        FormatError: The file is missing, truncated, has other columns, or what is no number in it.
    """
    header, rows = read_rows(path)
    if header != [*HAT_NUMBERS, *_LATENCIES]:
        raise FormatError(
            f"{path} must have the columns of a HAT data set, {HAT_NUMBERS[0]} to {_LATENCIES[-1]}; "
            f"got {', '.join(header)[:120]!r}"
        )
    networks, measured = [], []
    for line, row in rows:
        label = ",".join(row[: len(HAT_NUMBERS)])
        numbers = [_number(text, f"{path}, line {line}") for text in row]
        networks.append(Architecture(label, dict(zip(HAT_NUMBERS, numbers, strict=False))))
        measured.append(_measurement(numbers[len(HAT_NUMBERS) :], label, f"{path}, line {line}"))
    return HatMeasurements(tuple(networks), tuple(measured))


def _measurement(latencies: list[float], label: str, where: str) -> Measurement:
    encoder, decoder, encoder_std, decoder_std = latencies
    if encoder + decoder <= 0:
        raise FormatError(f"{where}: a latency must be above 0")
    return Measurement((), encoder + decoder, math.hypot(encoder_std, decoder_std), label=label)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise FormatError(f"{where}: expected a number of at least 0, got {text[:40]!r}")
    return value

"""What the sum of a table leaves out, learnt from whole networks that were measured on the same machine.

An operator that is timed alone finds its weights and inputs in the nearest cache, and changes of layout between layers
are no operators. A few measured networks tell what that amounts to here.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...graph.opspec import CONVERSIONS, FLOAT_BITS, FREE_KINDS, OpSpec
from ..predictors.measurement import Measurement
from ..predictors.nonnegative import nonnegative_least_squares
from .table import LookupTable

__all__ = ["FEWEST_NETWORKS", "TERMS", "Correction", "correction_text", "fitted_correction", "network_sums"]

#: Fewer say next to nothing of the coefficients.
FEWEST_NETWORKS = 8

#: Sorts of operators whose latencies in the table count each with a factor of its own: some engines do elementwise
#: operators on the way, in the pass of the operator before. What stands in no sort moves numbers.
_SORTS = {
    "computing_ms": ("conv2d", "conv_transpose2d", "linear", "matmul", "gru", "lstm"),
    "converting_ms": CONVERSIONS,
    "elementwise_ms": ("add", "activation", "elementwise", "batch_norm", "softmax"),
    "moving_ms": (),
}

#: What an operator counts for beside its own latency: what the table cannot see. Engines change the layout where floats
#: and integers meet (`converted_m`, millions of numbers), and some convert before a pooling, not after it (`pooled_m`).
_AMOUNTS = ("reshapes", "conversions", "integers", "weight_mb", "activation_mb", "converted_m", "pooled_m")

#: Kinds of operators that are counted each for itself; the last stands for all others.
_COUNTED = ("conv2d", "linear", "max_pool2d", "activation", "add", "gather", "other")

TERMS = (*_SORTS, *_AMOUNTS, *(f"{kind}_count" for kind in _COUNTED))
_POOLED = TERMS.index("pooled_m")

#: The coefficients of a sum that is right.
_PERFECT = np.array([float(term in _SORTS) for term in TERMS])

#: How strongly the coefficients are drawn to "the sum is right": what predicts left-out networks best is taken.
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)

_LEAST_PULL = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """Milliseconds for each of the `TERMS`; none is negative, so that more work never takes less time.

    Attributes:
        coefficients: As `TERMS`; those of times are without unit, the others are milliseconds.
        networks: How many networks they were fitted to.
        relative_std: Root mean square of the relative errors of networks that were left out of the fit.
        sum_error: Median of the relative errors of the plain sum.
    """

    coefficients: tuple[float, ...]
    networks: int
    relative_std: float
    sum_error: float
    _known: dict[tuple[str, float], float] = field(default_factory=dict, repr=False, compare=False)

    def operator_ms(self, op: OpSpec, table_ms: float) -> float:
        """Milliseconds of an operator inside a network.

        Args:
            op: The operator.
            table_ms: Its latency in the table; 0 for kinds that no table has.
        """
        key = (op.key, table_ms)
        if key not in self._known:
            self._known[key] = float(np.dot(self.coefficients, _terms(op, table_ms)))
        return self._known[key]

    def between_ms(self, previous: OpSpec | None, op: OpSpec) -> float:
        """What two operators take beside their own times because one follows the other; milliseconds."""
        return self.coefficients[_POOLED] * _pooled_m(previous, op)


def correction_text(correction: Correction) -> str:
    """How far the sum of operators was off, and how far it is when corrected."""
    return (
        f"{correction.networks} whole networks were measured: the sum of their operators is off by "
        f"{100 * correction.sum_error:+.1f} % in the median; corrected, it is off by "
        f"{100 * correction.relative_std:.1f} % (root mean square, of networks left out)"
    )


def network_sums(table: LookupTable, networks: Sequence[Measurement]) -> Floats:
    """What the plain sum says of measured networks, in milliseconds; shape (networks,)."""
    return np.array([table.call_overhead_ms + _amounts(table, network) @ _PERFECT for network in networks])


def fitted_correction(table: LookupTable, ops: Iterable[OpSpec]) -> Correction | None:
    """Fit the correction of a search space to those networks of a table that consist of its operators.

    Least squares of relative errors, each coefficient drawn to its value for a perfect sum (1, and 0) by how much of
    the latency it can move.

    Args:
        table: Its networks are measured, its operators too.
        ops: All operators of the space.

    Returns:
        None where fewer than `FEWEST_NETWORKS` networks fit.
    """
    inside = {op.key for op in ops}
    # In one order, whatever the file's: a search that is resumed must see the same last bits.
    networks = [table.networks[label] for label in sorted(table.networks)]
    networks = [network for network in networks if all(op.key in inside for op in network.ops)]
    networks = [network for network in networks if network.latency_ms > 0 and _is_covered(table, network)]
    if len(networks) < FEWEST_NETWORKS:
        return None
    measured = np.array([network.latency_ms for network in networks])
    shares = np.array([_amounts(table, network) for network in networks]) / measured[:, None]
    target = 1 - table.call_overhead_ms / measured
    errors = {strength: _left_out_errors(shares, target, strength) for strength in _STRENGTHS}
    best = min(_STRENGTHS, key=lambda strength: _root_mean_square(errors[strength]))
    return Correction(
        tuple(map(float, _solved(shares, target, best))),
        len(networks),
        _root_mean_square(errors[best]),
        float(np.median(shares @ _PERFECT - target)),
    )


def _is_covered(table: LookupTable, network: Measurement) -> bool:
    return all(op.kind in FREE_KINDS or op.key in table.entries for op in network.ops)


def _amounts(table: LookupTable, network: Measurement) -> Floats:
    """The terms of a whole network; shape (terms,)."""
    means = (table.entries[op.key].mean if op.kind not in FREE_KINDS else 0.0 for op in network.ops)
    rows = [_terms(op, mean) for op, mean in zip(network.ops, means, strict=True)]
    total: Floats = np.sum(np.array(rows).reshape(-1, len(TERMS)), axis=0)
    total[_POOLED] = sum(
        _pooled_m(previous, op) for previous, op in zip((None, *network.ops), network.ops, strict=False)
    )
    return total


def _terms(op: OpSpec, table_ms: float) -> Floats:
    """What one operator counts for; shape (terms,)."""
    if op.kind in FREE_KINDS:
        return _row(reshapes=1.0)
    is_conversion = op.kind in CONVERSIONS
    return _row(
        conversions=float(is_conversion),
        integers=float(op.bits != FLOAT_BITS),
        weight_mb=1e-6 * op.weight_bytes,
        activation_mb=1e-6 * (op.input_bytes + op.output_bytes),
        converted_m=1e-6 * math.prod(op.input_shape) if is_conversion else 0.0,
        **{next((sort for sort, kinds in _SORTS.items() if op.kind in kinds), "moving_ms"): table_ms},
        **({} if is_conversion else {f"{op.kind if op.kind in _COUNTED else 'other'}_count": 1.0}),
    )


def _row(**amounts: float) -> Floats:
    return np.array([amounts.get(term, 0.0) for term in TERMS])


def _pooled_m(previous: OpSpec | None, op: OpSpec) -> float:
    """Millions of numbers that go into a pooling right before a conversion to integers."""
    is_pair = previous is not None and previous.kind == "max_pool2d" and op.kind == "quantize"
    return 1e-6 * math.prod(previous.input_shape) if is_pair and previous is not None else 0.0


def _solved(shares: Floats, target: Floats, strength: float) -> Floats:
    """Non-negative coefficients; `shares`, shape (networks, terms), are the terms over the measured latencies."""
    # What no network holds keeps its value for a perfect sum: it must not become free.
    pull = np.maximum(np.sqrt(strength) * np.sqrt(np.mean(shares**2, axis=0)), _LEAST_PULL)
    matrix = np.vstack([shares, np.diag(pull)])
    return nonnegative_least_squares(matrix, np.concatenate([target, pull * _PERFECT]))


def _left_out_errors(shares: Floats, target: Floats, strength: float) -> Floats:
    """Relative error of each network's prediction by a fit to all the others; shape (networks,)."""
    others = ~np.eye(len(target), dtype=bool)
    fits = [_solved(shares[rows], target[rows], strength) for rows in others]
    return np.einsum("nt,nt->n", shares, np.array(fits)) - target  # type: ignore[no-any-return]


def _root_mean_square(errors: Floats) -> float:
    return float(np.sqrt(np.mean(errors**2)))

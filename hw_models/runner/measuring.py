"""The measurement itself, on the device: operators in groups that take turns, results written again and again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..profiling.adaptive import Sampling, time_until_tight
from ..profiling.noise import NOISE_FIGURES, Noise, NoiseWatch, merged_noise
from ..profiling.overhead import Overhead
from ..profiling.timing import one_processor, relative_half_width, summarise
from ..runtimes.onnx_layout import without_reorders
from ..runtimes.onnx_sessions import make_session
from .weights import filled

__all__ = ["Measuring", "read_object", "write_object"]

#: Operators that take turns.
_GROUP = 8

#: Seconds between two writings of the results.
_SAVE_SECONDS = 2.0

#: ONNX Runtime's name of a type -> NumPy's.
_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}

Call = Callable[[], object]
Progress = Callable[[int, int], None]


class Measuring:
    """Measures what the results lack.

    Args:
        folder: Where manifest and models lie.
        manifest: What to measure and how, as `espalier profile --export-runner` wrote it.
        results: What is known so far; grows.
        path: Where to keep the results.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], results: dict[str, Any], path: Path) -> None:
        self._folder = folder
        self._manifest = manifest
        self._results = results
        self._path = path
        self._threads = int(results["threads"])
        self._sampling = Sampling(**manifest["sampling"])

    def run(self, progress: Progress) -> None:
        """Measure.

        Args:
            progress: Is told how many operators are known, and of how many.
        """
        known, wanted = self._results["entries"], self._manifest["operators"]
        missing = [operator for operator in wanted if operator["key"] not in known]
        with one_processor(self._threads):
            overhead = self._overhead()
            watch, before, saved = NoiseWatch(), _noise(self._results), time.monotonic()
            for start in range(0, len(missing), _GROUP):
                for operator, entry in self._measured(missing[start : start + _GROUP], overhead):
                    known[operator["key"]] = entry
                watch.look()
                if time.monotonic() - saved > _SAVE_SECONDS or start + _GROUP >= len(missing):
                    merged = merged_noise(before, watch.report())
                    self._results["noise"] = merged.to_dict() if merged else {}
                    write_object(self._path, self._results)
                    saved = time.monotonic()
                progress(len(known), len(wanted))

    def _overhead(self) -> Overhead:
        if "call_overhead_ms" not in self._results:
            facts = self._manifest["overhead"]
            one, many = (self._call(facts[name], strip=False) for name in ("one", "many"))
            measured = Overhead.measured(one, many, int(facts["extra"]), rounds=100)
            self._results["call_overhead_ms"] = measured.call_ms
            self._results["operator_overhead_ms"] = measured.operator_ms
        return Overhead(self._results["call_overhead_ms"], self._results["operator_overhead_ms"])

    def _measured(
        self, group: Sequence[dict[str, Any]], overhead: Overhead
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        calls = [self._call(operator["file"], operator["strip"]) for operator in group]
        for operator, samples in zip(group, time_until_tight(calls, self._sampling), strict=True):
            timing = summarise(samples)
            yield (
                operator,
                {
                    "spec": operator["spec"],
                    "mean": overhead.net_ms(timing),
                    "std": timing.std_ms,
                    "samples": timing.samples,
                    "median_ms": timing.median_ms,
                    "half_width": relative_half_width(samples),
                },
            )

    def _call(self, name: str, strip: bool) -> Call:
        model = filled((self._folder / name).read_bytes())
        session = make_session(model, self._threads)
        feeds = {port.name: _random(port) for port in session.get_inputs()}
        if strip:
            inner, inner_feeds = without_reorders(model, feeds, self._threads)
            session, feeds = make_session(inner, self._threads, optimise=False), inner_feeds
        return lambda: session.run(None, feeds)


def _random(port: Any) -> NDArray[Any]:
    rng, kind = np.random.default_rng(0), np.dtype(_TYPES[port.type])
    values: NDArray[Any] = rng.random(port.shape) if kind.kind == "f" else rng.integers(0, 127, port.shape)
    return values.astype(kind)


def _noise(results: dict[str, Any]) -> Noise | None:
    known = results.get("noise")
    return Noise(**{name: known[name] for name in NOISE_FIGURES}) if known else None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SystemExit: The file cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise SystemExit(f"cannot read {path}: expected a JSON object")
    return values


def write_object(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object in one step that a crash cannot halve."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

"""The measurement itself, on the device: operators in groups that take turns, results written again and again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..profiling.adaptive import Sampling
from ..profiling.noise import NOISE_FIGURES, Noise, NoiseWatch, merged_noise
from ..profiling.operator_times import OperatorTimes, Samples, is_enough
from ..profiling.overhead import Overhead
from ..profiling.timing import one_processor, relative_half_width, summarise
from ..runtimes.onnx_layout import without_reorders
from ..runtimes.onnx_sessions import make_session
from .weights import filled

__all__ = ["Measuring", "read_object", "write_object"]

#: Seconds between two writings of the results.
_SAVE_SECONDS = 2.0

#: ONNX Runtime's name of a type -> NumPy's.
_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}

Call = Callable[[], object]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Progress:
    """Progress of one part of the work."""

    tell: Progress
    before: int
    total: int

    def say(self, done: int) -> None:
        self.tell(self.before + done, self.total)


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
            progress: Is told how many groups are done, and of how many.
        """
        operators = self._missing("operators", "key", "entries")
        networks = self._missing("networks", "label", "networks")
        with one_processor(self._threads):
            single = OperatorTimes(list(operators), self._trivial, self._overhead(), self._sampling)
            whole = OperatorTimes(list(networks), self._trivial, None, self._sampling)
            self._run(single, operators, "entries", "spec", _Progress(progress, 0, single.turns + whole.turns))
            self._run(whole, networks, "networks", "ops", _Progress(progress, single.turns, single.turns + whole.turns))

    @property
    def known(self) -> int:
        """Operators and networks that are measured already."""
        missing = len(self._missing("operators", "key", "entries")) + len(
            self._missing("networks", "label", "networks")
        )
        return len(self._manifest["operators"]) + len(self._manifest.get("networks", ())) - missing

    def _missing(self, wanted: str, name: str, known: str) -> dict[str, Any]:
        """What the results lack, by its name there."""
        found = self._results.setdefault(known, {})
        call_ms = self._results.get("call_overhead_ms", 0.0) if wanted == "operators" else 0.0
        items = {item[name]: item for item in self._manifest.get(wanted, ())}
        return {key: item for key, item in items.items() if not self._is_enough(found.get(key), call_ms)}

    def _is_enough(self, entry: dict[str, Any] | None, call_ms: float) -> bool:
        if entry is None:
            return False
        return is_enough(self._sampling, entry["mean"], entry["half_width"], entry["samples"], call_ms)

    def _run(
        self, times: OperatorTimes[str], missing: dict[str, Any], place: str, what: str, progress: _Progress
    ) -> None:
        known, watch = self._results[place], NoiseWatch()
        before, saved = _noise(self._results), time.monotonic()
        for found in times.measure(lambda name: self._prepared(missing[name])):
            known |= {name: _entry(what, missing[name][what], samples) for name, samples in found.items()}
            watch.look()
            if time.monotonic() - saved > _SAVE_SECONDS:
                self._save(before, watch.report())
                saved = time.monotonic()
            progress.say(times.done)
        self._save(before, watch.report())

    def _save(self, before: Noise | None, now: Noise) -> None:
        merged = merged_noise(before, now)
        self._results["noise"] = merged.to_dict() if merged else {}
        write_object(self._path, self._results)

    def _overhead(self) -> Overhead:
        if "call_overhead_ms" not in self._results:
            facts = self._manifest["overhead"]
            one, many = self._trivial, self._call(facts["many"], strip=False)
            measured = Overhead.measured(one, many, int(facts["extra"]), rounds=100)
            self._results["call_overhead_ms"] = measured.call_ms
            self._results["operator_overhead_ms"] = measured.operator_ms
        return Overhead(self._results["call_overhead_ms"], self._results["operator_overhead_ms"])

    @cached_property
    def _trivial(self) -> Call:
        return self._call(self._manifest["overhead"]["one"], strip=False)

    def _prepared(self, item: dict[str, Any]) -> Call:
        return self._call(item["file"], item.get("strip", False))

    def _call(self, name: str, strip: bool) -> Call:
        model = filled((self._folder / name).read_bytes())
        session = make_session(model, self._threads)
        feeds = {port.name: _random(port) for port in session.get_inputs()}
        if strip:
            inner, inner_feeds = without_reorders(model, feeds, self._threads)
            session, feeds = make_session(inner, self._threads, optimise=False), inner_feeds
        return lambda: session.run(None, feeds)


def _entry(what: str, value: Any, samples: Samples) -> dict[str, Any]:
    timing = summarise(samples)
    return {
        what: value,
        "mean": timing.median_ms,
        "std": timing.std_ms,
        "samples": timing.samples,
        "half_width": relative_half_width(samples),
    }


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

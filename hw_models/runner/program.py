"""The program that is copied to a device: `python3 measure.pyz`. It needs Python 3.10, onnxruntime and numpy."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..machine import cpu_model
from ..profiling.adaptive import Sampling
from .formats import MANIFEST_FILE, MANIFEST_FORMAT, RESULT_FORMAT
from .measuring import Measuring, read_object, write_object

__all__ = ["main"]

#: Facts that must not change between the parts of one result.
_SAME = ("manifest", "threads", "cpu", "versions")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the manifest beside this program lists, and write the result."""
    options = _parser().parse_args(arguments)
    manifest = read_object(options.folder / MANIFEST_FILE)
    if manifest.get("format") != MANIFEST_FORMAT or manifest.get("version") != 1:
        raise SystemExit(f"{options.folder / MANIFEST_FILE} is no manifest that this program can read")
    fresh = _fresh_results(manifest, options)
    results = _resumed(options.output, fresh) if options.output.exists() else fresh
    write_object(options.output, results)
    wanted = len(manifest["operators"])
    measuring = Measuring(options.folder, manifest, results, options.output)
    networks = f" and {len(whole)} networks" if (whole := manifest.get("networks")) else ""
    sys.stdout.write(f"{wanted} operators{networks}, {measuring.known} known already; results go to {options.output}\n")
    shown = _Shown()
    measuring.run(shown)
    shown.end()
    _say_trust(results, Sampling(**manifest["sampling"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="measure.pyz", description="Time the operators in this folder.")
    folder = Path(sys.argv[0]).resolve().parent
    parser.add_argument("--output", type=Path, default=Path("result.json"), help="the result (default: result.json)")
    parser.add_argument("--threads", type=int, default=1, help="threads of an inference (default: 1)")
    parser.add_argument("--name", default=platform.node() or "device", help="name of the device (default: host name)")
    parser.add_argument("--folder", type=Path, default=folder, help="where manifest.json lies (default: beside this)")
    return parser


def _fresh_results(manifest: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    if options.threads < 1:
        raise SystemExit(f"--threads must be at least 1, got {options.threads}")
    return {
        "format": RESULT_FORMAT,
        "version": 1,
        "unit": "ms",
        "manifest": manifest["digest"],
        "operators": len(manifest["operators"]),
        "wanted_networks": len(manifest.get("networks", ())),
        "sampling": manifest["sampling"],
        "device": options.name,
        "threads": options.threads,
        "cpu": cpu_model(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "entries": {},
    }


def _resumed(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    known = read_object(path)
    for name in ("format", "version", *_SAME):
        if known.get(name) != fresh[name]:
            raise SystemExit(
                f"{path} was made with another {name} ({known.get(name)!r}, now {fresh[name]!r}); move it away or give "
                "--output another name"
            )
    return known


class _Shown:
    """Prints how far it is and how long it will take: one changing line on a terminal, every tenth elsewhere."""

    def __init__(self) -> None:
        self._started, self._said = time.monotonic(), 0

    def __call__(self, done: int, wanted: int) -> None:
        elapsed = time.monotonic() - self._started
        left = elapsed / max(1, done) * (wanted - done)
        line = f"{done} of {wanted} groups, {_duration(left)} left"
        if sys.stdout.isatty():
            sys.stdout.write(f"\r{line:<60}")
        elif 10 * done // wanted > self._said:
            self._said = 10 * done // wanted
            sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        """Leave the line that changed."""
        if sys.stdout.isatty():
            sys.stdout.write("\n")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _say_trust(results: dict[str, Any], sampling: Sampling) -> None:
    for reason in results.get("noise", {}).get("reasons", ()):
        sys.stdout.write(f"noisy: {reason}\n")
    call_ms = float(results.get("call_overhead_ms", 0.0))
    widths = {key: entry["half_width"] for key, entry in results["entries"].items()}
    means = {key: entry["mean"] for key, entry in results["entries"].items()}
    wide = [width for key, width in widths.items() if not sampling.is_tight(width, means[key], call_ms)]
    if wide:
        least = f"{sampling.tolerance:.1%}"
        sys.stdout.write(f"{len(wide)} operators are uncertain by more than {least}, at most {max(wide):.1%}\n")

"""Whole runs of `espalier search` with several seeds: what the delivered networks reach.

    python benchmarks/searches.py [--seeds 5] [--json FILE] [OVERRIDE ...]

Targets of the default task: latency ratio (measured) of at least 3, storage ratio of at least 8, at most one point of
test accuracy lost, less than three minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

_COLUMNS = ("latency", "storage", "energy", "peak_memory", "macs", "parameters")


def run(folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """One search in a process of its own."""
    command = [sys.executable, "-m", "espalier", "search", f"seed={seed}", f"hydra.run.dir={folder}", *overrides]
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {
        "seed": seed,
        "process_seconds": time.perf_counter() - started,
        **{name: summary["ratios"][name] for name in _COLUMNS},
        "original_latency_ms": summary["original"]["latency_ms"]["value"],
        "points_lost": summary["accuracy_drop_points"],
        "test_accuracy": summary["final"]["accuracy"]["value"],
        "prediction_error_percent": summary["prediction_error_percent"],
        "onnx_max_abs_error": summary["onnx_max_abs_error"],
        "feasible": summary["feasible"],
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [run(Path(folder) / str(seed), seed, options.overrides) for seed in range(options.seeds)]
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name != "seed" and all(isinstance(value, int | float) for value in values):
            print(f"{name:26} median {median(values):9.4g}   min {min(values):9.4g}   max {max(values):9.4g}")
    if options.json:
        options.json.write_text(json.dumps({"overrides": options.overrides, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

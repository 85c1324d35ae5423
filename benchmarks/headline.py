"""The best ratios of each task at no more than one point of test accuracy lost, beside AdaDeep's.

    python benchmarks/headline.py [--tasks a,b] [--demands a,b] [--seed 0] [--json FILE] [OVERRIDE ...]

Each task is searched once per demand by whole runs of `espalier search`. A ratio counts when the delivered network
loses at most one point on the test split; latency is measured in alternation with the original, storage is the size of
the files, energy is AdaDeep's equation. The paper's figures are the best of its own tasks and devices (arXiv
2006.04432).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: AdaDeep 2021, abstract: up to 18.6x latency, 9.8x energy, 37.3x storage.
PUBLISHED = {"latency": 18.6, "energy": 9.8, "storage": 37.3}

TASKS = (
    "digits_vgg",
    "mnist_lenet5",
    "fashion_lenet5",
    "spoken_digits_cnn",
    "spoken_digits_gru",
    "cifar10_resnet20",
)


def search(task: str, demand: str, folder: Path, seed: int, overrides: list[str]) -> dict[str, Any]:
    """One run of `espalier search`; what it reached."""
    options = [
        f"task={task}",
        f"demand={demand}",
        f"seed={seed}",
        "tracker=none",
        f"hydra.run.dir={folder}",
        *overrides,
    ]
    subprocess.run([sys.executable, "-m", "espalier", "search", *options], check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "task": task,
        "demand": demand,
        "points_lost": summary["accuracy_drop_points"],
        "test_accuracy": summary["final"]["accuracy"]["value"],
        "test_std": summary["final"]["accuracy"]["std"],
        "kinds": {name: summary["final"][key]["kind"] for name, key in _KEYS.items()},
        "seconds": summary["total_seconds"],
        **{name: summary["ratios"][name] for name in (*PUBLISHED, "macs", "peak_memory", "parameters")},
    }


_KEYS = {"latency": "latency_ms", "energy": "energy_mj", "storage": "storage_bytes"}


def best(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """For each ratio the row of one task that reaches most at no more than one point lost; None where none does."""
    allowed = [row for row in rows if row["points_lost"] <= 1.0 + 1e-9]
    return {name: max(allowed, key=lambda row: row[name], default=None) for name in PUBLISHED}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--demands", default="latency,energy,storage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for task in options.tasks.split(","):
        for demand in options.demands.split(","):
            with tempfile.TemporaryDirectory() as folder:
                row = search(task, demand, Path(folder) / "run", options.seed, options.overrides)
            rows.append(row)
            ratios = "  ".join(f"{name} {row[name]:6.2f}x ({row['kinds'][name]})" for name in PUBLISHED)
            print(
                f"{task:20} {demand:10} {row['points_lost']:+.2f} points  {ratios}  {row['seconds']:.0f} s", flush=True
            )
            if options.json:
                options.json.write_text(json.dumps({"overrides": options.overrides, "rows": rows}, indent=2) + "\n")
        reached = best([row for row in rows if row["task"] == task])
        print(f"{task:20} best       " + "  ".join(_cell(name, row) for name, row in reached.items()), flush=True)
    reached = best(rows)
    print("over all tasks       " + "  ".join(_cell(name, row) for name, row in reached.items()))
    print("AdaDeep, up to       " + "  ".join(f"{name} {ratio}x" for name, ratio in PUBLISHED.items()))


def _cell(name: str, row: dict[str, Any] | None) -> str:
    return f"{name} {row[name]:.2f}x at {row['points_lost']:+.2f}" if row else f"{name} none"


if __name__ == "__main__":
    main()

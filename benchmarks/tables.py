"""The report of `benchmarks/searchers.py` as Markdown.

    python benchmarks/tables.py FILE.json [FILE.json ...] [--plots FOLDER [--drawn dyna,tpe,...]]

Reports of the same cases are joined: the later file's row of an agent replaces the earlier one's. A row of fewer
evaluations ends early. Hypervolumes of real tasks stay relative to the plans of their own report.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from plots import draw


def joined(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases with the rows of all reports."""
    cases: dict[tuple[str, str], dict[str, Any]] = {}
    for report in reports:
        for case in report["cases"]:
            known = cases.setdefault((case["task"], case["demand"]), {**case, "rows": {}})
            known["rows"] |= {row["agent"]: row for row in case["rows"]}
            known["checkpoints"] = max(known.get("checkpoints", []), report["checkpoints"], key=len)
    return list(cases.values())


def markdown(case: dict[str, Any]) -> str:
    """One case: a heading and a row per agent."""
    checkpoints, rows = case["checkpoints"], list(case["rows"].values())
    is_known = rows[0]["at_99_percent"] is not None
    heads = ["agent", *map(str, checkpoints), *(["at 99 %"] if is_known else []), "hypervolume", "own ms"]
    lines = [
        f"**{case['task']}, {case['demand']}** (front: accuracy against {case['cost']})",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(_cells(row, is_known, len(checkpoints)))} |" for row in rows),
    ]
    return "\n".join(lines)


def _cells(row: dict[str, Any], is_known: bool, count: int) -> list[str]:
    curve = [f"{median:.3f} [{low:.3f}, {high:.3f}]" for median, low, high in row["regret" if is_known else "reward"]]
    curve += ["-"] * (count - len(curve))
    shares = ["/".join(f"{share:.1f}" for share in row["at_99_percent"])] if is_known else []
    volumes = "/".join(f"{volume[0]:.3f}" for volume in row["hypervolume"])
    return [row["agent"], *curve, *shares, volumes, f"{row['own_ms']:.0f}"]


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--drawn", help="agents in the plots; all of them where it is not given")
    options = parser.parse_args()
    cases = joined([json.loads(path.read_text()) for path in options.files])
    print("\n\n".join(markdown(case) for case in cases))
    if options.plots:
        draw({"cases": [_drawn(case, options.drawn) for case in cases]}, options.plots)


def _drawn(case: dict[str, Any], agents: str | None) -> dict[str, Any]:
    wanted = agents.split(",") if agents else list(case["rows"])
    return {**case, "rows": [case["rows"][agent] for agent in wanted if agent in case["rows"]]}


if __name__ == "__main__":
    main()

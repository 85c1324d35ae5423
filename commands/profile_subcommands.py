"""What `espalier profile` does with table files that are there already."""

import importlib
import sys
from collections.abc import Sequence

__all__ = ["SUBCOMMANDS", "amount", "run_subcommand"]

#: Word after `espalier profile` -> what it does, in a line.
SUBCOMMANDS = {
    "show": "what a table holds: operators by kind, the slowest, where it comes from, how noisy it is",
    "diff": "which operators two tables disagree on by more than their uncertainty",
    "merge": "two tables as one",
    "check": "whether a table is sound, and whether it knows every operator of a search space",
    "import": "a table of ours from one of ProxylessNAS, Once-for-all, BitFusion",
    "import-result": "a table of what measure.pyz measured on another device",
    "fit": "a device from measured networks, blocks or operators",
}


def run_subcommand(name: str, arguments: Sequence[str]) -> None:
    """Run `espalier profile NAME` with the words after it."""
    module = importlib.import_module(f".profile_{name.replace('-', '_')}", __package__)
    if "-h" in arguments or "--help" in arguments:
        sys.stdout.write(module.USAGE)
        return
    module.run(arguments)


def amount(value: float, unit: str) -> str:
    """A latency as people read it.

    Args:
        value: In the table's unit.
        unit: "ms" or "relative".
    """
    if unit == "relative":
        return f"{value:.3g} (relative)"
    return f"{value:.3g} ms" if value >= 1 else f"{1e3 * value:.3g} us"

"""What narrowing whole residual stages costs in accuracy, without a gradient step.

    python benchmarks/widths.py [--images 512] [--json FILE] [OVERRIDE ...]

ResNet-20 on CIFAR-10: one stage at a time, and all stages by the same share; accuracy on the search split after the
relative recalibration and after the refit.
"""

import argparse
import json
from pathlib import Path

from composing import compose_config
from espalier.commands.search import Prepared, prepare
from espalier.compression.choice import KEEP, Choice
from espalier.compression.plan import Plan
from espalier.evaluation.recalibration import RelativeRecalibration
from refit import compare

_FIXED = [
    "task=cifar10_resnet20",
    "device=raspberrypi4",
    "space=pruning_int8",
    "~space.techniques.channel_pruning",
    "~space.techniques.int8",
    "+technique@space.techniques.width_scaling=width_scaling",
    "space.techniques.width_scaling.channel_multiple=4",
]


def plans(prepared: Prepared) -> dict[str, Plan]:
    """Label -> plan."""
    space = prepared.problem.space
    widths = {site.name: space.choices[space.positions[site.name]][1:] for site in space.sites if site.kind == "width"}
    chosen = {f"{name} {choice}": {name: choice} for name, choices in widths.items() for choice in choices}
    for share in sorted({choice["kept"] for choices in widths.values() for choice in choices}, reverse=True):
        of_share = {name: choice for name, choices in widths.items() for choice in choices if choice["kept"] == share}
        chosen[f"all stages, kept {share}"] = of_share
    return {label: _plan(prepared, narrowed) for label, narrowed in chosen.items()}


def _plan(prepared: Prepared, chosen: dict[str, Choice]) -> Plan:
    return Plan(tuple((site.name, chosen.get(site.name, KEEP)) for site in prepared.problem.space.sites))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    prepared = prepare(compose_config([*_FIXED, *options.overrides]))
    recalibration = RelativeRecalibration(prepared.task.model, prepared.task.calibrate.inputs(slice(0, 128)))
    rows = {}
    for label, plan in plans(prepared).items():
        rows[label] = compare(prepared, plan, recalibration, options.images)
        print(f"{label:45} " + "  ".join(f"{name} {value:.3f}" for name, value in rows[label].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()

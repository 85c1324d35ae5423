"""What the refit of a plan gives, without a gradient step.

    python benchmarks/refit.py [--plans 12] [--images 512] [--json FILE] [OVERRIDE ...]

For random plans of ResNet-20 on CIFAR-10, without integers (they lose next to nothing): accuracy on the search split
of the bank's variants without and with relative batch-norm recalibration, and after the refit.
"""

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np
from composing import compose_config
from espalier.commands.search import Prepared, prepare
from espalier.compression.assembly import assemble, fold_batch_norms
from espalier.compression.plan import Plan
from espalier.compression.refit import Refit
from espalier.evaluation.recalibration import RelativeRecalibration
from espalier.tasks.accuracy import accuracy


def compare(prepared: Prepared, plan: Plan, recalibration: RelativeRecalibration, images: int) -> dict[str, float]:
    """Accuracies of one plan on the search split."""
    task, bank, pairs = prepared.task, prepared.problem.bank, prepared.survey.batch_norm_pairs
    kept = bank.kept_channels(plan)
    plain = assemble(task.model, plan, bank)
    refitted = Refit(task.model, bank, task.calibrate.inputs(slice(0, images))).apply(plan)
    networks = {
        "bank": plain,
        "recalibrated": recalibration.apply(plain, kept),
        "refitted": recalibration.apply(refitted, kept),
    }
    macs = prepared.problem.evaluator.costs(plan).cost("macs")
    row = {"macs_ratio": prepared.problem.baseline.cost("macs") / macs}
    return row | {name: accuracy(fold_batch_norms(net, pairs), task.search) for name, net in networks.items()}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=12)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    fixed = ["task=cifar10_resnet20", "device=raspberrypi4", "~space.techniques.int8"]
    prepared = prepare(compose_config([*fixed, *options.overrides]))
    space, rng = prepared.problem.space, np.random.default_rng(0)
    recalibration = RelativeRecalibration(prepared.task.model, prepared.task.calibrate.inputs(slice(0, 128)))
    rows = []
    for number in range(options.plans):
        share = (number + 1) / options.plans
        walk = [index if rng.random() < share else 0 for index in space.random(rng)]
        rows.append(compare(prepared, space.plan(walk), recalibration, options.images))
        print("  ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    gain = median(row["refitted"] - row["recalibrated"] for row in rows)
    print(f"median gain of the refit: {100 * gain:.1f} points; original {prepared.problem.baseline.accuracy:.3f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "median_gain": gain}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What fine-tuning through the rounding gives to weights of few bits.

    python benchmarks/few_bits.py [--task digits_vgg] [--bits 4,2] [--json FILE] [OVERRIDE ...]

All layers in so many bits, then fine-tuned as a winner is: once only the steps and what is not rounded, once the
rounded weights, too. Accuracy on the search split, and the bytes of the file.
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from composing import compose_config
from espalier.commands.building import build
from espalier.commands.search import Prepared, prepare
from espalier.compression.choice import KEEP
from espalier.compression.layers import UniformCodec, trainable
from espalier.compression.plan import Plan
from espalier.compression.storage import serialise_network
from espalier.finish.recipe import FinishRecipe
from espalier.finish.refitting import refitted_candidates
from espalier.tasks.distillation import distil


def few_bits_plan(prepared: Prepared, bits: int) -> Plan:
    """Every layer that can be is stored in `bits` bits."""
    space = prepared.problem.space
    wanted = {
        site.name: [c for c in space.choices[i] if dict(c.parameters).get("bits") == bits]
        for i, site in enumerate(space.sites)
    }
    return Plan(tuple((name, choices[0] if choices else KEEP) for name, choices in wanted.items()))


def measure(prepared: Prepared, bits: int, recipe: FinishRecipe) -> dict[str, Any]:
    """Accuracies and sizes before and after both kinds of fine-tuning."""
    task, problem = prepared.task, prepared.problem
    evaluation = problem.evaluate(few_bits_plan(prepared, bits))
    networks = prepared.networks(recipe.refit_images)
    (candidate,) = refitted_candidates(networks, [evaluation])
    found: dict[str, Any] = {"original": problem.baseline.accuracy, "refitted": candidate.accuracy}
    for name, is_whole in (("steps alone", False), ("weights, too", True)):
        student = copy.deepcopy(candidate.network)
        with trainable(student):
            for module in student.modules():
                if isinstance(module, UniformCodec) and module.latent is not None:
                    module.latent.requires_grad_(is_whole)
            found[name] = distil(student, task.model, task.fit, task.search, recipe.distillation, 0).accuracy_after
        found[f"{name}, bytes"] = len(serialise_network(student, task.model))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="digits_vgg")
    parser.add_argument("--bits", default="4,2")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    fixed = [f"task={options.task}", "device=raspberrypi4", "space=pruning_int8", "~space.techniques.int8"]
    few = ["~space.techniques.channel_pruning", "+technique@space.techniques.low_bits=low_bits"]
    config = compose_config([*fixed, *few, *options.overrides])
    prepared, recipe = prepare(config), build(config["finish"])
    rows = {bits: measure(prepared, int(bits), recipe) for bits in options.bits.split(",")}
    for bits, row in rows.items():
        print(f"{options.task}, {bits} bits  " + "  ".join(f"{name} {value:.6g}" for name, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps({"task": options.task, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

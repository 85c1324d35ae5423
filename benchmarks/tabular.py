"""Small tasks whose every plan is evaluated once and kept, so that the optimum and the true Pareto front are known.

    python benchmarks/tabular.py [--tasks digits_int8,digits_float,fashion_lenet5]

Real networks on real data: a VGG of 16 to 32 channels on scikit-learn's digits, with 8-bit integers (which are nearly
free of loss, so that the optimum lies near a corner) and without, and LeNet-5 on Fashion-MNIST; 500 search images each.
Costs are those of a modelled device, so that a table never changes. A table is built by the first script that asks for
it and kept in the cache folder.
"""

import argparse
from typing import Any

from composing import compose_config
from espalier.commands.building import build, build_device
from espalier.commands.search import Prepared, prepare
from espalier.files import cache_folder, content_hash
from espalier.testing.tabular import Table, build_table

#: A small microcontroller-class device without the start-up cost of operators that would drown networks so small.
_DEVICE = ["device=raspberrypi4", "device.gflops=2", "device.bandwidth_gbps=1", "device.overhead_us=0.2"]

_LEFT_OUT = ("tucker2", "fire", "global_average_pooling", "recurrent_svd", "depth_skip", "low_bits")
_SPACE = [
    "space=single",
    *(f"space.techniques.{name}=null" for name in _LEFT_OUT),
    "space.techniques.magnitude_pruning.kinds=[linear]",
    "space.techniques.weight_sharing.kinds=[linear]",
]

_LENET = [
    *_DEVICE,
    *_SPACE,
    "space.techniques.spatial_svd.speedups=[2]",
    "space.techniques.depthwise_separable.multipliers=[1]",
    "space.techniques.truncated_svd.speedups=[2,4]",
    "space.techniques.magnitude_pruning.sparsities=[0.75]",
    "data.search=500",
    "evaluator=local",
]

_DIGITS = [
    "task=digits_vgg",
    "model.widths=[16,24,32]",
    "model.hidden=32",
    "data.search=500",
    "data.test=300",
    *_DEVICE,
    *_SPACE,
    "space.techniques.depthwise_separable.multipliers=[1]",
    "space.techniques.channel_pruning.kept=[0.5]",
    "space.techniques.truncated_svd.speedups=[4]",
    "space.techniques.magnitude_pruning=null",
    "space.techniques.weight_sharing.bits=[2]",
    "space.exclude=[features.0,classifier.2]",
]

#: Name -> what the configuration differs by from that of `espalier search`.
TASKS: dict[str, list[str]] = {
    "digits_int8": [*_DIGITS, "space.techniques.spatial_svd.speedups=[4]"],
    "digits_float": [
        *_DIGITS,
        "space.techniques.spatial_svd.speedups=[2,4]",
        "space.techniques.int8=null",
        "space.techniques.weight_sharing.bits=[2,4]",
    ],
    "fashion_lenet5": ["task=fashion_lenet5", *_LENET],
}

#: Real task -> the same: larger, with evaluations that are made when asked for, and in their thousands: the quick ones.
REAL_TASKS: dict[str, list[str]] = {
    "fashion": ["task=fashion_lenet5", "evaluator=local", *_DEVICE],
    "cifar10": ["task=cifar10_resnet20", "evaluator=local", *_DEVICE],
    "spoken_digits": ["task=spoken_digits_gru", "evaluator=local", *_DEVICE],
}


def known_table(name: str) -> tuple[Prepared, Table]:
    """A task with all its plans; built and kept when asked for the first time."""
    config = compose_config(TASKS[name])
    prepared = prepare(config)
    evaluator = build(config["evaluator"], **_parts(prepared, config))
    path = cache_folder() / "tables" / f"{name}-{content_hash(evaluator.context, *TASKS[name])}.safetensors"
    if not path.exists():
        build_table(prepared.problem.space, evaluator).save(path)
    return prepared, Table.load(path)


def _parts(prepared: Prepared, config: dict[str, Any]) -> dict[str, Any]:
    """What an evaluator without a store is made of: the table itself remembers."""
    bank, device = prepared.problem.bank, build_device(config)
    return {"task": prepared.task, "survey": prepared.survey, "bank": bank, "device": device, "store": None}


def main() -> None:
    """Build what is missing, and say what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    for name in parser.parse_args().tasks.split(","):
        prepared, table = known_table(name)
        counts = "x".join(str(len(choices)) for choices in prepared.problem.space.choices)
        print(f"{name:10} {len(table):,} plans of {counts}, accuracy of the original {table.accuracies[0]:.3f}")


if __name__ == "__main__":
    main()

"""Every operator that a search space can lead to, without asking any device what it costs."""

from collections.abc import Mapping
from typing import Any

from ..compression.bank_builder import build_bank
from ..compression.survey import survey
from ..evaluation.evaluator import LocalEvaluator
from ..files import cache_folder
from ..graph.opspec import OpSpec
from ..hw_models.collector import OperatorCollector
from .building import build_task, build_techniques

__all__ = ["space_operators"]


def space_operators(config: Mapping[str, Any], keeps_integers: bool, skips_blocks: bool = False) -> list[OpSpec]:
    """The operators of every choice that is open in a configuration's search space, each once.

    Trains or loads the network and builds the variants, as a search does; both are cached.

    Args:
        config: The composed configuration, of plain values.
        keeps_integers: Whether the device hands integers from one 8-bit operator to the next.
        skips_blocks: Whether it skips what block pruning took away.
    """
    techniques = build_techniques(config)
    task = build_task(config)
    space = config["space"]
    surveyed = survey(task.model, task.example_input, techniques, space["include"], space["exclude"])
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint, cache_folder() / "banks")
    collector = OperatorCollector(keeps_integers, skips_blocks)
    LocalEvaluator(task, surveyed, bank, collector).prepare()
    return collector.ops

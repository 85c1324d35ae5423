"""Every operator that a search space can lead to, without asking any device what it costs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..compression.bank_builder import build_bank
from ..compression.survey import survey
from ..evaluation.evaluator import LocalEvaluator
from ..files import cache_folder
from ..graph.opspec import OpSpec
from ..hw_models.cost import Cost
from ..hw_models.runtimes.runtime import Runtime
from .building import build_task, build_techniques

__all__ = ["space_operators"]


class _Collector:
    """Stands where a device does, and only takes note of what it is asked to prepare."""

    name = "none"
    runtime: Runtime | None = None

    def __init__(self, keeps_integers: bool) -> None:
        self.keeps_integers = keeps_integers
        self.operators: list[OpSpec] = []

    def prepare(self, ops: Iterable[OpSpec]) -> None:
        self.operators = list(dict.fromkeys(ops))

    def cost(self, ops: Sequence[OpSpec]) -> Cost:
        raise AssertionError(f"nothing is evaluated here, but {len(ops)} operators were to be priced")

    def features(self) -> tuple[float, ...]:
        return (0.0, 0.0, 0.0, 0.0)


def space_operators(config: Mapping[str, Any], keeps_integers: bool) -> list[OpSpec]:
    """The operators of every choice that is open in a configuration's search space, each once.

    Trains or loads the network and builds the variants, as a search does; both are cached.

    Args:
        config: The composed configuration, of plain values.
        keeps_integers: Whether the device hands integers from one 8-bit operator to the next.
    """
    techniques = build_techniques(config)
    task = build_task(config)
    space = config["space"]
    surveyed = survey(task.model, task.example_input, techniques, space["include"], space["exclude"])
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint, cache_folder() / "banks")
    collector = _Collector(keeps_integers)
    LocalEvaluator(task, surveyed, bank, collector).prepare()
    return collector.operators

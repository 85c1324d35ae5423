"""What a configuration must look like; Hydra refuses other names and types."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

__all__ = ["DemandSchema", "EnvSchema", "SearchSchema", "SpaceSchema", "WeightsSchema", "register_schema"]


@dataclass
class WeightsSchema:
    """How much each metric matters; see `espalier.evaluation.demand.Weights`."""

    accuracy: float = 0.5
    latency: float = 0.25
    energy: float = 0.0
    storage: float = 0.25
    peak_memory: float = 0.0
    macs: float = 0.0


@dataclass
class DemandSchema:
    """Weights and budgets; see `espalier.evaluation.demand.Demand`."""

    weights: WeightsSchema = field(default_factory=WeightsSchema)
    max_accuracy_drop_points: float | None = None
    min_accuracy: float | None = None
    latency_ms: float | None = None
    energy_mj: float | None = None
    storage_bytes: float | None = None
    peak_memory_bytes: float | None = None
    macs: float | None = None


@dataclass
class SpaceSchema:
    """Which layers and techniques are open."""

    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    techniques: dict[str, Any] = field(default_factory=dict)


@dataclass
class EnvSchema:
    """The environment that agents learn in."""

    name: str = MISSING


@dataclass
class SearchSchema:
    """The whole configuration; nodes with a `_target_` are checked against what they build."""

    task: Any = MISSING
    data: Any = MISSING
    model: Any = MISSING
    augmentation: Any = None
    agent: Any = MISSING
    reward: Any = MISSING
    env: EnvSchema = field(default_factory=EnvSchema)
    space: SpaceSchema = field(default_factory=SpaceSchema)
    demand: DemandSchema = field(default_factory=DemandSchema)
    device: Any = MISSING
    evaluator: Any = MISSING
    pruning: Any = MISSING
    finish: Any = MISSING
    tracker: Any = MISSING
    seed: int = 0
    budget: int = 150


def register_schema() -> None:
    """Make the schema known to Hydra under the name that `conf/config.yaml` refers to."""
    ConfigStore.instance().store("schema", SearchSchema, provider="espalier")

"""From a composed configuration to the parts of a run."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from ..compression.technique import Technique
from ..errors import EspalierError
from ..evaluation.demand import Demand, Weights
from ..files import check_cache_folder
from ..hw_models.cost import HardwareModel
from ..seeding import seed_everything
from ..tasks.task import Task
from .known_keys import check_keys
from .validation import check_node

__all__ = ["build", "build_demand", "build_device", "build_task", "build_techniques", "resolved"]

#: Nodes that describe something to be built.
_NODES = (
    *("data", "model", "augmentation", "task", "agent", "reward", "device", "evaluator"),
    *("pruning", "finish", "tracker"),
)

#: Modules that a call goes through before a target's own code runs: Hydra's, and that of the classes made of protocols.
_CALLING = ("hydra", "typing")


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, every target checked.

    Raises:
        EspalierError: A value is missing or wrong.
    """
    try:
        values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise EspalierError(_missing(str(error.full_key))) from error
    except OmegaConfBaseException as error:
        raise EspalierError(_one_line(error)) from error
    check_keys(values)
    for name in _NODES:
        check_node(name, values.get(name))
    check_node("space.techniques", values["space"]["techniques"])
    for name in ("seed", "budget"):
        if values[name] < (1 if name == "budget" else 0):
            raise EspalierError(f"{name} must be at least {1 if name == 'budget' else 0}, got {values[name]}")
    return values  # type: ignore[no-any-return]


def _missing(key: str) -> str:
    """What to give for an option that has no default."""
    name = key.rpartition(".")[2]
    kind = {"_target_": "MODULE.CLASS", "journal": "FILE", "policy": "FILE", "table": "FILE"}.get(name, "VALUE")
    return f"{key} has no value: give {key}={kind}"


def build(node: Mapping[str, Any], **objects: Any) -> Any:
    """Build what a node describes.

    Args:
        node: Plain values with a `_target_`.
        objects: Arguments that are objects already; Hydra would turn some of them into configurations.

    Raises:
        EspalierError: The target refuses its arguments.
    """
    _check_complete(node, objects)
    try:
        make: Callable[..., Any] = instantiate(dict(node), _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise _cause(error) from error
    try:
        return make(**objects)
    except TypeError as error:
        if _is_of_the_call(error):
            raise EspalierError(f"{node['_target_']}: {error}") from error
        raise


def _is_of_the_call(error: TypeError) -> bool:
    """Whether a target refused its arguments, and no line of its own raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).split(".")[0] in _CALLING or frame.f_globals is globals()


def _check_complete(node: Mapping[str, Any], objects: Mapping[str, Any]) -> None:
    """Refuse a node without a target, or without an argument that its target cannot do without."""
    if "_target_" not in node:
        keys = ", ".join(map(str, node)) or "nothing"
        raise EspalierError(f"a configuration file must name its class in _target_, but it has {keys}")
    target = get_object(str(node["_target_"]))
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return  # written in C: nothing is known of its arguments
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    missing = [name for name in needed if name not in node and name not in objects]
    if missing and not (node.get("_partial_") or node.get("_args_")):
        advice = f"add it, such as +model.{missing[0]}=VALUE for a model"
        raise EspalierError(f"{node['_target_']} needs the argument {missing[0]!r}; {advice}")


def _cause(error: InstantiationException) -> Exception:
    """The user's error inside Hydra's, or Hydra's own in one line."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, EspalierError):
            return inner
        inner = inner.__cause__
    return EspalierError(_one_line(error))


def _one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def build_task(config: Mapping[str, Any]) -> Task:
    """The network with its data, made from the task's own seed: searches of all seeds start from one network."""
    check_cache_folder()
    seed_everything(int(config["task"].get("seed", 0)))
    splits = build(config["data"])
    model = build(config["model"])
    task = build(config["task"], model=model, splits=splits)
    if not isinstance(task, Task):
        raise EspalierError(f"task._target_ must build a Task, got {type(task).__name__}")
    return task


def build_techniques(config: Mapping[str, Any]) -> dict[str, Technique]:
    """The techniques of the space by their own names."""
    techniques = [build(node) for node in config["space"]["techniques"].values() if node]
    for technique in techniques:
        if not isinstance(technique, Technique):
            raise EspalierError(f"space.techniques must build techniques, got {type(technique).__name__}")
    return {technique.name: technique for technique in techniques}


def build_device(config: Mapping[str, Any]) -> HardwareModel:
    """The device."""
    device: HardwareModel = build(config["device"])
    return device


def build_demand(config: Mapping[str, Any]) -> Demand:
    """Weights and budgets."""
    values = dict(config["demand"])
    return Demand(Weights(**values.pop("weights")), **values)

"""Weights & Biases."""

import contextlib
import netrc
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb
from typing_extensions import override

from ..errors import EspalierError
from ..evaluation.archive import Archive, Evaluation
from ..evaluation.metrics import COSTS
from .tracker import Tracker

__all__ = ["WandbTracker"]

_PLOTS = ("pareto", "layers", "learning")

Mode = Literal["auto", "online", "offline", "disabled"]


class WandbTracker(Tracker):
    """Logs every evaluation, the agent's training, the front, the choices, the plots and the model.

    Args:
        project: W&B project.
        group: Groups runs in W&B; None for the sweep's folder in a sweep and nothing otherwise.
        mode: "auto" logs online for whoever is logged in and offline for all others.

    Raises:
        EspalierError: The mode is unknown.
    """

    def __init__(self, project: str = "espalier", group: str | None = None, mode: Mode = "auto") -> None:
        if mode not in ("auto", "online", "offline", "disabled"):
            raise EspalierError(f"tracker.mode must be auto, online, offline or disabled, got {mode!r}")
        self._project = project
        self._group = group
        self._mode = mode
        self._best = float("-inf")
        self._run: Any = None

    def _resolved_mode(self) -> Literal["online", "offline", "disabled"]:
        if self._mode != "auto":
            return self._mode
        modes: tuple[Literal["online", "offline", "disabled"], ...] = ("online", "offline", "disabled")
        for mode in modes:
            if os.environ.get("WANDB_MODE") == mode:
                return mode
        return "online" if _is_logged_in() else "offline"

    @override
    def started(self, config: Mapping[str, Any], folder: Path) -> None:
        is_sweep = (folder.parent / "multirun.yaml").exists()
        try:
            self._run = wandb.init(
                project=self._project,
                group=self._group or (folder.parent.name if is_sweep else None),
                name=f"{folder.parent.name}-{folder.name}",
                dir=str(folder),
                config=dict(config),
                mode=self._resolved_mode(),
                settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
            )
        except wandb.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise EspalierError(f"W&B cannot start: {reason}; log in, or use tracker.mode=offline") from error
        for pattern in ("train/*", "rollout/*"):
            self._run.define_metric(pattern, step_metric="evaluations")

    @override
    def evaluated(self, evaluation: Evaluation) -> None:
        self._best = max(self._best, evaluation.reward)
        metrics = evaluation.metrics
        self._run.log(
            {
                "evaluations": evaluation.index + 1,
                "reward": evaluation.reward,
                "best_reward": self._best,
                "feasible": int(evaluation.feasible),
                "accuracy": metrics.accuracy,
                **{name: metrics.cost(name) for name in COSTS},
            }
        )

    @override
    def trained(self, metrics: Mapping[str, float]) -> None:
        if metrics:
            self._run.log(dict(metrics))

    @override
    def finished(self, summary: Mapping[str, Any], archive: Archive, folder: Path) -> None:
        self._run.log({"pareto": _pareto_table(archive), "choices": _choices_table(summary)})
        self._run.log({name: wandb.Image(str(folder / f"{name}.png")) for name in _PLOTS})
        for name, ratio in summary["ratios"].items():
            self._run.summary[f"ratio/{name}"] = ratio
        self._run.summary["final_test_accuracy"] = summary["final"]["accuracy"]["value"]
        self._run.summary["accuracy_drop_points"] = summary["accuracy_drop_points"]
        artifact = wandb.Artifact(f"{summary['task']}-compressed", type="model", metadata={"ratios": summary["ratios"]})
        for name in ("model.safetensors", "plan.json", "summary.json", "model.onnx"):
            if (folder / name).exists():
                artifact.add_file(str(folder / name))
        self._run.log_artifact(artifact)

    @override
    def closed(self, failed: bool) -> None:
        if self._run is not None:
            # The service may be gone when a run is cut short; nothing is lost with it.
            with contextlib.suppress(Exception):
                self._run.finish(exit_code=int(failed))


def _is_logged_in() -> bool:
    """Whether W&B would find a key without asking for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _pareto_table(archive: Archive) -> wandb.Table:
    columns: list[str | int] = ["plan", "reward", "accuracy", *COSTS]
    rows: list[Iterable[Any]] = [
        [e.plan.hash, e.reward, e.metrics.accuracy, *(e.metrics.cost(name) for name in COSTS)] for e in archive.front()
    ]
    return wandb.Table(columns=columns, data=rows)


def _choices_table(summary: Mapping[str, Any]) -> wandb.Table:
    rows: list[Iterable[Any]] = [[layer["site"], layer["choice"]] for layer in summary["layers"]]
    return wandb.Table(columns=["layer", "choice"], data=rows)

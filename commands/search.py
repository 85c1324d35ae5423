"""`espalier search`: from a configuration to a run folder."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save

from .. import __version__
from ..agents.searcher import BaseSearcher, Searcher
from ..compression.bank import Bank
from ..compression.bank_builder import build_bank
from ..compression.choice import KEEP
from ..compression.survey import Survey, survey
from ..envs.problem import Problem
from ..envs.verdict import judge_demand
from ..evaluation.archive import Archive
from ..evaluation.block_sizes import check_measures_blocks, with_measured_blocks
from ..evaluation.evaluator import LocalEvaluator
from ..evaluation.store import Store
from ..files import cache_folder, write_bytes, write_json, write_text
from ..finish.finish import Finished, Finisher
from ..finish.loading import MODEL_FILE
from ..finish.network_timing import NetworkTimer, learn_networks
from ..finish.plan_networks import PlanNetworks
from ..finish.split_gap import accuracy_estimate, split_gap
from ..hw_models.cost import HardwareModel
from ..hw_models.machine import cpu_model
from ..hw_models.profiled_device import ProfiledDevice
from ..progress import results, step
from ..reports.figures import draw_layers, draw_learning, draw_pareto
from ..reports.html import write_report
from ..reports.journal import JOURNAL_FILE, Journal, read_journal
from ..reports.summary import SUMMARY_FILE
from ..reports.tables import summary_tables
from ..reports.tracker import Callbacks, Tracker
from ..reports.units import choice_text, unit_of
from ..seeding import seed_everything
from ..tasks.task import Task
from .building import build, build_demand, build_device, build_task, build_techniques, resolved
from .live import LiveSearch

__all__ = ["CONFIG_FILE", "Prepared", "prepare", "prepare_evaluator", "run_search", "use_table_of"]

CONFIG_FILE = "checkpoint/config.yaml"
_TABLE_FILE = "checkpoint/table.json"


@dataclass(frozen=True)
class Prepared:
    """Everything that a search needs.

    Attributes:
        task: The network and its data.
        survey: The search space.
        evaluator: Knows the bank and the device.
        problem: What to solve.
    """

    task: Task
    survey: Survey
    evaluator: LocalEvaluator
    problem: Problem

    def networks(self, refit_images: int) -> PlanNetworks:
        """Networks of plans as a search ends with them.

        Args:
            refit_images: Calibration images of a refit, at most. Where plans are judged after gradient steps, those
                networks are gone on from instead.
        """
        # An evaluator of a user's own need not know.
        judged = self.evaluator.network if getattr(self.evaluator, "is_tuning", False) else None
        return PlanNetworks(self.task, self.survey, self.problem.bank, refit_images, judged)


def prepare(config: Mapping[str, Any], folder: Path | None = None) -> Prepared:
    """Train or load the network, open its space, build the bank, profile the device.

    Args:
        config: The composed configuration, of plain values.
        folder: The run folder, which a copy of a live device's table goes to; None for no copy.
    """
    device = build_device(config)
    demand = build_demand(config)
    task, surveyed, bank, evaluator = prepare_evaluator(config, device)
    if folder is not None and isinstance(device, ProfiledDevice):
        device.table.save(folder / _TABLE_FILE)
    seed_everything(config["seed"])
    bounds = evaluator.bounds() if isinstance(evaluator, LocalEvaluator) else None
    problem = Problem(bank, evaluator, build(config["reward"]), demand, device, bounds)
    problem.check_feasible()
    return Prepared(task, surveyed, evaluator, problem)


def prepare_evaluator(config: Mapping[str, Any], device: HardwareModel) -> tuple[Task, Survey, Bank, Any]:
    """Train or load the network, open its space, build the bank, and tell the device of every operator.

    A device that is measured live learns from whole networks of the space, too.

    Args:
        config: The composed configuration, of plain values.
        device: What operators cost.

    Returns:
        The last is what the configuration's `evaluator` builds.
    """
    techniques = build_techniques(config)
    check_measures_blocks(techniques, device)
    task = build_task(config)
    model, example, opened = task.model, task.example_input, (config["space"]["include"], config["space"]["exclude"])
    techniques = with_measured_blocks(techniques, model, example, device, *opened)
    surveyed = survey(model, example, techniques, *opened)
    cache = cache_folder()
    bank = build_bank(task.model, surveyed.space, task.calibrate.inputs(), task.fingerprint, cache / "banks")
    store = Store(cache / "evaluations.sqlite")
    evaluator = build(config["evaluator"], task=task, survey=surveyed, bank=bank, device=device, store=store)
    evaluator.prepare()
    if isinstance(device, ProfiledDevice):
        learn_networks(NetworkTimer(task, surveyed, bank, device.runtime), device)
    return task, surveyed, bank, evaluator


def run_search(config: DictConfig, folder: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Search, finish and report.

    Args:
        config: The composed configuration.
        folder: The run folder; what it holds already is gone on from.
        names: Group -> option that was chosen, such as {"agent": "ppo"}.

    Returns:
        What `summary.json` holds.
    """
    started = time.perf_counter()
    values = resolved(config)
    searcher: Searcher = build(values["agent"])
    tracker: Tracker = build(values["tracker"])
    finish = build(values["finish"])
    use_table_of(folder, values["device"])
    prepared = prepare(values, folder)
    _write_checkpoint(config, values, folder, names)
    tracker.started(values | {"choices": dict(names)}, folder)
    failed = True
    try:
        archive, search_seconds = _search(prepared, searcher, tracker, values["budget"], folder)
        _save_policy(searcher, folder)
        problem = prepared.problem
        finisher = Finisher(
            prepared.networks(finish.refit_images),
            prepared.evaluator.device,
            problem.demand,
            problem.judge,
            finish,
            seed=values["seed"],
        )
        finished = finisher.finish(archive.best(len(archive)), problem.baseline, folder)
        summary = _summary(prepared, finished, values, names)
        summary |= {"evaluations": len(archive), "search_seconds": search_seconds}
        summary["total_seconds"] = time.perf_counter() - started
        _report(folder, summary, config)
        tracker.finished(summary, archive, folder)
        failed = False
    finally:
        tracker.closed(failed)
    output = results()
    output.print(summary_tables(summary))
    output.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    return summary


def use_table_of(folder: Path, device: dict[str, Any]) -> None:
    """Let a live device predict what it predicted when the run in a folder was begun.

    Args:
        folder: The run folder.
        device: The device's node of the configuration; changed.
    """
    if (folder / _TABLE_FILE).exists() and "table" in device:
        device["table"] = str(folder / _TABLE_FILE)
        device |= {"remeasure": False} if "remeasure" in device else {}


def _write_checkpoint(config: DictConfig, values: Mapping[str, Any], folder: Path, names: Mapping[str, str]) -> None:
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(config))
    write_json(folder / "checkpoint/names.json", dict(names))
    write_json(folder / MODEL_FILE, values["model"])


def _search(
    prepared: Prepared, searcher: Searcher, tracker: Tracker, budget: int, folder: Path
) -> tuple[Archive, float]:
    journal = Journal(folder)
    with LiveSearch(budget, journal.n_known) as live:
        started = time.perf_counter()
        callback = Callbacks([journal, tracker, live])
        archive = searcher.search(prepared.problem, budget, callback)
        return archive, time.perf_counter() - started


def _save_policy(searcher: Searcher, folder: Path) -> None:
    """The weights of a trained policy, where the searcher has one."""
    tensors = searcher.policy_state() if isinstance(searcher, BaseSearcher) else {}
    if tensors:
        write_bytes(folder / "checkpoint/policy.safetensors", save(tensors))


def _summary(
    prepared: Prepared, finished: Finished, values: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    problem = prepared.problem
    unmet = _unmet(prepared, finished)
    verdict = judge_demand(problem, finished.plan)
    return {
        "format": "espalier-summary",
        "version": 1,
        "task": prepared.task.name,
        "agent": names.get("agent", str(values["agent"]["_target_"])),
        "device": prepared.evaluator.device.name,
        "reward": names.get("reward", str(values["reward"]["_target_"])),
        "seed": values["seed"],
        "feasible": not unmet,
        "unmet": unmet,
        "demand": verdict.to_dict() | {"text": verdict.text()},
        "split_gap": _split_gap(prepared, finished),
        "space_size": problem.space.size,
        **finished.to_dict(),
        "layers": _layers(prepared, finished),
        "skipped_layers": dict(problem.space.skipped) | prepared.survey.unprunable,
        "cpu": cpu_model(),
        "versions": {"espalier": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _unmet(prepared: Prepared, finished: Finished) -> list[str]:
    """Which bounds of the demand the result breaks; accuracy is judged on the test split."""
    excesses = prepared.problem.demand.excesses(finished.final, finished.original)
    return [f"{name} is off its bound by {100 * excess:.1f} %" for name, excess in excesses.items() if excess > 1e-9]


def _split_gap(prepared: Prepared, finished: Finished) -> str:
    """What must be known of the search split to read accuracies on it next to those on the test split."""
    search = accuracy_estimate(prepared.problem.baseline.accuracy, len(prepared.task.search), "search")
    return split_gap(search, finished.accuracies["original"])


def _layers(prepared: Prepared, finished: Finished) -> list[dict[str, Any]]:
    evaluator, space = prepared.evaluator, prepared.problem.space
    before, after = evaluator.layer_costs(space.keep_plan), evaluator.layer_costs(finished.plan)
    chosen = {name: choice_text(choice) for name, choice in finished.plan.to_dict()["choices"].items()}
    kept_whole = {s.name for s in space.sites if s.kind in ("block", "width") and finished.plan[s.name] == KEEP}
    for site in space.sites:
        if not site.is_layer and finished.plan[site.name] != KEEP:
            gone = "replaced with the head" if site.kind == "head" else f"skipped with {site.name}"
            chosen |= {space.sites[inner].name: gone for inner in space.inside(site)}
    kinds = {site.name: site.kind for site in space.sites if site.name not in kept_whole}
    costs = {name: {"original": before[name], "plan": after[name]} for name in before if name in kinds}
    return [{"site": name, "kind": kinds[name], "choice": chosen[name], **both} for name, both in costs.items()]


def _report(folder: Path, summary: dict[str, Any], config: DictConfig) -> None:
    """Pictures and page first: who finds a summary finds a whole run."""
    with step("writing the report"):
        rows = read_journal(folder / JOURNAL_FILE)
        draw_pareto(folder / "pareto.png", rows, summary)
        draw_learning(folder / "learning.png", rows, summary)
        draw_layers(folder / "layers.png", summary["layers"], unit_of(summary["searched"]["latency_ms"]))
        write_report(folder, summary, OmegaConf.to_yaml(config))
        write_json(folder / SUMMARY_FILE, summary)

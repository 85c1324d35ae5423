"""How far predictors are off on networks and devices that they have not seen.

    python benchmarks/predictors.py [--sections networks,transformers,few_shot,alike] [--data DIR] [--seeds 3]
        [--json FILE]

* networks: FBNet and NAS-Bench-201, twelve devices; everything is fitted to 900 networks and judged on all others.
  *one-hot* is plain least squares with one coefficient per (position, word) and a constant; *efficiencies* are
  milliseconds per unit of work by kind of operator (`hw_models/predictors/efficiency_fit.py`); *calibrated* is
  `hw_models/predictors/calibrated.py`, whose choices are made by cross-validation on the 900. *Held* is the share of
  unseen networks inside the intervals that should hold 90 %.
* transformers: HAT's measurements in the same way.
* few_shot: every device in turn is unknown but for ten networks. The pool knows the other eleven devices by predictors
  that were fitted to 900 networks, never by the latency of a network that is judged. The ten are chosen among 300 of
  the 900 by what the pool says, before the device is looked at; seeds draw the 300. Judged on 2,000 networks that are
  none of the 900. *Best other* is the device of the pool that ranks the ten best.
* alike: what the fit of `espalier profile fit` makes of ten random networks of a device, alone, and like that of the
  other eleven files in conf/device whose fit has the least error in cross-validation on the ten. Judged on 2,000
  others. (The files were fitted to networks of the same spaces, on the other devices.)

NAS-Bench-201 networks that an engine removed as dead code (under 0.1 ms on a device) are left out. Of the data see the
README beside it; a figure of another paper stands on that paper's networks and devices.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from calibrate_devices import COMPILED, DEVICES, read_spaces
from espalier.commands.profile_fit import fitted_device
from espalier.hw_models.predictors.calibrated import CalibratedPredictor
from espalier.hw_models.predictors.efficiency import Efficiency
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.few_shot import DevicePool
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.spaces.architecture import Architecture
from espalier.hw_models.spaces.fbnet import FbnetSpace
from espalier.hw_models.spaces.hat import read_hat_csv
from espalier.hw_models.spaces.latency_csv import MeasuredSpace, read_latency_csv
from espalier.hw_models.spaces.nasbench201 import Nasbench201Space
from numpy.typing import NDArray
from scipy.stats import spearmanr

REPOSITORY = Path(__file__).parents[1]

_FITTED, _COVERAGE = 900, 0.9
_MEASURED, _CANDIDATES, _JUDGED = 10, 300, 2000

#: Devices of the FBNet file whose figures are sums of a table.
TABLE_LIKE = ("pixel3", "raspi4", "eyeriss", "fpga")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        data: Folder of the measurements.
        seeds: Repetitions of the few-shot experiment.
    """

    data: Path
    seeds: int

    def spaces(self) -> dict[str, MeasuredSpace]:
        """Space -> networks and latencies."""
        found = (FbnetSpace(), Nasbench201Space())
        return {space.name: read_latency_csv(self.data / f"{space.name}_latency_ms.csv.gz", space) for space in found}


def scores(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Mean relative error, share of networks within 10 %, rank correlation."""
    error = np.abs(predicted / measured - 1)
    return {
        "mean_error": float(error.mean()),
        "within_tenth": float(np.mean(error <= 0.1)),
        "spearman": float(spearmanr(predicted, measured)[0]),
    }


def one_hot(networks: Sequence[Architecture]) -> Floats:
    """One column for each (position, word) as written, and a constant."""
    words = [{item for item in one.decisions.items() if not item[0].startswith("live ")} for one in networks]
    columns = {item: index for index, item in enumerate(sorted(set().union(*words)))}
    matrix = np.zeros((len(networks), len(columns) + 1))
    matrix[:, -1] = 1
    for row, items in enumerate(words):
        matrix[row, [columns[item] for item in items]] = 1
    return matrix


def split(indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Networks to fit and networks to judge by."""
    order = np.random.default_rng(0).permutation(indices)
    return order[:_FITTED], order[_FITTED:]


def networks(options: Options) -> dict[str, Any]:
    """Whole networks of two spaces on twelve devices."""
    report: dict[str, Any] = {}
    for name, space in options.spaces().items():
        matrix = one_hot(space.architectures)
        compiled = Nasbench201Space(removes_dead_code=True) if name == "nasbench201" else FbnetSpace()
        report[name] = {}
        print(f"\n**{name}**\n\n| device | one-hot | efficiencies | calibrated | within 10 % | Spearman | held |")
        print("|---|---|---|---|---|---|---|")
        for device in space.devices:
            row = _device_row(space, device, matrix, compiled.parse if device in COMPILED else None)
            report[name][device] = row
            figures = [f"{100 * row[kind]['mean_error']:.2f} %" for kind in ("one_hot", "efficiencies", "calibrated")]
            within, rank = row["calibrated"]["within_tenth"], row["calibrated"]["spearman"]
            print(
                f"| {device} | {' | '.join(figures)} | {100 * within:.1f} % | {rank:.3f} | {row['held']:.3f} |",
                flush=True,
            )
        _show_means(report[name])
    return report


def _device_row(
    space: MeasuredSpace, device: str, matrix: Floats, compiled: Callable[[str], Architecture] | None
) -> dict[str, Any]:
    fit, unseen = split(space.executed(device))
    latency = space.latency_ms[device]
    known, new = ([space.architectures[index] for index in part] for part in (fit, unseen))
    plain = matrix[unseen] @ np.linalg.lstsq(matrix[fit], latency[fit], rcond=None)[0]
    predictor = CalibratedPredictor.fit(device, known, latency[fit])
    low, high = predictor.interval_ms(new, _COVERAGE)
    ops = [[compiled(one.label).ops if compiled else one.ops for one in part] for part in (known, new)]
    efficiency, _ = fit_efficiency([Measurement(o, ms) for o, ms in zip(ops[0], latency[fit], strict=True)])
    by_kind = np.array([efficiency.latency_ms(one) for one in ops[1]])
    measured = latency[unseen]
    return {
        "networks": len(unseen),
        "one_hot": scores(plain, measured),
        "efficiencies": scores(by_kind, measured),
        "calibrated": scores(predictor.predict_ms(new), measured),
        "held": float(np.mean((low <= measured) & (measured <= high))),
    }


def _show_means(rows: dict[str, dict[str, Any]]) -> None:
    ranks = {kind: np.mean([row[kind]["spearman"] for row in rows.values()]) for kind in ("one_hot", "calibrated")}
    held = np.mean([row["held"] for row in rows.values()])
    worst = max(rows[device]["calibrated"]["mean_error"] for device in TABLE_LIKE)
    rest = [device for device in rows if device not in TABLE_LIKE]
    worse = [d for d in rest if rows[d]["calibrated"]["mean_error"] > rows[d]["one_hot"]["mean_error"]]
    print(
        f"\nmean Spearman {ranks['calibrated']:.3f} (one-hot {ranks['one_hot']:.3f}); held {held:.3f} of {_COVERAGE}; "
        f"worst mean error of {', '.join(TABLE_LIKE)} (sums of a table in the FBNet file) {100 * worst:.2f} %; "
        f"worse than one-hot: {', '.join(worse) or 'none'}"
    )


def transformers(options: Options) -> dict[str, Any]:
    """HAT's encoder-decoder networks."""
    report: dict[str, Any] = {}
    print("\n**transformers**\n\n| device | mean error | within 10 % | Spearman | held |\n|---|---|---|---|---|")
    for path in sorted((options.data / "luts").glob("hat_*.csv.gz")):
        read = read_hat_csv(path)
        fit, unseen = split(np.arange(len(read.architectures)))
        latency = np.array([one.latency_ms for one in read.measurements])
        known, new = ([read.architectures[index] for index in part] for part in (fit, unseen))
        predictor = CalibratedPredictor.fit(path.name, known, latency[fit])
        low, high = predictor.interval_ms(new, _COVERAGE)
        row = scores(predictor.predict_ms(new), latency[unseen])
        row["held"] = float(np.mean((low <= latency[unseen]) & (latency[unseen] <= high)))
        name = path.name.removesuffix(".csv.gz")
        report[name] = row
        print(
            f"| {name} | {100 * row['mean_error']:.2f} % | {100 * row['within_tenth']:.1f} % | {row['spearman']:.3f} "
            f"| {row['held']:.3f} |",
            flush=True,
        )
    return report


def few_shot(options: Options) -> dict[str, Any]:
    """Ten measured networks of an unseen device."""
    report: dict[str, Any] = {}
    for name, space in options.spaces().items():
        fit, rest = split(space.executed())
        judged = rest[:_JUDGED]
        known, new = ([space.architectures[index] for index in part] for part in (fit, judged))
        predictors = {
            device: CalibratedPredictor.fit(device, known, space.latency_ms[device][fit]) for device in space.devices
        }
        report[name] = {}
        print(f"\n**{name}, {_MEASURED} measured networks, {options.seeds} seeds**\n")
        print("| unseen device | Spearman (least) | mean error | held | best other | 900 networks |")
        print("|---|---|---|---|---|---|")
        for device, own in predictors.items():
            pool = DevicePool.of([one for one in predictors.values() if one is not own], known)
            latency = space.latency_ms[device]
            measured = latency[fit], latency[judged]
            runs = [_few_shot_run(pool, device, new, *measured, seed) for seed in range(options.seeds)]
            row = {key: [run[key] for run in runs] for key in runs[0]}
            row["all"] = scores(own.predict_ms(new), latency[judged])
            report[name][device] = row
            means = [np.mean(row[key]) for key in ("mean_error", "held", "best_other")]
            print(
                f"| {device} | {np.mean(row['spearman']):.3f} ({min(row['spearman']):.3f}) | {100 * means[0]:.1f} % "
                f"| {means[1]:.2f} | {means[2]:.3f} | {row['all']['spearman']:.3f} |",
                flush=True,
            )
        overall = [np.mean([np.mean(row[key]) for row in report[name].values()]) for key in ("spearman", "best_other")]
        limit = np.mean([row["all"]["spearman"] for row in report[name].values()])
        print(f"\nmean Spearman {overall[0]:.3f} (best other device {overall[1]:.3f}; from 900 networks {limit:.3f})")
    return report


def _few_shot_run(
    pool: DevicePool, device: str, new: list[Architecture], of_candidates: Floats, measured: Floats, seed: int
) -> dict[str, float]:
    among = np.random.default_rng(seed).choice(len(pool.candidates), _CANDIDATES, replace=False)
    chosen = pool.choose(_MEASURED, among.tolist())
    ten = [pool.candidates[index] for index in chosen]
    predicted, std = pool.adapt(device, ten, of_candidates[chosen]).predict_ms(new)
    best = max(pool.predictors, key=lambda one: float(spearmanr(one.predict_ms(ten), of_candidates[chosen])[0]))
    return {
        **scores(predicted, measured),
        "held": float(np.mean(np.abs(predicted - measured) <= 1.645 * std)),
        "best_other": float(spearmanr(best.predict_ms(new), measured)[0]),
    }


def alike(options: Options) -> dict[str, Any]:
    """A device file from ten networks, with and without a device that is known."""
    report: dict[str, Any] = {}
    spaces = read_spaces(options.data)
    for name in spaces[False]:
        report[name] = {}
        print(f"\n**{name}, a device file from {_MEASURED} random networks, {options.seeds} seeds**\n")
        print("| device | alone: mean error | Spearman | like another: mean error | Spearman | which |")
        print("|---|---|---|---|---|---|")
        for device, (column, _) in DEVICES.items():
            space = spaces[device in COMPILED][name]
            known = {other: fitted_device(other) for other in DEVICES if other != device}
            runs = [_alike_run(space, column, known, seed) for seed in range(options.seeds)]
            report[name][device] = runs
            cells = [
                f"{100 * np.mean([run[way]['mean_error'] for run in runs]):.1f} % "
                f"| {np.mean([run[way]['spearman'] for run in runs]):.3f}"
                for way in ("alone", "like")
            ]
            print(f"| {device} | {' | '.join(cells)} | {', '.join(run['which'] for run in runs)} |", flush=True)
        for way in ("alone", "like"):
            rows = [run[way] for runs in report[name].values() for run in runs]
            middle = 100 * np.median([row["mean_error"] for row in rows])
            print(f"{way}: Spearman {np.mean([row['spearman'] for row in rows]):.3f}, median of errors {middle:.1f} %")
    return report


def _alike_run(space: MeasuredSpace, column: str, known: dict[str, Efficiency], seed: int) -> dict[str, Any]:
    latency = space.latency_ms[column]
    order = np.random.default_rng(seed).permutation(space.executed(column))
    usable = [index for index in order if space.architectures[index].ops]
    ten = [Measurement(space.architectures[index].ops, float(latency[index])) for index in usable[:_MEASURED]]
    judged = usable[_MEASURED : _MEASURED + _JUDGED]
    fits = {other: fit_efficiency(ten, like=efficiency) for other, efficiency in known.items()}
    which = min(fits, key=lambda other: fits[other][1].mean_error)

    def judge(efficiency: Efficiency) -> dict[str, float]:
        predicted = np.array([efficiency.latency_ms(space.architectures[index].ops) for index in judged])
        return scores(predicted, latency[judged])

    return {"alone": judge(fit_efficiency(ten)[0]), "like": judge(fits[which][0]), "which": which}


#: Section -> what makes its tables and returns its figures.
SECTIONS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "networks": networks,
    "transformers": transformers,
    "few_shot": few_shot,
    "alike": alike,
}


def main() -> None:
    """Run the sections, print their tables, write their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ESPALIER_DATA") or REPOSITORY.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = Options(arguments.data, arguments.seeds)
    report: dict[str, Any] = {}
    for name in arguments.sections.split(","):
        report[name] = SECTIONS[name](options)
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Write conf/device/*.yaml of the devices on which others measured whole networks, with their held-out errors.

    python benchmarks/calibrate_devices.py [--data DIR] [--devices pixel3,raspi4] [--write FOLDER]

Coefficients per kind of operator (`hw_models/predictors/efficiency_fit.py`) are fitted to 900 networks of the FBNet
space and 900 of NAS-Bench-201 together, and judged on all the others. Networks that an engine removed as dead code
(less than 0.1 ms, or an output that does not depend on the input) are left out. Without --write nothing is written.

Measurements: HW-NAS-Bench (Li et al. 2021, arXiv 2103.10584; pixel3, raspi4, eyeriss, fpga) and HELP (Lee et al.
2021, arXiv 2106.08630; the others), as collected in github.com/HayeonLee/HELP.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from espalier.hw_models.predictors.device_yaml import device_yaml
from espalier.hw_models.predictors.efficiency import Efficiency
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.spaces.architecture import Space
from espalier.hw_models.spaces.fbnet import FbnetSpace
from espalier.hw_models.spaces.latency_csv import MeasuredSpace, read_latency_csv
from espalier.hw_models.spaces.nasbench201 import Nasbench201Space
from scipy.stats import spearmanr

REPOSITORY = Path(__file__).parents[1]

#: Name -> column of the files, what it is.
DEVICES = {
    "pixel3": ("pixel3", "Google Pixel 3 phone"),
    "raspi4": ("raspi4", "Raspberry Pi 4"),
    "eyeriss": ("eyeriss", "Eyeriss accelerator, simulated by its authors' tools"),
    "fpga": ("fpga", "FPGA board (Xilinx ZC706)"),
    "samsung_s7": ("samsung_s7", "Samsung Galaxy S7 phone; the source gives whole milliseconds"),
    "essential_ph_1": ("essential_ph_1", "Essential PH-1 phone; the source gives whole milliseconds"),
    "gold_6240": ("gold_6240", "Intel Xeon Gold 6240 server processor"),
    "silver_4114": ("silver_4114", "Intel Xeon Silver 4114 server processor"),
    "1080ti": ("1080ti_1", "NVIDIA GeForce GTX 1080 Ti"),
    "2080ti": ("2080ti_1", "NVIDIA GeForce RTX 2080 Ti"),
    "titanx": ("titanx_1", "NVIDIA Titan X"),
    "titanxp": ("titanxp_1", "NVIDIA Titan Xp"),
}

#: Devices whose engine removes dead code from a network before executing it.
COMPILED = ("pixel3", "raspi4")

_FITTED = 900


@dataclass(frozen=True)
class Judged:
    """How far off a fit is on networks of one space that it has not seen.

    Attributes:
        space: The space.
        networks: How many networks.
        mean_error: Mean of |predicted / measured - 1|.
        within_tenth: Share of the networks within 10 %.
        spearman: Rank correlation of predicted and measured.
        relative: measured / predicted - 1 of each, shape (networks,).
    """

    space: str
    networks: int
    mean_error: float
    within_tenth: float
    spearman: float
    relative: np.ndarray


def read_spaces(data: Path) -> dict[bool, dict[str, MeasuredSpace]]:
    """Both spaces, with dead code (False) and as an engine executes them that removes it (True)."""

    def read(space: Space) -> MeasuredSpace:
        return read_latency_csv(data / f"{space.name}_latency_ms.csv.gz", space)

    fbnet = read(FbnetSpace())
    return {
        compiled: {"FBNet": fbnet, "NAS-Bench-201": read(Nasbench201Space(removes_dead_code=compiled))}
        for compiled in (False, True)
    }


def split(measurements: list[Measurement], seed: int = 0) -> tuple[list[Measurement], list[Measurement]]:
    """Networks to fit and networks to judge by."""
    used = [one for one in measurements if one.ops]
    order = np.random.default_rng(seed).permutation(len(used))
    return [used[index] for index in order[:_FITTED]], [used[index] for index in order[_FITTED:]]


def judge(efficiency: Efficiency, space: str, unseen: list[Measurement]) -> Judged:
    """The errors on networks that the fit has not seen."""
    measured = np.array([one.latency_ms for one in unseen])
    predicted = np.array([efficiency.latency_ms(one.ops) for one in unseen])
    error = np.abs(predicted / measured - 1)
    rank = float(spearmanr(predicted, measured)[0])
    return Judged(space, len(unseen), error.mean(), float(np.mean(error <= 0.1)), rank, measured / predicted - 1)


def calibrate(spaces: dict[str, MeasuredSpace], column: str) -> tuple[Efficiency, list[Judged]]:
    """Fit one device to both spaces."""
    parts = {name: split(space.measurements(column)) for name, space in spaces.items()}
    efficiency, _ = fit_efficiency([one for fit, _ in parts.values() for one in fit])
    return efficiency, [judge(efficiency, name, unseen) for name, (_, unseen) in parts.items()]


def robust_std(judged: list[Judged]) -> float:
    """Half of what the middle 68 % of the relative errors span, of the worse space."""
    spans = [np.quantile(one.relative, [0.1587, 0.8413]) for one in judged]
    return max(float(high - low) / 2 for low, high in spans)


def head(description: str, judged: list[Judged]) -> list[str]:
    """The comment above a device's figures."""
    errors = " and ".join(f"{100 * one.mean_error:.1f} % ({one.space})" for one in judged)
    return [
        f"{description}: fitted, held-out error {errors}.",
        "Milliseconds per unit of work by kind of operator (hw_models/calibrated_device.py), fitted to",
        f"{_FITTED} networks each of the FBNet and NAS-Bench-201 spaces, float, batch size 1. Source:",
        "github.com/HayeonLee/HELP (Lee et al. 2021, arXiv 2106.08630) with the measurements of HW-NAS-Bench",
        "(Li et al. 2021, arXiv 2103.10584). Written by benchmarks/calibrate_devices.py.",
        "Held-out error:",
        *(
            f"  {one.space}: {100 * one.mean_error:.1f} % mean, {100 * one.within_tenth:.0f} % of the networks within "
            f"10 %, Spearman {one.spearman:.3f} ({one.networks} networks)"
            for one in judged
        ),
        "Only floats were measured: 8-bit layers count as float ones here. Other networks and larger images lie",
        "outside of what was measured. The origin of a figure says how many of its operators were not measured.",
    ]


def main() -> None:
    """Fit, show, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("ESPALIER_DATA") or REPOSITORY.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--devices", default=",".join(DEVICES))
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    spaces = read_spaces(arguments.data)
    print("| device | space | networks | mean error | within 10 % | Spearman | figures |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.devices.split(","):
        column, description = DEVICES[name]
        efficiency, judged = calibrate(spaces[name in COMPILED], column)
        figures = sum(map(len, efficiency.kinds.values())) + len(efficiency.other) + 1
        for one in judged:
            print(
                f"| {name} | {one.space} | {one.networks} | {100 * one.mean_error:.2f} % "
                f"| {100 * one.within_tenth:.1f} % | {one.spearman:.3f} | {figures} |"
            )
        if arguments.write:
            text = device_yaml(name, head(description, judged), efficiency, robust_std(judged))
            (arguments.write / f"{name}.yaml").write_text(text)


if __name__ == "__main__":
    main()

"""What other people's tables are worth as devices: fitted efficiencies, and the error at what was left out of the fit.

    python benchmarks/foreign_tables.py [--json FILE] [--write FOLDER]

Reads the tables of a Pixel 1, a Galaxy Note 10 and BitFusion from `$ESPALIER_DATA`/luts. Phones: milliseconds of
blocks, fitted by time per unit of work and kind of operator (`hw_models/predictors/efficiency_fit.py`); each
measurement is left out alone, and then together with all of its input and output shape. BitFusion: relative units,
curves per kind of operator; each operator is left out with a twentieth of its kind, and then with all of its image
size, which must be extrapolated. The figures stand in `conf/device/`, which --write rebuilds for the phones.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from espalier.hw_models.predictors.device_yaml import device_yaml
from espalier.hw_models.predictors.efficiency_fit import fit_efficiency
from espalier.hw_models.predictors.left_out import left_out_errors
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables.formats import import_table
from espalier.hw_models.tables.interpolation import Interpolation


@dataclass(frozen=True)
class Phone:
    """A phone that others measured blocks on.

    Attributes:
        description: What it is.
        files: The tables, in `$ESPALIER_DATA`/luts.
        source: Where they come from.
        blocks: What was measured.
    """

    description: str
    files: tuple[str, ...]
    source: str
    blocks: str


PHONES = {
    "pixel1": Phone(
        "Google Pixel 1, floats on TensorFlow Lite",
        ("pixel1_mobile_trim.yaml",),
        "ProxylessNAS (Cai, Zhu, Han, ICLR 2019; pixel1_mobile_trim.yaml of han-cai/files)",
        "blocks of a MobileNetV2",
    ),
    "note10": Phone(
        "Samsung Galaxy Note 10, floats on TensorFlow Lite",
        tuple(f"note10_{side}.yaml" for side in (160, 176, 192, 224)),
        "Once-for-all (Cai et al., ICLR 2020; note10_*.yaml of han-cai/files)",
        "blocks of a MobileNetV3 at four resolutions",
    ),
}
BITFUSION = "bitfusion_latency_energy.json.gz"


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Mean, median, 95th percentile, largest and root mean square of relative errors, per cent."""
    sizes = 100 * np.abs(errors)
    figures = {"mean": sizes.mean(), "median": np.median(sizes), "p95": np.quantile(sizes, 0.95), "max": sizes.max()}
    figures["rms"] = np.sqrt(np.mean(sizes**2))
    return {"n": len(sizes)} | {name: round(float(value), 2) for name, value in figures.items()}


def phone(folder: Path, name: str, write: Path | None) -> dict[str, Any]:
    """The efficiencies of a phone, and their errors."""
    measurements = [
        replace(m, label=f"{file} {m.label}")
        for file in PHONES[name].files
        for m in import_table(folder / file).table.measurements()
    ]
    efficiency, _ = fit_efficiency(measurements, has_overhead=False)
    alone = summary([one.error for one in left_out_errors(measurements)])
    by_shape = summary([one.error for one in left_out_errors(measurements, shapes)])
    if write:
        head_lines = head(PHONES[name], len(measurements), alone, by_shape)
        text = device_yaml(name, head_lines, efficiency, alone["rms"] / 100)
        (write / f"{name}.yaml").write_text(text)
    return {
        "measurements": len(measurements),
        "kinds": dict(efficiency.kinds),
        "other": dict(efficiency.other),
        "left_out": alone,
        "left_out_shape": by_shape,
    }


def head(which: Phone, blocks: int, alone: dict[str, float], by_shape: dict[str, float]) -> list[str]:
    """The comment above a phone's figures."""
    return [
        f"{which.description}: fitted, held-out error {alone['mean']:.1f} %.",
        "Milliseconds per unit of work by kind of operator (hw_models/calibrated_device.py), fitted to the table of",
        f"{which.source}:",
        f"{blocks} {which.blocks}. Written by benchmarks/foreign_tables.py.",
        "Held-out error of a block:",
        f"  each left out in turn: {_spread(alone)}",
        f"  left out with all blocks of its shapes: {_spread(by_shape)}",
        "Only floats were measured: 8-bit layers count as float ones here. Pooling, recurrent layers and what else the",
        "table does not tell take after what all kinds share. The origin of a figure says how many of its operators",
        "were not measured.",
    ]


def _spread(errors: dict[str, float]) -> str:
    names = {"mean": "mean", "median": "median", "p95": "95th percentile", "rms": "root mean square"}
    return ", ".join(f"{name} {errors[key]:.1f} %" for key, name in names.items())


def shapes(measurement: Measurement) -> object:
    """Shapes of what goes in and comes out."""
    return measurement.ops[0].input_shape, measurement.ops[-1].output_shape


def accelerator(folder: Path) -> dict[str, Any]:
    """Errors of the curves through BitFusion's 8-bit operators, for latency and energy."""
    entries = [e for e in import_table(folder / BITFUSION).table.entries.values() if not e.number_format]
    figures = {
        "latency": [Measurement((e.spec,), e.mean, label=e.key) for e in entries],
        "energy": [Measurement((e.spec,), e.energy, label=e.key) for e in entries],
    }
    return {what: curves(measurements) for what, measurements in figures.items()}


def curves(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Errors per kind of operator."""
    interpolation = Interpolation(measurements)
    rows = {kind_name(spec): interpolation.curve(spec).held_out_errors for spec in interpolation.kinds}
    sizes = sorted({m.ops[0].input_shape[1] for m in measurements})
    return {
        "held_out": {name: summary(errors) for name, errors in rows.items()},
        "held_out_all": summary(np.concatenate(list(rows.values()))),
        "held_out_image_size": {str(size): summary(without_size(measurements, size)) for size in sizes},
    }


def kind_name(spec: Any) -> str:
    """Such as "depthwise 5x5 stride 2"."""
    form = "depthwise" if spec.groups > 1 else "dense"
    return f"{form} {spec.kernel[0]}x{spec.kernel[1]} stride {spec.stride[0]}"


def without_size(measurements: Sequence[Measurement], size: int) -> list[float]:
    """Errors at the operators of one image size, from the others."""
    rest = Interpolation(m for m in measurements if m.ops[0].input_shape[1] != size)
    tested = [m for m in measurements if m.ops[0].input_shape[1] == size]
    return [rest(m.ops[0]).value / m.latency_ms - 1 for m in tested]


def main() -> None:
    """Print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    folder = Path(os.environ.get("ESPALIER_DATA", "../shared/data")) / "luts"
    report: dict[str, Any] = {name: phone(folder, name, options.write) for name in PHONES}
    report["bitfusion"] = accelerator(folder)
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

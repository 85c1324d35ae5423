"""What other people's tables are worth as devices: fitted prices, and the error at what was left out of the fit.

    python benchmarks/foreign_tables.py [--json FILE]

Reads the tables of a Pixel 1, a Galaxy Note 10 and BitFusion from `$ESPALIER_DATA`/luts. Phones: milliseconds of
blocks, fitted by prices of work; each measurement is left out alone, and then together with all of its input and output
shape. BitFusion: relative units, curves per kind of operator; each operator is left out with a twentieth of its kind,
and then with all of its image size, which must be extrapolated. The figures stand in `conf/device/`.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from espalier.hw_models.predictors.measurement import Measurement
from espalier.hw_models.tables.formats import import_table
from espalier.hw_models.tables.interpolation import Interpolation
from espalier.hw_models.tables.linear_model import LinearModel, held_out

PHONES = {
    "pixel1": ("pixel1_mobile_trim.yaml",),
    "note10": tuple(f"note10_{side}.yaml" for side in (160, 176, 192, 224)),
}
BITFUSION = "bitfusion_latency_energy.json.gz"


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Mean, median, 95th percentile, largest and root mean square of relative errors, per cent."""
    sizes = 100 * np.abs(errors)
    figures = {"mean": sizes.mean(), "median": np.median(sizes), "p95": np.quantile(sizes, 0.95), "max": sizes.max()}
    figures["rms"] = np.sqrt(np.mean(sizes**2))
    return {"n": len(sizes)} | {name: round(float(value), 2) for name, value in figures.items()}


def phone(folder: Path, files: Sequence[str]) -> dict[str, Any]:
    """Prices of a phone, and their errors."""
    measurements = [
        replace(m, label=f"{name} {m.label}")
        for name in files
        for m in import_table(folder / name).table.measurements()
    ]
    prices = LinearModel.fit(measurements).prices
    return {
        "measurements": len(measurements),
        "prices": {kind: {term: float(f"{price:.4g}") for term, price in row.items()} for kind, row in prices.items()},
        "held_out": summary([h.error for h in held_out(measurements)]),
        "held_out_shape": summary([h.error for h in held_out(measurements, shapes)]),
    }


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
    options = parser.parse_args()
    folder = Path(os.environ.get("ESPALIER_DATA", "../shared/data")) / "luts"
    report: dict[str, Any] = {name: phone(folder, files) for name, files in PHONES.items()}
    report["bitfusion"] = accelerator(folder)
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Does each measure of ultrasound realism answer to what it should, and to nothing else? Phantoms, one thing changed.

    python benchmarks/realism.py --out results/2026-11-realism/phantoms.json

Two sets of the same phantoms differ in one parameter, and each distance between them is printed in units of its real
baseline: the mean distance of two disjoint sets of as many unchanged phantoms. `!` marks the measures that must move,
`~` those that physics lets move; all others must stay. In `resolved` phantoms a speckle is wider than a pixel and no
noise is seen. In phantoms `as drawn` more moves: what is finer than a pixel is averaged, and attenuation leaves noise.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bench import line, save
from sonosynth.metrics.intervals.subsampling import SamplingUnits, split_half
from sonosynth.metrics.ultrasound.measures import ultrasound_measures
from sonosynth.metrics.ultrasound.realism import METRICS, realism_values, wasserstein_distance
from sonosynth.phantoms.parameters import Scan
from sonosynth.phantoms.phantom import CLASSES, phantom

UNITS = {metric.name: metric.unit for metric in METRICS}
Settings = Mapping[str, tuple[float, float]]
KEY = ("base", "changed", "measure", "size", "seed")
COLUMNS = (
    ("base", "{:<9}"),
    ("changed", "{:<18}"),
    *((name.removesuffix("_distance"), "{:>17}") for name in UNITS),
)
MOVED, STAYED = 2.0, 1.0
"""In real baselines: no less has moved, and no more has stayed."""
DRAWS = 10
"""Halvings that a real baseline is the mean of."""

RESOLVED, DRAWN = "resolved", "as drawn"
BASES: dict[str, Settings] = {
    RESOLVED: {
        "frequency_mhz": (5.5, 7),
        "cycles": (2.5, 3.2),
        "f_number": (2, 2.8),
        "looks": (2, 4),
        "depth_mm": (20, 26),
        "width_mm": (26, 34),
        "smoothing_mm": (0.01, 0.02),
        "noise_db": (-100, -90),
        "tgc_error_db": (4, 10),
        "dynamic_range_db": (52, 60),
        "gain_db": (-2, 4),
    },
    DRAWN: {parameter.name: parameter.metadata["range"] for parameter in fields(Scan)},
}


@dataclass(frozen=True)
class Change:
    """What a parameter becomes, the measures that must move with it, and those that physics lets move.

    Attributes:
        name: of the parameter.
        times: the factor of the range in the base.
        plus: what is added to it.
        range: the new range, where the base has none.
        moves: must move.
        may: may move.
        may_as_drawn: may move besides, where speckle is finer than a pixel and noise is seen.
    """

    name: str
    times: float = 1.0
    plus: float = 0.0
    range: tuple[float, float] | None = None
    moves: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    may_as_drawn: tuple[str, ...] = ()

    def settings(self, base: Settings) -> Settings:
        """Return `base` with the change made."""
        changed = self.range or tuple(end * self.times + self.plus for end in base[self.name])
        return {**base, self.name: (changed[0], changed[1])}

    def expected(self, base: str, measure: str) -> str:
        """Return whether `measure` "moves", "may move" or "stays"."""
        if measure in self.moves:
            return "moves"
        return "may move" if measure in self.may + self.may_as_drawn * (base == DRAWN) else "stays"


CONTRAST, NAKAGAMI, AXIAL, LATERAL, SPECTRUM, PROFILE = UNITS
CHANGES = {
    # A pulse of as many cycles is longer, and the beam wider. The gain makes good for the lower attenuation. Thin
    # bright layers, which make the Nakagami shape small, are smeared. Pixels average what is finer than they are, and
    # so take contrast from short pulses and narrow beams.
    "frequency": Change(
        "frequency_mhz",
        times=0.7,
        moves=(AXIAL, LATERAL, SPECTRUM),
        may=(NAKAGAMI,),
        may_as_drawn=(CONTRAST,),
    ),
    # Pixels that average along the pulse round the gaps across it, less so where it is long.
    "pulse length": Change(
        "cycles", times=1.6, moves=(AXIAL, SPECTRUM), may=(NAKAGAMI, LATERAL), may_as_drawn=(CONTRAST,)
    ),
    "beam width": Change("f_number", times=1.6, moves=(LATERAL, SPECTRUM), may_as_drawn=(CONTRAST, NAKAGAMI)),
    # The assumed dynamic range stays as it was. A gain curve in grey levels is flatter where more dB are shown.
    "dynamic range": Change("dynamic_range_db", times=1.25, moves=(CONTRAST, NAKAGAMI), may=(PROFILE,)),
    "gain": Change("gain_db", plus=6),
    # Where the echo is lost in noise or in black, nothing but noise is left.
    "attenuation": Change(
        "attenuation",
        range=(1, 1.2),
        moves=(PROFILE,),
        may_as_drawn=(CONTRAST, NAKAGAMI, AXIAL, LATERAL, SPECTRUM),
    ),
    "gain curve": Change(
        "tgc_error_db",
        plus=10,
        moves=(PROFILE,),
        may_as_drawn=(CONTRAST, NAKAGAMI, AXIAL, LATERAL, SPECTRUM),
    ),
    # Few scatterers leave gaps and many looks fill them: with the distribution goes the sharpness of the gaps.
    "scatterer density": Change(
        "scatterer_density", range=(2, 4), moves=(CONTRAST, NAKAGAMI), may=(AXIAL, LATERAL, SPECTRUM)
    ),
    "looks": Change("looks", plus=4, moves=(CONTRAST, NAKAGAMI), may=(AXIAL, LATERAL, SPECTRUM)),
}


def values_of(per_class: int, size: int, seed: int, settings: Settings) -> dict[str, np.ndarray]:
    """Return what the distances compare, of phantoms of all classes."""
    return realism_values(ultrasound_measures(phantom(per_class, size, seed, settings=settings).images))


def baselines(pool: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """Return the mean distance of two halves of `pool`."""
    rng = np.random.default_rng(seed)
    n = len(next(iter(pool.values())))
    sides = [split_half(SamplingUnits.of(np.arange(n)), rng) for _ in range(DRAWS)]
    return {
        name: float(np.mean([wasserstein_distance(values[a], values[b]) for a, b in sides]))
        for name, values in pool.items()
    }


def measure(base: str, per_class: int, size: int, seed: int, changes: Mapping[str, Change]) -> list[dict[str, Any]]:
    """Return a row for every change and measure."""
    settings = BASES[base]
    real, other = (values_of(per_class, size, s, settings) for s in (seed, seed + 1))
    baseline = baselines({name: np.concatenate([real[name], other[name]]) for name in UNITS}, seed)
    rows = []
    for changed, change in changes.items():
        found = values_of(per_class, size, seed, change.settings(settings))
        n = len(found[CONTRAST])
        for name in UNITS:
            value = wasserstein_distance(real[name], found[name])
            rows.append({
                "base": base,
                "changed": changed,
                "measure": name,
                "unit": UNITS[name],
                "expected": change.expected(base, name),
                "value": value,
                "real_baseline": baseline[name],
                "in_baselines": value / baseline[name],
                "n": n,
                "size": size,
                "seed": seed,
            })  # fmt: skip
    return rows


def unexpected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of measures that should have moved or stayed and did not."""
    bounds = {"moves": (MOVED, np.inf), "stays": (0, STAYED), "may move": (0, np.inf)}
    return [row for row in rows if not bounds[row["expected"]][0] <= row["in_baselines"] <= bounds[row["expected"]][1]]


def table_line(rows: list[dict[str, Any]]) -> str:
    """Return the line of one change."""
    marks = {"moves": "!", "may move": "~", "stays": " "}
    cells = {
        row["measure"].removesuffix("_distance"): f"{row['in_baselines']:.2f}{marks[row['expected']]}" for row in rows
    }
    return line(COLUMNS, {"base": rows[0]["base"], "changed": rows[0]["changed"], **cells})


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--per-class", type=int, default=34, help=f"phantoms of each of {len(CLASSES)} classes")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bases", nargs="+", choices=BASES, default=list(BASES))
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for base in arguments.bases:
        found = measure(base, arguments.per_class, arguments.size, arguments.seed, CHANGES)
        for start in range(0, len(found), len(UNITS)):
            print(table_line(found[start : start + len(UNITS)]), flush=True)
        print(f"  {base}: {len(unexpected(found))} of {len(found)} not as expected")
        rows += found
        if arguments.out:
            save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

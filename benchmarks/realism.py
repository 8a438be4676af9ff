"""Does each measure of ultrasound realism answer to what it should, and to nothing else? Phantoms, one thing changed.

    python benchmarks/realism.py --out results/realism/phantoms.json

Two sets of the same phantoms differ in one parameter, and each distance between them is printed in units of its floor:
the mean distance of two disjoint sets of as many unchanged phantoms. `!` marks the measures that must move, `~` those
that physics lets move; all others must stay. In `resolved` phantoms a speckle is wider than a pixel and no noise is
seen. In phantoms `as drawn` more moves: what is finer than a pixel is averaged by it, and attenuation leaves noise.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import line, save
from sonosynth.data.phantom import CLASSES, phantom
from sonosynth.metrics.realism import UNITS, realism_distance, realism_values
from sonosynth.metrics.speckle import realism_measures
from sonosynth.metrics.subsampling import halves

Settings = Mapping[str, tuple[float, float]]
KEY = ("base", "changed", "measure", "size", "seed")
COLUMNS = (
    ("base", "{:<9}"),
    ("changed", "{:<18}"),
    *((name.removesuffix("_distance"), "{:>17}") for name in UNITS),
)
MOVED, STAYED = 2.0, 1.0
"""In floors: no less is moved, and no more has stayed."""
DRAWS = 10
"""Halvings that a floor is the mean of."""

BASES: dict[str, Settings] = {
    "resolved": {
        "frequency_mhz": (5.5, 7),
        "cycles": (2.5, 3.2),
        "f_number": (2, 2.8),
        "depth_mm": (20, 26),
        "width_mm": (26, 34),
        "smoothing_mm": (0.01, 0.02),
        "noise_db": (-100, -90),
        "tgc_error_db": (4, 10),
        "dynamic_range_db": (52, 60),
        "gain_db": (-2, 4),
    },
    "as drawn": {},
}


@dataclass(frozen=True)
class Change:
    """What a parameter becomes, the measures that must move with it, and those that may."""

    settings: Settings
    moves: tuple[str, ...]
    may: tuple[str, ...] = ()


CONTRAST, NAKAGAMI, AXIAL, LATERAL, SPECTRUM, PROFILE = UNITS
CHANGES: dict[str, Change] = {
    # The pulse has `cycles` wavelengths, so frequency sets both its length and the width of the beam.
    "frequency": Change({"frequency_mhz": (3.7, 4.7)}, (AXIAL, LATERAL, SPECTRUM)),
    "pulse length": Change({"cycles": (4, 5.1)}, (AXIAL, SPECTRUM)),
    "beam width": Change({"f_number": (3.2, 4.5)}, (LATERAL, SPECTRUM)),
    # The assumed dynamic range stays as it was; a gain curve in grey levels is steeper where fewer dB are shown.
    "dynamic range": Change({"dynamic_range_db": (66, 76)}, (CONTRAST, NAKAGAMI), (PROFILE,)),
    "gain": Change({"gain_db": (4, 10)}, ()),
    "attenuation": Change({"attenuation": (1, 1.2)}, (PROFILE,)),
    "gain curve": Change({"tgc_error_db": (14, 20)}, (PROFILE,)),
    # Few scatterers leave gaps, and many looks fill them: the distribution changes, and with it how sharp the gaps are.
    "scatterer density": Change({"scatterer_density": (2, 4)}, (CONTRAST, NAKAGAMI), (AXIAL, LATERAL, SPECTRUM)),
    "looks": Change({"looks": (7, 9)}, (CONTRAST, NAKAGAMI), (AXIAL, LATERAL, SPECTRUM)),
}


def values_of(per_class: int, size: int, seed: int, settings: Settings) -> dict[str, np.ndarray]:
    """Return what the distances compare, of phantoms of all classes."""
    return realism_values(realism_measures(phantom(per_class, size, seed, settings=settings).images))


def floors(pool: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """Return the mean distance of two halves of `pool`."""
    rng = np.random.default_rng(seed)
    n = len(next(iter(pool.values())))
    sides = [halves(np.arange(n), rng) for _ in range(DRAWS)]
    return {name: float(np.mean([realism_distance(values, a, b) for a, b in sides])) for name, values in pool.items()}


def measure(base: str, per_class: int, size: int, seed: int, changes: Mapping[str, Change]) -> list[dict[str, Any]]:
    """Return a row for every change and measure."""
    settings = BASES[base]
    real, other = (values_of(per_class, size, s, settings) for s in (seed, seed + 1))
    floor = floors({name: np.concatenate([real[name], other[name]]) for name in UNITS}, seed)
    rows = []
    for changed, change in changes.items():
        found = values_of(per_class, size, seed, {**settings, **change.settings})
        n = len(found[CONTRAST])
        for name in UNITS:
            both = np.concatenate([real[name], found[name]])
            value = realism_distance(both, np.arange(n), np.arange(n, 2 * n))
            rows.append({
                "base": base,
                "changed": changed,
                "measure": name,
                "unit": UNITS[name],
                "expected": "moves" if name in change.moves else "may move" if name in change.may else "stays",
                "value": value,
                "floor": floor[name],
                "in_floors": value / floor[name],
                "n": n,
                "size": size,
                "seed": seed,
            })  # fmt: skip
    return rows


def table_line(rows: list[dict[str, Any]]) -> str:
    """Return the line of one change."""
    marks = {"moves": "!", "may move": "~", "stays": " "}
    cells = {
        row["measure"].removesuffix("_distance"): f"{row['in_floors']:.2f}{marks[row['expected']]}" for row in rows
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
        wrong = [
            row
            for row in found
            if (row["expected"] == "moves" and row["in_floors"] < MOVED)
            or (row["expected"] == "stays" and row["in_floors"] > STAYED)
        ]
        print(f"  {base}: {len(wrong)} of {len(found)} not as expected")
        rows += found
        if arguments.out:
            save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

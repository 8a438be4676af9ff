"""Does the scorecard accuse and acquit rightly? Readings of clean sets, of shifted ones, and coverage of intervals.

    python benchmarks/clean_sets.py --features texture --out results/2026-11-clean-sets/clean_sets.json
    python benchmarks/clean_sets.py --features efficientnet-lite0 --out results/2026-11-clean-sets/clean_sets.json

A clean set is drawn afresh from the distribution of the real images, with just the class proportions of the training
images. Nothing that is said of it beyond "no difference found" is right: a reading "worse", "better" or "look for
copies" is a false alarm. A shifted set differs in the mean of every feature, by a share of its standard deviation
between images of a class; here false is what is not noticed.

An image is a vector: the features of a phantom, and its measures of speckle. The pool has 1,500 phantoms of three
classes. Images of one group (a lesion) have half of their variance in common: the mean of the class plus
sqrt(1/2) times the deviation of one phantom from it, the same for all images of the group, plus as much of another.
Synthetic images are independent, as a generator's are. With `separated` classes their means are three standard
deviations of an image apart, else as the phantoms are. The row `sizes` counts training, held-out and synthetic images.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from bench import line, save
from pools import Pool, pool
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import load_features
from sonosynth.metrics.comparison import Space, comparisons
from sonosynth.metrics.interpretation import interpret, with_baseline_rows
from sonosynth.metrics.intervals.subsampling import stratified_counts
from sonosynth.metrics.metric import list_metrics
from sonosynth.metrics.scorecard import measure
from sonosynth.metrics.scores import HELD_OUT, PIXELS, SYNTHETIC, TRAIN, Score
from sonosynth.metrics.ultrasound.measures import UltrasoundMeasures
from sonosynth.metrics.ultrasound.realism import measures_of, realism_values
from sonosynth.phantoms.phantom import CLASSES

POOL = "efficientnet-lite0"  # the features that are kept with the phantoms
APART = 3.0  # distance of class means that are separated, in standard deviations of an image
SIZES = ((25, 190, 500), (60, 60, 60), (100, 100, 100), (180, 180, 180))
ALARMS = ("worse", "better")
OVERVIEW = (
    ("metric", "{:<30}"),
    ("reference", "{:<9}"),
    ("settings", "{:>8}"),
    ("worse", "{:>6.3f}"),
    ("worse_most", "{:>10.3f}"),
    ("better", "{:>6.3f}"),
    ("better_most", "{:>11.3f}"),
    ("bias_least", "{:>10.1f}"),
    ("bias_most", "{:>9.1f}"),
    ("coverage_least", "{:>14.3f}"),
    ("coverage_most", "{:>13.3f}"),
    ("length", "{:>6.2f}"),
    ("length_most", "{:>11.2f}"),
)
KEY = ("features", "classes", "separated", "group", "sizes", "shift", "metric", "reference")
COLUMNS = (
    ("metric", "{:<30}"),
    ("reference", "{:<9}"),
    ("sets", "{:>4}"),
    ("worse", "{:>6.3f}"),
    ("better", "{:>6.3f}"),
    ("bias", "{:>6.2f}"),
    ("coverage", "{:>8.3f}"),
    ("length", "{:>6.2f}"),
)
Vectors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """What sets are drawn."""

    features: str
    classes: int
    separated: bool
    group: int
    sizes: tuple[int, int, int]
    shift: float = 0.0

    @property
    def name(self) -> str:
        """For files."""
        far = "separated" if self.separated else "alike"
        sizes = "-".join(map(str, self.sizes))
        return f"{self.features}-{self.classes}-{far}-{self.group}-{sizes}-{self.shift:g}"


def vectors_of(phantoms: Pool, features: str) -> dict[str, np.ndarray]:
    """Return the vectors of all phantoms that have measures of speckle: features, and each measure."""
    found = phantoms.features if features == POOL else load_features(features)(phantoms.images)
    return {"features": found.astype(np.float64), **phantoms.realism}


class Population:
    """What images are drawn from."""

    def __init__(self, setting: Setting, phantoms: Pool):
        self.setting = setting
        vectors = vectors_of(phantoms, setting.features)
        complete = np.logical_and.reduce([~np.isnan(part).any(axis=1) for part in vectors.values()])
        of_class = [complete & (phantoms.labels == label) for label in range(setting.classes)]
        self.means = [{name: part[chosen].mean(axis=0) for name, part in vectors.items()} for chosen in of_class]
        self.deviations = [
            {name: part[chosen] - mean[name] for name, part in vectors.items()}
            for chosen, mean in zip(of_class, self.means, strict=True)
        ]
        spread = np.concatenate([one["features"] for one in self.deviations]).std(axis=0)
        self.shift = setting.shift * spread
        if setting.separated:
            rng = numpy_generator(0, "class means")
            for mean in self.means:
                direction = rng.standard_normal(len(spread)) * spread
                distance = APART * np.linalg.norm(spread) / sqrt(2)
                mean["features"] = mean["features"] + distance * direction / np.linalg.norm(direction)

    def draw(
        self, counts: Sequence[int], group: int, rng: np.random.Generator
    ) -> tuple[dict[str, np.ndarray], ImageSet]:
        """Return the vectors of so many images per class, and an image set with their labels and groups."""
        n = sum(counts)
        parts: list[dict[str, np.ndarray]] = []
        groups = np.concatenate([1000 * label + np.arange(count) // group for label, count in enumerate(counts)])
        for mean, deviations, count in zip(self.means, self.deviations, counts, strict=True):
            size = len(deviations["features"])
            common = rng.integers(size, size=-(-count // group))[np.arange(count) // group]
            own = rng.integers(size, size=count)
            parts.append({
                name: mean[name] + sqrt(0.5) * (values[common] + values[own]) for name, values in deviations.items()
            })  # fmt: skip
        vectors = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        names = tuple(map(str, range(n)))
        labels = np.repeat(np.arange(len(counts)), counts)
        return vectors, ImageSet(np.zeros((n, 32, 32), np.uint8), labels, CLASSES[: len(counts)], groups, names)

    def scored(self, repeat: int) -> list[dict[str, Any]]:
        """Return, for one draw of all three sets, what is said of every metric over all classes."""
        setting = self.setting
        rng = numpy_generator(repeat, setting.name)
        of_class = np.arange(setting.sizes[0]) % setting.classes
        roles = [role for role, n in zip((TRAIN, HELD_OUT, SYNTHETIC), setting.sizes, strict=True) if n]
        drawn = []
        for role, n in zip(roles, filter(None, setting.sizes), strict=True):
            counts = stratified_counts(of_class, setting.classes, n).tolist()
            drawn.append(self.draw(counts, 1 if role == SYNTHETIC else setting.group, rng))
        drawn[-1][0]["features"] += self.shift
        sets = {role: images for role, (_, images) in zip(roles, drawn, strict=True)}
        vectors = {name: np.concatenate([part[name] for part, _ in drawn]) for name in drawn[0][0]}
        whole = ImageSet.concatenate(sets.values())
        rows = []
        for kind in ("features", "pixels"):
            metrics = [
                metric
                for metric in list_metrics()
                if metric.space == kind and metric.name != "frechet_radiomics_distance"
                if kind == "features" or metric.part == "realism"
            ]
            space = Space(setting.features if kind == "features" else PIXELS, vectors["features"], whole.groups, sets)
            space.labels = whole.labels
            if kind == "pixels":
                measures = [vectors[name].squeeze() for name in realism_names()]
                space._made[measures_of, ()] = UltrasoundMeasures(*measures)
            rows += measure(metrics, comparisons(space, (), repeat))
        return [_read(score, there) for score, there in with_baseline_rows(rows)]


def realism_names() -> list[str]:
    """Return the names of the measures of speckle, in the order of `UltrasoundMeasures`."""
    return list(realism_values(UltrasoundMeasures(*np.zeros((6, 1)))))


def _read(score: Score, there: Score | None) -> dict[str, Any]:
    found = interpret(score, there)
    return {
        "metric": score.metric,
        "reference": score.reference,
        "state": found.state,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "difference": None if there is None else there.value - there.real_baseline,  # type: ignore[operator]
    }


def repeats(path: Path, population: Population, number: int) -> Iterator[list[dict[str, Any]]]:
    """Yield what is said in so many draws; those that stand in the file at `path` are only read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    yield from done[:number]
    for repeat in track(range(len(done), number), population.setting.name):
        found = population.scored(repeat)
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        yield found


def summary(setting: Setting, found: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a line of the table for every metric and reference."""
    rows = []
    for metric, reference in dict.fromkeys((one["metric"], one["reference"]) for draw in found for one in draw):
        mine = [one for draw in found for one in draw if (one["metric"], one["reference"]) == (metric, reference)]
        known = np.array([(one["value"], one["low"], one["high"]) for one in mine if one["low"] is not None])
        differences = np.array([one["difference"] for one in mine if one["difference"] is not None])
        row: dict[str, Any] = {
            "features": setting.features,
            "classes": setting.classes,
            "separated": setting.separated,
            "group": setting.group,
            "sizes": "/".join(map(str, setting.sizes)),
            "shift": setting.shift,
            "metric": metric,
            "reference": reference,
            "sets": len(mine),
            "read": sum(one["state"] != "none" for one in mine),
            **{state: float(np.mean([one["state"] == state for one in mine])) for state in ALARMS},
        }
        bias = coverage = length = float("nan")
        if len(differences) > 1 and differences.std():
            bias = float(differences.mean() / (differences.std(ddof=1) / sqrt(len(differences))))
        if len(known) > 1:
            values, low, high = known.T
            target = values.mean()
            coverage = float(((low <= target + 1e-12) & (target - 1e-12 <= high)).mean())
            if values.std(ddof=1) > 1e-12:
                length = float((high - low).mean() / (2 * 1.96 * values.std(ddof=1)))
        rows.append(row | {"bias": bias, "coverage": coverage, "length": length})
    return rows


def overview(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for every metric and reference over all clean sets of `rows`, without the shifted ones."""
    clean = [row for row in rows if not row["shift"]]
    found = []
    for metric, reference in dict.fromkeys((row["metric"], row["reference"]) for row in clean):
        mine = [row for row in clean if (row["metric"], row["reference"]) == (metric, reference)]
        known = {
            key: [row[key] for row in mine if row[key] is not None and (row["read"] or key not in ALARMS)]
            for key in (*ALARMS, "bias", "coverage", "length")
        }
        if not all(known.values()):
            continue  # a metric that has no interval
        found.append({
            "metric": metric,
            "reference": reference,
            "settings": len(mine),
            **{key: float(np.mean(known[key])) for key in ALARMS},
            **{f"{key}_most": max(known[key]) for key in ALARMS},
            "bias_least": min(known["bias"]),
            "bias_most": max(known["bias"]),
            "coverage_least": min(known["coverage"]),
            "coverage_most": max(known["coverage"]),
            "length": float(np.median(known["length"])),
            "length_most": max(known["length"]),
        })  # fmt: skip
    return found


def settings_of(features: str, quick: bool) -> list[Setting]:
    """Return the settings: two and three classes, strongly and weakly different, groups of one and four, all sizes."""
    if quick:
        return [Setting(features, 2, True, group, (60, 60, 60)) for group in (1, 2)]
    kinds = [(2, True), (3, False), (2, False), (3, True)]
    clean = [Setting(features, *kind, group, sizes) for kind in kinds for group in (1, 4) for sizes in SIZES]
    # Power at equal numbers of groups: 45 of one image, and 45 of four.
    shifted = [
        Setting(features, 2, True, group, (45 * group, 45 * group, 180), shift)
        for group in (1, 4)
        for shift in (0.25, 0.5)
    ]
    return [*clean, *shifted]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--features", default="texture")
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="two settings alone")
    parser.add_argument("--runs", type=Path, default=Path("runs/clean-sets"))
    parser.add_argument("--out", type=Path, help="a JSON file; other lines stay in it")
    parser.add_argument("--overview", action="store_true", help="print a line per metric over all of --out, and end")
    arguments = parser.parse_args()
    if arguments.overview:
        print(line(OVERVIEW))
        for row in overview(json.loads(arguments.out.read_text(encoding="utf-8"))["rows"]):
            print(line(OVERVIEW, row))
        return
    size, n = (64, 500) if arguments.quick else (128, 1500)
    phantoms = pool(arguments.runs.parent / "scorecard" / f"real-{size}", n, size, 11, POOL, CLASSES)
    for setting in settings_of(arguments.features, arguments.quick):
        population = Population(setting, phantoms)
        found = list(repeats(arguments.runs / f"{setting.name}.jsonl", population, arguments.sets))
        rows = summary(setting, found)
        print(f"\n{setting.name}\n{line(COLUMNS)}")
        for row in rows:
            print(line(COLUMNS, row))
        if arguments.out:
            known = [{k: None if v != v else v for k, v in row.items()} for row in rows]  # NaN is not JSON
            save(arguments.out, known, KEY)


if __name__ == "__main__":
    main()

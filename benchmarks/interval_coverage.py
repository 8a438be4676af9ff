"""Do the intervals of the scorecard hold what they should, and would a plain bootstrap? Coverage on phantoms.

    python benchmarks/interval_coverage.py --sizes 100 --out results/2026-11-intervals/coverage.json
    python benchmarks/interval_coverage.py --sizes 400 --bootstrap 0 --out results/2026-11-intervals/coverage.json

Sets of n images a side are drawn again and again, without replacement, from pools of 4,000 phantoms. An interval should
hold the mean of the metric over all draws of that size; that of a kernel distance, which has no bias, the distance
between the whole pools. Three cases: two pools of one distribution (`equal`); one of them shown with a narrower dynamic
range (`shifted`); and, for metrics of memorisation, one synthetic image in ten, at random, a copy of a training image
(`copies`; near copies, whose search takes seconds, at n = 100 only). The bootstrap draws images of both sets with
replacement and takes percentiles.

Pools and draws are kept in --runs: a call that was cut short goes on where it was.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from bench import line, save
from pools import Pool, pool
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.distances.kernel import SCALE, SIGMA, polynomial_kernel
from sonosynth.metrics.intervals.subsampling import SamplingUnits
from sonosynth.metrics.memorisation.data_copying import cell_count, data_copying, data_copying_interval, usable_cells
from sonosynth.metrics.memorisation.distance_ratio import distance_ratio, distance_ratio_interval, nearest_groups
from sonosynth.metrics.memorisation.membership import membership_auc, membership_interval
from sonosynth.metrics.memorisation.near_copies import copy_share, near_copies
from sonosynth.metrics.memorisation.three_sets import assign_cells
from sonosynth.metrics.metric import Interval, Metric, list_metrics
from sonosynth.metrics.neighbours import euclidean_distances
from sonosynth.metrics.scorecard import values_by_name
from sonosynth.metrics.scores import ALL, HELD_OUT, SYNTHETIC, TRAIN
from sonosynth.metrics.ultrasound.realism import realism_intervals, wasserstein_distance

FEATURES = "efficientnet-lite0"
POOL = 4000
SHIFTED = {"dynamic_range_db": (42.0, 56.0)}
"""Of the phantoms that stand for synthetic images; others have 48 to 62 dB."""
COPIED = 0.1
"""Chance of a synthetic image to be a copy in the case `copies`."""
MOST_SEARCHED = 100
"""Images a side that near copies are looked for in."""
CASES = ("equal", "shifted", "copies")
KEY = ("metric", "case", "n")
COLUMNS = (
    ("metric", "{:<26}"),
    ("case", "{:<8}"),
    ("n", "{:>4}"),
    ("repeats", "{:>7}"),
    ("target", "{:>9.4g}"),
    ("coverage", "{:>8.1%}"),
    ("width", "{:>9.4g}"),
    ("ideal", "{:>9.4g}"),
    ("bootstrap", "{:>9}"),
)
Values = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class Drawn:
    """n training, n held-out and n synthetic images."""

    train: Pool
    held_out: Pool
    synthetic: Pool

    @classmethod
    def of(cls, case: str, pools: tuple[Pool, Pool, Pool], n: int, rng: np.random.Generator) -> "Drawn":
        """Draw from the pools of training, of other and of shifted phantoms."""
        chosen = rng.permutation(len(pools[0]))[: 2 * n]
        train, held_out = pools[0].take(chosen[:n]), pools[0].take(chosen[n:])
        other = pools[1 if case == "equal" else 2]
        synthetic = other.take(rng.permutation(len(other))[:n])
        if case == "copies":
            for s in np.flatnonzero(rng.random(n) < COPIED):
                t = rng.integers(n)
                noise = rng.normal(0, 4, train.images[t].shape)
                synthetic.images[s] = (train.images[t][:, ::-1] + noise).clip(0, 255).astype(np.uint8)
                synthetic.features[s] = train.features[t]
        return cls(train, held_out, synthetic)


def image_sets(drawn: Drawn) -> dict[str, ImageSet]:
    """Return the images of a draw as image sets by role, each image a group of its own."""
    parts = {TRAIN: drawn.train, HELD_OUT: drawn.held_out, SYNTHETIC: drawn.synthetic}
    return {
        role: ImageSet(
            part.images,
            np.zeros(len(part), np.int64),
            (ALL,),
            k * len(part) + np.arange(len(part)),
            tuple(f"{role}-{i}" for i in range(len(part))),
            synthetic=role == SYNTHETIC,
        )
        for k, (role, part) in enumerate(parts.items())
    }


class Metrics:
    """Values of a draw for given images of it, and the intervals."""

    def __init__(self, drawn: Drawn, case: str):
        self.n = n = len(drawn.train)
        self.case, self.drawn = case, drawn
        x = np.concatenate([part.features for part in (drawn.train, drawn.held_out, drawn.synthetic)])
        sets, groups = image_sets(drawn), np.arange(3 * n)
        t, u, s = np.split(groups, 3)
        spaces = {
            "features": Space(FEATURES, x.astype(np.float64), groups, sets),
            "pixels": Space("pixels", np.empty((3 * n, 0)), groups, sets),
        }
        self.comparisons = {
            kind: Comparison(space, TRAIN, ALL, t, s, u, np.concatenate([t, u])) for kind, space in spaces.items()
        }
        train, held_out, synthetic = spaces["features"].features.reshape(3, n, -1)
        self.to_train, self.to_held_out = (
            euclidean_distances(synthetic, train),
            euclidean_distances(synthetic, held_out),
        )
        self.between_real = euclidean_distances(held_out, train)
        self.cells = assign_cells(train, spaces["features"].features, cell_count(n, n, n)).reshape(3, n)
        parts = (*list_metrics("distances"), *list_metrics("diversity"))
        self.metrics = list({(metric.value, metric.interval): metric for metric in parts}.values())

    def _drawn(self, metric: Metric, t: np.ndarray, u: np.ndarray, s: np.ndarray) -> Comparison:
        return self.comparisons[metric.space].draw(t, 2 * self.n + s, self.n + u)

    def values(self, t: np.ndarray, u: np.ndarray, s: np.ndarray) -> dict[str, float | None]:
        """Return the metrics of training images `t`, held-out images `u` and synthetic images `s`, but near copies."""
        found: dict[str, float | None] = {}
        if self.case != "copies":
            for metric in self.metrics:
                values = values_by_name(metric, metric.value(self._drawn(metric, t, u, s)))
                found |= {name: value.value for name, value in values.items()}
            x, y = self.drawn.train.realism, self.drawn.synthetic.realism
            found |= {name: wasserstein_distance(x[name][t], y[name][s]) for name in x}
        to_train, to_held_out = self.to_train[np.ix_(s, t)], self.to_held_out[np.ix_(s, u)]
        one_each = SamplingUnits.of(np.arange(self.n))
        found["nearest_distance_ratio"] = distance_ratio(*nearest_groups(to_train, to_held_out, one_each, one_each))
        found["membership_auc"] = membership_auc(to_train.min(axis=0), to_held_out.min(axis=0))
        cells = (part[i] for part, i in zip(self.cells, (t, u, s), strict=True))
        found["data_copying"] = data_copying(usable_cells(self.between_real[np.ix_(u, t)], to_train, *cells))
        return found

    def near_copies(self) -> tuple[float | None, Interval]:
        """Return the share of near copies and its interval."""
        copies = near_copies(self.drawn.train.images, self.drawn.synthetic.images, self.drawn.held_out.images)
        return (None, None) if copies.threshold is None else copy_share(copies.copied)

    def intervals(self, values: Mapping[str, float | None]) -> dict[str, Interval]:
        """Return the intervals of `values`, those of all images."""
        found: dict[str, Interval] = {}
        units = SamplingUnits.of(np.arange(self.n))
        groups = np.arange(self.n)
        if self.case != "copies":
            for metric in self.metrics:
                if metric.interval and values.get(metric.name) is not None:
                    c = self.comparisons[metric.space]
                    given = metric.value(c)
                    interval = metric.interval(c, values if isinstance(given, Mapping) else values[metric.name])
                    found |= interval if isinstance(interval, Mapping) else {metric.name: interval}
            x, y = self.drawn.train.realism, self.drawn.synthetic.realism
            found |= realism_intervals({name: (x[name], y[name]) for name in x}, (units, units))
        near = nearest_groups(self.to_train, self.to_held_out, units, units)
        found["nearest_distance_ratio"] = distance_ratio_interval(*near, [units] * 3)
        nearest = self.to_train.min(axis=0), self.to_held_out.min(axis=0)
        found["membership_auc"] = membership_interval(*nearest, groups, groups)
        cells = usable_cells(self.between_real, self.to_train, *self.cells)
        found["data_copying"] = data_copying_interval(cells, groups, groups)
        return found

    def bootstrap(self, replicates: int, rng: np.random.Generator) -> dict[str, Interval]:
        """Return the percentiles 2.5 and 97.5 of values of images drawn with replacement."""
        drawn = [self.values(*rng.integers(self.n, size=(3, self.n))) for _ in range(replicates)]
        found: dict[str, Interval] = {}
        for name in drawn[0]:
            values = [one[name] for one in drawn if one[name] is not None]
            found[name] = tuple(np.quantile(np.array(values, float), [0.025, 0.975]).tolist()) if values else None
        return found


def repeats(
    path: Path, case: str, pools: tuple[Pool, Pool, Pool], n: int, number: int, replicates: int
) -> Iterator[dict[str, Any]]:
    """Yield values and intervals of so many draws; those that stand in the file at `path` are only read."""
    done = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    yield from done[:number]
    everyone = np.arange(n)
    for repeat in track(range(len(done), number), f"{case}, n = {n}"):
        rng = numpy_generator(repeat, f"coverage {case} {n}")
        metrics = Metrics(Drawn.of(case, pools, n, rng), case)
        values = metrics.values(everyone, everyone, everyone)
        intervals = metrics.intervals(values)
        if case == "copies" and n <= MOST_SEARCHED:
            values["near_copies"], intervals["near_copies"] = metrics.near_copies()
        bootstrap = metrics.bootstrap(replicates, rng) if replicates else {}
        found = {"values": values, "intervals": intervals, "bootstrap": bootstrap}
        with path.open("a") as file:
            file.write(json.dumps(found) + "\n")
        yield found


def population(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return both kernel distances between whole pools, block by block."""

    def polynomial(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return polynomial_kernel(a @ b.T, a.shape[1])

    def gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(SCALE * np.exp((a @ b.T - 1) / SIGMA**2))

    x, y = x.astype(np.float64), y.astype(np.float64)
    u, v = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
    return {
        "kernel_distance": _discrepancy(x, y, polynomial),
        "cmmd": _discrepancy(u, v, gaussian),
    }


def _discrepancy(x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    def total(a: np.ndarray, b: np.ndarray) -> float:
        return float(sum(kernel(part, b).sum() for part in np.array_split(a, 16)))

    def within(a: np.ndarray) -> float:
        own = sum(float(kernel(row[None], row[None])[0, 0]) for row in a)
        return (total(a, a) - own) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * total(x, y) / (len(x) * len(y))


def summary(case: str, n: int, found: list[dict[str, Any]], targets: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a line of the table for every metric with an interval."""
    rows = []
    for metric in dict.fromkeys(metric.name for metric in list_metrics()):
        having = [one for one in found if one["intervals"].get(metric)]
        if len(having) < 2:
            continue
        values = np.array([one["values"][metric] for one in having])
        ends = np.array([one["intervals"][metric] for one in having])
        target = targets.get(metric, float(values.mean()))
        plain = np.array([one["bootstrap"][metric] for one in having if one["bootstrap"].get(metric)])
        covered = _share(plain, target) if len(plain) else None
        rows.append({
            "metric": metric,
            "case": case,
            "n": n,
            "repeats": len(having),
            "target": target,
            "coverage": _share(ends, target),
            "width": float((ends[:, 1] - ends[:, 0]).mean()),
            "ideal": float(2 * 1.96 * values.std(ddof=1)),
            "bootstrap_coverage": covered,
            "bootstrap_repeats": len(plain),
            "bootstrap": "" if covered is None else f"{covered:.1%}",
        })  # fmt: skip
    return rows


def _share(ends: np.ndarray, target: float) -> float:
    # What is a rounding error apart is no miss: an interval may end where the target lies, at 0 or 1.
    return float(((ends[:, 0] <= target + 1e-12) & (target <= ends[:, 1] + 1e-12)).mean())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 400], help="images a side")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--bootstrap", type=int, default=100, help="replicates of the plain bootstrap")
    parser.add_argument("--runs", type=Path, default=Path("runs/interval-coverage"))
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    real = pool(arguments.runs / "real-64", 2 * POOL, 64, 1, FEATURES)
    shifted = pool(arguments.runs / "synthetic-64", POOL, 64, 2, FEATURES, settings=SHIFTED)
    pools = real.take(np.arange(POOL)), real.take(np.arange(POOL, 2 * POOL)), shifted
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for case in arguments.cases:
        targets = {} if case == "copies" else population(pools[0].features, pools[1 if case == "equal" else 2].features)
        for n in arguments.sizes:
            path = arguments.runs / f"{case}-{n}-{arguments.bootstrap}.jsonl"
            found = list(repeats(path, case, pools, n, arguments.repeats, arguments.bootstrap))
            for row in summary(case, n, found, targets):
                print(line(COLUMNS, row), flush=True)
                rows.append(row)
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

"""Which metric reacts to which fault? Phantoms with one fault at a time, against what phantoms without it give.

    python benchmarks/metric_faults.py --out results/2026-11-metric-faults/faults.json --figure metric_faults.png

Training, held-out and synthetic images are n phantoms each of three classes. Without a fault, the synthetic ones are
fresh phantoms of the same distribution: a perfect generator. Every fault has four strengths. What counts is z: how many
standard deviations of the values of perfect generators (other phantoms each time) the mean value of a few generators
with the fault is from theirs. Where images collapse, each is one of k, shifted by up to 3 pixels, with noise of 3 grey
levels and up to 5 % more or less gain; with k = n there is no collapse, but these variations. Copies are training
images with such a shift and such noise.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from scipy.ndimage import gaussian_filter

from bench import save
from interval_coverage import Drawn, Metrics
from pools import Pool, pool
from sonosynth.core.seeds import numpy_generator
from sonosynth.features.extract import load_features
from sonosynth.metrics.distances.frechet import frechet_distance
from sonosynth.metrics.distances.kernel import kernel_distance
from sonosynth.metrics.memorisation.membership import membership_auc
from sonosynth.metrics.memorisation.near_copies import near_copies
from sonosynth.metrics.metric import get_metric, list_metrics
from sonosynth.metrics.ultrasound.measures import ultrasound_measures
from sonosynth.metrics.ultrasound.realism import realism_values
from sonosynth.phantoms.phantom import CLASSES

FEATURES = "efficientnet-lite0"
FAULTS: dict[str, tuple[float, ...]] = {
    "none": (0,),
    "blur, px": (0.5, 0.75, 1.0, 2.0),
    "noise, grey levels": (2, 5, 10, 20),
    "share of one class": (0.5, 0.7, 0.9, 1.0),
    "collapse to k images": (200, 30, 10, 3),
    "share of copies": (0.05, 0.2, 0.5, 1.0),
}
KEY = ("fault", "strength", "metric")
Array = np.ndarray[Any, Any]


def varied(images: Array, rng: np.random.Generator, gain: float) -> Array:
    """Return each image shifted by up to 3 pixels each way, with noise of 3 grey levels and another gain."""
    made = []
    for image in images:
        down, right = rng.integers(-3, 4, 2)
        shifted = np.pad(image, 3, mode="reflect")[3 + down : 3 + down + len(image), 3 + right :][:, : image.shape[1]]
        made.append(shifted * (1 + rng.uniform(-gain, gain)) + rng.normal(0, 3, image.shape))
    return np.array(made).clip(0, 255).astype(np.uint8)


def made_from(images: Array, labels: Array) -> Pool:
    """Return a pool of new images."""
    return Pool(images, labels, load_features(FEATURES)(images), realism_values(ultrasound_measures(images)))


def faulty(fault: str, strength: float, drawn: Drawn, spare: Pool, rng: np.random.Generator) -> Pool:
    """Return synthetic images with a fault; `spare` are fresh phantoms that are not among those drawn."""
    fair, n = drawn.synthetic, len(drawn.synthetic)
    if fault == "none":
        return fair
    if fault.startswith("blur"):
        blurred = gaussian_filter(fair.images.astype(np.float32), (0, strength, strength))
        return made_from(blurred.round().astype(np.uint8), fair.labels)
    if fault.startswith("noise"):
        noisy = fair.images + rng.normal(0, strength, fair.images.shape)
        return made_from(noisy.clip(0, 255).astype(np.uint8), fair.labels)
    if fault.startswith("share of one class"):
        both = joined(fair, spare)
        first = np.flatnonzero(both.labels == 0)[: round(strength * n)]
        return both.take(np.concatenate([first, np.flatnonzero(both.labels != 0)[: n - len(first)]]))
    if fault.startswith("collapse"):
        modes = rng.permutation(n)[: int(strength)]
        chosen = modes[np.arange(n) % len(modes)]
        return made_from(varied(fair.images[chosen], rng, 0.05), fair.labels[chosen])
    copied = round(strength * n)
    sources = rng.permutation(n)[:copied]
    copies = made_from(varied(drawn.train.images[sources], rng, 0.0), drawn.train.labels[sources])
    return joined(fair.take(rng.permutation(n)[copied:]), copies)


def joined(a: Pool, b: Pool) -> Pool:
    """Return both, one after the other."""
    realism = {name: np.concatenate([a.realism[name], b.realism[name]]) for name in a.realism}
    images, labels, features = (
        np.concatenate([getattr(p, k) for p in (a, b)]) for k in ("images", "labels", "features")
    )
    return Pool(images, labels, features, realism)


def values(drawn: Drawn, only: Sequence[str] = ()) -> dict[str, float]:
    """Return every metric that has a value, against the training images unless its name says otherwise.

    With `only`, names of metrics that compare features or pixels, no others.
    """
    everyone = np.arange(len(drawn.train))
    metrics = Metrics(drawn, "")
    if only:
        metrics.metrics = [metric for metric in metrics.metrics if metric.name in only]
        found = {name: value for name, value in metrics.values(everyone, everyone, everyone).items() if name in only}
        return {name: value for name, value in found.items() if value is not None}
    found = metrics.values(everyone, everyone, everyone)
    x, y = drawn.held_out.features, drawn.synthetic.features
    found["frechet_distance to held-out"] = frechet_distance(x, y)
    found["kernel_distance to held-out"] = kernel_distance(x, y)
    copies = near_copies(drawn.train.images, drawn.synthetic.images, drawn.held_out.images)
    assert copies.from_held_out is not None and copies.threshold is not None
    found["near_copies"] = float(copies.copied.mean())
    members, others = 1 - copies.from_training.similarity, 1 - copies.from_held_out.similarity
    found["membership_auc, pixels"] = membership_auc(members, others)
    return {name: value for name, value in found.items() if value is not None}


def kept(path: Path, make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what stands in the file at `path`, made and written if there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    found: dict[str, float] = json.loads(path.read_text())
    return found


def measured(
    everything: Pool, n: int, perfect: int, draws: int, runs: Path, only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return a row for each fault, strength and metric."""

    def draw(repeat: int) -> tuple[Drawn, Pool]:
        chosen = numpy_generator(repeat, "faults").permutation(len(everything))
        a, b, c = (everything.take(part) for part in chosen[: 3 * n].reshape(3, n))
        return Drawn(a, b, c), everything.take(chosen[3 * n :])

    def with_fault(fault: str, strength: float, repeat: int) -> dict[str, float]:
        drawn, spare = draw(repeat)
        made = faulty(fault, strength, drawn, spare, numpy_generator(repeat, f"{fault} {strength}"))
        return values(Drawn(drawn.train, drawn.held_out, made), only)

    def found(fault: str, strength: float, repeats: range) -> list[dict[str, float]]:
        names = [f"{fault.split(',')[0].replace(' ', '-')}-{strength}-{n}-{repeat}.json" for repeat in repeats]
        return [
            kept(runs / name, lambda repeat=repeat: with_fault(fault, strength, repeat))  # type: ignore[misc]
            for name, repeat in zip(names, repeats, strict=True)
        ]

    fair = found("none", 0, range(perfect))
    rows = []
    for fault, strengths in track(FAULTS.items(), "faults"):
        for strength in strengths:
            having = found(fault, strength, range(perfect, perfect + draws))
            for metric in having[0]:
                usual = np.array([one[metric] for one in fair])
                value = float(np.mean([one[metric] for one in having]))
                # A share moves by whole images, also where no perfect generator ever had one.
                spread = max(float(usual.std(ddof=1)), 1 / n if metric == "near_copies" else 0.0)
                rows.append({
                    "fault": fault,
                    "strength": strength,
                    "metric": metric,
                    "value": value,
                    "perfect": float(usual.mean()),
                    "spread": spread,
                    "z": (value - float(usual.mean())) / spread,
                    "n": n,
                    "draws": draws,
                    "perfect_draws": perfect,
                })  # fmt: skip
    return rows


def ordered(metrics: set[str]) -> list[str]:
    """Return the metrics in the order of the scorecard."""
    order = [metric.name for metric in list_metrics()]
    return sorted(metrics, key=lambda name: (order.index(name.split(" ")[0].rstrip(",")), len(name)))


def direction(metric: str) -> str:
    """Return which way `metric` is better."""
    return get_metric(metric.split(" ")[0].rstrip(",")).direction


def label(metric: str) -> str:
    """Return `metric` as people write it, with an arrow for the way that is better."""
    marks = {"smaller": "\N{DOWNWARDS ARROW}", "larger": "\N{UPWARDS ARROW}", "target": "="}
    words = metric.replace("_", " ").replace("frechet", "Fréchet").replace("auc", "AUC").replace("nakagami", "Nakagami")
    return f"{words.replace('data copying', 'data copying, C_T')} {marks[direction(metric)]}"


def draw_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw z as a heat map: orange where a metric looks worse than a perfect generator does, blue where better."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import SymLogNorm

    metrics = ordered({row["metric"] for row in rows})
    z = {(row["metric"], row["fault"], row["strength"]): row["z"] for row in rows}
    figure, axes = plt.subplots(figsize=(8.2, 6.4), layout="constrained")
    norm, colours = SymLogNorm(2, vmin=-60, vmax=60), plt.get_cmap("PuOr_r")
    x = 0.0
    for fault, strengths in FAULTS.items():
        axes.text(x + len(strengths) / 2, -0.6, fault.replace(" to ", "\nto "), ha="center", va="center", fontsize=8)
        for strength in strengths:
            for m, metric in enumerate(metrics):
                if (metric, fault, strength) not in z:
                    continue
                here = z[metric, fault, strength]
                worse = {"smaller": here, "larger": -here, "target": abs(here)}[direction(metric)]
                axes.add_patch(plt.Rectangle((x, m), 1, 1, color=colours(norm(worse)), lw=0))
                if abs(here) >= 2:
                    text = f"{here:.0f}".replace("-", "\N{MINUS SIGN}")
                    colour = "w" if abs(worse) > 14 else "k"
                    axes.text(x + 0.5, m + 0.52, text, ha="center", va="center", fontsize=6.8, color=colour)
            if fault != "none":
                axes.text(x + 0.5, len(metrics) + 0.6, f"{strength:g}", ha="center", va="center", fontsize=7)
            x += 1
        x += 0.35
    axes.set_yticks(np.arange(len(metrics)) + 0.5, [label(metric) for metric in metrics], fontsize=7.5)
    axes.set_xlim(0, x - 0.35)
    axes.set_ylim(len(metrics) + 1.1, -1.1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(plt.cm.ScalarMappable(norm, colours), ax=axes, shrink=0.45, aspect=18, pad=0.01)
    bar.set_ticks([-50, -10, -2, 0, 2, 10, 50], labels=["50", "10", "2 better", "0", "2 worse", "10", "50"])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7)
    bar.set_label("standard deviations of perfect generators", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-n", type=int, default=200, help="training, held-out and synthetic images each")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--perfect", type=int, default=30, help="perfect generators that z rests on")
    parser.add_argument("--draws", type=int, default=3, help="generators with a fault that a value is the mean of")
    measured_alone = [metric.name for metric in (*list_metrics("distances"), *list_metrics("diversity"))]
    parser.add_argument(
        "--metrics", nargs="+", default=(), choices=measured_alone, help="only these; others stay as they are in --out"
    )
    parser.add_argument("--pool", type=int, default=1500, help="phantoms to draw from")
    parser.add_argument("--runs", type=Path, default=Path("runs/metric-faults"))
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--figure", type=Path, help="a PNG file")
    arguments = parser.parse_args()
    folder = arguments.runs.parent / "scorecard" / f"real-{arguments.size}"
    phantoms = pool(folder, arguments.pool, arguments.size, 11, FEATURES, CLASSES)
    folder = arguments.runs / "-".join([str(arguments.size), *arguments.metrics])
    rows = measured(phantoms, arguments.n, arguments.perfect, arguments.draws, folder, arguments.metrics)
    metrics = ordered({row["metric"] for row in rows})
    for fault, strengths in FAULTS.items():
        print(f"{'z; ' + fault:<34}" + "".join(f"{strength:>8g}" for strength in strengths))
        for metric in metrics:
            z = [row["z"] for row in rows if row["fault"] == fault and row["metric"] == metric]
            print(f"  {metric:<32}" + "".join(f"{value:>8.1f}" for value in z))
    if arguments.out:
        save(arguments.out, rows, KEY)
    if arguments.figure:
        drawn = json.loads(arguments.out.read_text())["rows"] if arguments.out else rows
        draw_figure(drawn, arguments.figure)


if __name__ == "__main__":
    main()

"""Does every generator family learn? Distances to images it never saw, over a run, in two feature spaces.

    python benchmarks/generators.py SOURCE --out results/2026-11-generators-busi

One conditional generator a family on one subset of SOURCE; nothing is chosen with the held-out images. Prints one
table and writes curves.csv, discriminator.csv, curves.png, grid.png and provenance.json to --out. Runs live in --runs;
the same command goes on where it was. `--width published` and `--kimg 200` are for a GPU.
"""

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sonosynth.core.device import default_device, provenance
from sonosynth.core.files import atomic_file, read_json, write_json
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.data.split import nested_subsets, split_indices
from sonosynth.features.extract import embed
from sonosynth.gan.checkpoint import LOG, STATE, load_state, run_config
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import generate, image_grid
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.trainer import Trainer
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.kernel import kernel_distance, kernel_interval, polynomial_kernel, snapshot_distance
from sonosynth.metrics.intervals.subsampling import SamplingUnits, split_half
from sonosynth.study.study_file import expand

FAMILIES = ("stylegan2", "stylegan2-ada", "stylegan2-diffaug", "fastgan", "projected", "r3gan")
NARROW: dict[str, dict[str, Any]] = {
    "stylegan2": {"channel_base": 2048},
    "fastgan": {"ngf": 16, "ndf": 16},
    "projected": {"ngf": 32},
    "r3gan": {"channel_base": 2048, "channel_max": 128, "blocks": 1},
}
FEATURES = ("inception", "efficientnet-lite0")
SHOWN = 4  # images of each class and family in the grid
COLUMNS = ("gan", "kimg", "features", "reference", "kernel_distance", "low", "high", "n_real", "n_synthetic")
JUDGED = ("gan", "kimg", "logit_train", "logit_held_out", "r_t", "augment_p", "seconds")


def recipe_for(name: str, width: str, kimg: float, settings: dict[str, Any]) -> Recipe:
    """Return the recipe of `name`, written out for the whole run so that a run can be continued in steps."""
    narrow = NARROW.get(make_recipe(name).family, {}) if width == "narrow" else {}
    return make_recipe(name, **(narrow | settings)).resolved(kimg)


def measure(
    images: ImageSet, train_set: ImageSet, unseen: ImageSet, spaces: Sequence[str], cache: Path
) -> list[dict[str, Any]]:
    """Return the kernel distance of `images` to both sets of real images, in every feature space."""
    rows = []
    for name in spaces:
        made = embed(images, name)
        for reference, real in (("train", train_set), ("held-out", unseen)):
            known = embed(real, name, cache)
            c = Comparison.of_features(known, made, real.groups, images.groups)
            kernel = polynomial_kernel(c.space.gram, known.shape[1])
            value = kernel_distance(known, made)
            low, high = kernel_interval(c, kernel, value) or (None, None)
            rows.append({
                "features": name,
                "reference": reference,
                "kernel_distance": value,
                "low": low,
                "high": high,
                "n_real": len(real),
                "n_synthetic": len(images),
            })  # fmt: skip
    return rows


@torch.no_grad()
def judged(trainer: Trainer, images: ImageSet, batch: int = 20) -> float:
    """Return the mean output of the discriminator on `images`, in batches of mixed classes, without augmentation."""
    order = np.random.default_rng(0).permutation(len(images))[: len(images) // batch * batch]
    values = []
    for index in np.split(order, len(order) // batch):
        x = torch.from_numpy(images.images[index]).to(trainer.device)[:, None].float() / 127.5 - 1
        labels = torch.from_numpy(images.labels[index]).to(trainer.device)
        values.append(float(trainer.objective.discriminate(x, labels).mean()))
    return float(np.mean(values))


def follow(
    recipe: Recipe,
    train_set: ImageSet,
    unseen: ImageSet,
    run: Path,
    points: Sequence[float],
    n: int,
    spaces: Sequence[str],
) -> list[Any]:
    """Train to every one of `points` (kimg) and measure there; what is measured is kept beside the run."""
    kept = run.with_suffix(".json")
    rows: list[Any] = read_json(kept) if kept.is_file() else []
    for kimg in points[len(rows) :]:
        train_run(
            train_set, recipe, run, kimg=kimg, conditional=True, distance=snapshot_distance(train_set), progress=_tell
        )
        trainer = Trainer(train_set, run_config(train_set, recipe, conditional=True, seed=0), default_device())
        trainer.load_state_dict(load_state(run / STATE, trainer.device))
        rows.append({
            "kimg": kimg,
            **logged(run, points[len(rows) - 1] if rows else 0.0),
            "logit_train": judged(trainer, train_set),
            "logit_held_out": judged(trainer, unseen),
            "distances": measure(generate(run, n, seed=1), train_set, unseen, spaces, run.parent / "features"),
        })  # fmt: skip
        write_json(kept, rows)
    return rows


def logged(run: Path, since: float) -> dict[str, Any]:
    """Return what the log says since `since` kimg: seconds in all, p at the end, and the mean sign r_t."""
    lines = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    starts = [0.0, *(line["kimg"] for line in lines[:-1])]
    weights = [
        line["kimg"] - start if start >= since - 1e-6 else 0.0 for line, start in zip(lines, starts, strict=True)
    ]
    r_t = float(np.average([line["sign_real"] for line in lines], weights=weights))
    return {"seconds": lines[-1]["seconds"], "augment_p": lines[-1]["augment_p"], "r_t": r_t}


def _tell(done: float, total: float, latest: Any) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:.2f} of {total:g} kimg, {latest.get('img_per_s', 0):.1f} img/s ", end="", file=sys.stderr)


def baselines(train_set: ImageSet, unseen: ImageSet, spaces: Sequence[str], cache: Path) -> dict[str, float]:
    """Return the kernel distance between disjoint halves of the real images, a mean over ten, a feature space."""
    real = ImageSet.concatenate([train_set, unseen])
    found = {}
    for name in spaces:
        features = embed(real, name, cache)
        rng = np.random.default_rng(0)
        pairs = [split_half(SamplingUnits.of(real.groups, real.labels), rng) for _ in range(10)]
        found[name] = float(np.mean([kernel_distance(features[a], features[b]) for a, b in pairs]))
    return found


def draw(path: Path, results: dict[str, list[Any]], baseline: dict[str, float]) -> None:
    """Draw held-out and training distances over the run, a panel a feature space, and discriminator outputs below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for axis, features in zip(axes[0], baseline, strict=False):
        for i, (gan, rows) in enumerate(results.items()):
            for reference, style in (("held-out", "-"), ("train", ":")):
                values = [
                    next(d["kernel_distance"] for d in row["distances"] if (d["features"], d["reference"]) == key)
                    for key in [(features, reference)]
                    for row in rows
                ]
                label = gan if reference == "held-out" else None
                axis.plot([row["kimg"] for row in rows], values, style, color=f"C{i}", marker="o", ms=3, label=label)
        title = f"{features} (two halves of the real images: {baseline[features]:.4f})"
        axis.set(title=title, xlabel="kimg", ylabel="kernel distance", ylim=(0, None))
        axis.axhline(baseline[features], color="grey", lw=1)
    axes[0, 0].legend(fontsize=8, title="solid: held-out, dotted: training images", title_fontsize=8)
    for i, (gan, rows) in enumerate(results.items()):
        kimg = [row["kimg"] for row in rows]
        gap = [row["logit_train"] - row["logit_held_out"] for row in rows]
        axes[1, 0].plot(kimg, gap, color=f"C{i}", marker="o", ms=3, label=gan)
        axes[1, 1].plot(kimg, [row["r_t"] for row in rows], color=f"C{i}", marker="o", ms=3, label=f"r_t {gan}")
        if any(row["augment_p"] is not None for row in rows):
            axes[1, 1].plot(kimg, [row["augment_p"] for row in rows], "--", color=f"C{i}", label=f"p {gan}")
    axes[1, 0].set(title="discriminator: training minus held-out images", xlabel="kimg", ylabel="mean output")
    axes[1, 1].set(title="sign of the output on training images, and ADA's p", xlabel="kimg")
    axes[1, 1].legend(fontsize=8)
    with atomic_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
    plt.close(figure)


def draw_grid(path: Path, rows: dict[str, np.ndarray], classes: Sequence[str]) -> None:
    """Draw rows of uint8 images ``[classes · k, H, W]``, ordered by class, with their names."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = next(iter(rows.values())).shape[1]
    each = len(next(iter(rows.values()))) // len(classes)
    figure, axes = plt.subplots(len(rows), 1, figsize=(11, 0.92 * len(rows) + 0.2))
    for axis, (name, images) in zip(axes, rows.items(), strict=True):
        axis.imshow(image_grid(images, len(images)), cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for c in range(1, len(classes)):
            axis.axvline(c * each * size - 0.5, color="white", lw=3)
    for c, label in enumerate(classes):
        axes[0].text((c + 0.5) * each * size, -6, label, ha="center", va="bottom", fontsize=10)
    figure.subplots_adjust(left=0.13, right=0.995, top=0.94, bottom=0.01, hspace=0.06)
    with atomic_file(path) as beside:
        figure.savefig(beside, format="png", dpi=110)
    plt.close(figure)


def write_tables(out: Path, results: dict[str, list[Any]]) -> None:
    """Write curves.csv and discriminator.csv."""
    curves = [
        {"gan": gan, "kimg": row["kimg"]} | distance
        for gan, rows in results.items()
        for row in rows
        for distance in row["distances"]
    ]
    outputs = [{"gan": gan} | row for gan, rows in results.items() for row in rows]
    for name, columns, rows in (("curves.csv", COLUMNS, curves), ("discriminator.csv", JUDGED, outputs)):
        with atomic_file(out / name) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="images; environment variables are expanded")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/generators"))
    parser.add_argument("--gans", nargs="+", default=list(FAMILIES))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=NUMBER", help="settings of every recipe")
    parser.add_argument("--width", choices=("narrow", "published"), default="narrow")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--kimg", type=float, default=10.0)
    parser.add_argument("--points", type=int, default=10, help="measurements over a run")
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=list(FEATURES))
    parser.add_argument("--images", type=int, default=200, help="synthetic images a measurement")
    arguments = parser.parse_args()
    settings = {key: float(value) for key, value in (pair.split("=") for pair in arguments.set)}
    data, _ = prepare_images(read_source(expand(arguments.source)), arguments.size)
    pool, test = split_indices(data, 0.25, seed=0)
    train_set = data.subset(nested_subsets(data, pool, [arguments.n], 0, seed=0)[arguments.n])
    unseen = data.subset(test)
    points = [arguments.kimg * (k + 1) / arguments.points for k in range(arguments.points)]
    cache = arguments.runs / "features"
    baseline = baselines(train_set, unseen, arguments.features, cache)
    results: dict[str, list[Any]] = {}
    real = [train_set.of_class(label).images[:SHOWN] for label in train_set.classes]
    shown = {"real, training": np.concatenate(real)}
    for name in arguments.gans:
        recipe = recipe_for(name, arguments.width, arguments.kimg, settings)
        run = arguments.runs / name
        rows = results[name] = follow(recipe, train_set, unseen, run, points, arguments.images, arguments.features)
        made = [generate(run, SHOWN, class_name=label, seed=1).images for label in train_set.classes]
        shown[name] = np.concatenate(made)
        write_tables(arguments.out, results)
        draw(arguments.out / "curves.png", results, baseline)
        counts = recipe.parameter_counts(arguments.size, len(train_set.classes))
        at_end = {(d["features"], d["reference"]): d["kernel_distance"] for d in rows[-1]["distances"]}
        print(
            f"{name:<18} {rows[-1]['seconds']:7.0f} s  {counts[0] / 1e6:6.2f} + {counts[1] / 1e6:6.2f} M parameters  "
            + "  ".join(f"{name} {reference} {value:.3f}" for (name, reference), value in at_end.items()),
            flush=True,
        )
    draw_grid(arguments.out / "grid.png", shown, train_set.classes)
    write_json(
        arguments.out / "provenance.json",
        provenance() | {"command": shlex.join(["python", *sys.argv]), "real_baseline": baseline, "n": arguments.n},
    )


if __name__ == "__main__":
    main()

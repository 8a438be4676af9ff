"""Does the fast mode train the same generator? Compiled bf16 beside fp32 without compilation, from the same seeds.

    python benchmarks/numerics.py SOURCE --out results/2026-11-speed/numerics.json

A run of `--steps` for every seed and mode. Each line: mean losses of the last half, mean and standard deviation of the
pixels of synthetic images, and their kernel distance to held-out images, with its 95 % interval. What the modes differ
in should be no more than what seeds differ in.
"""

import argparse
import statistics
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from bench import line, save
from sonosynth.core.device import bfloat16, default_device
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.data.split import nested_subsets, split_indices
from sonosynth.features.extract import embed
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.sample import class_sequence, synthesise
from sonosynth.gan.training.trainer import Trainer
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.distances.kernel import kernel_distance, kernel_interval, polynomial_kernel
from sonosynth.study.study_file import expand

KEY = ("gan", "mode", "seed", "size", "steps")
IMAGES = 200
COLUMNS = (
    ("gan", "{:<18}"),
    ("mode", "{:<9}"),
    ("seed", "{:>4}"),
    ("loss_d", "{:>7.3f}"),
    ("loss_g", "{:>7.3f}"),
    ("pixel_mean", "{:>10.2f}"),
    ("pixel_std", "{:>9.2f}"),
    ("kernel_distance", "{:>15.4f}"),
    ("low", "{:>7.4f}"),
    ("high", "{:>7.4f}"),
)


def measure(
    name: str,
    settings: dict[str, Any],
    mode: str,
    seed: int,
    steps: int,
    train_set: ImageSet,
    unseen: ImageSet,
    known: np.ndarray,
) -> dict[str, Any]:
    """Return one line of the table; `known` are the features of `unseen`."""
    recipe = make_recipe(name, **settings).resolved(100.0)
    trainer = Trainer(train_set, run_config(train_set, recipe, conditional=True, seed=seed), default_device())
    if mode == "compiled":
        trainer.compile()
    losses: dict[str, list[float]] = {"loss_d": [], "loss_g": []}
    with bfloat16(False) if mode == "fp32" else nullcontext():
        for step in range(steps):
            statistics_ = trainer.step()
            if step >= steps // 2:
                for key, values in losses.items():
                    values.append(float(statistics_[key]))
        labels = class_sequence(trainer.config.class_counts, IMAGES)
        made = synthesise(trainer.ema, labels, conditional=True, seed=1)
    found = embed(made)
    c = Comparison.of_features(known, found, unseen.groups)
    kernel = polynomial_kernel(c.space.gram, known.shape[1])
    value = kernel_distance(known, found)
    low, high = kernel_interval(c, kernel, value) or (float("nan"), float("nan"))
    return {
        "gan": name,
        "mode": mode,
        "seed": seed,
        "size": train_set.size[0],
        "steps": steps,
        **{key: statistics.mean(values) for key, values in losses.items()},
        "pixel_mean": float(made.mean()),
        "pixel_std": float(made.std()),
        "kernel_distance": value,
        "low": low,
        "high": high,
        "n_real": len(unseen),
        "n_synthetic": len(made),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="images; environment variables are expanded")
    parser.add_argument("--gan", default="stylegan2")
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=["compiled", "fp32"], choices=("compiled", "eager", "fp32"))
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    data, _ = prepare_images(read_source(expand(arguments.source)), arguments.size)
    pool, test = split_indices(data, 0.25, seed=0)
    train_set, unseen = data.subset(nested_subsets(data, pool, [100], 0, seed=0)[100]), data.subset(test)
    settings = {"channel_base": arguments.channel_base} if arguments.gan.startswith("stylegan2") else {}
    known, rows = embed(unseen), []
    print(line(COLUMNS))
    for seed in arguments.seeds:
        for mode in arguments.modes:
            rows.append(measure(arguments.gan, settings, mode, seed, arguments.steps, train_set, unseen, known))
            print(line(COLUMNS, rows[-1]), flush=True)
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

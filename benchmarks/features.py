"""How fast are images embedded, and what would fewer bits cost? Images a second of every feature network.

    python benchmarks/features.py SOURCE --out results/2026-11-speed/features.json

Features are computed in fp32. Beside them: the same network in bf16, and by how much that would move the Fréchet and
the kernel distance between two halves of the images, one of them with added noise; the most over several halvings. A
faster mode is worth having where that is below 0.1 %.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import line, save
from sonosynth.core.device import default_device, median_seconds
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.features.extract import load_features
from sonosynth.features.registry import feature_network, list_features
from sonosynth.features.weights import PackagedWeights
from sonosynth.metrics.distances.frechet import frechet_distance
from sonosynth.metrics.distances.kernel import kernel_distance
from sonosynth.study.study_file import expand

KEY = ("features", "size")
AT_HAND = [name for name in list_features() if isinstance(feature_network(name).weights, PackagedWeights)]
HALVINGS = 5
COLUMNS = (
    ("features", "{:<19}"),
    ("size", "{:>5}"),
    ("n", "{:>5}"),
    ("img_per_s", "{:>10.1f}"),
    ("img_per_s_bf16", "{:>15.1f}"),
    ("frechet_moves", "{:>14.3%}"),
    ("kernel_moves", "{:>13.3%}"),
)


def measure(name: str, images: np.ndarray, repeats: int) -> dict[str, Any]:
    """Return one line of the table for uint8 `images` ``[N, H, W]``."""
    device = default_device()
    extractor = load_features(name)
    noise = np.random.default_rng(0).normal(0, 12, images.shape)
    changed = (images + noise).clip(0, 255).astype(np.uint8)

    def reduced(pixels: np.ndarray) -> np.ndarray:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return extractor(pixels)

    took, took_reduced = (
        median_seconds(partial(f, images[:64]), device, repeats, warm_up=1) for f in (extractor, reduced)
    )
    features = {"fp32": [extractor(x) for x in (images, changed)], "bf16": [reduced(x) for x in (images, changed)]}
    rng = np.random.default_rng(1)
    moves: dict[str, list[float]] = {"frechet": [], "kernel": []}
    for _ in range(HALVINGS):
        first, second = np.array_split(rng.permutation(len(images)), 2)
        for key, distance in (("frechet", frechet_distance), ("kernel", kernel_distance)):
            exact, fewer = (
                distance(*(x[i] for x, i in zip(f, (first, second), strict=True))) for f in features.values()
            )
            moves[key].append(abs(fewer / exact - 1))
    return {
        "features": name,
        "size": images.shape[1],
        "n": len(images),
        "img_per_s": 64 / took,
        "img_per_s_bf16": 64 / took_reduced,
        "frechet_moves": max(moves["frechet"]),
        "kernel_moves": max(moves["kernel"]),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="images; environment variables are expanded")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("-n", type=int, default=400, help="images, a random choice")
    parser.add_argument("--repeats", type=int, default=5, help="the median counts")
    parser.add_argument("--features", nargs="+", choices=list_features(), default=AT_HAND)
    parser.add_argument("--out", type=Path, help="a JSON file; lines of an earlier call with other cases stay in it")
    arguments = parser.parse_args()
    data, _ = prepare_images(read_source(expand(arguments.source)), arguments.size)
    chosen = np.random.default_rng(0).permutation(len(data))[: arguments.n]
    rows = []
    print(line(COLUMNS))
    for name in arguments.features:
        rows.append(measure(name, data.images[chosen], arguments.repeats))
        print(line(COLUMNS, rows[-1]), flush=True)
        if arguments.out:
            save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

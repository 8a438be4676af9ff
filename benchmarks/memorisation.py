r"""Are planted copies of training images found at their rate, and strangers left alone? The share, AUC, C_T and ratio.

    python benchmarks/memorisation.py phantoms '$SONOSYNTH_DATA/Dataset_BUSI_with_GT' \
        --out results/2026-11-memorisation/planted.json

Images that are new to the training set (other phantoms, other groups of real images) stand for those of a generator
that remembers nothing. Some of them are replaced by training images, changed in one way.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from bench import line, save
from planting import flip, gain, jpeg
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.groups import with_groups
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.features.extract import embed
from sonosynth.metrics.comparison import Space, comparisons
from sonosynth.metrics.intervals.subsampling import SamplingUnits, sample_groups
from sonosynth.metrics.memorisation.near_copies import search
from sonosynth.metrics.metric import list_metrics
from sonosynth.metrics.scorecard import measure as measure_metrics
from sonosynth.metrics.scores import Score
from sonosynth.phantoms.phantom import phantom
from sonosynth.study.study_file import expand

Array = np.ndarray[Any, Any]
COLUMNS = (
    ("source", "{:<22}"),
    ("size", "{:>5}"),
    ("planted", "{:<8}"),
    ("rate", "{:>5.0%}"),
    ("found", "{:>6.1%}"),
    ("low", "{:>6.1%}"),
    ("high", "{:>6.1%}"),
    ("real_baseline", "{:>6.1%}"),
    ("ratio", "{:<17}"),
    ("membership_auc", "{:<17}"),
    ("auc_of_pixels", "{:<17}"),
    ("c_t", "{:<17}"),
    ("seconds", "{:>7.1f}"),
)
KEY = ("source", "size", "planted", "rate", "features", "seed", "n_train", "n_held_out", "n_synthetic")
RATES = (0.01, 0.05, 0.2)
BUSI_GROUPS = Path("results/2026-11-busi-audit/groups.csv")


def shift(grey: Array, rng: np.random.Generator) -> Array:
    """Move by up to a tenth of both sides; the border is repeated."""
    reach = len(grey) // 10
    down, right = rng.integers(0, 2 * reach + 1, 2)
    return np.pad(grey, reach, mode="edge")[down : down + grey.shape[0], right : right + grey.shape[1]]


def noise(grey: Array, rng: np.random.Generator) -> Array:
    """Add Gaussian noise of 8 grey levels."""
    return np.clip(np.rint(grey + rng.normal(0, 8, grey.shape)), 0, 255).astype(np.uint8)


def blur(grey: Array, rng: np.random.Generator) -> Array:
    """Blur with a width of a hundredth of the side."""
    return np.asarray(gaussian_filter(grey, len(grey) / 100))


CHANGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "copy": lambda grey, rng: grey,
    "flip": flip,
    "shift": shift,
    "noise": noise,
    "gain": gain,
    "jpeg": jpeg,
    "blur": blur,
    "all": lambda grey, rng: noise(gain(shift(flip(grey, rng), rng), rng), rng),
}


def load(source: str, groups: Path, size: int, numbers: list[int], seed: int) -> list[ImageSet]:
    """Return training, held-out and further images, of other groups each."""
    if source == "phantoms":
        return [phantom(n // 3, size, seed=3 * seed + k) for k, n in enumerate(numbers)]
    data, _ = prepare_images(with_groups(read_source(expand(source)), groups, drop_conflicts=True)[0], size)
    left, parts = np.arange(len(data)), []
    for n in numbers:
        units = SamplingUnits.of(data.groups[left])
        chosen = left[sample_groups(units, n / len(left), numpy_generator(seed, "part", n))]
        parts.append(data.subset(chosen))
        left = np.setdiff1d(left, chosen)
    return parts


def shown(row: Score) -> str:
    if row.value is None:
        return "-"
    low, high = (float("nan") if end is None else end for end in (row.low, row.high))
    return f"{row.value:.2f} ({low:.2f} {high:.2f})"


def measure(
    sets: list[ImageSet], features: list[Array], synthetic: Array, made: Array, planted: str, rate: float, seed: int
) -> dict[str, Any]:
    """Return a line of the table; `made` are the features of `synthetic`."""
    train, held_out, fresh = sets
    start = time.process_time()
    given = {"train": train, "held-out": held_out, "synthetic": replace(fresh, images=synthetic)}
    groups = ImageSet.concatenate(given.values()).groups
    pixels = Space("pixels", np.empty((len(groups), 0)), groups, given)
    network = Space("features", np.concatenate([*features[:2], made]).astype(np.float64), groups, given)

    def rows(space: Space) -> dict[str, Score]:
        kind = "pixels" if space is pixels else "features"
        metrics = [metric for metric in list_metrics("memorisation") if metric.space == kind]
        found = [one for one in comparisons(space, (), seed) if one.reference == "train"]
        return {row.metric: row for row in measure_metrics(metrics, found)}

    by_pixels, named = rows(pixels), rows(network)
    copies, share = pixels.shared(search), by_pixels["near_copies"]
    seconds = time.process_time() - start
    return {
        "planted": planted,
        "rate": rate,
        "found": share.value,
        "low": share.low,
        "high": share.high,
        "real_baseline": share.real_baseline,
        "threshold": copies.threshold,
        "highest_stranger": float(copies.training.similarity[round(rate * len(synthetic)) :].max()),
        "lowest_copy": float(copies.training.similarity[: round(rate * len(synthetic))].min(initial=1)),
        "ratio": shown(named["nearest_distance_ratio"]),
        "membership_auc": shown(named["membership_auc"]),
        "auc_of_pixels": shown(by_pixels["membership_auc"]),
        "c_t": shown(named["data_copying"]),
        "seconds": round(seconds, 2),
        "n_train": len(train),
        "n_held_out": len(held_out),
        "n_synthetic": len(synthetic),
        "real_baselines": {name: row.real_baseline for name, row in named.items()},
    }


def table(sets: list[ImageSet], network: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a line for strangers as they are and blurred, and for every kind and rate of copies."""
    features = [embed(part, network) for part in sets]
    train, _, fresh = sets
    rng = numpy_generator(seed, "plants")
    smooth = np.stack([blur(image, rng) for image in fresh.images])
    yield measure(sets, features, fresh.images, features[2], "none", 0.0, seed)
    yield measure(sets, features, smooth, embed(smooth, network), "blurred", 0.0, seed)
    for kind, change in CHANGES.items():
        chosen = rng.permutation(len(train))[: round(max(RATES) * len(fresh))]
        copies = np.stack([change(train.images[i], rng) for i in chosen])
        of_copies = embed(copies, network)
        for rate in RATES:
            n = round(rate * len(fresh))
            synthetic = np.concatenate([copies[:n], fresh.images[n:]])
            yield measure(sets, features, synthetic, np.concatenate([of_copies[:n], features[2][n:]]), kind, rate, seed)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sources", nargs="+", help="'phantoms', or images; environment variables are expanded")
    parser.add_argument(
        "--groups", type=Path, default=Path("results/2026-11-busi-audit/groups.csv"), help="of real images"
    )
    parser.add_argument("--numbers", type=int, nargs=3, default=[150, 120, 200], help="training, held-out, synthetic")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="pixels")
    parser.add_argument("--features", default="efficientnet-lite0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.numbers[0] < max(RATES) * arguments.numbers[2]:
        parser.error("--numbers: too few training images to plant so many copies of different ones")
    rows: list[dict[str, Any]] = []
    print(line(COLUMNS))
    for source in arguments.sources:
        for size in arguments.sizes:
            sets = load(source, arguments.groups, size, arguments.numbers, arguments.seed)
            for row in table(sets, arguments.features, arguments.seed):
                row |= {"source": Path(source).name, "size": size, "features": arguments.features}
                row |= {"seed": arguments.seed}
                print(line(COLUMNS, row), flush=True)
                rows.append(row)
            if arguments.out:
                save(arguments.out, rows, KEY)


if __name__ == "__main__":
    main()

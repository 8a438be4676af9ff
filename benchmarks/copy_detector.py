"""Planted copies: how many does the copy detector of a release find, and how many the near-copies of pixels?

Copies of training images of BUS-BRA that were turned, cut, brightened, blurred or noised, and real images of other
patients, of which none should be called a copy. One half of these sets the thresholds, the other is counted.
"""

import argparse
import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.types import Array
from sonosynth.data.load import load
from sonosynth.data.split import split
from sonosynth.metrics.memorisation.near_copies import copy_share, near_copies
from sonosynth.release.copies import CopyDetector


def turned(image: Array, degrees: float) -> Array:
    """Return `image` turned around its middle, its surroundings mirrored."""
    side = len(image)
    wide = Image.fromarray(np.pad(image, side // 4, mode="reflect")).rotate(degrees, Image.Resampling.BICUBIC)
    return np.asarray(wide)[side // 4 :, side // 4 :][:side, :side]


def cut(image: Array, share: float, rng: np.random.Generator) -> Array:
    """Return a square of `image` of this share of its side, somewhere, at the size of `image`."""
    side = len(image)
    kept = round(share * side)
    top, left = rng.integers(0, side - kept + 1, 2)
    part = Image.fromarray(np.ascontiguousarray(image[top : top + kept, left : left + kept]))
    return np.asarray(part.resize((side, side), Image.Resampling.BICUBIC))


def gamma(image: Array, exponent: float) -> Array:
    """Return `image` with another gamma."""
    return np.asarray(255 * (image / 255.0) ** exponent).astype(np.uint8)


def noised(image: Array, rng: np.random.Generator) -> Array:
    """Return `image` with noise of 15 grey levels."""
    return np.asarray((image + rng.normal(0, 15, image.shape)).clip(0, 255)).astype(np.uint8)


CHANGES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "as it is": lambda x, _: x,
    "mirrored and shifted by a twelfth": lambda x, _: np.roll(x[:, ::-1], len(x) // 12, axis=1),
    "turned by 90 degrees": lambda x, _: np.rot90(x),
    "turned by 180 degrees": lambda x, _: np.rot90(x, 2),
    "turned by 10 degrees": lambda x, _: turned(x, 10),
    "turned by 25 degrees": lambda x, _: turned(x, 25),
    "cut to 90 %": lambda x, rng: cut(x, 0.9, rng),
    "cut to 75 %": lambda x, rng: cut(x, 0.75, rng),
    "cut to 60 %": lambda x, rng: cut(x, 0.6, rng),
    "gamma 0.6": lambda x, _: gamma(x, 0.6),
    "inverted": lambda x, _: 255 - x,
    "cut to 80 %, turned by 15 degrees, gamma 1.5": lambda x, rng: gamma(turned(cut(x, 0.8, rng), 15), 1.5),
    "blurred": lambda x, _: np.asarray(Image.fromarray(x).filter(ImageFilter.GaussianBlur(len(x) / 64))),
    "noise of 15 grey levels": noised,
}


def main() -> None:
    """Write one row per change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--train", type=int, default=600, help="training images")
    parser.add_argument("--copies", type=int, default=60, help="of each kind")
    parser.add_argument("--out", type=Path, default=Path("results/2026-12-copy-detector/rates.csv"))
    given = parser.parse_args()
    images = load(Path(os.environ["SONOSYNTH_DATA"]) / "bus_bra_256", given.size)
    train, rest = split(images, 0.3, 0)
    limits, others = split(rest, 0.5, 0)
    train = train.subset(np.sort(numpy_generator(0, "copy detector").permutation(len(train))[: given.train]))
    detector = CopyDetector(train.images, limits.images, train.groups)
    rng = numpy_generator(0, "planted copies")
    copied = train.images[rng.permutation(len(train))[: given.copies]]
    sets = {"real images of other patients": others.images[: 3 * given.copies]}
    sets |= {name: np.stack([change(image, rng) for image in copied]) for name, change in CHANGES.items()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["change", "size", "n", "found_by", "share", "low", "high"])
        for name, made in sets.items():
            by_pixels = near_copies(train.images, made, limits.images, train.groups).copied
            by_features = detector(made).copied
            for by, found in (
                ("pixels", by_pixels),
                ("features", by_features),
                ("either", by_pixels | by_features),
            ):
                share, (low, high) = copy_share(np.asarray(found))
                writer.writerow([name, given.size, len(made), by, f"{share:.4f}", f"{low:.4f}", f"{high:.4f}"])
                print(f"{name:46s} {by:9s} {share:.3f} ({low:.3f} to {high:.3f})", flush=True)
            file.flush()


if __name__ == "__main__":
    main()

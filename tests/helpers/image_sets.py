"""Small image sets of noise."""

import numpy as np

from sonosynth.data.imageset import ImageSet


def blobs(per_class: int, size: int = 32, classes: tuple[str, ...] = ("dark", "light"), seed: int = 0) -> ImageSet:
    """Return noise images whose mean depends on the class, so that anything can learn to tell them apart."""
    rng = np.random.default_rng(seed)
    n = per_class * len(classes)
    labels = np.arange(n) % len(classes)
    level = 60 + 120 * labels / max(1, len(classes) - 1)
    images = (rng.normal(0, 25, (n, size, size)) + level[:, None, None]).clip(0, 255).astype(np.uint8)
    return ImageSet(images, labels, classes, np.arange(n), tuple(f"image-{i}" for i in range(n)))

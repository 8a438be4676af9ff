"""Which images a row of the scorecard compares, and the draws behind its real baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sonosynth.core.seeds import numpy_generator, seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.intervals.subsampling import sample_n, split_half
from sonosynth.metrics.scores import ALL, SYNTHETIC

MIN_CLASS = 20
"""A class is scored on its own if both sets hold at least so many of its images."""
MIN_BASELINE = 20
"""No real baseline is given from fewer real images a side."""
BASELINE_DRAWS = 10
"""Halvings that a real baseline is the mean of."""

Draw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one size: real images, other real images, reference images, synthetic images."""


@dataclass(frozen=True)
class Comparison:
    """The images of one row, as indices into the images of all sets.

    Attributes:
        reference: ``train`` or ``held-out``: the real images compared with.
        class_: ``all`` or a class.
        reference_images: indices.
        synthetic_images: indices.
        real_images: indices of the training and held-out images.
        groups: the group of every image of all sets.
    """

    reference: str
    class_: str
    reference_images: np.ndarray
    synthetic_images: np.ndarray
    real_images: np.ndarray
    groups: np.ndarray

    def of(self, kept: np.ndarray) -> "Comparison":
        """Return the comparison of those images alone that are `kept`, bool, of all sets."""
        parts = {name: getattr(self, name) for name in ("reference_images", "synthetic_images", "real_images")}
        return replace(self, **{name: images[kept[images]] for name, images in parts.items()})

    def seed(self, seed: int) -> int:
        """Return a seed of this comparison's own."""
        return seed_of(seed, self.reference, self.class_)

    def baseline_draws(self, seed: int) -> list[Draw]:
        """Return `BASELINE_DRAWS` draws of the real baseline's size, or none where that would be below `MIN_BASELINE`.

        The real baseline's size is min(n_reference, n_synthetic, half of all real images as far as whole groups allow).
        """
        rng = numpy_generator(self.seed(seed), "floor")
        groups, real = self.groups, self.real_images
        sides = [split_half(groups[real], rng) for _ in range(BASELINE_DRAWS)]
        reference, synthetic = self.reference_images, self.synthetic_images
        m = min(len(reference), len(synthetic), *(len(side) for pair in sides for side in pair))
        if m < MIN_BASELINE:
            return []

        def drawn(images: np.ndarray) -> np.ndarray:
            return np.asarray(images[sample_n(groups[images], m, rng)])

        return [(drawn(real[a]), drawn(real[b]), drawn(reference), drawn(synthetic)) for a, b in sides]


def comparisons(sets: Mapping[str, ImageSet], classes: Sequence[str]) -> list[Comparison]:
    """Return one comparison a reference and class; indices count through `sets` in their order, synthetic last."""
    whole = ImageSet.concatenate(sets.values())
    origin = np.repeat(np.arange(len(sets)), [len(part) for part in sets.values()])
    names = list(sets)
    found = []
    for reference in names[:-1]:
        for class_ in (ALL, *classes):
            chosen = np.ones(len(whole), bool) if class_ == ALL else whole.labels == whole.class_index(class_)
            i = np.flatnonzero(chosen & (origin == names.index(reference)))
            j = np.flatnonzero(chosen & (origin == names.index(SYNTHETIC)))
            real = np.flatnonzero(chosen & (origin != names.index(SYNTHETIC)))
            if class_ == ALL or min(len(i), len(j)) >= MIN_CLASS:
                found.append(Comparison(reference, class_, i, j, real, whole.groups))
    return found

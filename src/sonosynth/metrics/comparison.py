"""The images that a row of the scorecard compares, the work that metrics share, and the draws of real baselines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from sonosynth.core.seeds import numpy_generator, seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.intervals.subsampling import sample_n, split_half
from sonosynth.metrics.neighbours import checked_features, squared_distances
from sonosynth.metrics.scores import ALL, HELD_OUT, SYNTHETIC, TRAIN

MIN_CLASS = 20  # a class is scored on its own if both sets hold at least so many of its images
MIN_BASELINE = 20  # no real baseline is given from fewer real images a side
BASELINE_DRAWS = 10  # random halves that a real baseline is the mean of

Made = TypeVar("Made")


@dataclass(eq=False)
class _Shared:
    """Work that several metrics rest on, done once."""

    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    _lock: AbstractContextManager[Any] = field(default_factory=RLock, init=False, repr=False)

    def shared(self, make: Callable[..., Made], *arguments: Any) -> Made:
        """Return what the function `make` makes of this object and `arguments`: made the first time, and kept."""
        with self._lock:
            key = make, arguments
            if key not in self._made:
                self._made[key] = make(self, *arguments)
            found: Made = self._made[key]
            return found


@dataclass(eq=False)
class Space(_Shared):
    """All images of a scorecard, seen by one feature network or as pixels."""

    name: str  # of the network, or pixels
    features: np.ndarray  # float64 [N, D]; empty for pixels
    groups: np.ndarray  # int64 [N], of all images, in the order of `sets`
    # the images by role, synthetic last; empty where there are features alone
    sets: Mapping[str, ImageSet] = field(default_factory=dict)
    cache: Path | None = None  # directory in which measures are kept, or None

    @cached_property
    def images(self) -> np.ndarray:
        """All images, uint8 ``[N, H, W]``."""
        return np.concatenate([part.images for part in self.sets.values()])

    @cached_property
    def gram(self) -> np.ndarray:
        """Inner products of the features, float64 ``[N, N]``."""
        return np.asarray(self.features @ self.features.T)

    @cached_property
    def squared_distances(self) -> np.ndarray:
        """Squared Euclidean distances between the features, float64 ``[N, N]``."""
        return squared_distances(self.features)


@dataclass(eq=False)
class Comparison(_Shared):
    """The images of one row, or of one draw of its real baseline, as indices into all images of a space."""

    space: Space  # the images
    reference: str  # train or held-out: the real images compared with
    class_: str  # all or a class
    real: np.ndarray  # indices of the reference images, ascending
    synthetic: np.ndarray  # indices of the synthetic images, or of real ones in their place
    held_out: np.ndarray  # indices of the held-out images, for metrics that compare training images with these
    pool: np.ndarray  # indices of all real images, from which real baselines are drawn
    root_seed: int = 0  # the seed of the scorecard
    whole: "Comparison" = field(init=False, repr=False)  # of a draw, the comparison that it is of; of others, itself

    def __post_init__(self) -> None:
        self.whole = self

    @classmethod
    def of_features(
        cls, x: np.ndarray, y: np.ndarray, groups_x: np.ndarray | None = None, groups_y: np.ndarray | None = None
    ) -> "Comparison":
        """Return the comparison of real `x` ``[N, D]`` with `y` ``[M, D]``; without groups each image is one."""
        both = np.concatenate(checked_features(x, y))
        real, synthetic = np.split(np.arange(len(both)), [len(x)])
        first = real if groups_x is None else groups_x
        second = synthetic if groups_y is None else groups_y + first.max() + 1
        space = Space("features", both, np.concatenate([first, second]))
        return cls(space, TRAIN, ALL, real, synthetic, real[:0], real)

    @property
    def seed(self) -> int:
        """A seed of this comparison's own."""
        return seed_of(self.root_seed, self.reference, self.class_)

    @property
    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Groups of the reference images and of the synthetic images."""
        return self.space.groups[self.real], self.space.groups[self.synthetic]

    @property
    def features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features of the reference images and of the synthetic images, float64 ``[n, D]`` and ``[m, D]``."""
        return self.space.features[self.real], self.space.features[self.synthetic]

    @property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """The reference images and the synthetic images, uint8 ``[n, H, W]`` and ``[m, H, W]``."""
        return self.space.images[self.real], self.space.images[self.synthetic]

    def blocks(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the parts of a `matrix` ``[N, N]`` within either set, ``[n, n]`` and ``[m, m]``, and between them."""
        i, j = self.real, self.synthetic
        return matrix[np.ix_(i, i)], matrix[np.ix_(j, j)], matrix[np.ix_(i, j)]

    def restricted(self, usable: np.ndarray) -> "Comparison":
        """Return the comparison of those images alone that are `usable`, bool, of all images."""
        real, synthetic, held_out, pool = (
            images[usable[images]] for images in (self.real, self.synthetic, self.held_out, self.pool)
        )
        return replace(self, real=real, synthetic=synthetic, held_out=held_out, pool=pool)

    def draw(self, real: np.ndarray, synthetic: np.ndarray, held_out: np.ndarray) -> "Comparison":
        """Return the comparison of some of the images; synthetic ones may be real images in their place."""
        drawn = replace(self, real=real, synthetic=synthetic, held_out=held_out)
        drawn.whole = self
        return drawn

    def baseline_draws(self, of_held_out: bool = False) -> "list[tuple[Comparison, Comparison]]":
        """Return `BASELINE_DRAWS` pairs of draws of one size m: real against other real images, and against synthetic.

        All real images are halved by whole groups, so that two sets never share one, and m is min(n_real, n_synthetic,
        the smallest half). With `of_held_out` the held-out images are halved instead: one half stands for the synthetic
        images, the other for the held-out ones, beside all training images. Empty for m below `MIN_BASELINE`.
        """
        return self.shared(_baseline_draws, of_held_out)


def _baseline_draws(c: Comparison, of_held_out: bool) -> list[tuple[Comparison, Comparison]]:
    groups, halved = c.space.groups, c.held_out if of_held_out else c.pool
    # The names of these draws are older than the term real baseline; another name would be other draws.
    rng = numpy_generator(c.seed, "memorisation floor" if of_held_out else "floor")
    sides = [split_half(groups[halved], rng) for _ in range(BASELINE_DRAWS)]
    sizes = [len(c.synthetic), *(len(side) for pair in sides for side in pair)]
    m = min(sizes if of_held_out else [len(c.real), *sizes])
    if m < MIN_BASELINE:
        return []

    def drawn(images: np.ndarray) -> np.ndarray:
        return np.asarray(images[sample_n(groups[images], m, rng)])

    draws = []
    for a, b in sides:
        if of_held_out:
            held_out = drawn(halved[b])
            first = c.draw(c.real, drawn(halved[a]), held_out)
            second = c.draw(c.real, drawn(c.synthetic), held_out)
        else:
            first = c.draw(drawn(halved[a]), drawn(halved[b]), c.held_out)
            second = c.draw(drawn(c.real), drawn(c.synthetic), c.held_out)
        draws.append((first, second))
    return draws


def comparisons(space: Space, classes: Sequence[str], seed: int = 0) -> list[Comparison]:
    """Return the comparisons of `space`: over all images and for each class, with each set of real images."""
    whole, names = ImageSet.concatenate(space.sets.values()), list(space.sets)
    origin = np.repeat(names, [len(part) for part in space.sets.values()])
    found = []
    for reference in names[:-1]:
        for class_ in (ALL, *classes):
            chosen = np.ones(len(whole), bool) if class_ == ALL else whole.labels == whole.class_index(class_)
            real, synthetic, held_out, pool = (
                np.flatnonzero(chosen & of_sets)
                for of_sets in (origin == reference, origin == SYNTHETIC, origin == HELD_OUT, origin != SYNTHETIC)
            )
            if class_ == ALL or min(len(real), len(synthetic)) >= MIN_CLASS:
                found.append(Comparison(space, reference, class_, real, synthetic, held_out, pool, seed))
    return found

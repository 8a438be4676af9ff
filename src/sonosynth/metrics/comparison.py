"""The images that a row of the scorecard compares, the work that metrics share, and the draws of real baselines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from sonosynth.core.seeds import numpy_generator, seed_of
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics.intervals.subsampling import SamplingUnits, one_per_group, stratified_counts
from sonosynth.metrics.neighbours import block, checked_features, squared_distances
from sonosynth.metrics.scores import ALL, HELD_OUT, SYNTHETIC, TRAIN

MIN_CLASS = 20  # a class is scored on its own if both sets hold at least so many of its images
MIN_BASELINE = 20  # no real baseline is given from fewer real images a side
BASELINE_DRAWS = 20  # random draws that a real baseline is the mean of

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
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # [N], classes; without, all are of one

    def __post_init__(self) -> None:
        if not len(self.labels):
            self.labels = np.zeros(len(self.groups), np.int64)

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
    def units(self) -> tuple[SamplingUnits, SamplingUnits]:
        """The groups of the reference images and of the synthetic images, by class: what intervals are drawn from."""
        return self.units_of(self.real), self.units_of(self.synthetic)

    def units_of(self, images: np.ndarray) -> SamplingUnits:
        """Return the groups of some images of the space, by class."""
        return SamplingUnits.of(self.space.groups[images], self.space.labels[images])

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
        return block(matrix, i, i), block(matrix, j, j), block(matrix, i, j)

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

    def baseline_draws(self, of_held_out: bool = False) -> "BaselineDraws | None":
        """Return the draws of its real baseline, or with `of_held_out` those of metrics that need all training images.

        None below `MIN_BASELINE` images a side.
        """
        return self.shared(_baseline_draws, of_held_out)


@dataclass(frozen=True, eq=False)
class BaselineDraw:
    """Reference images A, other real images B and synthetic images S: m of each, no two real ones of one group.

    Attributes:
        real: A against B.
        synthetic: A against S.
        redealt: A against two sets like B and S, dealt from the images that B and S were drawn from, all together.
    """

    real: Comparison
    synthetic: Comparison
    redealt: tuple[Comparison, Comparison]


@dataclass(frozen=True, eq=False)
class BaselineDraws:
    """Paired draws of one size: what a metric is between real images, and between real and synthetic ones.

    If synthetic images are like other real images, then B, S and the two sets of `redealt` are alike, given A. So the
    variance of the metric is half that of the difference of the two, whatever the metric (a permutation test rests on
    the same exchange).

    Attributes:
        m: images of each set.
        draws: of `BASELINE_DRAWS`.
        overlap: share of the images that two draws have in common, the mean of B and of S.
    """

    m: int
    draws: tuple[BaselineDraw, ...]
    overlap: float

    def share(self, n: int) -> float:
        """Return the variance of the mean of the differences of n draws, relative to that of one draw.

        It is more than 1 / n, since draws share images. It is right for a mean over images, and too large for
        distances, whose variance falls faster with the number of images.
        """
        return 1 / n + (1 - 1 / n) * self.overlap


def _baseline_draws(c: Comparison, of_held_out: bool) -> BaselineDraws | None:
    groups, labels = c.space.groups, c.space.labels
    first = c.held_out if of_held_out else c.real  # A comes from these
    pool = c.held_out if of_held_out else c.pool  # and B from the rest of these
    rng = numpy_generator(c.seed, "real baseline", int(of_held_out))
    n_classes = int(labels.max(initial=0)) + 1

    def counts(images: np.ndarray) -> np.ndarray:
        return np.bincount(labels[images], minlength=n_classes)

    def one_each(images: np.ndarray) -> np.ndarray:
        return np.asarray(images[one_per_group(groups[images], labels[images], rng)])

    have_a, have_real, have_s = (counts(one_each(images)) for images in (first, pool, c.synthetic))
    most = min(have_a.sum(), have_s.sum(), have_real.sum() // 2)
    # Synthetic images should have the classes of the training images, so B has these: a difference in S is kept, unless
    # it is one of rounding. Where no training image is left, those of A stand in.
    trained = np.setdiff1d(c.pool, c.held_out)
    of_a, of_b, of_s = first, trained if len(trained) else first, c.synthetic
    if most and np.abs(counts(of_s) - counts(of_b) * len(of_s) / len(of_b)).max() <= max(1, len(of_s) / len(of_b)):
        of_b = of_s
    for m in range(most, MIN_BASELINE - 1, -1):
        n_a, n_b, n_s = (stratified_counts(labels[images], n_classes, m) for images in (of_a, of_b, of_s))
        if (n_a <= have_a).all() and (n_s <= have_s).all() and (n_a + n_b <= have_real).all():
            break
    else:
        return None

    def dealt(images: np.ndarray, *wanted: np.ndarray) -> list[np.ndarray]:
        """Return disjoint random sets of `images` with the `wanted` numbers of each class, and what is left."""
        order = rng.permutation(images)
        rank = np.empty(len(order), dtype=np.int64)
        for label in range(n_classes):
            mine = labels[order] == label
            rank[mine] = np.arange(mine.sum())
        ends = np.cumsum([np.zeros(n_classes, np.int64), *wanted], axis=0)[:, labels[order]]
        sets = [order[(low <= rank) & (rank < high)] for low, high in pairwise(ends)]
        return [np.sort(one) for one in (*sets, order[rank >= ends[-1]])]

    def of(a: np.ndarray, other: np.ndarray) -> Comparison:
        return c.draw(c.real, other, a) if of_held_out else c.draw(a, other, c.held_out)

    draws = []
    for _ in range(BASELINE_DRAWS):
        real = one_each(pool)
        (a, more), synthetic = dealt(real[np.isin(real, first)], n_a), one_each(c.synthetic)
        rest = np.concatenate([more, real[~np.isin(real, first)]])
        (b, _), (s, _) = dealt(rest, n_b), dealt(synthetic, n_s)
        like_b, like_s, _ = dealt(np.concatenate([rest, synthetic]), n_b, n_s)
        draws.append(BaselineDraw(of(a, b), of(a, s), (of(a, like_b), of(a, like_s))))
    n_first, n_real = have_a.sum(), have_real.sum()
    rest = m / (n_real - m)  # the share of the other real images that B takes
    shared_b = (n_first * ((1 - m / n_first) * rest) ** 2 + (n_real - n_first) * rest**2) / m
    return BaselineDraws(m, tuple(draws), float(shared_b + m / have_s.sum()) / 2)


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

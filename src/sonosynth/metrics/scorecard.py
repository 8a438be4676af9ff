"""How near synthetic images are to real ones: every distance with its interval, its floor and the sizes behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import check_apart, check_real
from sonosynth.engine import numpy_generator, seed_of
from sonosynth.errors import ClassError, MixedSizesError, SourceError
from sonosynth.features import Progress, embed, feature_network
from sonosynth.files import read_json, write_json
from sonosynth.metrics.frechet import frechet_from_gram, frechet_interval_from_gram
from sonosynth.metrics.kernel import kernel_from_matrix, kernel_interval_from_matrix, polynomial_kernel
from sonosynth.metrics.subsampling import exactly, halves

ALL = "all"
"""The class of rows over all images."""
AT_FLOOR = "_at_floor_n"
"""Ends the name of a metric whose value is recomputed at the size of its floor."""
MIN_CLASS = 20
"""A class is scored on its own if both sets hold at least so many of its images."""
MIN_FLOOR = 20
"""No floor is given from fewer real images a side."""
FLOOR_DRAWS = 10
"""Halvings that a floor is the mean of."""

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Score:
    """One value of one metric.

    Attributes:
        metric: ``frechet_distance``, ``kernel_distance``, or either with ``_at_floor_n`` behind it: the mean value at
            the size of the floor, to compare with `floor`.
        features: name of the feature network.
        reference: ``train`` or ``held-out``: the real images compared with.
        class_: ``all`` or a class; ``class`` on disk.
        value: the value.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
        floor: the same distance between two disjoint sets of real images; None where there are too few.
        floor_n: images in each of these sets.
        n_real: real images behind `value`.
        n_synthetic: synthetic images behind `value`.
    """

    metric: str
    features: str
    reference: str
    class_: str
    value: float
    low: float | None
    high: float | None
    floor: float | None
    floor_n: int | None
    n_real: int
    n_synthetic: int


@dataclass(frozen=True)
class _Metric:
    """A distance as functions of one matrix over all images and of indices into it."""

    name: str
    distance: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    interval: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], Interval]


_METRICS = (
    _Metric(
        "frechet_distance",
        frechet_from_gram,
        lambda gram, i, j, x, y, seed: frechet_interval_from_gram(gram, i, j, x, y, seed=seed),
    ),
    _Metric(
        "kernel_distance",
        kernel_from_matrix,
        lambda kernel, i, j, x, y, seed: kernel_interval_from_matrix(kernel, i, j, x, y),
    ),
)


@dataclass(frozen=True)
class _Comparison:
    """The images of one row: indices into the joint features, and the group of every joint image."""

    reference: str
    class_: str
    reference_images: np.ndarray
    synthetic_images: np.ndarray
    real_images: np.ndarray
    groups: np.ndarray


def check_sizes(sets: Mapping[str, ImageSet]) -> None:
    """Raise MixedSizesError, which names two sets and their sizes, unless all sets have one image size."""
    (first, one), *others = sets.items()
    for name, other in others:
        if other.size != one.size:
            raise MixedSizesError(
                f"{first} has images of {_size(one)} and {name} of {_size(other)} pixels (height × width), and scores "
                "depend on it; run 'sonosynth data prepare' with one --size on both"
            )


def common_classes(
    train: ImageSet, synthetic: ImageSet, held_out: ImageSet | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes, in the order of `train`, with images in every set, and notes on what that leaves out.

    Rows of class ``all`` are over the common classes only; without any, over all images.
    """
    named = {"the real images": train, "the synthetic images": synthetic}
    if held_out is not None:
        named["the held-out images"] = held_out
    present = {name: {c for c, n in part.class_counts.items() if n} for name, part in named.items()}
    common = tuple(name for name in train.classes if all(name in classes for classes in present.values()))
    if not common:
        return (), ("the sets have no class in common: all images are compared, whatever their class",)
    notes = [
        f"{name} have classes that not all sets have, left out: {', '.join(sorted(classes - set(common)))}"
        for name, classes in present.items()
        if classes - set(common)
    ]
    shares = {name: _shares(part, common) for name, part in named.items()}
    for name, share in shares.items():
        if np.abs(share - shares["the real images"]).max() > 0.05:
            notes.append(
                f"class proportions of {name} ({_percentages(common, share)}) are not those of the real images "
                f"({_percentages(common, shares['the real images'])}): rows of class '{ALL}' contain that difference"
            )
    return common, tuple(notes)


def scorecard(
    train: ImageSet,
    synthetic: ImageSet,
    held_out: ImageSet | None = None,
    features: Sequence[str] = ("inception",),
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[Score]:
    """Return Fréchet and kernel distances of `synthetic` to `train` and to `held_out`, over all classes and for each.

    A floor is the mean distance of two disjoint sets of m real images each that share no group, over `FLOOR_DRAWS`
    random halvings of all real images (`train` and `held_out` together), m = min(n_real, n_synthetic, half of all real
    images as far as whole groups allow); it is None for m < `MIN_FLOOR`. The ``_at_floor_n`` rows hold the mean
    distance of m synthetic and m reference images over as many draws. Classes with fewer than `MIN_CLASS` images in
    either set have no rows of their own. Distances at different n_real or n_synthetic must not be compared.

    Args:
        train: the images that the generator saw.
        synthetic: the generator's images.
        held_out: real images that the generator did not see.
        features: names of feature networks.
        seed: of the random subsamples and halvings.
        cache: directory in which features are kept; see `embed`.
        progress: called with images embedded so far and in all.

    Raises:
        MixedSizesError: sets of different image size.
        ClassError: fewer than two images in a set, or a class called as the rows over all classes are.
        LeakageError: real images marked as synthetic, or held-out images that are also in `train`.
        FeatureError: an unknown feature network, or weights missing or damaged.
    """
    sets = {"train": train, "held-out": held_out, "synthetic": synthetic}
    present = {name: part for name, part in sets.items() if part is not None}
    check_sizes({f"the {name} set": part for name, part in present.items()})
    check_roles(train, held_out)
    classes, _ = common_classes(train, synthetic, held_out)
    aligned = {name: _aligned(part, classes) for name, part in present.items()}
    for name, part in aligned.items():
        if len(part) < 2:
            raise ClassError(f"the {name} set has {len(part)} images to compare; a distance needs at least 2")
    for name in features:
        feature_network(name)
    counter = _Counter(progress, len(features) * sum(map(len, aligned.values())))
    scores = []
    for name in features:
        joint = np.concatenate([embed(part, name, cache, counter.of(len(part))) for part in aligned.values()])
        scores += _scores(name, joint.astype(np.float64), _comparisons(aligned, classes), seed)
    return scores


def check_roles(train: ImageSet, held_out: ImageSet | None) -> None:
    """Raise LeakageError if a set of real images is marked as synthetic or both share images; ClassError for a name."""
    check_class_names(train.classes)
    check_real(train, "real images")
    if held_out is not None:
        check_real(held_out, "held-out images")
        remedy = "a distance to images that the generator saw says nothing about new ones: remove them from one set"
        check_apart(train, held_out, ("training images", "held-out images"), remedy)


def check_class_names(classes: Sequence[str]) -> None:
    """Raise ClassError if a class is called as the rows over all classes are."""
    if ALL in classes:
        raise ClassError(f"a class is called '{ALL}', which names the rows over all classes; rename it")


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write `scores` as a JSON list of objects, atomically."""
    write_json(path, [as_json(score) for score in scores])


def read_scores(path: Path) -> list[Score]:
    """Return what `write_scores` wrote.

    Raises:
        SourceError: the file is missing or is not a list of scores.
    """
    try:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise TypeError("not a list")
        return [Score(**{_attribute(key): value for key, value in row.items()}) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} is not a score file ({error}); make one with 'sonosynth score --out'") from error


def as_json(score: Score) -> dict[str, Any]:
    """Return `score` with the keys it has on disk."""
    return {("class" if key == "class_" else key): value for key, value in asdict(score).items()}


def _attribute(key: str) -> str:
    if key not in {"class", *(f.name for f in fields(Score))} - {"class_"}:
        raise ValueError(f"unknown key '{key}'")
    return "class_" if key == "class" else key


def _scores(features: str, joint: np.ndarray, comparisons: Sequence[_Comparison], seed: int) -> list[Score]:
    gram = joint @ joint.T
    matrices = {"frechet_distance": gram, "kernel_distance": polynomial_kernel(gram, joint.shape[1])}
    floor_draws = [_floor_draws(comparison, seed) for comparison in comparisons]
    return [
        score
        for metric in _METRICS
        for comparison, draws in zip(comparisons, floor_draws, strict=True)
        for score in _rows(metric, matrices[metric.name], features, comparison, draws, seed)
    ]


_Draw = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one size: real images, other real images, reference images, synthetic images."""


def _rows(
    metric: _Metric, matrix: np.ndarray, features: str, comparison: _Comparison, draws: Sequence[_Draw], seed: int
) -> list[Score]:
    i, j, groups = comparison.reference_images, comparison.synthetic_images, comparison.groups
    low, high = metric.interval(matrix, i, j, groups[i], groups[j], _seed(comparison, seed)) or (None, None)
    full = Score(
        metric=metric.name,
        features=features,
        reference=comparison.reference,
        class_=comparison.class_,
        value=metric.distance(matrix, i, j),
        low=low,
        high=high,
        floor=None,
        floor_n=None,
        n_real=len(i),
        n_synthetic=len(j),
    )
    if not draws:
        return [full]
    m = len(draws[0][0])
    full = replace(full, floor=float(np.mean([metric.distance(matrix, a, b) for a, b, _, _ in draws])), floor_n=m)
    value = float(np.mean([metric.distance(matrix, a, b) for _, _, a, b in draws]))
    name = metric.name + AT_FLOOR
    return [full, replace(full, metric=name, value=value, low=None, high=None, n_real=m, n_synthetic=m)]


def _floor_draws(comparison: _Comparison, seed: int) -> list[_Draw]:
    """Return `FLOOR_DRAWS` draws of the floor's size, or none where that would be below `MIN_FLOOR`."""
    rng = numpy_generator(_seed(comparison, seed), "floor")
    groups, real = comparison.groups, comparison.real_images
    sides = [halves(groups[real], rng) for _ in range(FLOOR_DRAWS)]
    reference, synthetic = comparison.reference_images, comparison.synthetic_images
    m = min(len(reference), len(synthetic), *(len(side) for pair in sides for side in pair))
    if m < MIN_FLOOR:
        return []

    def drawn(images: np.ndarray) -> np.ndarray:
        return np.asarray(images[exactly(groups[images], m, rng)])

    return [(drawn(real[a]), drawn(real[b]), drawn(reference), drawn(synthetic)) for a, b in sides]


def _comparisons(sets: Mapping[str, ImageSet], classes: Sequence[str]) -> list[_Comparison]:
    """Return one comparison a reference and class; indices count through `sets` in their order, synthetic last."""
    whole = ImageSet.concatenate(sets.values())
    origin = np.repeat(np.arange(len(sets)), [len(part) for part in sets.values()])
    names = list(sets)
    comparisons = []
    for reference in names[:-1]:
        for class_ in (ALL, *classes):
            chosen = np.ones(len(whole), bool) if class_ == ALL else whole.labels == whole.class_index(class_)
            i = np.flatnonzero(chosen & (origin == names.index(reference)))
            j = np.flatnonzero(chosen & (origin == names.index("synthetic")))
            real = np.flatnonzero(chosen & (origin != names.index("synthetic")))
            if class_ == ALL or min(len(i), len(j)) >= MIN_CLASS:
                comparisons.append(_Comparison(reference, class_, i, j, real, whole.groups))
    return comparisons


def _aligned(part: ImageSet, classes: Sequence[str]) -> ImageSet:
    if classes:
        return part.with_classes(classes)
    return replace(part, classes=(ALL,), labels=np.zeros(len(part), dtype=np.int64))


def _seed(comparison: _Comparison, seed: int) -> int:
    return seed_of(seed, comparison.reference, comparison.class_)


def _shares(part: ImageSet, classes: Sequence[str]) -> np.ndarray:
    counts = np.array([part.class_counts[name] for name in classes])
    return np.asarray(counts / counts.sum())


def _percentages(classes: Sequence[str], shares: np.ndarray) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in zip(classes, shares, strict=True))


def _size(part: ImageSet) -> str:
    return f"{part.size[0]} × {part.size[1]}"


class _Counter:
    """Adds up the progress of several sets."""

    def __init__(self, progress: Progress | None, total: int):
        self._progress, self._total, self._before = progress, total, 0

    def of(self, n: int) -> Progress:
        before, self._before = self._before, self._before + n

        def step(done: int, _: int) -> None:
            if self._progress:
                self._progress(before + done, self._total)

        return step

"""Does a generator remember its training images? Every value with its interval, its baseline and the sizes behind it.

Training images are compared with held-out ones: real images that the generator never saw. Where synthetic images lie
nearer to training images than new real images do, something was remembered. Without held-out images, only the share of
near-copies can be had.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import counted
from sonosynth.metrics.comparison import BASELINE_DRAWS, MIN_BASELINE
from sonosynth.metrics.distances.frechet import checked
from sonosynth.metrics.intervals.subsampling import Interval, sample_n, split_half
from sonosynth.metrics.memorisation.data_copying import (
    MIN_IMAGES,
    assign_cells,
    cell_count,
    data_copying,
    data_copying_interval,
    usable_cells,
)
from sonosynth.metrics.memorisation.distance_ratio import distance_ratio, distance_ratio_interval
from sonosynth.metrics.memorisation.membership import membership_auc, membership_interval
from sonosynth.metrics.memorisation.near_copies import MIN_REAL, NearCopies, share

_NO_HELD_OUT = "needs held-out images: real ones that the generator did not see"

_Rows = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices of training, held-out and synthetic images among all."""


@dataclass(frozen=True)
class Measured:
    """One value.

    Attributes:
        metric: ``nearest_distance_ratio``, ``membership_auc``, ``data_copying`` (C_T) or ``near_copies``.
        value: None where it cannot be had; `note` says why.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
        real_baseline: the value with real held-out images in place of synthetic ones; None where there are too few.
        real_baseline_n: how many.
        at_baseline_n: the value with as many synthetic and held-out images, to compare with `real_baseline`; None where
        `value`
            can be compared itself.
        n_train: training images behind `value`.
        n_held_out: held-out images behind it.
        n_synthetic: synthetic images behind it.
        note: why there is no value, or what it rests on.
    """

    metric: str
    value: float | None
    low: float | None
    high: float | None
    real_baseline: float | None
    real_baseline_n: int | None
    at_baseline_n: float | None
    n_train: int
    n_held_out: int
    n_synthetic: int
    note: str = ""

    @property
    def n_real(self) -> int:
        """Real images behind `value`."""
        return self.n_train + self.n_held_out


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest real images, by features, of S synthetic images: what a gallery shows.

    Attributes:
        training: int64 ``[S]``, index of the nearest training image.
        training_distance: float64 ``[S]``, Euclidean.
        held_out: int64 ``[S]``, index of the nearest held-out image; None without any.
        held_out_distance: float64 ``[S]``; None without any.
    """

    training: np.ndarray
    training_distance: np.ndarray
    held_out: np.ndarray | None
    held_out_distance: np.ndarray | None


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Euclidean distances, float64 ``[N, M]``, of rows of `x` ``[N, D]`` and `y` ``[M, D]``; 0 if equal."""
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    norms = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    squared = norms - 2 * (x @ y.T)
    # What cancels to less than rounding leaves is nothing.
    return np.asarray(np.sqrt(np.where(squared > 1e-12 * norms, squared, 0.0)))


def neighbours(train: np.ndarray, synthetic: np.ndarray, held_out: np.ndarray | None = None) -> Neighbours:
    """Return the nearest training and held-out image of every synthetic image; features are ``[N, D]``.

    Raises:
        ClassError: fewer than two rows in a set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    to_train = distances(*reversed(checked(train, synthetic)))
    nearest = to_train.argmin(axis=1)
    if held_out is None:
        return Neighbours(nearest, to_train.min(axis=1), None, None)
    to_held_out = distances(*reversed(checked(held_out, synthetic)))
    return Neighbours(nearest, to_train.min(axis=1), to_held_out.argmin(axis=1), to_held_out.min(axis=1))


def memorisation(
    train: np.ndarray,
    synthetic: np.ndarray,
    held_out: np.ndarray | None = None,
    groups_train: np.ndarray | None = None,
    groups_synthetic: np.ndarray | None = None,
    groups_held_out: np.ndarray | None = None,
    seed: int = 0,
) -> list[Measured]:
    """Return what the features of three sets tell: ``nearest_distance_ratio``, ``membership_auc``, ``data_copying``.

    See `distance_ratio` (1 means nothing remembered, less means remembered), `membership_auc` (0.5; more) and
    `data_copying` (0; less than -3). A baseline is the mean over `BASELINE_DRAWS` halvings of the held-out images:
    one half stands for the synthetic images and the other for the held-out ones.

    Args:
        train: ``[T, D]``, features of the images that the generator saw.
        synthetic: ``[S, D]``, of its images.
        held_out: ``[U, D]``, of real images that it did not see. Without them, the values are None.
        groups_train: ``[T]``; without them each image is a group.
        groups_synthetic: ``[S]``.
        groups_held_out: ``[U]``.
        seed: of random draws and of the clusters of C_T.

    Raises:
        ClassError: fewer than two rows in a set.
        ValueError: arrays that are not 2-D, differ in D, or are not finite.
    """
    checked(train, synthetic)
    if held_out is None:
        return [_nothing(metric.name, _NO_HELD_OUT, len(train), 0, len(synthetic)) for metric in _METRICS]
    checked(train, held_out)
    sets = (train, held_out, synthetic)
    given = (groups_train, groups_held_out, groups_synthetic)
    groups = [np.arange(len(x)) if g is None else g for x, g in zip(sets, given, strict=True)]
    ends = np.cumsum([len(part) for part in sets])
    features = np.concatenate(sets).astype(np.float64)
    joint = _Joint(features, int(ends[0]), int(ends[1]), np.concatenate(groups), seed)
    t, u, s = np.split(np.arange(len(features)), ends[:-1])
    draws = list(_baseline_draws(joint, (t, u, s)))
    return [_measured(metric, joint, (t, u, s), draws) for metric in _METRICS]


def near_copy_rows(
    copies: NearCopies,
    groups_train: np.ndarray,
    groups_synthetic: np.ndarray,
    groups_held_out: np.ndarray | None = None,
    train: np.ndarray | None = None,
    synthetic: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
) -> list[Measured]:
    """Return what pixels tell: the share ``near_copies``, and ``membership_auc`` of an attack by pixel similarity.

    The baseline of ``near_copies`` is the share of real images (`NearCopies.calibrated_on`) above the same threshold.

    Args:
        copies: of all images; see `near_copies`.
        groups_train: ``[T]``.
        groups_synthetic: ``[S]``.
        groups_held_out: ``[U]``; None without held-out images.
        train: indices of the training images that count, such as those of a class; all by default.
        synthetic: of the synthetic images.
        held_out: of the held-out images.

    Raises:
        ClassError: no synthetic image counts.
    """
    s = np.arange(len(copies.copied)) if synthetic is None else synthetic
    t = np.arange(len(groups_train)) if train is None else train
    rows = [_near_copies(copies, len(groups_train), s, groups_synthetic)]
    n_made = len(copies.copied)
    if copies.from_held_out is None or groups_held_out is None:
        return [*rows, _nothing("membership_auc", _NO_HELD_OUT, len(t), 0, n_made)]
    u = np.arange(len(groups_held_out)) if held_out is None else held_out
    if min(len(t), len(u)) == 0:
        why = f"needs training and held-out images, has {len(t)} and {len(u)}"
        return [*rows, _nothing("membership_auc", why, len(t), len(u), n_made)]
    members, others = 1 - copies.from_training.similarity[t], 1 - copies.from_held_out.similarity[u]
    low, high = membership_interval(members, others, groups_train[t], groups_held_out[u]) or (None, None)
    auc = membership_auc(members, others)
    return [*rows, replace(_nothing("membership_auc", "", len(t), len(u), n_made), value=auc, low=low, high=high)]


def _near_copies(copies: NearCopies, n_train: int, s: np.ndarray, groups_synthetic: np.ndarray) -> Measured:
    n, unseen = len(copies.real.similarity), copies.calibrated_on == "held-out"
    nothing = _nothing("near_copies", "", n_train, n if unseen else 0, len(s))
    if copies.threshold is None:
        why = f"a threshold needs {MIN_REAL} held-out images, or training images of {MIN_REAL} groups"
        return replace(nothing, note=why)
    value, (low, high) = share(copies.copied[s], groups_synthetic[s])
    compared = "held-out with training images" if unseen else "training images with those of other groups"
    note = f"similarity above {copies.threshold:.2f}, set on {n} {compared}"
    return replace(
        nothing, value=value, low=low, high=high, real_baseline=copies.real_share, real_baseline_n=n, note=note
    )


class _Joint:
    """The features of training, held-out and synthetic images, in this order, and what comes of them."""

    def __init__(self, features: np.ndarray, n_train: int, n_real: int, groups: np.ndarray, seed: int):
        self.groups, self.seed = groups, seed
        self._features, self._n_train = features, n_train
        self._distances = distances(features[n_train:], features[:n_real])
        self._cells: dict[int, np.ndarray] = {}

    def between(self, images: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Return distances ``[len(images), len(real)]`` of held-out or synthetic images to real ones."""
        return np.asarray(self._distances[np.ix_(images - self._n_train, real)])

    def cells(self, n_cells: int) -> np.ndarray:
        """Return the cell of every image, of so many."""
        if n_cells not in self._cells:
            train = self._features[: self._n_train]
            self._cells[n_cells] = assign_cells(train, self._features, n_cells, self.seed)
        return self._cells[n_cells]


@dataclass(frozen=True)
class _Metric:
    name: str
    value: Callable[[_Joint, _Rows], float | None]
    interval: Callable[[_Joint, _Rows], Interval]
    note: Callable[[_Joint, _Rows], str]
    missing: Callable[[_Rows], str]


def _ratio(joint: _Joint, rows: _Rows) -> float | None:
    t, u, s = rows
    value = distance_ratio(joint.between(s, t), joint.between(s, u), joint.groups[t], joint.groups[u])
    return None if np.isnan(value) else value


def _ratio_interval(joint: _Joint, rows: _Rows) -> Interval:
    t, u, s = rows
    of_t, of_u, of_s = (joint.groups[part] for part in rows)
    return distance_ratio_interval(joint.between(s, t), joint.between(s, u), of_t, of_u, of_s, joint.seed)


def _nearest_synthetic(joint: _Joint, rows: _Rows) -> tuple[np.ndarray, np.ndarray]:
    t, u, s = rows
    return joint.between(s, t).min(axis=0), joint.between(s, u).min(axis=0)


def _auc_interval(joint: _Joint, rows: _Rows) -> Interval:
    return membership_interval(*_nearest_synthetic(joint, rows), joint.groups[rows[0]], joint.groups[rows[1]])


def _n_cells(rows: _Rows) -> int:
    return cell_count(*(len(part) for part in rows))


def _cells(joint: _Joint, rows: _Rows) -> _Rows:
    t, u, s = rows
    cells = joint.cells(_n_cells(rows))
    return cells[t], cells[u], cells[s]


def _copying(joint: _Joint, rows: _Rows) -> float | None:
    t, u, s = rows
    return data_copying(joint.between(u, t), joint.between(s, t), *_cells(joint, rows))


def _copying_interval(joint: _Joint, rows: _Rows) -> Interval:
    t, u, s = rows
    cells_t, cells_u, cells_s = _cells(joint, rows)
    groups = joint.groups[u], joint.groups[s]
    return data_copying_interval(joint.between(u, t), joint.between(s, t), cells_t, cells_u, cells_s, *groups)


def _copying_note(joint: _Joint, rows: _Rows) -> str:
    cells = _cells(joint, rows)
    used = usable_cells(*cells)
    held_out, synthetic = (int(np.isin(part, used).sum()) for part in cells[1:])
    return (
        f"C_T over {len(used)} of {counted(_n_cells(rows), 'cell')}, "
        f"which hold {held_out} held-out and {counted(synthetic, 'synthetic image')}"
    )


_METRICS = (
    _Metric(
        "nearest_distance_ratio",
        _ratio,
        _ratio_interval,
        lambda joint, rows: f"both means for as many real images as {min(len(rows[0]), len(rows[1]))}",
        lambda rows: "every synthetic image is a copy of a held-out image",
    ),
    _Metric(
        "membership_auc",
        lambda joint, rows: membership_auc(*_nearest_synthetic(joint, rows)),
        _auc_interval,
        lambda joint, rows: "",
        lambda rows: "",
    ),
    _Metric(
        "data_copying",
        _copying,
        _copying_interval,
        _copying_note,
        lambda rows: (
            f"C_T needs {MIN_IMAGES} held-out and {MIN_IMAGES} synthetic images in one of "
            f"{counted(_n_cells(rows), 'cell')}; there are {len(rows[1])} and {len(rows[2])} in all"
        ),
    ),
)


def _measured(metric: _Metric, joint: _Joint, rows: _Rows, draws: Sequence[tuple[_Rows, _Rows]]) -> Measured:
    value = metric.value(joint, rows)
    n_train, n_held_out, n_synthetic = (len(part) for part in rows)
    if value is None:
        return _nothing(metric.name, metric.missing(rows), n_train, n_held_out, n_synthetic)
    low, high = metric.interval(joint, rows) or (None, None)
    baseline, at_baseline_n = (_mean(metric.value(joint, draw[i]) for draw in draws) for i in (0, 1))
    real_baseline_n = len(draws[0][0][2]) if draws and baseline is not None else None
    return Measured(
        metric=metric.name,
        value=value,
        low=low,
        high=high,
        real_baseline=baseline,
        real_baseline_n=real_baseline_n,
        at_baseline_n=at_baseline_n,
        n_train=n_train,
        n_held_out=n_held_out,
        n_synthetic=n_synthetic,
        note=metric.note(joint, rows),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _baseline_draws(joint: _Joint, rows: _Rows) -> Iterator[tuple[_Rows, _Rows]]:
    """Yield held-out images in two roles, and synthetic images in the second of these, all sets of one size."""
    t, u, s = rows
    rng = numpy_generator(joint.seed, "memorisation floor")
    sides = [split_half(joint.groups[u], rng) for _ in range(BASELINE_DRAWS)]
    m = min(len(s), *(len(side) for pair in sides for side in pair))
    if m < MIN_BASELINE:
        return

    def drawn(images: np.ndarray) -> np.ndarray:
        return np.asarray(images[sample_n(joint.groups[images], m, rng)])

    for a, b in sides:
        reference = drawn(u[b])
        yield (t, reference, drawn(u[a])), (t, reference, drawn(s))


def _nothing(metric: str, why: str, n_train: int, n_held_out: int, n_synthetic: int) -> Measured:
    return Measured(metric, None, None, None, None, None, None, n_train, n_held_out, n_synthetic, why)

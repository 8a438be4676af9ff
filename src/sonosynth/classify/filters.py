"""Filters of synthetic images: which of them a classifier is trained on. None of them sees a test image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sonosynth.classify.training import DEFAULT_TRAINING, TrainingSettings, train_classifier
from sonosynth.core.errors import ClassError, SonosynthError
from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import unknown_name
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.split import check_real, check_same_classes

FILTERS = ("confidence", "distance")
DEFAULT_FOLDS = 3
DEFAULT_QUANTILE = 0.1


class FilterError(SonosynthError):
    """Synthetic images cannot be filtered as asked."""


def find_filter(name: str) -> str:
    """Return `name` if it is a filter that needs nothing but images. Raises FilterError."""
    if name not in FILTERS:
        raise FilterError(unknown_name("filter", name, FILTERS))
    return name


@dataclass(frozen=True)
class FilterResult:
    """What a filter kept."""

    kept: np.ndarray  # indices of the synthetic images that stay, int64, ascending
    acceptance: float  # share of them, 0 to 1
    acceptance_by_class: dict[str, float]  # the same of each class that has synthetic images
    threshold: dict[str, float]  # the least confidence or greatest distance that stays; NaN without synthetic images

    @property
    def emptied(self) -> list[str]:
        """The classes that have synthetic images, none of which stays."""
        return [name for name, share in self.acceptance_by_class.items() if not share]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the indices."""
        return {
            "acceptance": self.acceptance,
            "acceptance_by_class": self.acceptance_by_class,
            "threshold": {name: None if np.isnan(value) else value for name, value in self.threshold.items()},
        }


def confidence_filter(
    train: ImageSet,
    synthetic: ImageSet,
    *,
    quantile: float = DEFAULT_QUANTILE,
    folds: int = DEFAULT_FOLDS,
    network: str = "resnet18",
    training: TrainingSettings = DEFAULT_TRAINING,
    seed: int = 0,
    progress: Progress | None = None,
) -> FilterResult:
    """Keep the synthetic images that classifiers recognise as well as real images they have not seen.

    Cross-fitted: the training images are divided into `folds` of whole groups, and each classifier is trained, with
    classical augmentation, on all folds but one. A real image has the probability that the classifier which has not
    seen it gives its class; a synthetic image that of one classifier, in turn and at random. (The mean of all is surer
    than each, and would pass more synthetic images than real ones.) The threshold of a class is the `quantile` of its
    real images, the share of them that would be rejected. `progress` counts the steps of all classifiers.

    Raises:
        FilterError: a quantile out of range, or as for `group_folds`.
        ClassError, LeakageError: as for `distance_filter`.
        DivergenceError: the training of a classifier became non-finite.
    """
    _check(train, synthetic, quantile)
    parts = group_folds(train, folds, seed)
    real, made, turns = np.full(len(train), np.nan), np.zeros(len(synthetic)), np.zeros(len(synthetic), np.int64)
    for label in np.unique(synthetic.labels):
        own = numpy_generator(seed, "filter", int(label)).permutation(np.flatnonzero(synthetic.labels == label))
        turns[own] = np.arange(len(own)) % len(parts)
    for i, (rest, fold) in enumerate(parts):

        def tell(step: int, steps: int, i: int = i) -> None:
            if progress:
                progress(i * steps + step, len(parts) * steps)

        classifier = train_classifier(
            train.subset(rest), classical=True, network=network, training=training, seed=seed, progress=tell
        )
        real[fold] = classifier.predict(train.images[fold])[np.arange(len(fold)), train.labels[fold]]
        mine = np.flatnonzero(turns == i)
        if len(mine):
            made[mine] = classifier.predict(synthetic.images[mine])[np.arange(len(mine)), synthetic.labels[mine]]
    thresholds = _quantiles(train, real, quantile)
    return _filtered(synthetic, made >= thresholds[synthetic.labels], thresholds)


def group_folds(train: ImageSet, folds: int = DEFAULT_FOLDS, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide training images into folds of whole groups, fewer of them where a class has fewer groups.

    Returns for each fold the indices of all other images, which its classifier is trained on, and of its own.

    Raises:
        FilterError: fewer than two folds, a class of a single group, or one of which a fold leaves nothing to learn.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if folds < 2:
        raise FilterError(f"a confidence filter needs two folds or more, not {folds}")
    check_groups(train)
    folds = min(folds, *(n for n in train.group_counts.values() if n))
    division = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    parts = list(division.split(np.zeros(len(train)), train.labels, train.groups))
    for rest, _ in parts:
        for label in np.setdiff1d(train.labels, train.labels[rest]):
            raise FilterError(
                f"of {folds} folds of whole groups one holds all training images of class '{train.classes[label]}', so "
                "that its classifier learns nothing of it; a confidence filter needs images of other groups"
            )
    return parts


def check_groups(train: ImageSet) -> None:
    """Raise FilterError, which names the class, if all training images of one are of a single group."""
    for name, n in train.group_counts.items():
        if n == 1:
            raise FilterError(f"class '{name}' has a single group of training images; a filter needs two of each")


def distance_filter(
    train: ImageSet,
    synthetic: ImageSet,
    train_features: np.ndarray,
    synthetic_features: np.ndarray,
    *,
    quantile: float = DEFAULT_QUANTILE,
) -> FilterResult:
    """Drop synthetic images that lie farther from the training images of their class than real images do.

    The distance of an image is the Euclidean one to the nearest training image of its class; for a training image, to
    the nearest of another group. The threshold of a class is the ``1 - quantile`` quantile of its training images.

    Features are float ``[N, D]`` of `train` and ``[M, D]`` of `synthetic`.

    Raises:
        FilterError: a quantile out of range, features that do not belong to the images, or a class with fewer than two
            groups of training images.
        ClassError: other classes, or synthetic images of a class without training images.
        LeakageError: `train` is marked as synthetic.
    """
    _check(train, synthetic, quantile)
    shapes = (len(train), len(synthetic), train_features.shape[1:])
    if shapes != (len(train_features), len(synthetic_features), synthetic_features.shape[1:]):
        raise FilterError("features and images do not belong together; give one vector per image, of one network")
    check_groups(train)
    from scipy.spatial.distance import cdist  # slow to import, and needed only here

    real, made = np.full(len(train), np.nan), np.full(len(synthetic), np.nan)
    for label in np.unique(train.labels):
        own, other = np.flatnonzero(train.labels == label), np.flatnonzero(synthetic.labels == label)
        between = cdist(train_features[own], train_features[own])
        between[train.groups[own][:, None] == train.groups[own]] = np.inf
        real[own] = between.min(axis=1)
        if len(other):
            made[other] = cdist(synthetic_features[other], train_features[own]).min(axis=1)
    thresholds = _quantiles(train, real, 1 - quantile)
    return _filtered(synthetic, made <= thresholds[synthetic.labels], thresholds)


def _check(train: ImageSet, synthetic: ImageSet, quantile: float) -> None:
    check_quantile(quantile)
    check_real(train, "training images")
    check_same_classes(train, synthetic)
    for label in np.setdiff1d(synthetic.labels, train.labels):
        raise ClassError(
            f"class '{train.classes[label]}' has synthetic images and no training image to compare them with; "
            "leave the class out"
        )


def check_quantile(quantile: float) -> None:
    """Raise FilterError unless `quantile` is a share of real images that a filter may drop."""
    if not 0 <= quantile < 1:
        raise FilterError(f"the quantile of a filter must be 0 or more and below 1, not {quantile}")


def _quantiles(images: ImageSet, values: np.ndarray, quantile: float) -> np.ndarray:
    """Return the quantile of the values of each class, float64 ``[n_classes]``; NaN for a class without images."""
    thresholds = np.full(len(images.classes), np.nan)
    for label in np.unique(images.labels):
        thresholds[label] = np.quantile(values[images.labels == label], quantile)
    return thresholds


def _filtered(synthetic: ImageSet, stays: np.ndarray, thresholds: np.ndarray) -> FilterResult:
    of_class = {name: stays[synthetic.labels == label] for label, name in enumerate(synthetic.classes)}
    return FilterResult(
        kept=np.flatnonzero(stays),
        acceptance=float(stays.mean()) if len(stays) else 0.0,
        acceptance_by_class={name: float(part.mean()) for name, part in of_class.items() if len(part)},
        threshold={name: float(value) for name, value in zip(synthetic.classes, thresholds, strict=True)},
    )

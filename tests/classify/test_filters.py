import inspect

import numpy as np
import pytest

from image_sets import blobs
from sonosynth.classify import filters
from sonosynth.classify.filters import FilterError, confidence_filter, distance_filter, group_folds
from sonosynth.classify.training import TrainingSettings
from sonosynth.core.errors import ClassError, LeakageError
from sonosynth.data.imageset import ImageSet
from tiny_classifier import tiny_network as tiny_network

SHORT = TrainingSettings(steps=30, batch=16)


def flat(images: ImageSet) -> np.ndarray:
    return images.images.reshape(len(images), -1).astype(np.float64)


def half_wrong(n: int) -> ImageSet:
    """Return a set whose first `n` images carry the label of the other class."""
    images = blobs(10, seed=2)
    labels = np.where(np.arange(len(images)) < n, 1 - images.labels, images.labels)
    return ImageSet(**{**vars(images), "labels": labels, "synthetic": True})


@pytest.mark.long
def test_confidence_rejects_what_carries_a_wrong_label():
    made = confidence_filter(blobs(15), half_wrong(6), network="tiny", training=SHORT)
    assert not set(made.kept) & set(range(6)) and len(made.kept) > 10
    assert made.acceptance == len(made.kept) / 20
    per_class = [made.acceptance_by_class[name] for name in ("dark", "light")]
    assert np.mean(per_class) == pytest.approx(made.acceptance)


@pytest.mark.long
def test_confidence_keeps_the_asked_share_of_what_is_as_real_as_real_images():
    # With two folds, and classes that overlap, fresh images of the same distribution pass as often as real ones.
    rng = np.random.default_rng(0)

    def overlapping(n: int) -> ImageSet:
        labels = np.arange(n) % 2
        level = 110 + 30 * labels + rng.normal(0, 30, n)
        pixels = (level[:, None, None] + rng.normal(0, 10, (n, 32, 32))).clip(0, 255).astype(np.uint8)
        return ImageSet(pixels, labels, ("a", "b"), np.arange(n), tuple(map(str, range(n))))

    made = confidence_filter(overlapping(120), overlapping(400), quantile=0.4, network="tiny", training=SHORT, folds=2)
    assert 0.45 < made.acceptance < 0.75


def test_judges_never_see_the_groups_that_set_the_threshold(monkeypatch):
    train = blobs(12)
    train = ImageSet(**{**vars(train), "groups": np.arange(24) // 4})
    seen = []

    def watched(pool, **arguments):
        seen.append(set(pool.groups))
        return original(pool, **arguments)

    original = filters.train_classifier
    monkeypatch.setattr(filters, "train_classifier", watched)
    confidence_filter(train, half_wrong(0), network="tiny", training=TrainingSettings(steps=2, batch=4))
    assert len(seen) == 3
    assert set.union(*seen) == set(range(6)) and all(len(groups) == 4 for groups in seen)
    assert not set.intersection(*seen)  # every group is left out once


def test_a_class_that_one_fold_holds_alone_is_named():
    one, other = np.repeat([0, 1, 2], 10), np.array([*np.repeat([0, 1, 2], 5), 3])  # the two of class 3 go together
    labels, groups = np.concatenate([one, other, other]), np.repeat([0, 1, 2], [30, 16, 16])
    train = ImageSet(np.zeros((62, 4, 4), np.uint8), labels, tuple("abcd"), groups, tuple(map(str, range(62))))
    with pytest.raises(FilterError, match="of 2 folds of whole groups one holds all training images of class 'd'"):
        group_folds(train)
    with pytest.raises(FilterError, match="two folds or more, not 1"):
        group_folds(train, folds=1)


def test_distance_drops_what_lies_farther_than_real_images_do():
    train, near = blobs(20), blobs(10, seed=2)
    odd = near.images.copy()
    odd[:5] = np.random.default_rng(3).integers(0, 256, odd[:5].shape)
    synthetic = ImageSet(**{**vars(near), "images": odd, "synthetic": True})
    made = distance_filter(train, synthetic, flat(train), flat(synthetic), quantile=0.1)
    assert not set(made.kept) & set(range(5)) and len(made.kept) >= 9
    wrong = half_wrong(6)
    assert not set(distance_filter(train, wrong, flat(train), flat(wrong)).kept) & set(range(6))


def test_distances_of_real_images_skip_their_own_group():
    features = np.array([[0.0], [0.1], [5.0], [5.1], [0.0], [9.0]])
    pixels = np.zeros((6, 4, 4), np.uint8)
    labels, groups = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 3])
    train = ImageSet(pixels, labels, ("a", "b"), groups, tuple("abcdef"))
    made = distance_filter(train, train.subset([0, 4]), features, np.array([[2.0], [1.0]]), quantile=0)
    assert made.threshold == pytest.approx({"a": 5.0, "b": 9.0})


def test_no_filter_takes_test_images():
    for function in (confidence_filter, distance_filter):
        sets = [p for p in inspect.signature(function).parameters.values() if p.annotation is ImageSet]
        assert {p.name for p in sets} <= {"train", "synthetic"}


@pytest.mark.long
def test_bad_input_is_named():
    train, synthetic = blobs(6), half_wrong(0)
    with pytest.raises(FilterError, match="must be 0 or more and below 1, not 1"):
        distance_filter(train, synthetic, flat(train), flat(synthetic), quantile=1.0)
    with pytest.raises(LeakageError, match="training images are marked as synthetic"):
        confidence_filter(synthetic, synthetic)
    with pytest.raises(ClassError, match="different classes"):
        confidence_filter(blobs(6, classes=("dark", "grey")), synthetic)
    with pytest.raises(ClassError, match="class 'light' has synthetic images and no training image"):
        confidence_filter(train.of_class("dark"), synthetic)
    one_group = ImageSet(**{**vars(train), "groups": train.labels})
    with pytest.raises(FilterError, match="class 'dark' has a single group"):
        confidence_filter(one_group, synthetic)
    with pytest.raises(FilterError, match="class 'dark' has a single group"):
        distance_filter(one_group, synthetic, flat(train), flat(synthetic))
    with pytest.raises(FilterError, match="do not belong together"):
        distance_filter(train, synthetic, flat(train)[:3], flat(synthetic))


def test_one_classifier_decides_on_each_image_real_or_synthetic(monkeypatch):
    """Classifiers that give noise pass 90 % of either; the mean of three would pass nearly all synthetic images."""
    rng = np.random.default_rng(0)

    class Noise:
        def predict(self, images):
            first = rng.beta(4, 2, len(images))
            return np.stack([first, 1 - first], axis=1)

    def alike(n):
        return ImageSet(
            np.zeros((n, 8, 8), np.uint8), np.zeros(n, int), ("a", "b"), np.arange(n), tuple(map(str, range(n)))
        )

    monkeypatch.setattr(filters, "train_classifier", lambda *_, **__: Noise())
    monkeypatch.setattr(filters, "_check", lambda *_: None)
    made = confidence_filter(alike(900), alike(3000))
    assert made.acceptance == pytest.approx(0.9, abs=0.03)

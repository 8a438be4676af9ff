from collections import Counter

import numpy as np
import pytest

from image_sets import blobs
from sonosynth.classify.arms import (
    ARMS,
    DEFAULT_ARMS,
    ArmError,
    added_counts,
    draw_synthetic,
    find_arm,
    find_class_balance,
    oversample,
    training_images,
)
from sonosynth.data.imageset import ImageSet


def unbalanced(*counts: int) -> ImageSet:
    """Return a set with so many images of each class."""
    images = blobs(max(counts), size=8, classes=tuple("abcde"[: len(counts)]))
    return images.subset(np.concatenate([np.flatnonzero(images.labels == c)[:n] for c, n in enumerate(counts)]))


def test_added_images_stand_in_training_proportions():
    train = unbalanced(30, 15, 5)
    assert added_counts(train, 1).tolist() == [30, 15, 5]
    assert added_counts(train, 2).tolist() == [60, 30, 10]
    assert added_counts(train, 0.5).sum() == 25
    assert np.abs(added_counts(train, 0.5) - [15, 7.5, 2.5]).max() <= 0.5
    assert added_counts(unbalanced(2, 0), 0.1).tolist() == [1, 0]


def test_added_images_can_balance_the_classes():
    train = unbalanced(30, 15, 5, 0)
    assert (np.bincount(train.labels, minlength=4) + added_counts(train, 2, "balanced")).tolist() == [50, 50, 50, 0]
    assert added_counts(train, 0.5, "balanced").tolist() == [0, 8, 17, 0]  # 30, 23, 22: as equal as 25 can make them
    assert added_counts(train, 0.1, "balanced").tolist() == [0, 0, 5, 0]
    assert added_counts(train, 1.3, "balanced").sum() == 65


def test_images_that_stand_alone_are_balanced_among_themselves():
    train = unbalanced(14, 7, 4, 0)
    assert added_counts(train, 0.5, "balanced", alone=True).tolist() == [4, 4, 4, 0]
    assert added_counts(train, 1, "balanced", alone=True).tolist() == [9, 8, 8, 0]
    assert (added_counts(train, 0.5, alone=True) == added_counts(train, 0.5)).all()
    assert {name for name, arm in ARMS.items() if arm.synthetic_alone} == {"synthetic-only", "test-on-synthetic"}


def test_synthetic_images_are_drawn_by_class_without_replacement():
    synthetic = unbalanced(10, 10)
    drawn = draw_synthetic(synthetic, np.array([7, 2]), seed=0)
    assert drawn.class_counts == {"a": 7, "b": 2} and len(set(drawn.ids)) == 9
    assert drawn.ids == draw_synthetic(synthetic, np.array([7, 2]), seed=0).ids
    assert drawn.ids != draw_synthetic(synthetic, np.array([7, 2]), seed=1).ids
    with pytest.raises(ArmError, match="11 synthetic images of class 'b' are needed and there are 10"):
        draw_synthetic(synthetic, np.array([0, 11]), seed=0)


@pytest.mark.parametrize("ratio", [0.5, 1, 2.5])
def test_oversampling_repeats_images_of_a_class_equally_often(ratio):
    train = unbalanced(12, 6)
    pool = training_images(ARMS["oversampled"], train, None, ratio=ratio, seed=0)
    assert len(pool) == 18 + round(18 * ratio)
    times = Counter((int(label), image.tobytes()) for label, image in zip(pool.labels, pool.images, strict=True))
    assert len(times) == 18
    for label in (0, 1):
        often = [count for (c, _), count in times.items() if c == label]
        assert max(often) - min(often) <= 1
    assert not pool.synthetic


def test_oversampling_to_balance_is_the_control_of_balancing_with_synthetic_images():
    pool = training_images(ARMS["oversampled"], unbalanced(12, 6), None, ratio=1, class_balance="balanced", seed=0)
    assert pool.class_counts == {"a": 18, "b": 18}
    with pytest.raises(ArmError, match="no real image of class 'b' can be repeated"):
        oversample(unbalanced(3, 0), np.array([0, 1]), seed=0)


def test_arms_train_on_what_their_names_say():
    train, synthetic = unbalanced(4, 4), ImageSet(**{**vars(unbalanced(3, 2)), "synthetic": True})
    sizes = {
        name: len(training_images(arm, train, synthetic if arm.synthetic else None, seed=0))
        for name, arm in ARMS.items()
    }
    assert sizes == {
        "real": 8,
        "real+classical": 8,
        "real+synthetic": 13,
        "real+classical+synthetic": 13,
        "oversampled": 16,
        "synthetic-only": 5,
        "test-on-synthetic": 8,
    }
    assert set(DEFAULT_ARMS) < set(ARMS)


@pytest.mark.long
def test_bad_input_is_named():
    train = unbalanced(4, 4)
    for ratio in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ArmError, match="a number above 0, not"):
            added_counts(train, ratio)
    with pytest.raises(ArmError, match="did you mean 'balanced'"):
        find_class_balance("balance")
    with pytest.raises(ArmError, match="did you mean 'oversampled'"):
        find_arm("oversample")

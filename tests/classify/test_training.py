import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from image_sets import blobs
from sonosynth.classify.training import (
    TrainingError,
    TrainingSettings,
    balanced_indices,
    class_weights,
    train_classifier,
)
from tiny_classifier import tiny_network as tiny_network

LABELS = np.array([0] * 10 + [2] * 3 + [3] * 2)


def test_balanced_batches_have_all_classes_equally_often():
    whole = balanced_indices(LABELS, 0, 90, seed=0).numpy()
    assert np.bincount(LABELS[whole]).tolist() == [30, 0, 30, 30]
    assert np.bincount(whole).tolist() == [3] * 10 + [10] * 3 + [15] * 2
    for i in range(0, 90, 3):
        assert set(LABELS[whole[i : i + 3]]) == {0, 2, 3}
    pieces = [balanced_indices(LABELS, start, 7, seed=0).numpy() for start in range(0, 84, 7)]
    assert np.array_equal(np.concatenate(pieces), whole[:84])
    assert not np.array_equal(whole, balanced_indices(LABELS, 0, 90, seed=1).numpy())


def test_class_weights_are_those_of_scikit_learn():
    weights = class_weights(LABELS, 4).numpy()
    assert np.allclose(weights[[0, 2, 3]], compute_class_weight("balanced", classes=np.unique(LABELS), y=LABELS))
    assert weights[1] == 0


@pytest.mark.parametrize(
    "settings", [{"balance": "weights"}, {"balance": "sampling"}, {"label_smoothing": 0.3}, {"dropout": 0.4}]
)
def test_settings_change_what_is_learnt_and_repeat_themselves(settings):
    images = blobs(12)
    images = images.subset(np.flatnonzero((images.labels == 0) | (np.arange(24) < 6)))

    def probabilities(**changes):
        training = TrainingSettings(steps=6, batch=8, **changes)
        torch.rand(1)  # whatever was drawn before does not matter
        return train_classifier(images, classical=False, network="tiny", training=training).predict(images.images)

    changed = probabilities(**settings)
    assert not np.array_equal(changed, probabilities())
    assert np.array_equal(changed, probabilities(**settings))


def test_balance_helps_the_rare_class():
    images = blobs(40, seed=3)
    few = images.subset(np.flatnonzero((images.labels == 0) | (np.arange(80) < 8)))
    rare = {}
    for balance in ("none", "weights", "sampling"):
        training = TrainingSettings(steps=8, batch=16, balance=balance, learning_rate=5e-3)
        predicted = train_classifier(few, classical=False, network="tiny", training=training, seed=1).predict(
            images.images
        )
        rare[balance] = predicted[images.labels == 1, 1].mean()
    assert min(rare["weights"], rare["sampling"]) > rare["none"] + 0.05


def test_global_randomness_is_left_alone():
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    train_classifier(blobs(4), classical=True, network="tiny", training=TrainingSettings(steps=2, batch=4))
    assert torch.equal(before, torch.rand(1))


def test_the_cosine_ends_at_zero_and_a_constant_rate_stays():
    cosine, constant = TrainingSettings(steps=40), TrainingSettings(steps=40, schedule="constant")
    factors = [cosine.learning_rate_factor(step) for step in range(41)]
    assert factors[:3] == [0.5, 1, 1] and factors[40] == pytest.approx(0)
    assert factors[21] == pytest.approx(0.5)
    assert [constant.learning_rate_factor(step) for step in (0, 1, 39)] == [0.5, 1, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps of a classifier must be 1 or more, not 0"),
        ({"batch": 1}, "batch of a classifier must be 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate of a classifier must be above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing of a classifier must be 0 or more and below 1"),
        ({"dropout": float("nan")}, "dropout of a classifier must be"),
        ({"balance": "weight"}, r"unknown balance 'weight' \(did you mean 'weights'\?\)"),
        ({"schedule": "cosin"}, r"unknown schedule 'cosin' \(did you mean 'cosine'\?\)"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(TrainingError, match=message):
        TrainingSettings(**settings)


def test_the_digest_of_weights_tells_classifiers_apart():
    def digest(seed: int, steps: int) -> str:
        training = TrainingSettings(steps=steps, batch=8)
        return train_classifier(blobs(12), classical=False, network="tiny", training=training, seed=seed).weights_digest

    assert digest(0, 3) == digest(0, 3)
    assert len({digest(0, 3), digest(1, 3), digest(0, 4)}) == 3

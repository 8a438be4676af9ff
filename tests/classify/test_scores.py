import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, f1_score, recall_score, roc_auc_score
from torchmetrics.functional.classification import multiclass_calibration_error

from image_sets import blobs
from sonosynth.classify.scores import brier_score, expected_calibration_error, score_predictions


@pytest.fixture(scope="module")
def predicted():
    test = blobs(20, classes=("a", "b", "c"))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    return test, probabilities, probabilities.argmax(axis=1)


def test_scores_agree_with_scikit_learn(predicted):
    test, probabilities, called = predicted
    scored = score_predictions(probabilities, test)
    assert scored["macro_f1"] == pytest.approx(f1_score(test.labels, called, average="macro"))
    assert scored["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(test.labels, called))
    assert scored["auc"] == pytest.approx(roc_auc_score(test.labels, probabilities, multi_class="ovr"))
    for c, name in enumerate("abc"):
        one, other = test.labels == c, called == c
        assert scored[f"f1_{name}"] == pytest.approx(f1_score(one, other))
        assert scored[f"sensitivity_{name}"] == pytest.approx(recall_score(one, other))
        assert scored[f"specificity_{name}"] == pytest.approx(recall_score(one, other, pos_label=False))


def test_brier_of_two_classes_is_twice_the_binary_one():
    rng = np.random.default_rng(1)
    p, labels = rng.random(40), rng.integers(0, 2, 40)
    assert brier_score(np.stack([1 - p, p], 1), labels) == pytest.approx(2 * brier_score_loss(labels, p))
    assert brier_score(np.eye(2)[[0, 1]], np.array([1, 0])) == 2


def test_calibration_error_agrees_with_torchmetrics_and_with_a_loop(predicted):
    import torch

    test, probabilities, called = predicted
    ours = expected_calibration_error(probabilities, test.labels)
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(test.labels.copy()), num_classes=3, n_bins=15, norm="l1"
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    top, total = probabilities.max(axis=1), 0.0
    for i in range(15):
        inside = (top > i / 15) & (top <= (i + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(top[inside].mean() - (called == test.labels)[inside].mean())
    assert ours == pytest.approx(total)
    assert expected_calibration_error(np.eye(3)[test.labels], test.labels) == 0


def test_a_class_without_test_images_is_left_out(predicted):
    test, probabilities, called = predicted
    there = np.flatnonzero(test.labels != 1)
    scored = score_predictions(probabilities[there], test.subset(there))
    per_class = f1_score(test.labels[there], called[there], labels=[0, 2], average=None)
    assert scored["macro_f1"] == pytest.approx(per_class.mean())
    assert not {"f1_b", "sensitivity_b", "specificity_b"} & set(scored)
    assert np.isfinite(list(scored.values())).all()

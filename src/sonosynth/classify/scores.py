"""Scores of predicted probabilities against labels."""

import numpy as np

from sonosynth.data.imageset import ImageSet

CALIBRATION_BINS = 15


def score_predictions(probabilities: np.ndarray, test: ImageSet) -> dict[str, float]:
    """Score predicted `probabilities` ``[n_test, n_classes]`` against the labels of `test`.

    The predicted class is the most probable one. Classes without test images are left out of averages, and have no
    value of their own.

    Returns:
        ``macro_f1``, the mean of ``f1_<class>``; ``balanced_accuracy``, the mean of ``sensitivity_<class>`` (recall);
        ``specificity_<class>`` of the class against the rest; ``auc`` of one class against the rest, macro average;
        ``brier`` (`brier_score`) and ``expected_calibration_error``. All are 0 to 1, but ``brier``, which is 0 to 2.
    """
    from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

    present, classes = np.unique(test.labels), np.arange(len(test.classes))
    predicted = probabilities.argmax(axis=1)
    counts = confusion_matrix(test.labels, predicted, labels=classes)
    f1 = f1_score(test.labels, predicted, labels=classes, average=None, zero_division=0)
    true, hit, called = counts.sum(axis=1), counts.diagonal(), counts.sum(axis=0)
    others = len(test) - true
    sensitivity = hit / np.maximum(true, 1)
    specificity = (others - called + hit) / np.maximum(others, 1)
    auc = [roc_auc_score(test.labels == c, probabilities[:, c]) for c in present]
    metrics = {"macro_f1": f1[present].mean()}
    metrics |= {f"f1_{test.classes[c]}": f1[c] for c in present}
    metrics |= {"balanced_accuracy": sensitivity[present].mean(), "auc": np.mean(auc)}
    metrics |= {f"sensitivity_{test.classes[c]}": sensitivity[c] for c in present}
    metrics |= {f"specificity_{test.classes[c]}": specificity[c] for c in present}
    metrics["brier"] = brier_score(probabilities, test.labels)
    metrics["expected_calibration_error"] = expected_calibration_error(probabilities, test.labels)
    return {name: float(value) for name, value in metrics.items()}


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over images of the sum over classes of (probability - truth)², 0 to 2.

    Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 78, 1950: with two
    classes it is twice the binary score that is often called by his name. Probabilities are float ``[N, C]``.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Return by how much the probability of the predicted class differs from how often it is right, 0 to 1.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3: images are binned by the probability
    of the predicted class into `bins` bins of equal width, each closed above; of each the absolute difference of mean
    probability and accuracy, weighted by its share of the images. With few images it is biased upwards.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(number, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))

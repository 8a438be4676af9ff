"""Feature likelihood divergence (FLD): how likely held-out images are under a density made of the synthetic ones.

Jiralerspong et al., "Feature Likelihood Divergence: Evaluating the Generalization of Generative Models Using Samples",
NeurIPS 2023, arXiv:2302.04440. A Gaussian around every synthetic image is widened or narrowed until the training images
are most likely; then held-out images are scored. Images that are far from real ones, too alike, or copies of training
images (whose Gaussians shrink to nothing) all make held-out images less likely. What differs from the authors' code:

* widths are fitted by expectation maximisation, to the same objective and from the same start, not by 50 steps of Adam,
  so that equal images give equal values;
* the density that values are measured against (Gaussians around one half of the training images, fitted to the other)
  keeps groups of images together, and is that of as many images as there are synthetic ones, where there are so many;
* features that are constant over the held-out images are left out.
"""

import numpy as np
from scipy.special import logsumexp

from sonosynth.core.errors import ClassError
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, min_group_count, sample_n, split_half, t_interval
from sonosynth.metrics.memorisation.membership import group_variance
from sonosynth.metrics.memorisation.three_sets import without_held_out
from sonosynth.metrics.metric import Interval, Metric, Value

STEPS = 50  # steps of expectation maximisation
_LOG_VARIANCES = (-40.0, 20.0)  # smallest and largest, as in the authors' code
_BACKGROUND = 0.9**2  # of the squared distances to the mean, as in the authors' code


def fit_log_variances(distances: np.ndarray, to_mean: np.ndarray, dimension: int) -> np.ndarray:
    """Return the log variances ``[M]`` of Gaussians at squared `distances` ``[N, M]`` that make N images most likely.

    A broad Gaussian around the mean of the images, at `to_mean` ``[N]``, stands beside them, so that no image decides
    alone.
    """
    m = distances.shape[1]
    log_variances = np.log((distances.min(axis=0) + 1e-3) / dimension)
    squares = np.column_stack([distances, _BACKGROUND * to_mean])
    log_variances = np.append(log_variances, 0.0)
    log_weights = np.append(np.full(m, -np.log(m)), 0.0)
    for _ in range(STEPS):
        joint = _log_densities(squares, log_variances, dimension) + log_weights
        shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        total = shares.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log((shares * squares).sum(axis=0) / (dimension * total))
        # A Gaussian that no image belongs to stays as it is.
        log_variances = np.where(total > 1e-300, np.clip(found, *_LOG_VARIANCES), log_variances)
    return np.asarray(log_variances[:-1])


def _log_densities(squares: np.ndarray, log_variances: np.ndarray, dimension: int) -> np.ndarray:
    return np.asarray(-0.5 * (squares * np.exp(-log_variances) + dimension * (log_variances + np.log(2 * np.pi))))


def negative_log_likelihoods(train: np.ndarray, centres: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Return what each of `held_out` ``[U, D]`` has under Gaussians around `centres` ``[M, D]``, per dimension ``[U]``.

    Widths are those under which `train` ``[N, D]`` is most likely.
    """
    if min(len(train), len(centres), len(held_out)) < 1:
        raise ClassError("feature likelihood divergence needs training, held-out and synthetic images")
    dimension = train.shape[1]
    to_mean = ((train - train.mean(axis=0)) ** 2).sum(axis=1)
    log_variances = fit_log_variances(_squared(train, centres), to_mean, dimension)
    joint = _log_densities(_squared(held_out, centres), log_variances, dimension) - np.log(len(centres))
    return np.asarray(-logsumexp(joint, axis=1) / dimension)


def _squared(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum((x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T, 0.0))


def _differences(c: Comparison) -> np.ndarray:
    """Return by how much each held-out image is less likely than under real images, times 100, ``[U]``."""
    held_out = c.space.features[c.held_out]
    deviation = held_out.std(axis=0, ddof=1)
    varying = deviation > 0
    train, unseen, synthetic = (
        (c.space.features[part][:, varying] - held_out[:, varying].mean(axis=0)) / deviation[varying]
        for part in (c.real, c.held_out, c.synthetic)
    )
    rng = numpy_generator(c.seed, "feature likelihood baseline")
    first, second = split_half(c.space.groups[c.real], rng)
    centres = first[sample_n(c.space.groups[c.real][first], min(len(c.synthetic), len(first)), rng)]
    real = negative_log_likelihoods(train[second], train[centres], unseen)
    return np.asarray(100 * (negative_log_likelihoods(train, synthetic, unseen) - real))


def _value(c: Comparison) -> Value:
    if missing := without_held_out(c):
        return missing
    if min_group_count([c.space.groups[c.real]]) < 2:
        return Value(None, "needs training images of at least 2 groups")
    return Value(float(_differences(c).mean()))


def _interval(c: Comparison, value: float) -> Interval:
    groups = c.space.groups[c.held_out]
    n_groups = min_group_count([groups])
    if n_groups < MIN_GROUPS:
        return None
    variance = group_variance((_differences(c) - value) / len(groups), groups)
    return t_interval(value, variance**0.5, n_groups)


METRICS = (
    Metric(
        name="feature_likelihood_divergence",
        part="distances",
        title="FLD",
        about="Feature likelihood divergence: how much less likely held-out images are under a density around "
        "synthetic images, fitted to training images, than under one around real images; 100 times nats per feature. "
        "Images far from real ones, few kinds of images, and copies of training images all raise it.",
        reference="Jiralerspong et al., NeurIPS 2023",
        direction="smaller",
        range=(None, None),
        compares="both",
        value=_value,
        interval=_interval,
        interval_method="variance over held-out images, groups as units, for given training and synthetic images",
    ),
)

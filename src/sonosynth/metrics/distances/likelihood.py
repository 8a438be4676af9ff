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
from sonosynth.metrics.intervals.split_half import of_each, split_half_interval
from sonosynth.metrics.intervals.subsampling import min_group_count, sample_groups, split_half
from sonosynth.metrics.memorisation.three_sets import without_held_out
from sonosynth.metrics.metric import Interval, Metric, Value

_DRAWS = 10  # halves an interval is made from: fewer than elsewhere, as each takes several fits
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
    joint = np.empty_like(squares)
    for _ in range(STEPS):
        np.multiply(squares, -0.5 * np.exp(-log_variances), out=joint)
        joint += log_weights - 0.5 * dimension * log_variances
        joint -= joint.max(axis=1, keepdims=True)
        np.exp(joint, out=joint)
        one_over_sums = 1 / joint.sum(axis=1)
        total = one_over_sums @ joint
        joint *= squares
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log(one_over_sums @ joint / (dimension * total))
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
    lengths_x, lengths_y = (np.einsum("nd,nd->n", rows, rows) for rows in (x, y))
    return np.asarray(np.maximum(lengths_x[:, None] + lengths_y - 2 * (x @ y.T), 0.0))


def _likelihood_divergence(c: Comparison) -> float:
    """Return by how much held-out images are less likely than under real images, on average, times 100."""
    train, synthetic, held_out = _normalised(c.whole, c.held_out, c.real, c.synthetic, c.held_out)
    of_synthetic = negative_log_likelihoods(train, synthetic, held_out).mean()
    return float(
        100 * (of_synthetic - c.whole.shared(_of_real, c.real.tobytes(), c.held_out.tobytes(), len(synthetic)))
    )


def _normalised(c: Comparison, held_out: np.ndarray, *sets: np.ndarray) -> list[np.ndarray]:
    """Return the features of `sets` of images, with mean 0 and standard deviation 1 over held-out images."""
    features = c.space.features[held_out]
    deviation = features.std(axis=0, ddof=1)
    varying = deviation > 0
    kept = slice(None) if varying.all() else varying  # a slice copies nothing
    mean = features[:, kept].mean(axis=0)
    return [(c.space.features[images][:, kept] - mean) / deviation[kept] for images in sets]


def _of_real(c: Comparison, real: bytes, held_out: bytes, most: int) -> float:
    """Return the mean under a density of at most so many images of one half of the training images, fitted to the rest.

    Images are given by the bytes of their indices, so that draws with the same ones share what is found.
    """
    train, unseen = (np.frombuffer(images, dtype=c.real.dtype) for images in (real, held_out))
    rng, units = numpy_generator(c.seed, "feature likelihood baseline"), c.units_of(train)
    first, second = split_half(units, rng)
    centres = first[sample_groups(units.part(first), min(most / len(first), 1), rng)]
    sets = _normalised(c, unseen, train[second], train[centres], unseen)
    return float(negative_log_likelihoods(*sets).mean())


def _value(c: Comparison) -> Value:
    if missing := without_held_out(c):
        return missing
    if min_group_count([c.space.groups[c.real]]) < 2:
        return Value(None, "needs training images of at least 2 groups")
    return Value(_likelihood_divergence(c))


def _interval(c: Comparison, value: float) -> Interval:
    sets = (c.real, c.synthetic, c.held_out)

    def divergence(*parts: np.ndarray) -> float:
        return _likelihood_divergence(c.draw(*(images[part] for images, part in zip(sets, parts, strict=True))))

    units, rng = [c.units_of(images) for images in sets], numpy_generator(c.seed, "feature likelihood interval")
    return split_half_interval(value, of_each(divergence), units, rng, _DRAWS, extrapolate=True)


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
        interval_method="disjoint halves and quarters of all three sets, whole groups",
        most_draws=10,
    ),
)

"""Fréchet radiomics distance (FRD): images compared by first-order and texture statistics instead of a network.

Konz, Osuala et al., "Fréchet Radiomic Distance (FRD): A Versatile Metric for Comparing Medical Imaging Datasets",
arXiv:2412.01496. Radiomic features of each image are z-normalised by mean and standard deviation of the reference set,
and the Fréchet distance between the two sets of features is taken. What differs from the published package:

* features are computed here with scikit-image, not PyRadiomics: 15 first-order statistics and 7 of grey-level
  co-occurrence (one pixel, four directions, averaged), and none of run lengths, size zones or tone differences;
* of the whole image and of its Laplacians of Gaussians (2 to 5 pixels), without the wavelet images: 110 features;
* the value is the squared Fréchet distance; the paper gives the logarithm of its root, which has no multiples.

Values may therefore not be compared with published ones, only with the real baseline beside them.
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.feature import graycomatrix

from sonosynth.core.cache import cache_file, cached_array
from sonosynth.metrics.comparison import Comparison, Space
from sonosynth.metrics.distances.frechet import frechet_distance, frechet_interval
from sonosynth.metrics.metric import Interval, Metric
from sonosynth.metrics.neighbours import checked_features
from sonosynth.metrics.threads import single_threaded_blas

SIGMAS = (2.0, 3.0, 4.0, 5.0)  # widths of the Laplacians of Gaussians, in pixels
LEVELS = 32  # grey levels of co-occurrence matrices
_REACH = 64.0  # grey levels each way that the levels of a filtered image span
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
_I, _J = (level.ravel().astype(np.float64) for level in np.indices((LEVELS, LEVELS)))
_PAIRS = np.stack([(_I - _J) ** 2, np.abs(_I - _J), 1 / (1 + (_I - _J) ** 2)])  # of contrast and its fellows
_OF_LEVELS = np.stack([_I, _I**2, _I * _J])
_N_FEATURES = 22 * (1 + len(SIGMAS))
_CHUNK = 2**16  # pixels worked on at once, which a cache holds
_VERSION = 1  # of the features: raise it with any change to them


def radiomic_features(images: np.ndarray) -> np.ndarray:
    """Return first-order and co-occurrence statistics of uint8 ``[N, H, W]``, float64 ``[N, 110]``.

    For the image and each Laplacian of Gaussian: mean, standard deviation, skewness, excess kurtosis, minimum, 10th,
    25th, 50th, 75th and 90th percentile, maximum, mean absolute deviation, root mean square, entropy and uniformity of
    the grey levels; contrast, dissimilarity, homogeneity, energy, correlation, entropy and largest probability of their
    co-occurrence. Values that are not defined, such as the skewness of one grey, are 0.
    """

    step = max(1, _CHUNK // max(1, images[0].size)) if len(images) else 1
    with single_threaded_blas() as pool:
        found = pool.map(_of_images, (images[start : start + step] for start in range(0, len(images), step)))
        return np.concatenate([np.empty((0, _N_FEATURES)), *found])


def _of_images(images: np.ndarray) -> np.ndarray:
    grey = images.astype(np.float64)
    found = [_statistics(grey, (images // (256 // LEVELS)).astype(np.uint8))]
    for sigma in SIGMAS:
        around = (0, sigma, sigma)
        filtered = gaussian_filter(grey, around, order=(0, 2, 0), mode="nearest")
        filtered += gaussian_filter(grey, around, order=(0, 0, 2), mode="nearest")
        filtered *= sigma**2
        level = np.clip((filtered + _REACH) / (2 * _REACH) * LEVELS, 0, LEVELS - 1)
        found.append(_statistics(filtered, level.astype(np.uint8)))
    return np.concatenate(found, axis=1)


def _statistics(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the 22 statistics ``[N, 22]`` of float64 `values` and uint8 `levels`, both ``[N, H, W]``."""
    flat = values.reshape(len(values), -1)
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    centred, varies = flat - mean[:, None], deviation > 1e-9
    z = np.divide(centred, deviation[:, None], out=np.zeros_like(flat), where=varies[:, None])
    square = z * z
    bins = levels.reshape(len(levels), -1) + LEVELS * np.arange(len(levels))[:, None]
    share = np.bincount(bins.ravel(), minlength=LEVELS * len(levels)).reshape(-1, LEVELS) / levels[0].size
    joint = _co_occurrence(levels)
    contrast, dissimilarity, homogeneity = (_PAIRS @ joint).mean(axis=2).T
    of_level, of_square, of_product = (_OF_LEVELS @ joint).swapaxes(0, 1)
    spread, shared = of_square - of_level**2, of_product - of_level**2  # rows and columns are alike
    correlation = np.where(spread > 1e-15, shared / np.maximum(spread, 1e-15), 1.0).mean(axis=1)
    return np.column_stack([
        mean,
        deviation,
        (square * z).mean(axis=1),
        np.where(varies, (square * square).mean(axis=1) - 3, 0.0),
        np.quantile(np.sort(flat, axis=1), _QUANTILES, axis=1).T,
        np.abs(centred).mean(axis=1),
        np.sqrt((flat * flat).mean(axis=1)),
        _entropy(share),
        (share**2).sum(axis=1),
        contrast,
        dissimilarity,
        homogeneity,
        np.sqrt((joint**2).sum(axis=1)).mean(axis=1),
        correlation,
        _entropy(joint.reshape(len(joint), -1)) / len(_ANGLES),
        joint.max(axis=1).mean(axis=1),
    ])  # fmt: skip


def _co_occurrence(levels: np.ndarray) -> np.ndarray:
    """Return how often two levels of uint8 ``[N, H, W]`` are neighbours, as shares ``[N, LEVELS**2, 4]``."""
    found = [graycomatrix(one, [1], _ANGLES, LEVELS, symmetric=True, normed=True)[:, :, 0] for one in levels]
    return np.stack(found).reshape(len(levels), -1, len(_ANGLES))


def _entropy(shares: np.ndarray) -> np.ndarray:
    """Return the entropies of the last axis, in bits."""
    return np.asarray(-(shares * np.log2(shares, where=shares > 0, out=np.zeros_like(shares))).sum(axis=-1))


def frechet_radiomics_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared Fréchet distance of radiomic features `y` ``[M, D]`` to the reference `x` ``[N, D]``.

    Both are z-normalised by the means and standard deviations of `x`; features that are constant there are left out.
    """
    return frechet_distance(*_normalised(x, y))


def _normalised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = checked_features(x, y)
    deviations = x.std(axis=0)
    varying = deviations > 1e-9 * np.maximum(np.abs(x).max(axis=0), 1e-9)
    mean = x[:, varying].mean(axis=0)
    return (x[:, varying] - mean) / deviations[varying], (y[:, varying] - mean) / deviations[varying]


def _features(space: Space) -> np.ndarray:
    return np.concatenate([_cached(part.images, space.cache) for part in space.sets.values()])


def _cached(images: np.ndarray, cache: Path | None) -> np.ndarray:
    path = cache_file(cache, "radiomics", (_VERSION,), images) if cache else None
    return cached_array(path, (len(images), _N_FEATURES), np.float64, lambda: radiomic_features(images))


def _of_sets(c: Comparison) -> tuple[np.ndarray, np.ndarray]:
    features = c.space.shared(_features)
    return features[c.real], features[c.synthetic]


def _interval(c: Comparison, value: float) -> Interval:
    scaled = Comparison.of_features(*_normalised(*_of_sets(c)))
    return frechet_interval(value, scaled, c.units, c.seed)


METRICS = (
    Metric(
        name="frechet_radiomics_distance",
        part="distances",
        title="FRD",
        about="Fréchet radiomics distance: between the means and covariances of 110 first-order and texture "
        "statistics, each divided by its deviation over the real images. Squared, and with fewer features than the "
        "published package.",
        reference="Konz et al., arXiv:2412.01496",
        direction="smaller",
        space="pixels",
        value=lambda c: frechet_radiomics_distance(*_of_sets(c)),
        interval=_interval,
        interval_method="disjoint halves and quarters, whole groups",
        prepare=lambda c: c.space.shared(_features),
        ratio=True,
    ),
)

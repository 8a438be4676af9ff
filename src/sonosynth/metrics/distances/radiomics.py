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
from scipy.ndimage import gaussian_laplace
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
_I, _J = (level.ravel().astype(np.float64) for level in np.indices((LEVELS, LEVELS)))
_PAIRS = np.stack([(_I - _J) ** 2, np.abs(_I - _J), 1 / (1 + (_I - _J) ** 2)])  # of contrast and its fellows
_OF_LEVELS = np.stack([_I, _I**2, _I * _J])
_N_FEATURES = 22 * (1 + len(SIGMAS))
_VERSION = 1  # of the features: raise it with any change to them


def radiomic_features(images: np.ndarray) -> np.ndarray:
    """Return first-order and co-occurrence statistics of uint8 ``[N, H, W]``, float64 ``[N, 110]``.

    For the image and each Laplacian of Gaussian: mean, standard deviation, skewness, excess kurtosis, minimum, 10th,
    25th, 50th, 75th and 90th percentile, maximum, mean absolute deviation, root mean square, entropy and uniformity of
    the grey levels; contrast, dissimilarity, homogeneity, energy, correlation, entropy and largest probability of their
    co-occurrence. Values that are not defined, such as the skewness of one grey, are 0.
    """

    def of_image(image: np.ndarray) -> list[float]:
        grey = image.astype(np.float64)
        found = _statistics(grey, (image // (256 // LEVELS)).astype(np.uint8))
        for sigma in SIGMAS:
            filtered = sigma**2 * gaussian_laplace(grey, sigma, mode="nearest")
            level = np.clip((filtered + _REACH) / (2 * _REACH) * LEVELS, 0, LEVELS - 1)
            found += _statistics(filtered, level.astype(np.uint8))
        return found

    with single_threaded_blas() as pool:
        return np.array(list(pool.map(of_image, images)), dtype=np.float64).reshape(len(images), _N_FEATURES)


def _statistics(values: np.ndarray, levels: np.ndarray) -> list[float]:
    mean, deviation = values.mean(), values.std()
    z = (values - mean) / deviation if deviation > 1e-9 else np.zeros_like(values)
    share = np.bincount(levels.ravel(), minlength=LEVELS) / levels.size
    joint = graycomatrix(levels, [1], _ANGLES, LEVELS, symmetric=True, normed=True)[:, :, 0].reshape(-1, len(_ANGLES))
    contrast, dissimilarity, homogeneity = (_PAIRS @ joint).mean(axis=1)
    spread = _OF_LEVELS[1] @ joint - (_OF_LEVELS[0] @ joint) ** 2  # rows and columns are alike
    shared = _OF_LEVELS[2] @ joint - (_OF_LEVELS[0] @ joint) ** 2
    correlation = np.where(spread > 1e-15, shared / np.maximum(spread, 1e-15), 1.0).mean()
    return [
        mean,
        deviation,
        (z**3).mean(),
        (z**4).mean() - 3 if deviation > 1e-9 else 0.0,
        *np.quantile(values, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]),
        np.abs(values - mean).mean(),
        np.sqrt((values**2).mean()),
        _entropy(share),
        (share**2).sum(),
        contrast,
        dissimilarity,
        homogeneity,
        np.sqrt((joint**2).sum(axis=0)).mean(),
        correlation,
        _entropy(joint) / len(_ANGLES),
        joint.max(axis=0).mean(),
    ]


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())


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

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import kurtosis, skew
from skimage.feature import graycomatrix, graycoprops

from sonosynth.core.errors import ClassError
from sonosynth.metrics.distances.radiomics import frechet_radiomics_distance, radiomic_features
from sonosynth.phantoms.phantom import phantom


def test_first_order_statistics_are_those_of_numpy_and_scipy():
    image = phantom(1, 64).images[0]
    found, values = radiomic_features(image[None])[0], image.astype(float).ravel()
    share = np.bincount(image.ravel() // 8, minlength=32) / image.size
    expected = [
        values.mean(),
        values.std(),
        skew(values),
        kurtosis(values),
        *np.percentile(values, [0, 10, 25, 50, 75, 90, 100]),
        np.abs(values - values.mean()).mean(),
        np.sqrt((values**2).mean()),
        -sum(p * np.log2(p) for p in share if p),
        (share**2).sum(),
    ]
    assert found[:15] == pytest.approx(expected, rel=1e-9)


def test_co_occurrence_is_counted_pair_by_pair():
    image = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    levels, contrasts, largest = image // 8, [], []
    for down, right in ((0, 1), (1, -1), (1, 0), (1, 1)):
        pairs = np.zeros((32, 32))
        for row in range(9):
            for column in range(7):
                if 0 <= row + down < 9 and 0 <= column + right < 7:
                    a, b = levels[row, column], levels[row + down, column + right]
                    pairs[a, b] += 1
                    pairs[b, a] += 1
        pairs /= pairs.sum()
        contrasts.append(sum(pairs[a, b] * (a - b) ** 2 for a in range(32) for b in range(32)))
        largest.append(pairs.max())
    found = radiomic_features(image[None])[0]
    assert found[15] == pytest.approx(np.mean(contrasts)) and found[21] == pytest.approx(np.mean(largest))


def test_distance_is_that_of_z_normalised_features():
    rng = np.random.default_rng(0)
    x, y = rng.normal(3, [1, 5, 0.1, 2], (80, 4)), rng.normal(3.2, [2, 5, 0.1, 2], (70, 4))
    x, y = np.column_stack([x, np.ones(80)]), np.column_stack([y, np.ones(70)])  # the last says nothing
    a, b = ((z[:, :4] - x[:, :4].mean(axis=0)) / x[:, :4].std(axis=0) for z in (x, y))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_radiomics_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_radiomics_distance(x * 7 + 2, y * 7 + 2) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ClassError, match="at least 2"):
        frechet_radiomics_distance(x, y[:1])


def test_blank_and_single_grey_images_have_finite_features():
    assert np.isfinite(radiomic_features(np.stack([np.zeros((32, 32)), np.full((32, 32), 90)]).astype(np.uint8))).all()


@pytest.mark.long
def test_narrower_dynamic_range_is_far_and_other_phantoms_are_near():
    real, other = (radiomic_features(phantom(40, 64, seed, ("benign",)).images) for seed in (0, 1))
    settings = {"dynamic_range_db": (30.0, 36.0)}
    narrow = radiomic_features(phantom(40, 64, 2, ("benign",), settings=settings).images)
    assert frechet_radiomics_distance(real, narrow) > 2 * frechet_radiomics_distance(real, other)


def test_texture_statistics_are_those_of_scikit_image():
    image = phantom(1, 64).images[0]
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(image // 8, [1], angles, 32, symmetric=True, normed=True)
    names = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
    expected = [graycoprops(pairs, name).mean() for name in names]
    assert radiomic_features(image[None])[0, 15:20] == pytest.approx(expected, rel=1e-9)

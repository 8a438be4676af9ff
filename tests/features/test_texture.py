import numpy as np
import pytest
from PIL import Image

from sonosynth.features.extract import load_features
from sonosynth.features.texture import (
    _DEVIATIONS,
    _MEANS,
    DIRECTIONS,
    DISTANCES,
    PATTERNS,
    STATISTICS,
    TextureFeatures,
    texture_statistics,
)
from sonosynth.phantoms.phantom import phantom

PAIRS = [f"{direction} {distance}" for distance in DISTANCES for direction, _ in DIRECTIONS]
NAMES = [f"{statistic} {pair}" for statistic in STATISTICS for pair in PAIRS]
NAMES += [f"pattern {points},{radius} {k}" for points, radius in PATTERNS for k in range(points + 2)]


def named(image: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, texture_statistics(image), strict=True))


def test_names_and_units_are_as_many_as_features():
    assert len(NAMES) == len(set(NAMES)) == TextureFeatures.dimension == len(_MEANS) == len(_DEVIATIONS) == 64
    assert (_DEVIATIONS > 0).all()


def test_co_occurrence_is_what_its_definitions_give():
    image = np.random.default_rng(0).integers(0, 256, (12, 15), dtype=np.uint8)
    levels = (image // 8).astype(float)
    found = named(image)
    for name, one, other in (
        ("lateral 2", levels[:, :-2], levels[:, 2:]),
        ("axial 4", levels[:-4], levels[4:]),
    ):
        a, b = (np.concatenate([x.ravel(), y.ravel()]) for x, y in ((one, other), (other, one)))
        _, counts = np.unique(np.stack([a, b]), axis=1, return_counts=True)
        shares = counts / counts.sum()
        expected = {
            "contrast": np.sqrt(((a - b) ** 2).mean()),
            "dissimilarity": np.abs(a - b).mean(),
            "homogeneity": (1 / (1 + (a - b) ** 2)).mean(),
            "energy": np.sqrt((shares**2).sum()),
            "correlation": np.corrcoef(a, b)[0, 1],
            "entropy": -(shares * np.log2(shares)).sum(),
        }
        assert {k: found[f"{k} {name}"] for k in expected} == pytest.approx(expected, rel=1e-9)


def test_local_binary_patterns_by_hand():
    flat = named(np.full((8, 8), 90, np.uint8))
    assert flat["pattern 8,1 8"] == flat["pattern 16,2 16"] == pytest.approx(1)  # no point is darker than the centre
    stripes = np.zeros((42, 42), np.uint8)
    stripes[5::8] = 200
    shares = np.array([named(stripes)[f"pattern 8,1 {k}"] ** 2 for k in range(10)])
    # Rows of a stripe: bright on both sides, dark above and below, so four changes on the circle. All others: no point
    # is darker than the centre.
    assert shares[9] == pytest.approx(5 / 40)
    assert shares[8] == pytest.approx(35 / 40)


def test_axial_and_lateral_are_not_confused():
    rows = np.repeat(np.random.default_rng(0).integers(0, 256, (64, 1), dtype=np.uint8), 64, axis=1)
    found = named(rows)
    assert found["contrast lateral 1"] == 0 < found["contrast axial 1"]
    turned = named(rows.T)
    assert turned["contrast axial 1"] == 0 < turned["contrast lateral 1"]


def test_features_are_centred_and_scaled_by_constants_whatever_else_is_in_the_set():
    images = phantom(3, 128, seed=0).images
    extractor = load_features("texture")
    found = extractor(images)
    np.testing.assert_array_equal(extractor(images[:1])[0], found[0])
    expected = (texture_statistics(images[0]) - _MEANS) / _DEVIATIONS
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
    assert np.abs(found).max() < 100


def test_an_image_without_texture_has_finite_features():
    assert np.isfinite(load_features("texture")(np.zeros((1, 32, 32), np.uint8))).all()


@pytest.mark.long
@pytest.mark.real_images
def test_units_are_those_of_the_images_they_are_said_to_be_of(real_images):
    paths = sorted((real_images / "Dataset_BUSI_with_GT").glob("*/*).png"))[::8]
    images = [Image.open(path).convert("L").resize((128, 128), Image.Resampling.BICUBIC) for path in paths]
    found = load_features("texture")(np.stack([np.asarray(image) for image in images]))
    assert len(found) > 90
    assert np.abs(found.mean(axis=0)).max() < 0.4
    assert np.abs(np.log(found.std(axis=0))).max() < 0.5

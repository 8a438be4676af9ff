import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from sonosynth.metrics.neighbours import Neighbours, squared_distances


def features(n: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dimension))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_are_the_distances_of_scipy_also_far_from_the_origin(offset):
    x = (features(60, 300, 0) + offset).astype(np.float32)
    found, expected = squared_distances(x), cdist(x.astype(np.float64), x.astype(np.float64), "sqeuclidean")
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.diag(found) == 0).all()
    assert (found == found.T).all()


def test_copies_have_distance_zero_and_the_very_distances_of_their_originals():
    x = features(300, 257, 0)
    copied = np.random.default_rng(1).permutation(300)[:100]
    found = squared_distances(np.concatenate([x, x[copied]]))
    assert (found[copied, np.arange(300, 400)] == 0).all()
    assert (found[copied] == found[300:]).all()
    assert (found[:, copied] == found[:, 300:]).all()


def test_zero_of_either_sign_is_the_same_feature():
    x = np.array([[0.0, 0.1], [-0.0, 0.1], [0.3, 0.7]])
    found = squared_distances(x)
    assert found[0, 1] == 0
    assert (found[0] == found[1]).all()


def test_wrong_features_are_refused():
    with pytest.raises(ValueError, match=r"finite \[N, D\]"):
        squared_distances(np.zeros(5))
    with pytest.raises(ValueError, match=r"finite \[N, D\]"):
        squared_distances(np.array([[0.0], [np.inf]]))


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(st.integers(2, 120), st.data())
def test_radii_in_a_part_are_those_without_the_other_images(m, data):
    distances = squared_distances(features(m, 3, m + 1))
    near = Neighbours(distances)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    part = np.sort(rng.permutation(m)[: data.draw(st.integers(2, m))])
    k = data.draw(st.integers(1, len(part) - 1))
    alone = distances[np.ix_(part, part)]
    assert (near.radii(part, k) == np.sort(alone, axis=1)[:, k]).all()
    assert (near.radii(np.arange(m), 1) == np.sort(distances, axis=1)[:, 1]).all()


def test_a_part_that_is_far_from_all_others_in_the_order_is_still_found():
    crowd = features(500, 2, 0) * 1e-3
    distances = squared_distances(np.concatenate([crowd, crowd[:6] + 50 * np.arange(1, 7)[:, None]]))
    part = np.array([0, *range(500, 506)])
    expected = np.sort(distances[np.ix_(part, part)], axis=1)[:, 2]
    assert (Neighbours(distances).radii(part, 2) == expected).all()


@pytest.mark.parametrize("k", [0, 4])
def test_no_such_neighbour_is_an_error(k):
    near = Neighbours(squared_distances(features(9, 2, 0)))
    with pytest.raises(ValueError, match="among 4 images it must be from 1 to 3"):
        near.radii(np.arange(4), k)

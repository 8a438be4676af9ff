import hashlib

import numpy as np
import torch

from sonosynth.features.extract import load_features
from sonosynth.features.random_conv import RandomConvolutions


def test_weights_are_the_same_everywhere():
    # Of integers that numpy guarantees, by operations that IEEE 754 rounds exactly: a change is a new version.
    weights = b"".join(weight.detach().numpy().astype("<f4").tobytes() for weight in RandomConvolutions().weights)
    assert hashlib.sha256(weights).hexdigest() == "cdace4fef7cd21fc64fca7d4192c5fc833c9a22fb548540d3c85759d5f2724fb"


def test_weights_are_uniform_within_the_published_bound_and_differ_between_layers():
    for weight in RandomConvolutions().weights:
        scaled = weight.detach().numpy().ravel() * np.sqrt(weight[0].numel() / 6)
        assert np.abs(scaled).max() <= 1
        assert abs(scaled.mean()) < 5 / np.sqrt(3 * scaled.size)
        assert abs((scaled**2).mean() * 3 - 1) < 5 / np.sqrt(scaled.size)
    first, second = (RandomConvolutions().weights[i].detach().numpy().ravel()[:400] for i in (0, 1))
    assert abs(np.corrcoef(first * 4, second)[0, 1]) < 0.2


def test_a_number_by_hand():
    weight = RandomConvolutions().weights[0].detach().numpy()[:, 0]
    x = np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)
    padded = np.pad(x, 2)
    maps = [[(padded[i : i + 5, j : j + 5] * weight).sum((1, 2)) for j in (0, 2, 4)] for i in (0, 2, 4)]
    expected = np.maximum(maps, 0).mean((0, 1))
    found = RandomConvolutions()(torch.from_numpy(x)[None, None]).detach().numpy()
    assert found.shape == (1, 240)
    np.testing.assert_allclose(found[0, :16], expected, rtol=1e-4)


def test_it_tells_images_apart():
    rng = np.random.default_rng(0)
    fine, coarse = (rng.integers(0, 256, (4, s, s), dtype=np.uint8) for s in (128, 32))
    found = load_features("random-conv")(np.concatenate([fine, coarse.repeat(4, 1).repeat(4, 2)]))
    assert np.linalg.norm(found[:4].mean(0) - found[4:].mean(0)) > 3 * found[:4].std(0).max()

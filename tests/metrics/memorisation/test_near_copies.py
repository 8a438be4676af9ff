from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest

from sonosynth.core.errors import ClassError, FeatureError
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.groups import with_groups
from sonosynth.data.scan import decode_image, read_source
from sonosynth.metrics.memorisation.near_copies import (
    MAX_THRESHOLD,
    MIN_REAL,
    copy_share,
    copy_threshold,
    near_copies,
)
from sonosynth.metrics.memorisation.similarity import _coarse_similarity
from sonosynth.phantoms.phantom import phantom

pytestmark = pytest.mark.long


def moved(image: np.ndarray, down: int, right: int) -> np.ndarray:
    height, width = image.shape
    wide = np.pad(image, ((abs(down),) * 2, (abs(right),) * 2), mode="edge")
    return wide[abs(down) - down :, abs(right) - right :][:height, :width]


def changed(kind: str, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    reach = len(image) // 10
    down, right = rng.integers(-reach, reach + 1, 2)
    noisy = image + rng.normal(0, 8, image.shape)
    ways = {
        "copied": image,
        "flipped": image[:, ::-1],
        "shifted": moved(image, down, right),
        "noised": noisy,
        "brighter": image * 1.15,
        "darker": image * 0.85,
        "blurred": gaussian_filter(image.astype(float), len(image) / 100),
        "all": moved(noisy[:, ::-1], down, right) * 0.9,
    }
    return np.clip(ways[kind], 0, 255).astype(np.uint8)


KINDS = ("copied", "flipped", "shifted", "noised", "brighter", "darker", "blurred", "all")


def sets(px: int, *per_class: int) -> tuple[np.ndarray, ...]:
    return tuple(phantom(n, px, seed=seed).images for seed, n in enumerate(per_class))


@pytest.fixture(scope="module")
def phantoms() -> tuple[np.ndarray, ...]:
    """42 training, 24 held-out and 100 fresh images."""
    train, held_out, fresh = sets(64, 14, 8, 34)
    return train, held_out, fresh[:100]


@pytest.mark.long
@pytest.mark.parametrize("with_held_out", [True, False])
def test_what_was_found_is_kept_and_nothing_is_compared_twice(phantoms, tmp_path, monkeypatch, with_held_out):
    train, held_out, fresh = phantoms
    others = held_out if with_held_out else None
    groups = np.arange(len(train)) // 2
    plain = near_copies(train, fresh, others, groups)
    near_copies(train, fresh, others, groups, tmp_path)
    monkeypatch.setattr("sonosynth.metrics.memorisation.similarity._detail", lambda *_: pytest.fail("compared again"))
    kept = near_copies(train, fresh, others, groups, tmp_path)
    assert kept.threshold == plain.threshold
    for name in ("training", "held_out", "real", "from_training", "from_held_out"):
        first, again = getattr(plain, name), getattr(kept, name)
        if first is None:
            assert again is None
            continue
        for column in ("nearest", "similarity", "mirrored"):
            assert getattr(again, column).dtype == getattr(first, column).dtype
            np.testing.assert_array_equal(getattr(again, column), getattr(first, column))
    with pytest.raises(pytest.fail.Exception, match="compared again"):
        near_copies(train, 255 - fresh, others, groups, tmp_path)
    if not with_held_out:
        with pytest.raises(pytest.fail.Exception, match="compared again"):
            near_copies(train, fresh, others, groups // 2, tmp_path)


def test_kept_matches_that_are_damaged_are_refused(phantoms, tmp_path):
    train, held_out, fresh = phantoms
    near_copies(train, fresh, held_out, cache=tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FeatureError, match="remove the file"):
        near_copies(train, fresh, held_out, cache=tmp_path)


@pytest.mark.parametrize("with_held_out", [True, False])
def test_fresh_phantoms_are_not_accused(phantoms, with_held_out):
    train, held_out, fresh = phantoms
    found = near_copies(train, fresh, held_out if with_held_out else None)
    assert found.calibrated_on == ("held-out" if with_held_out else "train")
    assert not found.copied.any()
    assert found.real_share == 0


@pytest.mark.parametrize("percent", [1, 5, 20])
def test_planted_copies_are_found_at_their_rate(phantoms, percent):
    train, held_out, fresh = phantoms
    rng = numpy_generator(0, "copies", percent)
    sources = rng.permutation(len(train))[:percent]
    kinds = rng.permutation(np.resize(KINDS, percent))
    synthetic = fresh.copy()
    synthetic[:percent] = [changed(kind, train[i], rng) for kind, i in zip(kinds, sources, strict=True)]
    found = near_copies(train, synthetic, held_out)
    assert found.copied.tolist() == [True] * percent + [False] * (100 - percent)
    assert (found.training.nearest[:percent] == sources).all()


@pytest.mark.long
@pytest.mark.parametrize("px", [64, 128])
def test_every_kind_of_copy_is_clear_of_the_ceiling(phantoms, px):
    train, held_out, fresh = phantoms if px == 64 else sets(px, 8, 7, 2)
    rng = numpy_generator(1, "copies", px)
    for kind in KINDS:
        sources = rng.permutation(len(train))[:6]
        copies = np.stack([changed(kind, train[i], rng) for i in sources])
        found = near_copies(train, np.concatenate([copies, fresh[:4]]), held_out)
        assert found.copied.tolist() == [True] * 6 + [False] * 4, kind
        assert (found.training.nearest[:6] == sources).all(), kind
        assert (found.training.mirrored[:6] == (kind in ("flipped", "all"))).all(), kind
        assert found.training.similarity[:6].min() > MAX_THRESHOLD + 0.05, kind


def test_gives_back_every_copy_from_the_side_of_the_real_images(phantoms):
    train, held_out, fresh = phantoms
    found = near_copies(train, np.concatenate([fresh[:9], held_out[3:5], train[7:8]]), held_out)
    assert found.from_training.nearest[7] == 11
    assert found.from_training.similarity[7] == pytest.approx(1, abs=1e-4)
    assert found.from_held_out.nearest[3:5].tolist() == [9, 10]
    assert found.held_out.nearest[9:11].tolist() == [3, 4]
    assert found.held_out.similarity[:9].max() < 0.6
    assert found.copied.tolist() == [False] * 11 + [True]  # a copy of a held-out image is none of a training image


def test_blurred_strangers_are_not_accused(phantoms):
    train, held_out, fresh = phantoms
    smooth = gaussian_filter(fresh.astype(float), (0, fresh.shape[1] / 60, fresh.shape[2] / 60)).astype(np.uint8)
    assert near_copies(train, smooth, held_out).copied.mean() <= 0.02


def test_images_of_one_group_do_not_set_the_threshold(phantoms):
    train, _, fresh = phantoms
    doubled = np.concatenate([train, train[:, :, ::-1]])
    groups = np.tile(np.arange(len(train)), 2)
    assert near_copies(doubled, fresh, train_groups=groups).threshold < 0.6
    unknown = near_copies(doubled, fresh)
    assert unknown.threshold == MAX_THRESHOLD
    assert unknown.real_share == 1


def test_shared_real_images_are_told_and_do_not_blind(phantoms):
    train, held_out, fresh = phantoms
    found = near_copies(train, np.concatenate([fresh, train[5:10]]), np.concatenate([held_out, train[:3]]))
    assert found.threshold == MAX_THRESHOLD
    assert found.copied.sum() == 5
    assert found.real_share == pytest.approx(3 / (len(held_out) + 3))


def test_blank_images_are_like_nothing(phantoms):
    train, held_out, _ = phantoms
    found = near_copies(train, np.full((2, *train.shape[1:]), 7, np.uint8), held_out)
    assert np.abs(found.training.similarity).max() < 0.1
    assert not found.copied.any()


def test_few_real_images_set_no_threshold(phantoms):
    train, held_out, fresh = phantoms
    few = near_copies(train[: MIN_REAL - 1], fresh[:3], held_out[: MIN_REAL - 1])
    assert few.threshold is None
    assert few.real_share is None
    assert not few.copied.any()
    assert near_copies(train[:2], fresh[:1], held_out).threshold is not None


def test_wrong_arrays_are_refused(phantoms):
    train, _, fresh = phantoms
    with pytest.raises(ClassError, match="at least 2 and 1"):
        near_copies(train[:1], fresh)
    with pytest.raises(ClassError, match="at least 2 and 1"):
        near_copies(train, fresh[:0])
    with pytest.raises(ValueError, match="uint8"):
        near_copies(train, fresh / 255)


def test_the_coarse_search_is_a_correlation_over_shifts():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.standard_normal((n, 16, 16))).float() for n in (3, 2))
    b[1, 1:, :-2] = a[2, :-1, 2:]
    expected = np.full((3, 2), -1.0)
    for i, j in np.ndindex(3, 2):
        for down in range(-2, 3):
            for right in range(-2, 3):
                x = a[i].numpy()[max(0, down) : 16 + min(0, down), max(0, right) : 16 + min(0, right)]
                y = b[j].numpy()[max(0, -down) : 16 + min(0, -down), max(0, -right) : 16 + min(0, -right)]
                expected[i, j] = max(expected[i, j], (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    assert _coarse_similarity(a, b).numpy() == pytest.approx(expected, abs=1e-5)
    assert expected[2, 1] == pytest.approx(1)


class TestThreshold:
    def test_is_the_tail_of_a_gumbel_distribution(self):
        values = np.random.default_rng(0).gumbel(0.3, 0.02, 100_000)
        assert copy_threshold(values[values < 0.4]) == pytest.approx(0.3 + 0.02 * 9.21, abs=0.01)

    def test_is_no_less_than_what_was_seen(self):
        assert copy_threshold(np.append(np.linspace(0.28, 0.32, 50), 0.7)) == 0.7

    def test_has_a_ceiling(self):
        assert copy_threshold(np.append(np.linspace(0.28, 0.32, 50), 0.99)) == MAX_THRESHOLD


class TestShare:
    @pytest.mark.parametrize("k", [0, 1, 7, 40])
    def test_agrees_with_scipy(self, k):
        expected = binomtest(k, 40).proportion_ci()
        assert copy_share(np.arange(40) < k) == (k / 40, pytest.approx((expected.low, expected.high)))

    def test_groups_count_not_images(self):
        copied, groups = np.repeat([True, False, False, False], 10), np.repeat(np.arange(4), 10)
        expected = binomtest(1, 4).proportion_ci()
        assert copy_share(copied, groups) == (0.25, pytest.approx((expected.low, expected.high)))

    def test_of_nothing_is_refused(self):
        with pytest.raises(ClassError, match="no images"):
            copy_share(np.empty(0, bool))


@pytest.mark.real_images
def test_held_out_real_images_are_not_accused(real_images):
    groups = Path(__file__).parents[3] / "results" / "2026-11-busi-audit" / "groups.csv"
    source, _ = with_groups(read_source(real_images / "Dataset_BUSI_with_GT"), groups, drop_conflicts=True)
    first = {item.group: item for item in source.items}
    chosen = numpy_generator(0, "groups").permutation(sorted(first))[:120]
    pictures = [Image.fromarray(decode_image(first[group]).grey) for group in chosen]
    images = np.stack([np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC)) for picture in pictures])
    found = near_copies(images[:50], images[80:], images[50:80])
    assert not found.copied.any()
    copies = images[80:].copy()
    copies[:2] = images[:2, :, ::-1]
    assert near_copies(images[:50], copies, images[50:80]).copied.tolist() == [True] * 2 + [False] * 38

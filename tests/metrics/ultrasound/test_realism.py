"""Measures of ultrasound realism: right on images made by formula, and selective on phantoms."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance as by_scipy
from threadpoolctl import threadpool_limits

from realism import BASES, CHANGES, RESOLVED, measure, unexpected
from sonosynth.core.errors import ClassError, FeatureError, SonosynthError
from sonosynth.metrics.intervals.subsampling import MIN_GROUPS, SamplingUnits
from sonosynth.metrics.ultrasound import measures
from sonosynth.metrics.ultrasound.measures import DEPTHS, FREQUENCIES, UltrasoundMeasures, ultrasound_measures
from sonosynth.metrics.ultrasound.realism import (
    METRICS,
    realism_intervals,
    realism_values,
    wasserstein_distance,
)
from sonosynth.phantoms.phantom import phantom

FWHM = 4 * np.sqrt(np.log(2))
"""Of the autocorrelation of white noise smoothed by a Gaussian, in standard deviations of the Gaussian."""


def to_images(x: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def smoothed(n: int, shape: tuple[int, int], axial: float, lateral: float, seed: int = 0) -> np.ndarray:
    """Gaussian noise of unit variance, ``[n, H, W]``."""
    noise = np.random.default_rng(seed).standard_normal((n, *shape))
    field = gaussian_filter(noise, (0, axial, lateral), mode="wrap")
    return field / field.std()


def rayleigh(n: int, size: int, sigma: float, dynamic_range_db: float, seed: int = 0) -> np.ndarray:
    """Log-compressed fully developed speckle, uint8 ``[n, size, size]``, white 20 dB above its power."""
    real, imaginary = (smoothed(n, (size, size), sigma, sigma, seed + s) for s in (0, 1000))
    level_db = 10 * np.log10((real**2 + imaginary**2) / 2)
    return to_images(255 * (1 + (level_db - 20) / dynamic_range_db))


def means(images: np.ndarray) -> dict[str, float]:
    found = ultrasound_measures(images)
    names = ("speckle_contrast", "nakagami_m", "axial_width", "lateral_width")
    return {name: float(getattr(found, name).mean()) for name in names}


class TestMeasures:
    @pytest.mark.parametrize("shape", [(128, 128), (160, 256), (64, 64)])
    @pytest.mark.parametrize(("axial", "lateral"), [(0.8, 1.0), (1.0, 0.8), (1.0, 1.0)])
    def test_widths_and_contrast_of_smoothed_noise_are_the_known_ones(self, shape, axial, lateral):
        found = means(to_images(128 + 20 * smoothed(12, shape, axial, lateral)))
        tolerance = 0.07 if min(shape) == 64 else 0.04
        assert found["axial_width"] == pytest.approx(FWHM * axial, rel=tolerance)
        assert found["lateral_width"] == pytest.approx(FWHM * lateral, rel=tolerance)
        assert found["speckle_contrast"] == pytest.approx(20, rel=1.5 * tolerance)

    def test_widths_grow_with_their_own_axis_alone(self):
        sigmas = (0.5, 0.8, 1.2, 1.6, 2.0)
        along = [means(to_images(128 + 20 * smoothed(6, (128, 128), s, 1.0))) for s in sigmas]
        axial, lateral = ([m[name] for m in along] for name in ("axial_width", "lateral_width"))
        assert (np.diff(axial) > 0.3).all()
        assert np.ptp(lateral) < 0.1

    @pytest.mark.parametrize("sigma", [0.8, 1.2])
    def test_rayleigh_envelope_has_shape_1_and_contrast_of_5_6_db(self, sigma):
        found = means(rayleigh(12, 256, sigma, 60.0))
        assert found["nakagami_m"] == pytest.approx(1, abs=0.08)
        assert found["speckle_contrast"] * 60 / 255 == pytest.approx(5.57, abs=0.15)

    def test_shape_follows_the_number_of_looks_and_the_assumed_dynamic_range(self):
        images = rayleigh(6, 128, 1.0, 50.0)
        assumed = [ultrasound_measures(images, db).nakagami_m.mean() for db in (40, 50, 60)]
        assert (np.diff(assumed) < -0.2).all()
        assert assumed[1] == pytest.approx(1, abs=0.1)

    def test_gain_and_slow_brightness_change_nothing_but_the_profile(self):
        speckle = 10 * smoothed(8, (128, 128), 0.8, 1.2)
        tilt = np.linspace(25, -25, 128)
        dark, light, tilted = (
            ultrasound_measures(to_images(level + speckle)) for level in (100, 150, 125 + tilt[:, None])
        )
        for name in ("speckle_contrast", "nakagami_m", "axial_width", "lateral_width"):
            np.testing.assert_allclose(getattr(light, name), getattr(dark, name), rtol=2e-3)
            np.testing.assert_allclose(getattr(tilted, name), getattr(dark, name), rtol=0.02)
        np.testing.assert_allclose(tilted.power_spectrum[:, :6], dark.power_spectrum[:, :6], atol=0.1)
        np.testing.assert_allclose(light.depth_profile, dark.depth_profile, atol=0.02)
        expected = tilt.reshape(DEPTHS, -1).mean(1)
        np.testing.assert_allclose((tilted.depth_profile - dark.depth_profile).mean(0), expected, atol=0.05)

    def test_compression_changes_contrast_and_shape_and_neither_widths_nor_spectrum(self):
        speckle = smoothed(8, (128, 128), 0.8, 1.2)
        soft, hard = (ultrasound_measures(to_images(128 + sd * speckle)) for sd in (10, 20))
        np.testing.assert_allclose(hard.speckle_contrast, 2 * soft.speckle_contrast, rtol=0.02)
        assert (hard.nakagami_m < soft.nakagami_m / 2).all()
        for name in ("axial_width", "lateral_width"):
            np.testing.assert_allclose(getattr(hard, name), getattr(soft, name), rtol=0.02)
        np.testing.assert_allclose(hard.power_spectrum[:, :6], soft.power_spectrum[:, :6], atol=0.2)

    @pytest.mark.parametrize(("sigma", "bands"), [(0.0, 13), (1.0, 8)])  # rounding adds to what is nearly empty
    def test_spectrum_is_that_of_the_filters(self, sigma, bands):
        images = to_images(128 + 25 * smoothed(12, (256, 256), sigma, sigma))
        found = ultrasound_measures(images).power_spectrum.mean(0)
        # White noise through the filter, and along either axis through one less the window of 256 / 32 pixels.
        f = np.fft.fftfreq(256)
        line = np.exp(-((2 * np.pi * sigma * f) ** 2)) * (1 - np.exp(-2 * (np.pi * 8 * f) ** 2)) ** 2
        power = np.outer(line, line)
        band = (np.hypot(f[:, None], f) / 0.05).astype(int)
        expected = [10 * np.log10(power[band == b].mean() / power.mean()) for b in range(bands)]
        np.testing.assert_allclose(found[1:bands], expected[1:], atol=0.25)

    def test_borders_and_clipped_areas_are_left_out(self):
        inner = to_images(128 + 20 * smoothed(6, (96, 96), 0.8, 1.2))
        framed = np.zeros((6, 128, 128), np.uint8)
        framed[:, 16:112, 16:112] = inner
        framed[:, 40:60, 30:60] = 255
        expected, found = means(inner), means(framed)
        assert found == {name: pytest.approx(value, rel=0.06) for name, value in expected.items()}
        unburned = np.zeros((6, 128, 128), np.uint8)
        unburned[:, 16:112, 16:112] = inner
        profiles = ultrasound_measures(unburned).depth_profile, ultrasound_measures(inner).depth_profile
        np.testing.assert_allclose(*profiles, atol=1e-3)

    def test_a_dark_bottom_is_depth_and_no_border(self):
        image = to_images(128 + 20 * smoothed(1, (128, 128), 0.8, 1.2))
        image[:, 96:] = 0
        profile = ultrasound_measures(image).depth_profile[0]
        assert profile[-8:] == pytest.approx(profile[-1], abs=1e-6)
        assert profile[:24].min() - profile[-1] > 100

    def test_images_without_speckle_have_no_measures_and_leave_others_alone(self):
        good = to_images(128 + 20 * smoothed(1, (64, 64), 0.8, 1.2))[0]
        ramp = np.broadcast_to(np.arange(64, dtype=np.uint8), (64, 64))
        images = np.stack([good, np.zeros_like(good), np.full_like(good, 255), np.full_like(good, 90), ramp])
        found = ultrasound_measures(images)
        np.testing.assert_array_equal(found.measured, [True, False, False, False, False])
        alone = ultrasound_measures(images[:1])
        for name, values in realism_values(found).items():
            assert np.isnan(values[1:]).all()
            np.testing.assert_allclose(values[0], realism_values(alone)[name][0], rtol=1e-4, atol=1e-4)

    def test_phantoms_of_64_px_are_measured_within_plausible_bounds(self):
        found = ultrasound_measures(phantom(4, 64).images)
        assert found.measured.all()
        assert ((found.speckle_contrast > 5) & (found.speckle_contrast < 25)).all()
        assert ((found.nakagami_m > 0.3) & (found.nakagami_m < 6)).all()
        assert ((found.axial_width > 0.6) & (found.axial_width < 4)).all()
        assert ((found.lateral_width > 0.6) & (found.lateral_width < 6)).all()
        assert found.power_spectrum.shape == (12, len(FREQUENCIES))
        assert (found.depth_profile[:, 0] > found.depth_profile[:, -1]).all()

    def test_does_not_depend_on_what_is_measured_at_once_and_is_fast(self):
        images = np.concatenate([rayleigh(60, 128, 1.0, 60.0), phantom(2, 128).images])
        with threadpool_limits(1):  # threads that wait for each other are counted as work
            began = time.process_time()
            together = realism_values(ultrasound_measures(images))
            assert time.process_time() - began < 3
        last = realism_values(ultrasound_measures(images[-6:]))
        for name in together:
            np.testing.assert_allclose(together[name][-6:], last[name], rtol=1e-4, atol=1e-3)

    def test_kept_measures_are_read_back_and_damaged_ones_are_named(self, tmp_path, monkeypatch):
        images = np.concatenate([phantom(2, 64).images, np.zeros((1, 64, 64), np.uint8)])
        first = realism_values(ultrasound_measures(images, cache=tmp_path))
        monkeypatch.setattr(measures, "_measure", lambda *_: pytest.fail("measured again"))
        for name, values in realism_values(ultrasound_measures(images, cache=tmp_path)).items():
            np.testing.assert_array_equal(values, first[name])
        (file,) = tmp_path.iterdir()
        file.write_bytes(b"damaged")
        with pytest.raises(FeatureError, match="remove the file") as caught:
            ultrasound_measures(images, cache=tmp_path)
        assert str(file) in str(caught.value)

    def test_wrong_images_and_ranges_are_refused(self):
        good = np.zeros((2, 64, 64), np.uint8)
        with pytest.raises(SonosynthError, match="31 × 64 pixels"):
            ultrasound_measures(good[:, :31])
        with pytest.raises(SonosynthError, match="dynamic_range_db: 0"):
            ultrasound_measures(good, 0)
        for wrong in (good.astype(float), good[0], good[:0]):
            with pytest.raises(ValueError, match="uint8"):
                ultrasound_measures(wrong)


class TestDistance:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 4), st.integers(0, 99))
    def test_is_the_wasserstein_distance_averaged_over_columns(self, n, m, columns, seed):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 9, (n, columns)).astype(float), rng.normal(4, 3, (m, columns))
        expected = np.mean([by_scipy(x[:, c], y[:, c]) for c in range(columns)])
        assert wasserstein_distance(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert wasserstein_distance(y, x) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    def test_of_a_shift_is_the_shift(self):
        x = np.random.default_rng(0).standard_normal((50, 3))
        assert wasserstein_distance(x, x) == 0
        assert wasserstein_distance(x, x + np.array([1.0, 2.0, 3.0])) == pytest.approx(2)

    def test_images_without_measures_are_left_out_and_too_few_refused(self):
        x, y = np.array([[1.0], [2.0], [np.nan]]), np.array([[2.0], [3.0]])
        assert wasserstein_distance(x, y) == pytest.approx(1)
        with pytest.raises(ClassError, match="2 and 1 images with speckle"):
            wasserstein_distance(x, y[:1])
        with pytest.raises(ValueError, match=r"\[N, P\]"):
            wasserstein_distance(x, y[:, 0])

    def test_every_measure_has_a_distance_and_a_unit(self):
        values = realism_values(ultrasound_measures(rayleigh(5, 64, 1.0, 60.0)))
        assert list(values) == [metric.name for metric in METRICS]
        assert len(UltrasoundMeasures.__dataclass_fields__) == len(METRICS)
        assert [v.shape[1] for v in values.values()] == [1, 1, 1, 1, len(FREQUENCIES), DEPTHS]


def realism_interval(x: np.ndarray, y: np.ndarray, groups: tuple[np.ndarray, np.ndarray], seed: int = 0):
    units = tuple(map(SamplingUnits.of, groups))
    return realism_intervals({"measure": (x, y)}, units, seed).get("measure")


class TestInterval:
    def test_covers_the_expected_distance_at_this_size(self):
        rng, n = np.random.default_rng(0), 50
        curves = np.linspace(1, 3, 5)
        pairs = [np.concatenate([rng.normal(0, 1, (n, 5)), rng.normal(0.6, 1.2, (n, 5)) * curves]) for _ in range(100)]
        groups = np.arange(n), np.arange(n)
        found = np.array([wasserstein_distance(values[:n], values[n:]) for values in pairs])
        intervals = [realism_interval(values[:n], values[n:], groups, seed) for seed, values in enumerate(pairs)]
        low, high = np.transpose(intervals)
        assert 0.9 <= ((low <= found.mean()) & (found.mean() <= high)).mean() <= 0.99
        assert (high - low).mean() < 2 * 1.96 * found.std() * 1.4

    def test_is_of_groups_and_repeats_by_seed(self):
        rng = np.random.default_rng(1)
        x, y = np.split(rng.standard_normal((80, 1)) + np.repeat([0.0, 1.0], 40)[:, None], 2)
        low, high = realism_interval(x, y, (np.arange(40), np.arange(40)), seed=3)
        assert 0 <= low < wasserstein_distance(x, y) < high
        assert realism_interval(x, y, (np.arange(40), np.arange(40)), seed=3) == (low, high)
        x, y = np.repeat(x, 4, axis=0), np.repeat(y, 4, axis=0)
        grouped, single = np.repeat(np.arange(40), 4), np.arange(160)
        whole, alone = (realism_interval(x, y, (groups, groups), seed=3) for groups in (grouped, single))
        assert whole[1] - whole[0] > 1.5 * (alone[1] - alone[0])

    def test_none_with_few_groups(self):
        x, y = np.random.default_rng(0).standard_normal((2, 10, 1))
        assert realism_interval(x, y, (np.arange(10), np.arange(10) % (MIN_GROUPS - 1))) is None
        assert realism_interval(x[:4], y, (np.arange(4), np.arange(10))) is None


CHANGED = ("frequency", "beam width", "dynamic range", "gain", "attenuation", "scatterer density")


@pytest.fixture(scope="module")
def changed() -> list[dict]:
    return measure(RESOLVED, 8, 80, 3, {name: CHANGES[name] for name in CHANGED})


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["frequency", "beam width", "dynamic range", "gain", "attenuation", "scatterer density"]
)
def test_each_change_of_a_phantom_moves_the_measures_that_it_should_and_no_others(changed, name):
    rows = [row for row in changed if row["changed"] == name]
    assert len(rows) == len(METRICS)
    wrong = unexpected(rows)
    assert not wrong, [f"{row['measure']} {row['expected']}: {row['in_baselines']:.2f} real baselines" for row in wrong]


def test_every_change_is_a_change():
    for base in BASES.values():
        for name, change in CHANGES.items():
            assert change.settings(base) != base, name

"""What B-mode images are like as ultrasound: speckle, resolution and depth, as a number or a curve per image.

The images are log-compressed with unknown settings, so no value here is compared with a textbook's: `realism` compares
those of two sets. Each measure is made to answer to as little else as physics allows. What is slow along either axis
(layers, shadows, gain) is taken away before speckle is looked at, and the contrast of speckle before its size and its
spectrum. Black borders, and places where grey levels are cut off at black or white, are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import scipy.fft
from scipy.ndimage import correlate1d

from sonosynth.core.cache import cache_file, cached_array
from sonosynth.core.errors import SonosynthError
from sonosynth.metrics.threads import single_threaded_blas

DYNAMIC_RANGE_DB = 60.0  # assumed between black and white where grey levels are decompressed
MIN_SIZE = 32  # images with fewer rows or columns are refused
MIN_AREA = 0.05  # an image with speckle on less than this share of it has no measures
DEPTHS = 32  # positions of a depth profile, from the top to the bottom
BAND = 0.05  # width of a band of the power spectrum, in cycles per pixel
FREQUENCIES = (np.arange(14) + 0.5) * BAND
"""Centres of the bands; the last also holds the corner, up to 0.707 cycles per pixel."""

_SCALE = 1 / 32  # standard deviation of the Gaussian windows, in shorter sides
_LEAST_SCALE = 3.0  # pixels
_BLACK, _WHITE = 2, 253  # clipped grey levels, as JPEG leaves them
_MOST_CLIPPED = 0.1  # share of clipped pixels in the window around one that is used
_BORDER = 3.0  # mean grey level of a row or column of a black border
_FLAT = 0.5  # grey levels; local contrast below is that of an area filled with one grey
_LEAST_SIGMA = 0.2  # pixels; the autocorrelation of speckle this fine is that of white noise
_LEAST_KEPT = 0.3  # share of the variance of speckle that taking away the trend is believed to leave, along an axis
_CHUNK = 2**19  # pixels worked on at once
_TINY = np.float32(1e-6)
_NUMBERS = 4  # measures that are one number per image; after them come the two curves
_VERSION = 1  # of all measures; what is kept of another is not used

Blur = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class UltrasoundMeasures:
    """The measures of N images, float64; those of images without speckle are NaN."""

    # [N], grey levels: standard deviation in small windows, the median over the image. With log-compression it stands
    # for the ratio of standard deviation and mean of the envelope, whatever the gain
    speckle_contrast: np.ndarray
    # [N]: shape of the Nakagami distribution of the decompressed envelope in small windows, the median over the image;
    # about 1 for fully developed speckle where the assumed dynamic range is the true one
    nakagami_m: np.ndarray
    axial_width: np.ndarray  # [N], pixels: full width at half maximum of the autocorrelation of speckle, along the beam
    lateral_width: np.ndarray  # [N], pixels: the same across the beam
    # [N, 14], dB: power density of speckle at `FREQUENCIES`, over that of white noise with the same total power
    power_spectrum: np.ndarray
    depth_profile: np.ndarray  # [N, 32], grey levels: mean at `DEPTHS` depths less the mean over all depths

    @property
    def measured(self) -> np.ndarray:
        """Bool ``[N]``: False for an image without speckle, one that is black, white or flat."""
        return np.asarray(np.isfinite(self.speckle_contrast))

    @classmethod
    def joined(cls, parts: Sequence["UltrasoundMeasures"]) -> "UltrasoundMeasures":
        """Return the measures of several sets, one after the other."""
        return cls(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls)))


def ultrasound_measures(
    images: np.ndarray, dynamic_range_db: float = DYNAMIC_RANGE_DB, cache: Path | None = None
) -> UltrasoundMeasures:
    """Return the measures of uint8 images ``[N, H, W]``, depth running down; each depends on its own image alone.

    The envelope is taken to be ``10^(grey / 255 * dynamic_range_db / 20)``. Its shape m is the square of the mean over
    the variance of the power (Nakagami, "The m-distribution", Statistical Methods in Radio Wave Propagation, 1960;
    Shankar, IEEE Trans. Ultrason. Ferroelectr. Freq. Control 47:727, 2000). The widths are the size of speckle as the
    autocovariance defines it (Wagner et al., "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics
    Ultrason. 30:156, 1983), here of log-compressed grey levels. What taking away the trend costs in width and variance
    is given back as for a Gaussian autocorrelation. Widths below 0.8 pixels cannot be told from each other.

    With `cache`, a directory, the measures are kept there, and read back the next time.
    """
    if images.dtype != np.uint8 or images.ndim != 3 or not len(images):
        raise ValueError(f"images must be uint8 [N, H, W] with N > 0, not {images.dtype} {list(images.shape)}")
    height, width = images.shape[1:]
    if min(height, width) < MIN_SIZE:
        raise SonosynthError(
            f"images of {height} × {width} pixels (height × width) are too small to measure speckle in; "
            f"use {MIN_SIZE} pixels or more"
        )
    if not 0 < dynamic_range_db < np.inf:
        raise SonosynthError(f"dynamic_range_db: {dynamic_range_db} dB between black and white; use a number above 0")
    step = max(1, _CHUNK // (height * width))

    def measure() -> np.ndarray:
        chunks = [images[start : start + step] for start in range(0, len(images), step)]
        with single_threaded_blas() as pool:
            return np.concatenate(list(pool.map(lambda chunk: _measure(chunk, dynamic_range_db), chunks)))

    path = cache_file(cache, "realism", (_VERSION, dynamic_range_db), images) if cache else None
    columns = _NUMBERS + len(FREQUENCIES) + DEPTHS
    values = cached_array(path, (len(images), columns), np.float64, measure)
    numbers, (spectrum, profile) = values.T[:_NUMBERS], np.split(values[:, _NUMBERS:], [len(FREQUENCIES)], axis=1)
    return UltrasoundMeasures(numbers[0], numbers[1], numbers[2], numbers[3], spectrum, profile)


def _measure(images: np.ndarray, dynamic_range_db: float) -> np.ndarray:
    """Return the attributes of `UltrasoundMeasures` in their order, side by side."""
    grey = images.astype(np.float32)
    scale = max(_SCALE * min(grey.shape[1:]), _LEAST_SCALE)
    down, across = (_gaussian(n, scale) for n in grey.shape[1:])

    def blur(x: np.ndarray) -> np.ndarray:
        return np.asarray(down @ x @ across.T)

    def less_trend(x: np.ndarray, smooth: Blur) -> np.ndarray:
        return np.asarray(used * (x - smooth(used * x) / (smooth(used) + _TINY)))

    top, bottom, inside = _content(grey)
    clipped = (~inside | (grey <= _BLACK) | (grey >= _WHITE)).astype(np.float32)
    used = (inside & (blur(clipped) <= _MOST_CLIPPED)).astype(np.float32)
    detail = less_trend(less_trend(grey, lambda x: x @ across.T), lambda x: down @ x)
    deviation = np.sqrt(blur(detail**2) / (blur(used) + _TINY))
    used *= deviation > _FLAT
    detail *= used
    normal = detail / np.maximum(deviation, _FLAT)
    axial, kept_down = _width(normal, used, scale)
    lateral, kept_across = _width(normal.swapaxes(1, 2), used.swapaxes(1, 2), scale)
    restore = (1 / np.sqrt(kept_down * kept_across)).astype(np.float32)[:, None, None]
    values = (
        _median(deviation * restore, used),
        _median(_nakagami(detail * restore, used, blur, dynamic_range_db), used),
        axial,
        lateral,
        _spectrum(normal),
        _depth_profile(grey, top, bottom, inside),
    )
    blank = used.mean((1, 2)) < MIN_AREA
    joined = np.column_stack(values).astype(np.float64)
    joined[blank] = np.nan
    return joined


def _gaussian(n: int, sigma: float) -> np.ndarray:
    """Return the matrix ``[n, n]`` of weighted means around each of n samples; far weights are 0, and not denormal."""
    apart = np.subtract.outer(np.arange(n), np.arange(n)) / sigma
    weights = np.where(np.abs(apart) < 4, np.exp(-0.5 * apart**2), 0)
    return np.asarray(weights / weights.sum(1, keepdims=True), dtype=np.float32)


def _content(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first row ``[N]``, the row after the last ``[N]``, and a mask ``[N, H, W]`` of what is no border.

    Rows that are black at the bottom may be deep tissue without echo. As many as at the top are taken for a border.
    """
    rows, columns = grey.mean(2) > _BORDER, grey.mean(1) > _BORDER
    top = _leading(rows)
    bottom = rows.shape[1] - np.minimum(_leading(rows[:, ::-1]), top)
    left, right = _leading(columns), columns.shape[1] - _leading(columns[:, ::-1])
    inside_rows, inside_columns = (
        (first[:, None] <= np.arange(n)) & (np.arange(n) < end[:, None])
        for first, end, n in ((top, bottom, rows.shape[1]), (left, right, columns.shape[1]))
    )
    return top, bottom, inside_rows[:, :, None] & inside_columns[:, None, :]


def _leading(lines: np.ndarray) -> np.ndarray:
    """Return how many are False before the first that is True, ``[N]`` from bool ``[N, n]``."""
    return np.asarray(lines.shape[1] - np.logical_or.accumulate(lines, axis=1).sum(1))


def _nakagami(detail: np.ndarray, used: np.ndarray, blur: Blur, dynamic_range_db: float) -> np.ndarray:
    """Return the shape in the window around each pixel ``[N, H, W]``, meaningless where `used` is 0."""
    power = used * np.exp(detail * np.float32(dynamic_range_db / 255 * np.log(10) / 10))
    total = blur(used) + _TINY
    mean, square = blur(power) / total, blur(power**2) / total
    return np.asarray(mean**2 / np.maximum(square - mean**2, _TINY * square + _TINY))


def _median(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return the medians where `used` is 1, ``[N]``, over every second row and column; NaN where it never is.

    The windows are wider than that, so nothing is lost; `np.nanmedian` takes thirty times as long.
    """
    kept = np.where(used > 0, values, np.nan)[:, ::2, ::2].reshape(len(values), -1)
    ordered, count = np.sort(kept, axis=1), np.isfinite(kept).sum(1)
    image, last = np.arange(len(kept)), np.maximum(count - 1, 0)
    return np.asarray((ordered[image, last // 2] + ordered[image, (last + 1) // 2]) / 2, dtype=np.float64)


def _width(normal: np.ndarray, used: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the width of the autocorrelation along axis 1, and the share of the variance that the trend left; ``[N]``.

    Both are those of the Gaussian autocorrelation that looks as wide once a trend has been taken away.
    """
    n = normal.shape[1]

    def autocovariance(lag: int) -> np.ndarray:
        pairs = np.einsum("nij,nij->n", used[:, lag:], used[:, : n - lag])
        return np.asarray(np.einsum("nij,nij->n", normal[:, lag:], normal[:, : n - lag]) / np.maximum(pairs, 1))

    sigma, left = _gaussians_less_trend(n // 2, scale)
    apparent = _full_width(lambda lag: left[:, lag], n // 2)
    found = np.interp(_full_width(autocovariance, n // 2), apparent, sigma)
    kept = np.interp(found, sigma, left[:, 0])
    return 4 * np.sqrt(np.log(2)) * found, np.maximum(kept, _LEAST_KEPT)


def _gaussians_less_trend(lags: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return s ``[200]`` and what becomes of autocovariances ``exp(-k^2 / 4 s^2)``, ``[200, lags + 1]``.

    To take away a running mean is to filter with one less the window: the signal once, its autocovariance twice.
    """
    reach = int(4 * scale) + 1
    sigma = np.linspace(_LEAST_SIGMA, 2 * scale, 200)
    lag = np.arange(-lags - 2 * reach, lags + 2 * reach + 1)
    autocovariance = np.exp(-(lag**2) / (4 * sigma[:, None] ** 2))
    filtered = _gaussian(2 * reach + 1, scale)[reach].astype(np.float64)
    filtered = (np.arange(-reach, reach + 1) == 0) - filtered / filtered.sum()
    for _ in range(2):
        autocovariance = correlate1d(autocovariance, filtered, axis=1, mode="constant")
    return sigma, autocovariance[:, lags + 2 * reach : 2 * lags + 2 * reach + 1]


def _full_width(autocovariance: Callable[[int], np.ndarray], lags: int) -> np.ndarray:
    """Return twice the lag at which each autocovariance has fallen to half, interpolated; twice `lags` at most."""
    half = np.maximum(autocovariance(0), _TINY) / 2
    width = np.full(len(half), 2.0 * lags)
    before, wider = 2 * half, np.ones(len(half), bool)
    for lag in range(1, lags + 1):
        after = autocovariance(lag)
        here = wider & (after < half)
        width[here] = 2 * (lag - 1 + (before - half)[here] / (before - after)[here])
        before, wider = after, wider & ~here
        if not wider.any():
            break
    return width


def _spectrum(normal: np.ndarray) -> np.ndarray:
    """Return the radial power spectrum ``[N, 14]`` in dB, with no less than -120."""
    height, width = normal.shape[1:]
    taper = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width))).astype(np.float32)
    power = np.abs(scipy.fft.fft2(normal * taper)) ** 2
    frequency = np.hypot(scipy.fft.fftfreq(height)[:, None], scipy.fft.fftfreq(width))
    band = np.minimum(frequency / BAND, len(FREQUENCIES) - 1).astype(int).ravel()
    member = (band[:, None] == np.arange(len(FREQUENCIES))).astype(np.float32)
    in_band = power.reshape(len(power), -1) @ member
    density = in_band / member.sum(0) / (power.mean((1, 2))[:, None] + _TINY)
    return np.asarray(10 * np.log10(np.maximum(density, 1e-12)), dtype=np.float64)


def _depth_profile(grey: np.ndarray, top: np.ndarray, bottom: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return grey levels ``[N, 32]`` averaged across and over equal parts of the depth, less their mean."""
    rows = (grey * inside).sum(2) / np.maximum(inside.sum(2), 1)
    sums = np.cumsum(np.pad(rows, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
    at = np.arange(sums.shape[1])
    edges = np.linspace(top, np.maximum(bottom, top + 1), DEPTHS + 1, axis=1)
    parts = np.stack([np.interp(edge, at, row) for edge, row in zip(edges, sums, strict=True)])
    profile = np.diff(parts, axis=1) / np.diff(edges, axis=1)
    return np.asarray(profile - profile.mean(1, keepdims=True))

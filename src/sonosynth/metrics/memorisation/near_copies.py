"""Which synthetic images are near-copies of training images: pixels compared over shifts and both ways round.

Distances between features move when an image is mirrored or shifted, and depend on the network. Here the fine structure
of two images is correlated instead: small pictures, band-passed and divided by their local contrast, so that gain,
compression and a bright skin line count little. The similarity is the largest normalised correlation over all shifts
within an eighth of the side and over both orientations. The most similar of a hundred or so other patients has 0.25 to
0.5 (BUSI, phantoms; fetal heads of HC18, which share an outline, up to 0.67), neighbouring frames of one sweep of BUSI
0.45 to 0.8, and copies that were mirrored, shifted by a tenth, noised and given another gain stay above 0.85.

All pairs are compared at 16 × 16 pixels, the best of them at 64 × 64. The search of the audit (`data.duplicates`) also
finds crops and zooms, but rests on local features, of which 64-pixel images hold too few, needs seconds for every
hundred images, and returns pairs above fixed limits, not the similarity of every image that a threshold can be set on.
"""

from dataclasses import dataclass
from functools import cached_property
from math import exp, log, sqrt
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.stats import beta
from torch import Tensor

from sonosynth.core.cache import cache_file, cached_array
from sonosynth.core.errors import ClassError
from sonosynth.core.text import counted

MIN_REAL = 20
"""No threshold is set from fewer real images."""
FALSE_RATE = 1e-4
"""Share of real images that the tail fitted to real images puts above the threshold; see `false_rate`."""
CEILING = 0.75
"""The threshold is never above: copies stay clear of it, even where the real images hold copies unknown to anyone."""

_FINE, _COARSE = 64, 16  # pixels of a side
_REACH = 8  # shifts each way: an eighth of the side; in pixels of the fine picture
_FINE_BAND, _COARSE_BAND = (1.0, 3.0, 5.0), (0.5, 2.0, 3.0)  # Gaussian widths, pixels: smooth, mean, contrast
_CONTRAST = 2.0  # grey levels: less than this counts as empty
_CANDIDATES = 5  # looked at closely, for each image and each way round
_PADDED = _FINE + _REACH  # so that no shift wraps around
_PAIRS = 1024  # compared at once
_VERSION = 1  # of what is kept: raise it with any change to what is found

Calibration = Literal["held-out", "train"]


@dataclass(frozen=True, eq=False)
class Matches:
    """The most similar reference image of every image of a set.

    Attributes:
        nearest: int64 ``[N]``, index of the reference image.
        similarity: float64 ``[N]``, at most 1.
        mirrored: bool ``[N]``, whether one of the two was mirrored.
    """

    nearest: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray

    def columns(self) -> np.ndarray:
        """Return all as float64 ``[N, 3]``."""
        return np.column_stack([self.nearest, self.similarity, self.mirrored]).astype(np.float64)

    @classmethod
    def from_columns(cls, columns: np.ndarray) -> "Matches":
        """Return what `columns` were made from."""
        nearest, similarity, mirrored = columns.T
        return cls(nearest.astype(np.int64), similarity, mirrored > 0)


@dataclass(frozen=True, eq=False)
class NearCopies:
    """What was found in S synthetic images.

    Attributes:
        threshold: similarity above which an image is a near-copy; None where there are too few real images.
        calibrated_on: real images that it was set on: ``held-out`` against training images, or ``train`` against
            training images of other groups.
        copied: bool ``[S]``; all false without a threshold.
        training: for every synthetic image, its most similar training image.
        held_out: likewise held-out image; None without any.
        real: for every image of `calibrated_on`, its most similar training image (of another group).
        from_training: for every training image, its most similar synthetic image.
        from_held_out: likewise for every held-out image; None without any.
    """

    threshold: float | None
    calibrated_on: Calibration
    copied: np.ndarray
    training: Matches
    held_out: Matches | None
    real: Matches
    from_training: Matches
    from_held_out: Matches | None

    @property
    def real_share(self) -> float | None:
        """Share of real images that would be called copies too: above 0 where real copies are in both sets."""
        return None if self.threshold is None else float((self.real.similarity > self.threshold).mean())


def near_copies(
    train: np.ndarray,
    synthetic: np.ndarray,
    held_out: np.ndarray | None = None,
    train_groups: np.ndarray | None = None,
    cache: Path | None = None,
) -> NearCopies:
    """Compare every synthetic image with every training image, and with every held-out image.

    The threshold is set on how similar real images are to their most similar training image: `held_out` ones, or with
    fewer than `MIN_REAL` of these, training images and others of another group. See `threshold`.

    Args:
        train: uint8 ``[T, H, W]``, images that the generator saw.
        synthetic: uint8 ``[S, H, W]``, its images.
        held_out: uint8 ``[U, H, W]``, real images that it did not see.
        train_groups: int64 ``[T]``; without them each image is a group.
        cache: directory in which what is found of two sets is kept, under a hash of their images.

    Raises:
        ClassError: fewer than two training images, or no synthetic image.
        FeatureError: what is kept is damaged.
        ValueError: images that are not uint8 ``[N, H, W]``.
    """
    if len(train) < 2 or len(synthetic) < 1:
        raise ClassError(
            f"{len(train)} training and {counted(len(synthetic), 'synthetic image')}: copies need at least 2 and 1"
        )
    real, made = _Details(train), _Details(synthetic)
    training, from_training = _kept_matches(made, real, cache)
    groups = np.arange(len(train)) if train_groups is None else train_groups
    unseen = None if held_out is None or len(held_out) == 0 else _Details(held_out)
    held_out_matches, from_held_out = (None, None) if unseen is None else _kept_matches(made, unseen, cache)
    calibrated_on: Calibration = "train" if unseen is None or len(unseen) < MIN_REAL else "held-out"
    if unseen is None or calibrated_on == "train":
        between_real, _ = _kept_matches(real, real, cache, groups)
        enough = len(np.unique(groups)) >= MIN_REAL
    else:
        between_real, _ = _kept_matches(unseen, real, cache)
        enough = True
    limit = threshold(between_real.similarity) if enough else None
    return NearCopies(
        threshold=limit,
        calibrated_on=calibrated_on,
        copied=training.similarity > (np.inf if limit is None else limit),
        training=training,
        held_out=held_out_matches,
        real=between_real,
        from_training=from_training,
        from_held_out=from_held_out,
    )


def threshold(similarity: np.ndarray) -> float:
    """Return the similarity that no real image has to a training image, from those of N real images, ``[N]``.

    The largest of them, or, as few images may not hold the extremes, what a share `FALSE_RATE` would exceed, if that is
    more: largest similarities out of many follow a Gumbel distribution, whose two parameters are taken from the
    quartiles, which up to a quarter of unknown copies among the real images hardly move. At most `CEILING`.
    """
    lower, median, upper = np.quantile(similarity, [0.25, 0.5, 0.75])
    scale = (upper - lower) / (_gumbel(0.75) - _gumbel(0.25))
    tail = median + scale * (_gumbel(1 - FALSE_RATE) - _gumbel(0.5))
    return float(min(max(tail, similarity.max()), CEILING))


def false_rate(n_real: int) -> float:
    """Return what share of real images a `threshold` set on `n_real` of them may let through instead of `FALSE_RATE`.

    The quartiles of few images hardly know the tail. Under the Gumbel distribution, 97 of 100 thresholds let through
    less than this share: 0.9 % for 20 images, 0.07 % for 100. A one-sided binomial test against it at 2.5 % calls at
    most 1.5 % of generators that copy nothing copiers, simulated for 20 to 1000 real and 100 to 2000 synthetic images,
    all independent; against `FALSE_RATE` itself it was 11 % for 20 and 500, and 28 % for 20 and 2000.
    """
    return min(FALSE_RATE * exp(20 / sqrt(n_real)), 1.0)


def share(
    copied: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Return the share of true values in `copied` ``[N]`` and its interval.

    The interval is exact for independent images (Clopper and Pearson, Biometrika 26:404, 1934), as draws of a generator
    are. Where images share `groups` ``[N]``, it is that of as many images as there are groups, at the same share (as in
    Korn and Graubard, Survey Methodology 24:193, 1998).

    Raises:
        ClassError: no images.
    """
    if len(copied) == 0:
        raise ClassError("no images: the share of near-copies needs at least 1")
    n = len(copied) if groups is None else len(np.unique(groups))
    value, tail = float(copied.mean()), (1 - level) / 2
    k = value * n
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return value, (low, high)


class _Details:
    """What is compared of N images: small pictures of their fine structure, and what comes of them again and again."""

    def __init__(self, images: np.ndarray):
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [N, H, W], not {images.dtype} {list(images.shape)}")
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def coarse(self) -> Tensor:
        """Band-passed pictures that all pairs are compared in, float32 ``[N, 16, 16]``."""
        return _detail(self.images, _COARSE, _COARSE_BAND)

    @cached_property
    def fine(self) -> tuple[Tensor, Tensor]:
        """Spectra of larger ones, complex64 ``[N, 72, 37]``, and their energies at each shift, ``[N, 17, 17]``."""
        return self._spectra(mirrored=False)

    @cached_property
    def mirrored(self) -> tuple[Tensor, Tensor]:
        """The same of mirrored images."""
        return self._spectra(mirrored=True)

    def _spectra(self, mirrored: bool) -> tuple[Tensor, Tensor]:
        fine = self._detail.flip(2) if mirrored else self._detail
        return torch.fft.rfft2(fine, s=(_PADDED, _PADDED)), _energies(fine)

    @cached_property
    def _detail(self) -> Tensor:
        return _detail(self.images, _FINE, _FINE_BAND)


def _detail(images: np.ndarray, px: int, band: tuple[float, float, float]) -> Tensor:
    """Return float32 ``[N, px, px]``: band-passed, and divided by the contrast around each pixel."""
    pixels = torch.from_numpy(images.copy()).float()[:, None]
    small = F.interpolate(pixels, size=(px, px), mode="bicubic", antialias=True)[:, 0].numpy()
    smooth, mean, around = band
    passed = _blurred(small, smooth) - _blurred(small, mean)
    return torch.from_numpy(passed / np.sqrt(_blurred(passed**2, around) + _CONTRAST**2))


def _blurred(pictures: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(gaussian_filter(pictures, (0, sigma, sigma), mode="nearest"))


def _kept_matches(
    a: _Details, b: _Details, cache: Path | None, groups: np.ndarray | None = None
) -> tuple[Matches, Matches]:
    """Return `_matches`; where `a` is `b` and has `groups`, no two images of one group are compared."""

    def make() -> np.ndarray:
        excluded = None if groups is None else torch.from_numpy(groups[:, None] == groups[None])
        return np.concatenate([one.columns() for one in _matches(a, b, excluded)])

    path = None
    if cache is not None:
        maker = (_VERSION, len(a), None if groups is None else groups.tolist())
        path = cache_file(cache, "near-copies", maker, np.concatenate([a.images, b.images]))
    found = cached_array(path, (len(a) + len(b), 3), np.float64, make)
    return Matches.from_columns(found[: len(a)]), Matches.from_columns(found[len(a) :])


def _matches(a: _Details, b: _Details, excluded: Tensor | None = None) -> tuple[Matches, Matches]:
    """Return the nearest of `b` for each of `a`, and of `a` for each of `b`; bool `excluded` ``[len(a), len(b)]``."""
    pairs = []
    for mirrored in (False, True):
        alike = _coarse_similarity(a.coarse, b.coarse.flip(2) if mirrored else b.coarse)
        if excluded is not None:
            alike[excluded] = -2.0
        columns = alike.topk(min(_CANDIDATES, len(b)), dim=1).indices
        rows = alike.T.topk(min(_CANDIDATES, len(a)), dim=1).indices
        i = torch.cat([torch.arange(len(a)).repeat_interleave(columns.shape[1]), rows.flatten()])
        j = torch.cat([columns.flatten(), torch.arange(len(b)).repeat_interleave(rows.shape[1])])
        similarity = _fine_similarity(a, b, i, j, mirrored)
        if excluded is not None:
            similarity[excluded[i, j]] = -1.0
        pairs.append((i.numpy(), j.numpy(), similarity.double().numpy(), np.full(len(i), mirrored)))
    of_a, of_b, values, flips = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return _best(of_a, of_b, values, flips), _best(of_b, of_a, values, flips)


def _best(i: np.ndarray, j: np.ndarray, similarity: np.ndarray, mirrored: np.ndarray) -> Matches:
    order = np.lexsort((mirrored, -similarity, i))
    first = order[np.unique(i[order], return_index=True)[1]]
    return Matches(j[first], similarity[first], mirrored[first])


def _coarse_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest correlation over shifts of all pairs, ``[len(a), len(b)]``."""
    reach = _REACH * _COARSE // _FINE
    best = torch.full((len(a), len(b)), -1.0)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            torch.maximum(best, _overlap(a, down, right) @ _overlap(b, -down, -right).T, out=best)
    return best


def _overlap(pictures: Tensor, down: int, right: int) -> Tensor:
    """Return the part, as rows of norm 1, that the pictures share with others shifted that far."""
    height, width = pictures.shape[1:]
    part = pictures[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    return F.normalize(part.flatten(1))


def _fine_similarity(a: _Details, b: _Details, i: Tensor, j: Tensor, mirrored: bool) -> Tensor:
    """Return the largest correlation over shifts of the pairs ``(i, j)``, from the product of their spectra."""
    (spectra_a, energies_a), (spectra_b, energies_b) = a.fine, b.mirrored if mirrored else b.fine
    shifts = torch.arange(-_REACH, _REACH + 1) % _PADDED
    best = []
    for p, q in zip(torch.split(i, _PAIRS), torch.split(j, _PAIRS), strict=True):
        product = torch.fft.irfft2(spectra_a[p] * spectra_b[q].conj(), s=(_PADDED, _PADDED))
        product = product[:, shifts][:, :, shifts]
        norm = (energies_a[p] * energies_b[q].flip(1, 2)).sqrt()
        best.append((product / norm.clamp_min(1e-6)).flatten(1).amax(1))
    return torch.cat(best)


def _energies(pictures: Tensor) -> Tensor:
    """Return the sums of squares over the part that overlaps at each shift, float32 ``[N, 17, 17]``.

    They count as no less than half of the whole, or a shift that leaves next to nothing would decide.
    """
    total = F.pad((pictures.double() ** 2).cumsum(1).cumsum(2), (1, 0, 1, 0))
    shift = torch.arange(-_REACH, _REACH + 1)
    start, end = shift.clamp_min(0), _FINE + shift.clamp_max(0)
    rows = total[:, end] - total[:, start]
    parts = rows[:, :, end] - rows[:, :, start]
    return torch.maximum(parts, total[:, -1:, -1:] / 2).float()


def _gumbel(quantile: float) -> float:
    return -log(-log(quantile))

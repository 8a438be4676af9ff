"""How similar images are in their fine structure: pixels compared over shifts and both ways round.

Distances between features move when an image is mirrored or shifted, and depend on the network. Here the fine structure
of two images is correlated instead: small pictures, band-passed and divided by their local contrast, so that gain,
compression and a bright skin line count little. The similarity is the largest normalised correlation over all shifts
within an eighth of the side and over both orientations. The most similar of a hundred or so other patients has 0.25 to
0.5 (BUSI, phantoms; fetal heads of HC18, which share an outline, up to 0.67), neighbouring frames of one sweep of BUSI
0.45 to 0.8, and copies that were mirrored, shifted by a tenth, noised and given another gain stay above 0.85.

All pairs are compared at 16 × 16 pixels, the best of them at 64 × 64. The search of the audit (`audit.duplicates`) also
finds crops and zooms, but rests on local features, of which 64-pixel images hold too few, needs seconds for every
hundred images, and returns pairs above fixed limits, not the similarity of every image that a threshold can be set on.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sonosynth.core.cache import cache_file, cached_array

_FINE, _COARSE = 64, 16  # pixels of a side
_REACH = 8  # shifts each way: an eighth of the side; in pixels of the fine picture
_FINE_BAND, _COARSE_BAND = (1.0, 3.0, 5.0), (0.5, 2.0, 3.0)  # Gaussian widths, pixels: smooth, mean, contrast
_CONTRAST = 2.0  # grey levels: less than this counts as empty
_CANDIDATES = 5  # looked at closely, for each image and each way round
_PADDED = _FINE + _REACH  # so that no shift wraps around
_PAIRS = 1024  # compared at once
_VERSION = 1  # of what is kept: raise it with any change to what is found


@dataclass(frozen=True, eq=False)
class Matches:
    """The most similar reference image of every image of a set."""

    nearest: np.ndarray  # int64 [N], index of the reference image
    similarity: np.ndarray  # float64 [N], at most 1
    mirrored: np.ndarray  # bool [N], whether one of the two was mirrored

    @classmethod
    def from_columns(cls, columns: np.ndarray) -> "Matches":
        """Return what stands in float64 `columns` ``[N, 3]``."""
        nearest, similarity, mirrored = columns.T
        return cls(nearest.astype(np.int64), similarity, mirrored > 0)


class FineStructure:
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
        return _spectra(self._detail)

    @cached_property
    def mirrored(self) -> tuple[Tensor, Tensor]:
        """The same of mirrored images."""
        return _spectra(self._detail.flip(2))

    @cached_property
    def _detail(self) -> Tensor:
        return _detail(self.images, _FINE, _FINE_BAND)


def _detail(images: np.ndarray, px: int, band: tuple[float, float, float]) -> Tensor:
    """Return float32 ``[N, px, px]``: band-passed, and divided by the contrast around each pixel."""
    pixels = torch.from_numpy(images.copy()).float()[:, None]
    small = F.interpolate(pixels, size=(px, px), mode="bicubic", antialias=True)[:, 0].numpy()

    def blurred(pictures: np.ndarray, sigma: float) -> np.ndarray:
        return np.asarray(gaussian_filter(pictures, (0, sigma, sigma), mode="nearest"))

    smooth, mean, around = band
    passed = blurred(small, smooth) - blurred(small, mean)
    return torch.from_numpy(passed / np.sqrt(blurred(passed**2, around) + _CONTRAST**2))


def most_similar(
    a: FineStructure, b: FineStructure, cache: Path | None, groups: np.ndarray | None = None
) -> tuple[Matches, Matches]:
    """Return the most similar of `b` for every image of `a`, and the other way round.

    Where `a` is `b` and has `groups`, no two images of one group are compared. With `cache`, a directory, what is found
    is kept there.
    """

    excluded = None if groups is None else groups[:, None] == groups[None]
    path = None
    if cache is not None:
        maker = (_VERSION, len(a), None if groups is None else groups.tolist())
        path = cache_file(cache, "near-copies", maker, np.concatenate([a.images, b.images]))
    found = cached_array(path, (len(a) + len(b), 3), np.float64, lambda: _matches(a, b, excluded))
    return Matches.from_columns(found[: len(a)]), Matches.from_columns(found[len(a) :])


def _matches(a: FineStructure, b: FineStructure, excluded: np.ndarray | None) -> np.ndarray:
    """Return columns of `Matches` for each of `a`, then for each of `b`; bool `excluded` ``[len(a), len(b)]``."""
    apart = torch.zeros(len(a), len(b), dtype=torch.bool) if excluded is None else torch.from_numpy(excluded)
    pairs = []
    for mirrored in (False, True):
        alike = _coarse_similarity(a.coarse, b.coarse.flip(2) if mirrored else b.coarse)
        alike[apart] = -2.0
        columns = alike.topk(min(_CANDIDATES, len(b)), dim=1).indices
        rows = alike.T.topk(min(_CANDIDATES, len(a)), dim=1).indices
        i = torch.cat([torch.arange(len(a)).repeat_interleave(columns.shape[1]), rows.flatten()])
        j = torch.cat([columns.flatten(), torch.arange(len(b)).repeat_interleave(rows.shape[1])])
        similarity = _fine_similarity(a, b, i, j, mirrored)
        similarity[apart[i, j]] = -1.0
        pairs.append((i.numpy(), j.numpy(), similarity.double().numpy(), np.full(len(i), mirrored)))
    of_a, of_b, values, flips = (np.concatenate(column) for column in zip(*pairs, strict=True))
    best = []
    for of, nearest in ((of_a, of_b), (of_b, of_a)):
        order = np.lexsort((flips, -values, of))
        first = order[np.unique(of[order], return_index=True)[1]]
        best.append(np.column_stack([nearest, values, flips])[first])
    return np.concatenate(best).astype(np.float64)


def _coarse_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest correlation over shifts of all pairs, ``[len(a), len(b)]``."""
    reach = _REACH * _COARSE // _FINE
    best = torch.full((len(a), len(b)), -1.0)
    for down, right in product(range(-reach, reach + 1), repeat=2):
        torch.maximum(best, _overlap(a, down, right) @ _overlap(b, -down, -right).T, out=best)
    return best


def _overlap(pictures: Tensor, down: int, right: int) -> Tensor:
    """Return the part, as rows of norm 1, that the pictures share with others shifted that far."""
    height, width = pictures.shape[1:]
    part = pictures[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    return F.normalize(part.flatten(1))


def _fine_similarity(a: FineStructure, b: FineStructure, i: Tensor, j: Tensor, mirrored: bool) -> Tensor:
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


def _spectra(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the spectra, and the sums of squares over the part that overlaps at each shift, float32 ``[N, 17, 17]``.

    They count as no less than half of the whole, or a shift that leaves next to nothing would decide.
    """
    total = F.pad((pictures.double() ** 2).cumsum(1).cumsum(2), (1, 0, 1, 0))
    shift = torch.arange(-_REACH, _REACH + 1)
    start, end = shift.clamp_min(0), _FINE + shift.clamp_max(0)
    rows = total[:, end] - total[:, start]
    parts = rows[:, :, end] - rows[:, :, start]
    energies = torch.maximum(parts, total[:, -1:, -1:] / 2).float()
    return torch.fft.rfft2(pictures, s=(_PADDED, _PADDED)), energies

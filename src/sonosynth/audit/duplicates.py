"""Which images of a source show the same frame: copies, zoomed or cropped signatures, flips, other gain or calipers.

Candidates that share local features (`keypoints`) are aligned by a similarity transform and compared where they
overlap, tile by tile. Burned-in words and calipers can align unrelated images, but cover few tiles: the median tile
decides.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from threadpoolctl import threadpool_limits

from sonosynth.audit.keypoints import SIDE, Keypoints, candidate_pairs, find_keypoints, mirror_descriptors, unit_length
from sonosynth.core.types import Array, StageProgress
from sonosynth.data.resize import resize_longest_side

Kind = Literal["exact", "near", "partial", "flipped"]

_CANDIDATES = 12  # images looked at closely, for each image and each way round
_RATIO = 0.9  # of the distances to the nearest and the second nearest descriptor
_MATCHES = 6  # that must agree on a transform
_TOLERANCE = 4.0  # pixels at `SIDE`
_MODELS = 3  # transforms tried: the first may be that of burned-in words
_SCALES = (0.25, 4.0)
_TURN = 15.0  # degrees: nobody turns a B-mode image further by accident
_VIEW = 192  # pixels of the longest side at which pixels are compared
_TILE = 16  # pixels
_TILES = 10  # that must be comparable
_TEXTURE = 1.0  # grey levels: standard deviation of a tile that is not empty
_BAND = (0.7, 1.5)  # pixels at `_VIEW`: between these widths of blur lies the speckle, and not the shape of a skull
_OVERLAP = 0.2  # of the smaller picture


@dataclass(frozen=True)
class Duplicate:
    """Two images that show one frame."""

    a: int  # index of the first image
    b: int  # index of the second; a < b
    kind: Kind  # "exact" (equal pixels), "near" (the same part), "partial" (a crop or zoom), "flipped"
    similarity: float  # median correlation over tiles, at most 1


@dataclass(frozen=True, eq=False)
class Signature:
    """What the search keeps of an image: its keypoints, and a small picture of its fine structure."""

    keypoints: Keypoints  # of the whole image
    detail: Array  # float16 [h, w], grey levels around the local mean, at a longest side of 192 pixels
    shown: Array | None  # bool [h, w], where the picture is not ignored; None if that is everywhere


def signature(grey: Array, ignored: Array | None = None) -> Signature:
    """Return what the search needs of uint8 `grey` ``[H, W]``; bool `ignored` marks text and other overlays."""
    import cv2

    small = resize_longest_side(grey, _VIEW).astype(np.float32)
    detail = cv2.GaussianBlur(small, (0, 0), _BAND[0]) - cv2.GaussianBlur(small, (0, 0), _BAND[1])
    shown = None
    if ignored is not None and ignored.any():
        shown = resize_longest_side(ignored.astype(np.uint8) * 255, _VIEW) < 128
    return Signature(find_keypoints(grey, ignored), detail.astype(np.float16), shown)


def find_duplicates(
    signatures: Sequence[Signature], progress: StageProgress | None = None, threads: int = 2
) -> list[Duplicate]:
    """Return the pairs of `signatures` that show one frame, sorted; equal pixels are not looked for."""
    tell = progress or (lambda done, total, stage: None)
    pairs = candidate_pairs([v.keypoints for v in signatures], _CANDIDATES, lambda d, t: tell(d, t, "searching"))

    def one(pair: tuple[int, int, bool]) -> Duplicate | None:
        a, b, flipped = pair
        return compare(signatures[a], signatures[b], flipped, a, b)

    found: dict[tuple[int, int], Duplicate] = {}
    # The matrix products are small: a library that spreads each over all cores makes them wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        for done, result in enumerate(pool.map(one, pairs, chunksize=32), start=1):
            known = found.get((result.a, result.b)) if result else None
            if result and (known is None or known.similarity < result.similarity):
                found[result.a, result.b] = result
            if done % 64 == 0 or done == len(pairs):
                tell(done, len(pairs), "comparing")
    return [found[key] for key in sorted(found)]


def compare(first: Signature, second: Signature, flipped: bool, a: int = 0, b: int = 1) -> Duplicate | None:
    """Return the duplicate that two signatures are, or None; `second` is mirrored first where `flipped`."""
    import cv2

    matches = _matches(first.keypoints.descriptors, second.keypoints, flipped)
    here = first.keypoints.points[matches[:, 0]]
    there = second.keypoints.points[matches[:, 1]]
    if flipped:
        width = SIDE * second.detail.shape[1] / _VIEW
        there = np.stack([width - 1 - there[:, 0], there[:, 1]], axis=1)
    for _ in range(_MODELS):
        if len(here) < _MATCHES:
            break
        cv2.setRNGSeed(0)
        model, inside = cv2.estimateAffinePartial2D(
            there, here, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=1000, confidence=0.995
        )
        agree = inside.ravel().astype(bool) if inside is not None else np.zeros(len(here), bool)
        if model is None or agree.sum() < _MATCHES:
            break
        similarity, tiles, kind = _compare_aligned(first, second, flipped, model)
        if tiles >= _TILES and similarity >= similarity_threshold(tiles):
            return Duplicate(a, b, kind, round(similarity, 4))
        here, there = here[~agree], there[~agree]
    return None


def similarity_threshold(tiles: int) -> float:
    """Return the similarity from which on two images count as one frame.

    Unrelated images reached 0.41 where 27 tiles could be compared and at 0.2 where 80 could, since a strong edge can be
    laid on another; copies, cropped, flipped and compressed, never below 0.85.
    """
    return 0.2 + 2 / float(np.sqrt(tiles))


def _matches(descriptors: Array, other: Keypoints, flipped: bool) -> Array:
    """Return index pairs ``[M, 2]`` of descriptors that are each other's nearest by a clear margin."""
    there = mirror_descriptors(other.descriptors) if flipped else other.descriptors
    if len(descriptors) < 2 or len(there) < 2:
        return np.zeros((0, 2), np.int64)
    alike = unit_length(descriptors) @ unit_length(there).T
    best = alike.argmax(axis=1)
    rows = np.arange(len(alike))
    top = alike[rows, best]
    mutual = alike.argmax(axis=0)[best] == rows
    alike[rows, best] = -1
    second = alike.max(axis=1)
    clear = (1 - top) < _RATIO**2 * (1 - second)  # squared distances of unit vectors are 2 - 2 cos
    return cast(Array, np.stack([rows, best], axis=1)[mutual & clear])


def _compare_aligned(first: Signature, second: Signature, flipped: bool, model: Array) -> tuple[float, int, Kind]:
    """Return how alike the tiles are where `second`, moved by `model`, lies on `first`; their number; and the kind."""
    import cv2

    scale = float(np.hypot(model[0, 0], model[1, 0]))
    turn = abs(float(np.degrees(np.arctan2(model[1, 0], model[0, 0]))))
    if not _SCALES[0] <= scale <= _SCALES[1] or turn > _TURN:
        return -1.0, 0, "partial"
    detail, shown = second.detail.astype(np.float32), _shown(second).astype(np.uint8)
    if flipped:
        detail, shown = np.ascontiguousarray(detail[:, ::-1]), np.ascontiguousarray(shown[:, ::-1])
    # Where the moved picture is the finer one, it is the first that is brought to the coarser grid of the second.
    target, target_shown = first.detail.astype(np.float32), _shown(first)
    small = model.copy()
    small[:, 2] *= _VIEW / SIDE
    height, width = target.shape
    if scale > 1.0:  # `second` shows a larger field: shrink nothing, bring `first` onto it
        small = cv2.invertAffineTransform(small)
        detail, target = target, detail
        shown, target_shown = target_shown.astype(np.uint8), shown.astype(bool)
        height, width = target.shape
    moved = cv2.warpAffine(detail, small, (width, height), flags=cv2.INTER_AREA)
    valid = cv2.warpAffine(shown, small, (width, height), flags=cv2.INTER_NEAREST).astype(bool) & target_shown
    covered = valid.sum() / min(target.size, detail.size * min(scale, 1 / scale) ** 2)
    if covered < _OVERLAP:
        return -1.0, 0, "partial"
    similarity, tiles = _tiles(target, moved, valid)
    whole = abs(np.log(scale)) < 0.03 and covered > 0.9
    return similarity, tiles, "flipped" if flipped else "near" if whole else "partial"


def _shown(seen: Signature) -> Array:
    return np.ones(seen.detail.shape, bool) if seen.shown is None else seen.shown


def _tiles(a: Array, b: Array, valid: Array) -> tuple[float, int]:
    """Return the median correlation of `a` and `b` ``[h, w]`` over tiles that are shown and not empty in both.

    A tile that is empty in one of them counts as unlike.
    """
    rows, columns = (length // _TILE * _TILE for length in a.shape)
    if not rows or not columns:
        return -1.0, 0

    def cut(x: Array) -> Array:
        x = x[:rows, :columns].reshape(rows // _TILE, _TILE, columns // _TILE, _TILE)
        return x.swapaxes(1, 2).reshape(-1, _TILE**2)

    use = cut(valid).mean(axis=1) > 0.8
    p, q, weight = cut(a)[use], cut(b)[use], cut(valid)[use].astype(np.float32)
    if not len(p):
        return -1.0, 0
    count = weight.sum(axis=1, keepdims=True)
    p = (p - (p * weight).sum(axis=1, keepdims=True) / count) * weight
    q = (q - (q * weight).sum(axis=1, keepdims=True) / count) * weight
    spread = np.sqrt(np.stack([(p**2).sum(axis=1), (q**2).sum(axis=1)]) / count[:, 0])
    textured = (spread > _TEXTURE).any(axis=0)
    if not textured.any():
        return -1.0, 0
    p, q = p[textured], q[textured]
    alike = (p * q).sum(axis=1) / np.sqrt((p**2).sum(axis=1) * (q**2).sum(axis=1) + 1e-6)
    return float(np.median(alike)), len(alike)

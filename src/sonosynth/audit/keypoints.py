"""Local features of images, and which images share many of them: the search half of the duplicate audit.

SIFT keypoints (Lowe, IJCV 60:91, 2004) with RootSIFT descriptors (Arandjelović and Zisserman, CVPR 2012), looked up by
visual words (Sivic and Zisserman, ICCV 2003), which are descriptors drawn at random: good enough to nominate
candidates, which are then verified pixel by pixel.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import scipy.sparse

from sonosynth.core.seeds import numpy_generator
from sonosynth.core.types import Array, Progress
from sonosynth.data.resize import resize_longest_side

if TYPE_CHECKING:
    import torch

SIDE = 320  # pixels of the longest side at which keypoints are found: one scale for images of any size
_KEYPOINTS = 400  # per image
_CONTRAST = 0.01  # a quarter of Lowe's: speckle is faint
_QUANTUM = 512  # descriptors are kept as bytes: 255 means half of the unit length
_WORDS = 4096  # at most; for small sets one of 128 keypoints
_NEAREST = 3  # words that a descriptor of the query image stands for
_CHUNK = 4096  # descriptors compared with all words at once
_ALIKE = 0.94  # cosine of descriptors that vote for each other: half of true matches and 1 in 10,000 others reach it
_VOTES_AT_ONCE = 2**22  # votes added up at once
_QUERY_IMAGES = 2000  # query images whose votes are held at once
_BLOCK = 2**22  # descriptors times descriptors compared at once
_COMMON = 20  # times as many keypoints as a word has on average: what stands on every image, and nominates nothing


@dataclass(frozen=True, eq=False)
class Keypoints:
    """What is kept of one image."""

    points: Array  # float32 [K, 2], x and y in pixels of the image enlarged or reduced so that `SIDE` is its longest
    descriptors: Array  # uint8 [K, 128]


def find_keypoints(grey: Array, ignored: Array | None = None) -> Keypoints:
    """Return the strongest keypoints of uint8 `grey` ``[H, W]``; none where bool `ignored` ``[H, W]`` is set."""
    import cv2

    picture = resize_longest_side(grey, SIDE)
    mask = None
    if ignored is not None:
        mask = 255 - 255 * (resize_longest_side(ignored.astype(np.uint8) * 255, SIDE) > 0).astype(np.uint8)
    sift = cv2.SIFT_create(nfeatures=_KEYPOINTS, contrastThreshold=_CONTRAST)  # type: ignore[attr-defined]
    found, raw = sift.detectAndCompute(picture, mask)
    if raw is None:
        raw = np.zeros((0, 128), np.float32)
    found, raw = found[:_KEYPOINTS], raw[:_KEYPOINTS]  # ties come on top
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    descriptors = np.minimum(np.rint(root * _QUANTUM), 255).astype(np.uint8)
    points = np.array([point.pt for point in found], dtype=np.float32).reshape(-1, 2)
    return Keypoints(points, descriptors)


def mirror_descriptors(descriptors: Array) -> Array:
    """Return the descriptors ``[K, 128]`` of the same places in the flipped image.

    A descriptor is a histogram over 4 × 4 places and 8 directions relative to the direction of its keypoint. A flip
    reverses the places across that direction and the sense of all angles.
    """
    cells = descriptors.reshape(-1, 4, 4, 8)
    return cells[:, ::-1][..., (-np.arange(8)) % 8].reshape(-1, 128)


def unit_length(descriptors: Array) -> Array:
    """Return descriptors ``[K, 128]`` as float32 of unit length."""
    values = descriptors.astype(np.float32)
    return cast(Array, values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9))


def candidate_pairs(
    images: Sequence[Keypoints], each: int, progress: Progress | None = None
) -> list[tuple[int, int, bool]]:
    """Return pairs of images worth a close look: for each, the `each` that share most rare keypoints, seen both ways.

    Keypoints are compared where they stand for one word. One that resembles keypoints of many images counts little:
    burned-in text does. Pairs are ``(a, b, flipped)`` with a < b, sorted; `flipped` ones are alike if one is mirrored.
    """
    n, counts = len(images), [len(image.points) for image in images]
    if n < 2 or not any(counts):
        return []
    owner = np.repeat(np.arange(n, dtype=np.int32), counts)
    descriptors = np.concatenate([image.descriptors for image in images])
    count = min(_WORDS, len(descriptors) // 128 + 1)
    chosen = numpy_generator("audit", "words").choice(len(descriptors), count, replace=False)
    words = unit_length(descriptors[np.sort(chosen)])
    postings = _inverted_index(_nearest_words(descriptors, words, 1, flipped=False), len(words))
    pairs = set()
    for flipped in (False, True):
        queries = _inverted_index(_nearest_words(descriptors, words, _NEAREST, flipped), len(words))
        for first in range(0, n, _QUERY_IMAGES):
            ends = np.searchsorted(owner, (first, first + _QUERY_IMAGES))
            some = [rows[slice(*np.searchsorted(rows, ends))] for rows in queries]
            votes = _count_votes(descriptors, some, postings, flipped, owner, n)
            pairs |= {(min(a, b), max(a, b), flipped) for a, b in _most_voted(votes, each)}
            if progress:
                progress(n * flipped + min(first + _QUERY_IMAGES, n), 2 * n)
    return sorted(pairs)


def _count_votes(
    descriptors: Array, queries: Sequence[Array], postings: Sequence[Array], flipped: bool, owner: Array, n: int
) -> scipy.sparse.csr_array:
    """Return the votes ``[n, n]`` of keypoints `queries` for images with keypoints `postings` of the same words."""
    votes = scipy.sparse.csr_array((n, n), dtype=np.float32)
    found: list[tuple[Array, Array]] = []
    waiting = 0
    for word, (rows, columns) in enumerate(zip(queries, postings, strict=True)):
        if len(rows) and len(columns) <= _COMMON * len(descriptors) / len(postings):
            found.append(_votes(descriptors, rows, columns, flipped, owner, n))
            waiting += len(found[-1][0])
        if found and (waiting > _VOTES_AT_ONCE or word == len(postings) - 1):
            keys, values = (np.concatenate(part) for part in zip(*found, strict=True))
            votes = votes + scipy.sparse.coo_array((values, (keys // n, keys % n)), shape=(n, n)).tocsr()
            found, waiting = [], 0
    return votes


def _units(descriptors: Array, chosen: Array | slice, flipped: bool) -> "torch.Tensor":
    """Return the `chosen` rows of `descriptors`, as they are or in the flipped image, float32 of unit length."""
    import torch

    rows = descriptors[chosen]
    return torch.from_numpy(unit_length(mirror_descriptors(rows) if flipped else rows))


def _nearest_words(descriptors: Array, words: Array, nearest: int, flipped: bool) -> Array:
    """Return the `nearest` words to each of the descriptors ``[M, 128]``, int32 ``[M, nearest]``."""
    import torch

    table = torch.from_numpy(words).T.contiguous()
    found = np.empty((len(descriptors), min(nearest, len(words))), dtype=np.int32)
    for start in range(0, len(descriptors), _CHUNK):
        here = slice(start, start + _CHUNK)
        found[here] = (_units(descriptors, here, flipped) @ table).topk(found.shape[1], dim=1).indices.numpy()
    return found


def _inverted_index(words: Array, count: int) -> list[Array]:
    """Return for each of `count` words the rows of `words` ``[M, k]`` that hold it."""
    order = np.argsort(words, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(words.ravel(), minlength=count))[:-1]
    return np.split((order // words.shape[1]).astype(np.int32), ends)


def _votes(descriptors: Array, rows: Array, columns: Array, flipped: bool, owner: Array, n: int) -> tuple[Array, Array]:
    """Return the keys ``query image * n + image`` that the keypoints of one word vote for, and the votes' weights."""
    keys, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    answering = _units(descriptors, columns, flipped=False).T
    for part in np.array_split(rows, len(rows) * len(columns) // _BLOCK + 1):
        alike = _units(descriptors, part, flipped) @ answering
        row, column = np.nonzero(alike.numpy() > _ALIKE)
        a, b = owner[part[row]], owner[columns[column]]
        other = a != b
        row = row[other]
        keys.append(a[other].astype(np.int64) * n + b[other])
        answers = np.bincount(row, minlength=len(part))[row]
        weights.append(np.log(np.maximum(n / answers, 1)).astype(np.float32))
    return np.concatenate(keys), np.concatenate(weights)


def _most_voted(votes: scipy.sparse.csr_array, each: int) -> Iterator[tuple[int, int]]:
    for a, (start, end) in enumerate(itertools.pairwise(votes.indptr)):
        strengths = votes.data[start:end]
        best = np.argpartition(-strengths, each)[:each] if len(strengths) > each else np.arange(len(strengths))
        yield from ((a, int(b)) for b in votes.indices[start:end][best[strengths[best] > 0]])

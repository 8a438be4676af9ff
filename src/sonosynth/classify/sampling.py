"""Which training image a classifier sees when: endless sequences that depend on the seed and the place alone."""

import numpy as np
import torch
from torch import Tensor

from sonosynth.core.draws import shuffled_indices
from sonosynth.core.seeds import seed_of


def balanced_indices(labels: np.ndarray, start: int, count: int, seed: int) -> Tensor:
    """Return the samples ``start .. start + count - 1`` of an endless sequence that has all classes equally often.

    The sequence is one of shuffled rounds, each with every class once; the images of a class come in shuffled epochs,
    as in `draws.shuffled_indices`.

    Args:
        labels: int64 ``[N]``; classes without images do not occur.
        start: first sample.
        count: how many.
        seed: seed of the sequence.

    Returns:
        int64 ``[count]`` on the CPU.
    """
    classes = np.unique(labels)
    order = shuffled_indices(len(classes), start, count, seed_of(seed, "class")).numpy()
    rounds = np.arange(start, start + count) // len(classes)
    chosen = np.empty(count, dtype=np.int64)
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        first, last = rounds[0], rounds[-1]
        turn = shuffled_indices(len(members), int(first), int(last - first + 1), seed_of(seed, "of class", int(label)))
        at = np.flatnonzero(order == place)
        chosen[at] = members[turn.numpy()[rounds[at] - first]]
    return torch.from_numpy(chosen)


def class_weights(labels: np.ndarray, n_classes: int) -> Tensor:
    """Return a weight a class, float32 ``[n_classes]``: N / (classes present · images of the class); 0 without images.

    Weighted so, every class counts as much as any other, and the mean weight of an image is 1 (King & Zeng 2001).
    """
    counts = np.bincount(labels, minlength=n_classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 0.0).astype(np.float32))

"""A copy detector on frozen features: it finds copies that were turned, cut or brightened, which pixels miss.

What is compared are means and deviations of the maps of a frozen network, whitened on the training images as copy
detectors are (Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022, section 4.4), so that
what all images of an organ share counts little. Each image is looked at in four orientations, each training image
whole, mirrored, turned a little either way, and as its middle. How many planted copies it finds stands in
results/2026-12-copy-detector.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from sonosynth.core.types import Array
from sonosynth.features.efficientnet import load_backbone
from sonosynth.metrics.memorisation.near_copies import MIN_REAL, similarity_tail

INPUT_PX = 128
MIDDLE = 0.75  # side of the middle of a training image, as a share of the whole
MAX_SIMILARITY = 0.99  # the threshold is never above
_BATCH = 64
TURNED = 12.0  # degrees, either way
_SCALES = 3  # maps, at strides 4, 8 and 16; that at 32 knows what is shown, not which image it is
_SHRINKAGE = 0.1  # of the covariance towards a multiple of the identity, in mean variances: few images know few of them


@dataclass(frozen=True, eq=False)
class FeatureCopies:
    """What a `CopyDetector` found in N images."""

    similarity: Array  # float64 [N], of the most similar training image: a cosine
    nearest: Array  # int64 [N], which that is
    copied: Array  # bool [N]; all false without a threshold


class CopyDetector:
    """Finds images that are copies of `train` ``[T, H, W]``, with a threshold set on real images that are none.

    These are `held_out` images, or, with fewer than `MIN_REAL` of them, training images and others of another group.

    Attributes:
        threshold: similarity above which an image is a copy; None where there are too few real images.
        real: float64 ``[R]``, similarities of the real images that it was set on.
    """

    def __init__(self, train: Array, held_out: Array | None = None, groups: Array | None = None):
        self._network, self._backbone = load_backbone()
        size = train.shape[1:]
        cut = [round(side * (1 - MIDDLE) / 2) for side in size]
        middle = train[:, cut[0] : size[0] - cut[0], cut[1] : size[1] - cut[1]]
        whole = self._features(train)
        views = (train[:, :, ::-1], middle, _turned(train, TURNED), _turned(train, -TURNED))
        others = [self._features(view) for view in views]
        self._mean = whole.mean(axis=0)
        _, values, directions = np.linalg.svd((whole - self._mean) / len(train) ** 0.5, full_matrices=False)
        variances = values**2
        ridge = _SHRINKAGE * variances.sum() / min(whole.shape)
        self._scale = (variances + ridge) ** -0.5 - ridge**-0.5, directions, ridge**-0.5
        self._known = [self._whitened(part) for part in (whole, *others)]
        if held_out is not None and len(held_out) >= MIN_REAL:
            self.real, n_groups = self._similarities(held_out).max(axis=1), len(held_out)
        else:
            groups = np.arange(len(train)) if groups is None else groups
            alike = self._similarities(train)
            alike[groups[:, None] == groups] = -1.0
            self.real, n_groups = alike.max(axis=1), len(np.unique(groups))
        self.threshold = min(similarity_tail(self.real), MAX_SIMILARITY) if n_groups >= MIN_REAL else None

    def __call__(self, images: Array) -> FeatureCopies:
        """Return what is found of uint8 `images` ``[N, H, W]``."""
        alike = self._similarities(images)
        best = alike.max(axis=1)
        limit = np.inf if self.threshold is None else self.threshold
        return FeatureCopies(best, alike.argmax(axis=1), best > limit)

    def _similarities(self, images: Array) -> Array:
        """Return the largest cosine over orientations and parts of each image and training image, ``[N, T]``."""
        best = np.full((len(images), len(self._known[0])), -1.0)
        for turns in range(4):
            seen = self._whitened(self._features(np.rot90(images, turns, axes=(1, 2))))
            for known in self._known:
                np.maximum(best, seen @ known.T, out=best)
        return best

    @torch.no_grad()
    def _features(self, images: Array) -> Array:
        """Return means and deviations of the maps, float64 ``[N, D]``; brightness and contrast are taken out before."""
        found = []
        for batch in torch.split(torch.from_numpy(images.copy()), _BATCH):
            x = batch[:, None].float()
            x = F.interpolate(x, (INPUT_PX, INPUT_PX), mode="bicubic", antialias=True, align_corners=False)
            mean, deviation = x.mean(dim=(2, 3), keepdim=True), x.std(dim=(2, 3), keepdim=True).clamp_min(1.0)
            x = ((x - mean) / deviation * 50 + 80).clamp(0, 255)
            x = (x - self._network.mean[0]) / self._network.std[0]
            maps = self._backbone(x.expand(-1, 3, -1, -1), _SCALES)
            parts = [part for one in maps for part in (one.mean(dim=(2, 3)), one.std(dim=(2, 3)))]
            found.append(torch.cat([F.normalize(part, dim=1) for part in parts], dim=1))
        return np.asarray(torch.cat(found).double().numpy())

    def _whitened(self, features: Array) -> Array:
        gain, directions, rest = self._scale
        centred = features - self._mean
        white = (centred @ directions.T * gain) @ directions + rest * centred
        return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-12))


def _turned(images: Array, degrees: float) -> Array:
    """Return uint8 `images` ``[N, H, W]`` turned around their middle; what is missing at the corners is mirrored."""
    angle = np.deg2rad(degrees)
    turn = [[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0]]
    turned = []
    for batch in torch.split(torch.from_numpy(images.copy()), _BATCH):
        x = batch[:, None].float()
        grid = F.affine_grid(torch.tensor(turn).float().expand(len(x), -1, -1), list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        turned.append(x[:, 0].round().clamp(0, 255).to(torch.uint8))
    return torch.cat(turned).numpy()

"""The distance by which snapshots of a generator are chosen: to the training images alone."""

from collections.abc import Callable

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.features.registry import embed
from sonosynth.metrics.kernel import kernel_distance

SNAPSHOT_FEATURES = "efficientnet-lite0"  # five times as fast as inception; final scores use their own features


def distance_to(data: ImageSet, features: str = SNAPSHOT_FEATURES) -> Callable[[np.ndarray], float]:
    """Return a function from uint8 images ``[N, H, W]`` to their kernel distance to `data`, which is embedded once.

    No held-out image takes part, so a choice by this distance leaks nothing into a later score.

    Raises:
        FeatureError: `features` is unknown.
    """
    reference = embed(data, features)
    return lambda images: kernel_distance(reference, embed(images, features))

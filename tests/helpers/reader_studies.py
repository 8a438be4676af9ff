"""A small reader study of noise, real and synthetic images told apart by their brightness."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from image_sets import blobs
from sonosynth.data.imageset import ImageSet
from sonosynth.web.reader_study import FrozenStudy, new_reader_study, read_reader_study


def save_sets(folder: Path, per_class: int = 12, size: int = 32) -> tuple[Path, Path, Path]:
    """Write training, held-out and synthetic images, and return where."""
    sets = {}
    for seed, name in enumerate(("training", "real", "synthetic")):
        images = blobs(per_class, size, seed=seed)
        sets[name] = replace(images, synthetic=name == "synthetic")
        sets[name].save(folder / name)
    return folder / "training", folder / "real", folder / "synthetic"


def small_study(folder: Path, **settings) -> FrozenStudy:
    """Return a new study of two classes, four images each, in ``folder/study``."""
    training, real, synthetic = save_sets(folder)
    settings = {"per_class": 4, "practice": 2, "repeats": 2} | settings
    new_reader_study(training, synthetic, folder / "study", real=real, **settings)
    return read_reader_study(folder / "study")


def pixels(data: ImageSet) -> set[bytes]:
    """Return the pixels of every image."""
    return {np.ascontiguousarray(image).tobytes() for image in data.images}

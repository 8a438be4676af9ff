"""Phantoms, their features and their measures of speckle, made once and kept: what benchmarks of metrics draw from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonosynth.core.files import atomic_file
from sonosynth.features.extract import load_features
from sonosynth.metrics.ultrasound.measures import ultrasound_measures
from sonosynth.metrics.ultrasound.realism import METRICS, realism_values
from sonosynth.phantoms.phantom import phantom
from sonosynth.phantoms.settings import Value

CHUNK = 500


@dataclass(frozen=True, eq=False)
class Pool:
    """N phantoms: uint8 ``[N, H, W]``, labels ``[N]``, features float32 ``[N, D]``, and measures of speckle."""

    images: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    realism: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, chosen: np.ndarray) -> "Pool":
        """Return some of them."""
        realism = {name: values[chosen] for name, values in self.realism.items()}
        return Pool(self.images[chosen], self.labels[chosen], self.features[chosen], realism)


def pool(
    directory: Path,
    n: int,
    size: int,
    seed: int,
    features: str,
    classes: Sequence[str] = ("benign",),
    settings: Mapping[str, Value] | None = None,
) -> Pool:
    """Return `n` phantoms, in chunks that stay in `directory`: a call that was cut short goes on where it was.

    Chunks hold equal parts of all classes, so the number of each class is right where `n` is a number of whole chunks.
    """
    per_class = -(-CHUNK // len(classes))
    chunks = []
    for chunk in range(-(-n // CHUNK)):
        path = directory / f"{seed}-{chunk}.npz"
        if not path.is_file():
            # A chunk has a seed of its own: images of one seed and number are the same breast.
            images = phantom(per_class, size, seed * 1000 + chunk, classes, settings=settings).images
            made = {"images": images, "features": load_features(features)(images)} | realism_values(
                ultrasound_measures(images)
            )
            with atomic_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]
            print(f"  {path}", flush=True)
        with np.load(path) as file:
            chunks.append({name: file[name] for name in file.files})
    joined = {name: np.concatenate([chunk[name] for chunk in chunks])[:n] for name in chunks[0]}
    labels = np.tile(np.repeat(np.arange(len(classes)), per_class), len(chunks))[:n]
    return Pool(
        joined["images"],
        labels,
        joined["features"],
        {name: joined[name] for name in (metric.name for metric in METRICS)},
    )

"""The study finds what was planted: synthetic images that carry news help, wrong labels harm, and copies do neither."""

from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from sonosynth.classify.classify import classify
from sonosynth.classify.networks import NETWORKS, Network
from sonosynth.classify.training import TrainingSettings
from sonosynth.core.seeds import numpy_generator
from sonosynth.data.imageset import ImageSet
from sonosynth.phantoms.phantom import phantom

SEEDS = (0, 1)
RATIO = 4


def small(n_classes: int, dropout: float) -> nn.Module:
    """Three convolutions; `dropout` stands nowhere."""
    widths = (1, 16, 32, 64)
    blocks = [layer for i, o in pairwise(widths) for layer in (nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, n_classes))


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(NETWORKS, "small", Network("small", small, learning_rate=1e-2))


@pytest.fixture(scope="module")
def phantoms() -> tuple[ImageSet, ImageSet, ImageSet]:
    """25 training images, 100 fresh ones for the place of synthetic images, and 115 test images."""
    images = phantom(120, 32, classes=("malignant", "normal"))
    order = np.argsort(np.arange(240) % 120, kind="stable")
    return images.subset(order[:25]), images.subset(order[25:125]), images.subset(order[125:])


def macro_f1(phantoms, arm: str, synthetic: ImageSet | None, steps: int) -> float:
    """Return the mean over seeds."""
    made = None if synthetic is None else ImageSet(**{**vars(synthetic), "synthetic": True})
    training = TrainingSettings(steps=steps)
    found = [
        classify(
            phantoms[0],
            phantoms[2],
            arm=arm,
            synthetic=made,
            ratio=RATIO if arm == "oversampled" else None,
            network="small",
            training=training,
            seed=seed,
        ).metrics["macro_f1"]
        for seed in SEEDS
    ]
    return float(np.mean(found))


@pytest.mark.slow
def test_fresh_images_help_and_copies_are_worth_what_oversampling_is(phantoms):
    train, fresh, _ = phantoms
    real = macro_f1(phantoms, "real", None, 100)
    oversampled = macro_f1(phantoms, "oversampled", None, 100)
    copies = macro_f1(phantoms, "real+synthetic", ImageSet.concatenate([train] * RATIO), 100)
    informative = macro_f1(phantoms, "real+synthetic", fresh, 100)
    assert informative > max(real, oversampled, copies) + 0.08
    assert abs(copies - oversampled) < 0.08


@pytest.mark.long
def test_shuffled_labels_harm(phantoms):
    _, fresh, _ = phantoms
    labels = numpy_generator(0, "shuffled").permutation(fresh.labels)
    wrong = ImageSet(**{**vars(fresh), "labels": labels})
    real = macro_f1(phantoms, "real+classical", None, 120)
    assert macro_f1(phantoms, "real+classical+synthetic", wrong, 120) < real - 0.08

"""The copy detector finds copies that pixels miss, and leaves strangers alone."""

import numpy as np
import pytest

from sonosynth.metrics.memorisation.near_copies import near_copies
from sonosynth.phantoms.phantom import phantom
from sonosynth.release.copies import CopyDetector

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sets():
    """Training images, real images that set the threshold, and strangers."""
    images = phantom(45, 64, seed=5).images
    return images[:40], images[40:70], images[70:]


def test_turned_and_darkened_copies_are_found_and_strangers_are_not(sets):
    train, held_out, strangers = sets
    detector = CopyDetector(train, held_out)
    assert detector.threshold is not None and len(detector.real) == len(held_out)
    assert not detector(strangers).copied.any()
    some = train[:6]
    darker = (255 * (some / 255) ** 1.4).astype(np.uint8)
    for copies in (some, np.rot90(some, axes=(1, 2)), np.rot90(some, 2, axes=(1, 2)), some[:, :, ::-1]):
        found = detector(np.ascontiguousarray(copies))
        assert found.copied.all() and list(found.nearest) == list(range(6))
    found = detector(darker)
    assert found.copied.sum() >= 2 and list(found.nearest) == list(range(6))
    turned = np.ascontiguousarray(np.rot90(some, axes=(1, 2)))
    assert not near_copies(train, turned, held_out).copied.any()  # what pixels miss


def test_without_enough_real_images_nothing_is_called_a_copy(sets):
    train = sets[0][:12]
    detector = CopyDetector(train, sets[1][:5])
    assert detector.threshold is None and not detector(train).copied.any()


def test_without_held_out_images_groups_of_training_images_set_the_threshold(sets):
    train = np.concatenate([sets[0], sets[0]])  # every image twice, in one group
    groups = np.tile(np.arange(40), 2)
    alike = CopyDetector(train, None, groups)
    assert alike.threshold is not None and alike.real.max() < 0.99

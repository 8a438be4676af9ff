"""Pictures known again by their hashes."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from image_sets import blobs
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.phantoms.phantom import phantom
from sonosynth.priors.fingerprints import HASH_BYTES, fingerprints, known_images

SHOWN = phantom(10, 128, seed=1)


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=40)
    return np.asarray(Image.open(file))


CHANGES = {
    "nothing": lambda image: image,
    "size": lambda image: np.asarray(Image.fromarray(image).resize((48, 48))),
    "stretched": lambda image: np.asarray(Image.fromarray(image).resize((90, 64))),
    "mirrored": lambda image: image[:, ::-1],
    "gain": lambda image: np.clip(image * 1.2 + 8, 0, 255).astype(np.uint8),
    "gamma": lambda image: (255 * (image / 255) ** 0.8).astype(np.uint8),
    "JPEG": as_jpeg,
    "edges cut": lambda image: image[2:-2, 2:-2],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_known_and_others_are_not(change):
    known = fingerprints(SHOWN)
    assert known.shape == (2 * len(SHOWN), HASH_BYTES) and known.dtype == np.uint8
    changed = replace(SHOWN, images=np.stack([CHANGES[change](image) for image in SHOWN.images]))
    assert known_images(changed, known).all()
    assert not known_images(phantom(10, 128, seed=2), known).any()


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_pictures_are_known_however_they_became_square(fit, tmp_path):
    wide = [np.asarray(Image.fromarray(image).resize((150, 100))) for image in SHOWN.images]
    for i, image in enumerate(wide):
        folder = tmp_path / SHOWN.classes[SHOWN.labels[i]]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    source = read_source(tmp_path)
    known = fingerprints(prepare_images(source, 64, "stretch")[0])
    assert known_images(prepare_images(source, 64, fit)[0], known).all()


def test_no_images_and_no_fingerprints_are_no_match():
    none = blobs(4).subset([])
    assert known_images(none, fingerprints(SHOWN)).shape == (0,)
    assert not known_images(SHOWN, fingerprints(none)).any()


@pytest.mark.real_images
@pytest.mark.long
def test_patients_of_one_data_set_are_not_taken_for_those_of_another(real_images):
    first, second = (
        prepare_images(read_source(real_images / name), 64)[0] for name in ("bus_bra_256", "Dataset_BUSI_with_GT")
    )
    rng = np.random.default_rng(0)
    some: ImageSet = first.subset(rng.choice(len(first), 400, replace=False))
    assert not known_images(second, fingerprints(some)).any()
    assert known_images(some, fingerprints(first)).all()

import numpy as np
import pytest
from PIL import Image

from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import prepare_images
from sonosynth.data.resize import common_original_area, crop_to_original
from sonosynth.data.scan import read_source


def source(folder, sizes):
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for i, (width, height) in enumerate(sizes):
            ramp = np.linspace(0, 255, width)[None, :] * np.linspace(0.3, 1, height)[:, None]
            Image.fromarray(ramp.astype(np.uint8)).save(folder / label / f"{label}{i}.png")
    return read_source(folder)


@pytest.mark.parametrize(
    ("fit", "original", "expected"),
    [
        ("pad", (160, 120), (64, 48)),
        ("pad", (120, 160), (48, 64)),
        ("stretch", (160, 120), (64, 48)),
        ("crop", (160, 120), (64, 64)),
        ("stretch", (100, 100), (64, 64)),
    ],
)
def test_prepared_images_come_back_in_the_shape_of_their_originals(fit, original, expected, tmp_path):
    data, _ = prepare_images(source(tmp_path / "s", [original] * 3), 64, fit)
    frame = common_original_area(data)
    assert frame is not None
    back = crop_to_original(data, frame)
    assert (back.size[1], back.size[0]) == expected
    if fit != "crop":
        with Image.open(tmp_path / "s" / "a" / "a0.png") as picture:
            wanted = np.asarray(picture.resize(expected, Image.Resampling.BICUBIC)).astype(int)
        assert np.abs(back.images[0].astype(int) - wanted).max() <= 6
    back.save(tmp_path / "back")
    assert np.array_equal(ImageSet.load(tmp_path / "back").images, back.images)


def test_originals_of_several_shapes_have_no_common_frame(tmp_path):
    data, _ = prepare_images(source(tmp_path / "s", [(160, 120), (120, 160)]), 64, "pad")
    assert common_original_area(data) is None
    assert common_original_area(data.subset([0, 2])) is not None
    assert common_original_area(ImageSet(data.images, data.labels, data.classes, data.groups, data.ids)) is None

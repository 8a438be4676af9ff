"""Words, calipers and borders that were drawn are found where they were drawn, and nothing on bare tissue."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import planting
from sonosynth.data.overlays import find_overlays, remove_overlays
from sonosynth.data.scan import decode_image, read_source
from sonosynth.phantoms.phantom import phantom

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tissue() -> list[np.ndarray]:
    return list(phantom(3, 512, seed=2).images)


def with_calipers(grey: np.ndarray, ends: list[tuple[int, int]], diagonal: bool = False) -> np.ndarray:
    picture = Image.fromarray(grey)
    pen = ImageDraw.Draw(picture)
    for x, y in ends:
        a = 5 if diagonal else 7
        pen.line((x - a, y - a, x + a, y + a) if diagonal else (x - a, y, x + a, y), fill=240, width=2)
        pen.line((x - a, y + a, x + a, y - a) if diagonal else (x, y - a, x, y + a), fill=240, width=2)
    (x, y), (u, v) = ends[:2]
    for t in np.linspace(0.05, 0.95, 40):
        pen.point([(x + t * (u - x) + i, y + t * (v - y) + j) for i in (0, 1) for j in (0, 1)], fill=240)
    return np.asarray(picture)


@pytest.mark.slow
def test_bare_tissue_has_no_overlays(tissue):
    for grey in tissue:
        found = find_overlays(grey)
        assert found.words == () and found.calipers == () and found.border == (0, 0, 0, 0)
        assert not found.mask(grey.shape).any()


@pytest.mark.long
def test_words_are_read_where_they_stand(tissue):
    found = find_overlays(planting.words(tissue[0], "LEFT BREAST", (0.3, 0.6)))
    assert "".join(found.words).replace(" ", "") == "LEFTBREAST"
    left, top, right, bottom = found.boxes[0]
    assert abs(left - 0.3 * 512) < 12 and abs(top - 0.6 * 512) < 20
    assert found.mask((512, 512))[top + 5 : bottom - 5, left + 5 : right - 5].all()


@pytest.mark.parametrize("diagonal", [False, True])
def test_calipers_and_their_line_are_found(diagonal, tissue):
    ends = [(150, 200), (330, 260)]
    found = find_overlays(with_calipers(tissue[1] // 2, ends, diagonal))
    assert len(found.calipers) == 2
    for end in ends:
        assert min(max(abs(x - end[0]), abs(y - end[1])) for x, y, _ in found.calipers) <= 2
    assert found.lines == ((0, 1),)
    assert found.mask((512, 512))[230, 240]


def test_one_cross_is_no_caliper(tissue):
    assert find_overlays(with_calipers(tissue[1] // 2, [(150, 200), (-50, -50)])).calipers == ()


def test_borders_are_counted_in_pixels_of_the_image(tissue):
    framed = np.zeros((530, 600), np.uint8)
    framed[10:522, 30:542] = np.maximum(tissue[0], 10)
    assert find_overlays(framed).border == (30, 10, 58, 8)
    assert find_overlays(np.zeros((40, 40), np.uint8)).border == (0, 0, 0, 0)


def test_overlays_are_filled_and_the_rest_is_left(tissue):
    drawn = planting.words(with_calipers(tissue[0] // 2, [(150, 200), (330, 260)]), "RT AXILLA", (0.1, 0.8))
    filled, pixels = remove_overlays(drawn)
    hole = find_overlays(drawn).mask(drawn.shape)
    assert pixels == hole.sum() > 500
    np.testing.assert_array_equal(filled[~hole], drawn[~hole])
    again = find_overlays(filled)
    assert again.words == () and again.calipers == ()
    same, none = remove_overlays(tissue[2])
    assert none == 0
    np.testing.assert_array_equal(same, tissue[2])


@pytest.mark.real_images
@pytest.mark.skipif("SONOSYNTH_DATA" not in os.environ, reason="needs SONOSYNTH_DATA")
def test_real_overlays():
    items = read_source(Path(os.environ["SONOSYNTH_DATA"]) / "Dataset_BUSI_with_GT").items
    found = {
        item.id: find_overlays(decode_image(item).grey) for item in items if item.id in ("benign (1)", "benign (230)")
    }
    assert "".join(found["benign (1)"].words).replace(" ", "") == "LEFTBREAST"
    assert len(found["benign (230)"].calipers) >= 3

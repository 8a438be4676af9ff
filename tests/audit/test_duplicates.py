"""Planted copies are found, and strangers stay apart, also when the same words are burned into all of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import planting
from sonosynth.audit.duplicates import Duplicate, compare, find_duplicates, needed, view
from sonosynth.audit.keypoints import SIDE, candidates, find_keypoints, mirror, unit
from sonosynth.data.scan import decode_image, read_source
from sonosynth.phantoms.phantom import phantom

N = 24


@pytest.fixture(scope="module")
def strangers() -> list[np.ndarray]:
    return list(phantom(N // 3, 128, seed=5).images)


@pytest.fixture(scope="module")
def originals(strangers):
    return [view(picture) for picture in strangers]


def pairs(found: list[Duplicate]) -> set[tuple[int, int]]:
    return {(pair.a, pair.b) for pair in found}


@pytest.mark.parametrize("kind", planting.PLANTED)
def test_planted_copies_are_found_and_nothing_else(kind, strangers, originals):
    rng = np.random.default_rng(1)
    copies = [planting.PLANTED[kind](picture, rng) for picture in strangers[:8]]
    found = find_duplicates([*originals, *map(view, copies)])
    assert pairs(found) == {(i, N + i) for i in range(8)}


def test_words_on_every_image_join_nothing(strangers):
    burned = [planting.words(picture, "RT AXILLA", (0.1, 0.8)) for picture in strangers]
    burned = [planting.words(picture, "BREAST 12 MHz", (0.4, 0.03)) for picture in burned]
    assert find_duplicates([view(picture) for picture in burned]) == []


def test_kinds(strangers):
    rng = np.random.default_rng(0)
    first = strangers[0]
    changed = {
        "near": planting.gain(first, rng),
        "partial": planting.crop(first, rng),
        "flipped": planting.flip(first, rng),
    }
    for kind, picture in changed.items():
        found = find_duplicates([view(first), view(picture)])
        assert [pair.kind for pair in found] == [kind]
        assert found[0].similarity > needed(100)


def test_a_larger_picture_first_or_second_is_the_same_pair(strangers):
    small = planting.crop(strangers[0], np.random.default_rng(0))
    one, other = compare(view(strangers[0]), view(small), False), compare(view(small), view(strangers[0]), False)
    assert one is not None and other is not None
    assert one.kind == other.kind == "partial"
    assert one.similarity == pytest.approx(other.similarity, abs=0.1)


def test_pictures_of_different_sizes(strangers):
    large = np.asarray(Image.fromarray(strangers[0]).resize((384, 300)).resize((384, 384)))
    assert pairs(find_duplicates([view(strangers[0]), view(large), view(strangers[1])])) == {(0, 1)}


def test_ignored_parts_have_no_keypoints(strangers):
    ignored = np.zeros((128, 128), bool)
    ignored[:, :64] = True
    points = find_keypoints(strangers[0], ignored).points
    assert len(points) > 50
    assert points[:, 0].min() > 0.45 * SIDE


def test_mirrored_descriptors_are_those_of_the_flipped_picture(strangers):
    here, there = find_keypoints(strangers[0]), find_keypoints(np.ascontiguousarray(strangers[0][:, ::-1]))
    x = SIDE - 1 - there.points[:, 0]
    distance = np.hypot(here.points[:, None, 0] - x[None], here.points[:, None, 1] - there.points[None, :, 1])
    nearest = distance.argmin(axis=1)
    same = distance[np.arange(len(nearest)), nearest] < 0.5
    cosine = (unit(here.mirrored[same]) * unit(there.descriptors[nearest[same]])).sum(axis=1)
    assert same.sum() > 100
    assert np.median(cosine) > 0.99
    np.testing.assert_array_equal(mirror(here.mirrored), here.descriptors)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_empty_pictures_are_no_duplicates(level, strangers):
    empty = np.full((90, 120), level, np.uint8)
    assert find_duplicates([view(empty), view(empty), view(strangers[0])]) == []
    assert candidates([find_keypoints(empty)] * 3, 5) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 400)])
def test_tiny_pictures_are_looked_at_without_harm(shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert find_duplicates([view(picture), view(picture.copy())]) == []


def test_threads_do_not_matter(strangers, originals):
    rng = np.random.default_rng(2)
    views = [*originals, *(view(planting.jpeg(picture, rng)) for picture in strangers[:6])]
    assert find_duplicates(views, threads=1) == find_duplicates(views, threads=3)


def test_fewer_tiles_must_agree_better():
    values = [needed(tiles) for tiles in (10, 30, 100, 144)]
    assert values == sorted(values, reverse=True)
    assert 0.3 < values[-1] < 0.5 < values[0] < 0.9


@pytest.mark.slow
@pytest.mark.real_images
@pytest.mark.skipif("SONOSYNTH_DATA" not in os.environ, reason="needs SONOSYNTH_DATA")
def test_real_images():
    items = read_source(Path(os.environ["SONOSYNTH_DATA"]) / "hc18_256").items
    chosen = np.random.default_rng(7).permutation(len(items))[:40]
    pictures = [planting.words(decode_image(items[i]).grey, "RT AXILLA", (0.05, 0.85)) for i in chosen]
    rng = np.random.default_rng(0)
    kinds = list(planting.PLANTED.values())
    copies = [kinds[k % len(kinds)](pictures[k], rng) for k in range(16)]
    found = pairs(find_duplicates([view(picture) for picture in [*pictures, *copies]]))
    assert {(k, 40 + k) for k in range(16)} <= found
    groups = [items[i].group or str(i) for i in chosen]
    groups += groups[:16]
    assert all(groups[a] == groups[b] for a, b in found)

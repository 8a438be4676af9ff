"""Planted copies are found, and unrelated images stay apart, also when the same words are burned into all of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import planting
from sonosynth.audit.duplicates import Duplicate, compare, find_duplicates, signature, similarity_threshold
from sonosynth.audit.keypoints import SIDE, candidate_pairs, find_keypoints, mirror_descriptors, unit_length
from sonosynth.data.scan import decode_image, read_source
from sonosynth.phantoms.phantom import phantom

N = 24


@pytest.fixture(scope="module")
def unrelated() -> list[np.ndarray]:
    return list(phantom(N // 3, 128, seed=5).images)


@pytest.fixture(scope="module")
def originals(unrelated):
    return [signature(picture) for picture in unrelated]


def pairs(found: list[Duplicate]) -> set[tuple[int, int]]:
    return {(pair.a, pair.b) for pair in found}


@pytest.mark.long
@pytest.mark.parametrize("kind", planting.PLANTED)
def test_planted_copies_are_found_and_nothing_else(kind, unrelated, originals):
    rng = np.random.default_rng(1)
    copies = [planting.PLANTED[kind](picture, rng) for picture in unrelated[:8]]
    found = find_duplicates([*originals, *map(signature, copies)])
    assert pairs(found) == {(i, N + i) for i in range(8)}


@pytest.mark.long
def test_words_on_every_image_join_nothing(unrelated):
    burned = [planting.words(picture, "RT AXILLA", (0.1, 0.8)) for picture in unrelated]
    burned = [planting.words(picture, "BREAST 12 MHz", (0.4, 0.03)) for picture in burned]
    assert find_duplicates([signature(picture) for picture in burned]) == []


@pytest.mark.long
def test_kinds(unrelated):
    rng = np.random.default_rng(0)
    first = unrelated[0]
    changed = {
        "near": planting.gain(first, rng),
        "partial": planting.crop(first, rng),
        "flipped": planting.flip(first, rng),
    }
    for kind, picture in changed.items():
        found = find_duplicates([signature(first), signature(picture)])
        assert [pair.kind for pair in found] == [kind]
        assert found[0].similarity > similarity_threshold(100)


def test_a_larger_picture_first_or_second_is_the_same_pair(unrelated):
    small = planting.crop(unrelated[0], np.random.default_rng(0))
    one, other = (
        compare(signature(unrelated[0]), signature(small), False),
        compare(signature(small), signature(unrelated[0]), False),
    )
    assert one is not None and other is not None
    assert one.kind == other.kind == "partial"
    assert one.similarity == pytest.approx(other.similarity, abs=0.1)


def test_pictures_of_different_sizes(unrelated):
    large = np.asarray(Image.fromarray(unrelated[0]).resize((384, 300)).resize((384, 384)))
    assert pairs(find_duplicates([signature(unrelated[0]), signature(large), signature(unrelated[1])])) == {(0, 1)}


def test_ignored_parts_have_no_keypoints(unrelated):
    ignored = np.zeros((128, 128), bool)
    ignored[:, :64] = True
    points = find_keypoints(unrelated[0], ignored).points
    assert len(points) > 50
    assert points[:, 0].min() > 0.45 * SIDE


def test_mirrored_descriptors_are_those_of_the_flipped_picture(unrelated):
    here, there = find_keypoints(unrelated[0]), find_keypoints(np.ascontiguousarray(unrelated[0][:, ::-1]))
    x = SIDE - 1 - there.points[:, 0]
    distance = np.hypot(here.points[:, None, 0] - x[None], here.points[:, None, 1] - there.points[None, :, 1])
    nearest = distance.argmin(axis=1)
    same = distance[np.arange(len(nearest)), nearest] < 0.5
    mirrored = mirror_descriptors(here.descriptors)
    cosine = (unit_length(mirrored[same]) * unit_length(there.descriptors[nearest[same]])).sum(axis=1)
    assert same.sum() > 100
    assert np.median(cosine) > 0.99
    np.testing.assert_array_equal(mirror_descriptors(mirrored), here.descriptors)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_empty_pictures_are_no_duplicates(level, unrelated):
    empty = np.full((90, 120), level, np.uint8)
    assert find_duplicates([signature(empty), signature(empty), signature(unrelated[0])]) == []
    assert candidate_pairs([find_keypoints(empty)] * 3, 5) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 400)])
def test_tiny_pictures_are_looked_at_without_harm(shape):
    picture = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    assert find_duplicates([signature(picture), signature(picture.copy())]) == []


@pytest.mark.long
def test_threads_do_not_matter(unrelated, originals):
    rng = np.random.default_rng(2)
    signatures = [*originals, *(signature(planting.jpeg(picture, rng)) for picture in unrelated[:6])]
    assert find_duplicates(signatures, threads=1) == find_duplicates(signatures, threads=3)


def test_fewer_tiles_must_agree_better():
    values = [similarity_threshold(tiles) for tiles in (10, 30, 100, 144)]
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
    found = pairs(find_duplicates([signature(picture) for picture in [*pictures, *copies]]))
    assert {(k, 40 + k) for k in range(16)} <= found
    groups = [items[i].group or str(i) for i in chosen]
    groups += groups[:16]
    assert all(groups[a] == groups[b] for a, b in found)

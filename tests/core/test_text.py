"""Numbers and their nouns, in the helper and in the messages that use it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonosynth.core.text import agreeing, counted
from sonosynth.data.groups import with_groups
from sonosynth.data.imageset import ImageSet
from sonosynth.data.scan import read_source, scan
from sonosynth.data.source import formulas
from sonosynth.metrics.sets import check_roles, exact_copies


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
    assert [counted(n, "image has", "images have") for n in (1, 2)] == ["1 image has", "2 images have"]
    assert [agreeing(n, "is", "are") for n in (0, 1, 1.0, 1.5, 2)] == ["are", "is", "is", "are", "are"]


def source(root: Path, broken: int) -> Path:
    (root / "a").mkdir(parents=True)
    for k in range(3):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (9, 9), dtype=np.uint8)).save(root / "a" / f"{k}.png")
    for k in range(broken):
        (root / "a" / f"broken{k}.png").write_text("text")
    return root


@pytest.mark.parametrize(("n", "told"), [(1, "1 unreadable file left out"), (2, "2 unreadable files left out")])
def test_files_that_are_left_out(tmp_path, n, told):
    assert scan(read_source(source(tmp_path, n)), skip_unreadable=True).notes()[0].startswith(told)


@pytest.mark.parametrize(("n", "told"), [(1, "1 row of groups.csv names no"), (2, "2 rows of groups.csv name no")])
def test_rows_and_groups_of_a_table(tmp_path, n, told):
    found = read_source(source(tmp_path / "set", 0))
    rows = [f"a/{k}.png,{min(k, n - 1)}" for k in range(3)] + [f"a/gone{k}.png,9" for k in range(n)]
    (tmp_path / "groups.csv").write_text("\n".join(["path,group", *rows]) + "\n")
    notes = with_groups(found, tmp_path / "groups.csv")[1]
    assert notes[0].startswith("1 group of 3 images" if n == 1 else "2 groups of 3 images") and notes[1].startswith(
        told
    )


@pytest.mark.parametrize(("n", "told"), [(1, "1 image has values"), (2, "2 images have values")])
def test_values_that_look_like_formulas(n, told):
    assert formulas([["=1+1"]] * n)[0].startswith(told)


@pytest.mark.parametrize("n", [1, 2])
def test_images_that_sets_share(n):
    images = np.random.default_rng(0).integers(0, 255, (6, 8, 8), dtype=np.uint8)

    def part(index: list[int], synthetic: bool = False) -> ImageSet:
        zeros = np.zeros(len(index), dtype=np.int64)
        return ImageSet(images[index], zeros, ("a",), np.array(index), tuple(map(str, index)), synthetic)

    train, other = part([0, 1, 2]), part([*range(n), *range(3, 6 - n)])
    also = "is also a training image" if n == 1 else "are also training images"
    assert check_roles(train, other, allow_shared=True) == f"{n} of 3 held-out images {also}"
    copies = "is an exact copy of a training image" if n == 1 else "are exact copies of training images"
    told = exact_copies({"train": train, "synthetic": part([*range(n), *range(3, 6 - n)], True)})
    assert told == [f"{n} of 3 synthetic images {copies}"]

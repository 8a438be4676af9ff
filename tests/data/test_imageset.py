from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sonosynth.core.errors import ClassError, ManifestError, OutputError, UnreadableImageError
from sonosynth.data.imageset import MANIFEST, ImageSet


def image_set(labels: list[int], ids: list[str] | None = None, classes=("benign", "malignant"), **fields) -> ImageSet:
    n = len(labels)
    rng = np.random.default_rng(n)
    return ImageSet(
        images=rng.integers(0, 256, (n, 6, 5), dtype=np.uint8),
        labels=np.array(labels, dtype=np.int64),
        classes=classes,
        groups=fields.pop("groups", np.arange(n)),
        ids=tuple(ids or [f"image {i}" for i in range(n)]),
        **fields,
    )


def assert_equal(a: ImageSet, b: ImageSet) -> None:
    assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.groups, b.groups)
    assert (a.classes, a.ids, a.synthetic, dict(a.extra)) == (b.classes, b.ids, b.synthetic, dict(b.extra))


@pytest.mark.parametrize("synthetic", [False, True])
def test_save_and_load_give_the_same_set(tmp_path: Path, synthetic: bool) -> None:
    data = image_set([0, 1, 0], groups=np.array([7, 7, 2]), synthetic=synthetic, extra={"age": ("NA", "", "0050")})
    data.save(tmp_path / "set")
    loaded = ImageSet.load(tmp_path / "set")
    assert_equal(loaded, data)
    assert loaded.fingerprint() == data.fingerprint()


def test_synthetic_images_say_so_in_the_file(tmp_path: Path) -> None:
    for synthetic in (False, True):
        image_set([0], synthetic=synthetic).save(tmp_path / str(synthetic))
        with Image.open(tmp_path / str(synthetic) / "benign" / "image 0.png") as picture:
            assert ("synthetic" in picture.info.get("Source", "")) is synthetic


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        unique=True,
        min_size=1,
        max_size=4,
    )
)
def test_any_ids_survive_the_disk(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    data = image_set([0] * len(ids), ids)
    data.save(folder / "set")
    loaded = ImageSet.load(folder / "set")
    assert loaded.ids == data.ids and np.array_equal(loaded.images, data.images)
    assert all(path.resolve().is_relative_to(folder) for path in folder.rglob("*.png"))


def test_ids_that_differ_only_in_case_or_signs_get_files_of_their_own(tmp_path: Path) -> None:
    data = image_set([0, 0, 0, 0], ["a", "A", "../a", "?a"])
    data.save(tmp_path / "set")
    assert len({path.name.lower() for path in (tmp_path / "set" / "benign").iterdir()}) == 4
    assert_equal(ImageSet.load(tmp_path / "set").with_classes(["benign"]), data.with_classes(["benign"]))


def test_save_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="not empty"):
        image_set([0]).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_arrays_cannot_be_written() -> None:
    data = image_set([0, 1])
    for array in (data.images, data.labels, data.groups):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0])}, "labels has 1"),
        ({"labels": np.array([0, 2])}, "indices into classes"),
        ({"ids": ("a", "a")}, "distinct"),
        ({"images": np.zeros((2, 4, 4), np.float32)}, "uint8"),
        ({"extra": {"age": ("1",)}}, "age has 1"),
    ],
)
def test_inconsistent_parts_are_refused(change: dict, message: str) -> None:
    data = image_set([0, 1])
    parts = {name: getattr(data, name) for name in ("images", "labels", "classes", "groups", "ids")}
    with pytest.raises(ValueError, match=message):
        ImageSet(**{**parts, **change})


def test_subset_keeps_rows_together() -> None:
    data = image_set([0, 1, 0], groups=np.array([5, 6, 7]), extra={"age": ("a", "b", "c")})
    part = data.subset([2, 1])
    assert np.array_equal(part.images, data.images[[2, 1]])
    assert (part.ids, part.extra["age"], part.groups.tolist(), part.labels.tolist()) == (
        ("image 2", "image 1"),
        ("c", "b"),
        [7, 6],
        [0, 1],
    )
    assert data.of_class("malignant").class_counts == {"benign": 0, "malignant": 1}


def test_with_classes_renumbers_in_the_order_asked_for() -> None:
    data = image_set([0, 1, 2, 1], classes=("a", "b", "c"))
    part = data.with_classes(["c", "b"])
    assert (part.classes, part.labels.tolist(), part.ids) == (("c", "b"), [1, 0, 1], ("image 1", "image 2", "image 3"))
    with pytest.raises(ClassError, match=r"no class 'bening' \(did you mean 'benign'\?\)"):
        image_set([0]).with_classes(["bening"])


def test_fingerprint_sees_pixels_labels_groups_and_nothing_else() -> None:
    data = image_set([0, 1])
    pixels = data.images.copy()
    pixels[1, 2, 3] ^= 1
    parts = {"classes": data.classes, "ids": data.ids}
    others = [
        ImageSet(images=pixels, labels=data.labels, groups=data.groups, **parts),
        ImageSet(images=data.images, labels=data.labels[::-1], groups=data.groups, **parts),
        ImageSet(images=data.images, labels=data.labels, groups=data.groups + 1, **parts),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert image_set([0, 1], ["x", "y"]).fingerprint() == data.fingerprint()


def test_resized_averages_and_does_not_alias() -> None:
    stripes = np.zeros((1, 64, 64), np.uint8)
    stripes[:, ::2] = 255
    data = ImageSet(stripes, np.zeros(1, np.int64), ("a",), np.zeros(1, np.int64), ("x",))
    small = data.resized(16)
    assert small.size == (16, 16) and abs(small.images.astype(int) - 127).max() < 20
    assert data.resized(64) is data


def test_concatenate_keeps_groups_of_different_sets_apart() -> None:
    a = image_set([0, 1], groups=np.array([9, 9]), extra={"age": ("1", "2"), "own": ("p", "q")})
    b = image_set([1], groups=np.array([9]), synthetic=True, extra={"age": ("3",)})
    both = ImageSet.concatenate([a, b])
    assert both.groups[0] == both.groups[1] != both.groups[2]
    assert both.labels.tolist() == [0, 1, 1] and not both.synthetic
    assert dict(both.extra) == {"age": ("1", "2", "3")}
    assert ImageSet.concatenate([b, b]).synthetic
    with pytest.raises(ValueError, match="same classes"):
        ImageSet.concatenate([a, image_set([0], classes=("benign", "normal"))])


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no manifest\.csv"):
        ImageSet.load(tmp_path)
    image_set([0, 1]).save(tmp_path / "set")
    (tmp_path / "set" / "benign" / "image 0.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"image 0\.png"):
        ImageSet.load(tmp_path / "set")
    (tmp_path / "set" / MANIFEST).write_text("path,label\nbenign/image 0.png,benign\n")
    with pytest.raises(ManifestError, match="lacks the column 'group'"):
        ImageSet.load(tmp_path / "set")


def test_what_a_spreadsheet_would_run_comes_back_as_it_was(tmp_path: Path) -> None:
    extra = {"note": ("=1+1", "@SUM(1)", "+cmd|'x'!A0"), "lines": ("a\r\nb", "a\rb", "a\nb")}
    data = image_set([0, 1, 0], ["=x", "@x", "-x"], classes=("+a", "=b"), extra=extra)
    data.save(tmp_path / "set")
    assert_equal(ImageSet.load(tmp_path / "set"), data)


def test_classes_and_ids_never_take_the_place_of_the_tables(tmp_path: Path) -> None:
    data = image_set([0, 1, 2, 2], ["a", "b", "\u00e9", "e\u0301"], classes=("manifest.csv", "prepare.json", "x"))
    data.save(tmp_path / "set")
    assert_equal(ImageSet.load(tmp_path / "set"), data)
    assert len({name.lower() for name in data.file_names()}) == 4


def test_a_folder_may_be_given_as_text(tmp_path):
    images = image_set([0, 1])
    images.save(str(tmp_path / "images"))
    assert_equal(ImageSet.load(str(tmp_path / "images")), images)

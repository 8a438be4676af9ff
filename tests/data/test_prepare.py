import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonosynth.core.errors import (
    ClassError,
    ManifestError,
    MixedSizesError,
    OutputError,
    SourceError,
    UnreadableImageError,
)
from sonosynth.core.files import read_json
from sonosynth.data.encoding import COLUMNS, encodings
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load
from sonosynth.data.prepare import prepare_images, resize_to_square
from sonosynth.data.prepared_folder import PREPARE, save_once, source_fingerprint
from sonosynth.data.scan import read_source
from sonosynth.data.source import ReadOptions, Source


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return noise of `size` (width, height)."""
    return np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)


def png(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(size, seed)).save(path)


def folder(root: Path, **classes: list[tuple[int, int]]) -> Source:
    """Make a class folder of images of the given sizes for each class."""
    for c, (name, sizes) in enumerate(classes.items()):
        for i, size in enumerate(sizes):
            png(root / name / f"{name} ({i + 1}).png", 100 * c + i, size)
    return read_source(root)


# ---------------------------------------------------------------------------------------------------- fit


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(8, 64), st.sampled_from(["stretch", "pad", "crop"]))
def test_geometry_maps_the_part_taken_onto_the_part_shown(width: int, height: int, size: int, fit: str) -> None:
    image, where = resize_to_square(noise((width, height)), size, fit)
    assert image.shape == (size, size) and image.dtype == np.uint8
    assert where.left >= 0 and where.left + where.width <= width
    assert where.top >= 0 and where.top + where.height <= height
    shown = (round(where.width * where.scale_x), round(where.height * where.scale_y))
    assert where.offset_x + shown[0] <= size and where.offset_y + shown[1] <= size
    if fit == "pad":
        assert max(shown) == size and (where.width, where.height) == (width, height)
    else:
        assert shown == (size, size) and where.offset_x == where.offset_y == 0
    if fit == "crop":
        assert where.width == where.height == min(width, height)


def test_crop_takes_the_middle_unresampled_at_its_own_size() -> None:
    grey = noise((50, 32))
    image, where = resize_to_square(grey, 32, "crop")
    assert np.array_equal(image, grey[:, 9:41]) and where.left == 9 and where.scale_x == where.scale_y == 1


def test_pad_mirrors_beside_and_below_and_keeps_the_skin_in_row_0() -> None:
    wide = noise((32, 20))
    image, where = resize_to_square(wide, 32, "pad")
    assert (where.offset_x, where.offset_y, where.scale_x) == (0, 0, 1)
    assert np.array_equal(image[:20], wide) and np.array_equal(image[20:], wide[:7:-1])
    tall = noise((21, 32))
    image, where = resize_to_square(tall, 32, "pad")
    assert where.offset_x == 5 and np.array_equal(image[:, 5:26], tall)
    assert np.array_equal(image[:, :5], tall[:, 4::-1]) and np.array_equal(image[:, 26:], tall[:, :14:-1])


def test_pad_mirrors_again_where_the_picture_is_narrower_than_the_padding() -> None:
    image, where = resize_to_square(noise((3, 32)), 32, "pad")
    strip = image[:, where.offset_x : where.offset_x + 3]
    assert np.array_equal(image[:, where.offset_x + 3 : where.offset_x + 9], np.hstack([strip[:, ::-1], strip]))


def test_reduction_averages_and_does_not_alias() -> None:
    stripes = np.zeros((200, 160), np.uint8)
    stripes[::2] = 255
    assert abs(resize_to_square(stripes, 20, "stretch")[0].astype(int) - 127).max() < 20


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_scale_and_offset_find_a_bright_spot_again(fit: str) -> None:
    grey = np.zeros((90, 120), np.uint8)
    grey[20:26, 48:54] = 255  # high enough not to be mirrored
    image, where = resize_to_square(grey, 64, fit)
    y, x = (float(np.average(np.arange(64) + 0.5, weights=image.sum(axis=axis, dtype=float))) for axis in (1, 0))
    assert (x - where.offset_x) / where.scale_x + where.left == pytest.approx(51, abs=0.2)
    assert (y - where.offset_y) / where.scale_y + where.top == pytest.approx(23, abs=0.2)


# ---------------------------------------------------------------------------------------------------- prepare


def test_record_of_each_image(tmp_path: Path) -> None:
    source = folder(tmp_path, benign=[(40, 30)], normal=[(20, 60)])
    data, _ = prepare_images(source, 16, "crop")
    assert data.size == (16, 16) and data.classes == ("benign", "normal") and data.labels.tolist() == [0, 1]
    assert not data.synthetic and data.ids == ("benign (1)", "normal (1)") and len(set(data.groups)) == 2
    first = {name: column[0] for name, column in data.extra.items()}
    assert first.pop("scale_x") == first.pop("scale_y") == "0.5333333333"
    size = (tmp_path / "benign" / "benign (1).png").stat().st_size
    assert float(first.pop("original_bytes_per_pixel")) == pytest.approx(size / (40 * 30), rel=1e-5)
    assert first == {
        "original_path": "benign/benign (1).png",
        "original_width": "40",
        "original_height": "30",
        "original_mode": "L",
        "fit": "crop",
        "crop_left": "5",
        "crop_top": "0",
        "crop_width": "30",
        "crop_height": "30",
        "offset_x": "0",
        "offset_y": "0",
        "original_format": "PNG",
        "original_lossy": "0",
        "original_quality": "",
        "original_bits": "8",
    }


def test_how_the_originals_were_stored_is_kept_through_every_step(tmp_path: Path) -> None:
    for name, suffix in (("a", "jpg"), ("b", "png")):
        (tmp_path / "in" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(noise((24, 40), k + 2 * (name == "b"))).save(
                tmp_path / "in" / name / f"{k}.{suffix}", quality=40
            )
    data, _ = prepare_images(read_source(tmp_path / "in"), 16)
    assert tuple(data.extra)[-5:] == COLUMNS
    data.save(tmp_path / "16")
    prepare_images(read_source(tmp_path / "16"), 8)[0].save(tmp_path / "8")
    for place in ("in", "16", "8"):
        kept = load(tmp_path / place).extra
        assert kept["original_format"] == ("JPEG", "JPEG", "PNG", "PNG"), place
        assert kept["original_lossy"] == ("1", "1", "0", "0") and kept["original_quality"] == ("40", "40", "", "")
        found = encodings(read_source(tmp_path / place).items, ReadOptions())
        assert [e and e.format for e in found] == ["JPEG", "JPEG", "PNG", "PNG"]


def test_a_set_of_an_older_version_is_still_done_and_does_not_claim_to_be_png(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", a=[(40, 30), (31, 30)])
    arguments = {"source": source_fingerprint(source), "size": 16}

    def build() -> tuple[ImageSet, list[str]]:
        data, notes = prepare_images(source, 16)
        return replace(data, extra={name: v for name, v in data.extra.items() if name not in COLUMNS}), notes

    save_once(tmp_path / "16", arguments, build)
    before = (tmp_path / "16" / "manifest.csv").read_text()
    _, _, new = save_once(tmp_path / "16", arguments, lambda: prepare_images(source, 16))
    assert not new and (tmp_path / "16" / "manifest.csv").read_text() == before
    old = read_source(tmp_path / "16")
    assert encodings(old.items, ReadOptions()) == [None, None]
    smaller, _ = prepare_images(old, 8)
    assert "original_path" in smaller.extra and not set(COLUMNS) & smaller.extra.keys()
    assert not set(COLUMNS) & load(tmp_path / "16").extra.keys()


def test_a_column_of_the_user_that_is_called_like_the_record_is_renamed(tmp_path: Path) -> None:
    png(tmp_path / "x.png", 0)
    (tmp_path / "manifest.csv").write_text("path,label,original_format\nx.png,a,film\n")
    data, notes = prepare_images(read_source(tmp_path), 16)
    assert data.extra["source_original_format"] == ("film",) and data.extra["original_format"] == ("PNG",)
    assert any("source_" in note and "original_format" in note for note in notes)


def test_prepared_set_survives_the_disk(tmp_path: Path) -> None:
    data, _ = prepare_images(folder(tmp_path / "in", a=[(40, 30), (31, 30)], b=[(33, 30)]), 16, "pad")
    data.save(tmp_path / "out")
    again = load(tmp_path / "out")
    assert again.fingerprint() == data.fingerprint() == ImageSet.load(tmp_path / "out").fingerprint()
    assert dict(again.extra) == dict(data.extra) and again.ids == data.ids


def test_manifest_groups_are_numbered_and_columns_kept(tmp_path: Path) -> None:
    for i in range(4):
        png(tmp_path / f"{i}.png", i)
    rows = "path,label,group,age,fit\n0.png,a,p9,50,x\n1.png,a,p1,60,y\n2.png,b,p9,70,z\n3.png,b,,80,\n"
    (tmp_path / "manifest.csv").write_text(rows)
    data, notes = prepare_images(read_source(tmp_path), 16)
    assert data.groups.tolist() == [0, 1, 0, 2]
    assert data.extra["source_group"] == ("p9", "p1", "p9", "") and data.extra["age"] == ("50", "60", "70", "80")
    assert data.extra["source_fit"] == ("x", "y", "z", "") and set(data.extra["fit"]) == {"stretch"}
    assert any("begin with 'source_': fit" in note for note in notes)


def test_exact_copies_join_whole_groups(tmp_path: Path) -> None:
    # 0 and 2 are copies, so are 3 and 4: groups x, y and z become one through them; w stays apart.
    for i, seed in enumerate([7, 1, 7, 8, 8, 2]):
        png(tmp_path / f"{i}.png", seed)
    rows = ["0.png,a,x", "1.png,a,x", "2.png,a,y", "3.png,b,y", "4.png,a,z", "5.png,b,w"]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,group", *rows]))
    data, notes = prepare_images(read_source(tmp_path), 16)
    assert data.groups.tolist() == [0, 0, 0, 0, 0, 3]
    assert any(note.endswith("one group with its original: 2") for note in notes)
    assert any("at least one of them wrong: b/3 = a/4" in note for note in notes)


def test_copies_are_judged_at_original_size(tmp_path: Path) -> None:
    for i, size in enumerate([(64, 64), (128, 128)]):  # equal after reduction, not before
        path = tmp_path / "a" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", size, 90).save(path)
    data, _ = prepare_images(read_source(tmp_path), 16)
    assert np.array_equal(data.images[0], data.images[1]) and data.groups.tolist() == [0, 1]


def test_enlarging_is_told(tmp_path: Path) -> None:
    source = folder(tmp_path, a=[(40, 30), (64, 64), (40, 64)])
    assert any(note.startswith("enlarges 2 of 3 images: 48 px") for note in prepare_images(source, 48)[1])
    assert not any("enlarges" in note for note in prepare_images(source, 30)[1])


def test_classes_are_chosen_and_ordered(tmp_path: Path) -> None:
    source = folder(tmp_path, benign=[(20, 20)], malignant=[(20, 20), (21, 20)], normal=[(20, 20)])
    data, _ = prepare_images(source, 16, classes=["malignant", "benign"])
    assert data.class_counts == {"malignant": 2, "benign": 1}
    with pytest.raises(ClassError, match=r"no class 'malign' \(did you mean 'malignant'\?\)"):
        prepare_images(source, 16, classes=["malign"])
    for wrong in ([], ["benign", "benign"]):
        with pytest.raises(ClassError, match="each once"):
            prepare_images(source, 16, classes=wrong)


def test_unreadable_files_stop_or_are_counted(tmp_path: Path) -> None:
    folder(tmp_path, a=[(20, 20), (20, 21)])
    (tmp_path / "a" / "bad.png").write_text("text")
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        prepare_images(read_source(tmp_path), 16)
    data, notes = prepare_images(read_source(tmp_path), 16, skip_unreadable=True)
    assert len(data) == 2 and any(note.startswith("1 unreadable file left out") for note in notes)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_opened_is_named_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source, plain = folder(tmp_path, a=[(20, 20), (20, 21), (20, 22)]), open

    def refused(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith("(2).png"):
            raise OSError(number, os.strerror(number), str(file))
        return plain(file, *arguments, **options)

    monkeypatch.setattr("io.open", refused)
    monkeypatch.setattr("builtins.open", refused)
    whole = source_fingerprint(source)  # the commands ask for it first
    with pytest.raises(UnreadableImageError, match=rf"\(2\)\.png: .*{os.strerror(number)}; replace .*skip-unreadable"):
        prepare_images(source, 16)
    data, notes = prepare_images(source, 16, skip_unreadable=True)
    assert len(data) == 2 and any(note.startswith("1 unreadable file left out") for note in notes)
    monkeypatch.undo()
    assert source_fingerprint(source) != whole


def test_an_image_whose_mask_is_unreadable_is_left_out_when_asked(tmp_path: Path) -> None:
    folder(tmp_path, a=[(40, 30), (40, 30), (40, 30)])
    for i in (1, 2):
        Image.fromarray(np.pad(np.full((9, 9), 255, np.uint8), 9)).save(tmp_path / "a" / f"a ({i})_mask.png")
    (tmp_path / "a" / "a (3)_mask.png").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"a \(3\)_mask.png: empty file"):
        prepare_images(read_source(tmp_path), 16, "mask")
    data, notes = prepare_images(read_source(tmp_path), 16, "mask", skip_unreadable=True)
    assert data.ids == ("a (1)", "a (2)") and notes[1].startswith("1 unreadable file left out: ")


def test_masks_of_zeros_and_ones_mark_as_others_do(tmp_path: Path) -> None:
    made = []
    for name, value in (("black-white", 255), ("zero-one", 1)):
        folder(tmp_path / name, a=[(40, 30), (40, 30)])
        for i in (1, 2):
            mask = np.pad(np.full((4, 6), value, np.uint8), ((3, 23), (30, 4)))
            Image.fromarray(mask).save(tmp_path / name / "a" / f"a ({i})_mask.png")
        made.append(prepare_images(read_source(tmp_path / name), 16, "mask")[0].extra["crop_left"])
    assert made[0] == made[1]
    for mask_file in (tmp_path / "zero-one" / "a").glob("*_mask.png"):
        Image.new("L", (40, 30)).save(mask_file)
    with pytest.raises(SourceError, match="marks no lesion: all its masks are empty"):
        prepare_images(read_source(tmp_path / "zero-one"), 16, "mask")


def test_the_mark_of_synthetic_images_counts(tmp_path: Path) -> None:
    source = folder(tmp_path, a=[(20, 20)])
    assert source_fingerprint(source) != source_fingerprint(replace(source, synthetic=True))


def test_small_classes_are_told(tmp_path: Path) -> None:
    assert {"only one class: a", "class 'a' has a single image"} <= set(
        prepare_images(folder(tmp_path, a=[(20, 20)]), 16)[1]
    )


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path, a=[(20, 20)])
    for size, fit in ((7, "pad"), (4096, "pad"), (16, "shrink")):
        with pytest.raises(ValueError, match="size must be 8 to 2048 and fit one of"):
            prepare_images(source, size, fit)


# ---------------------------------------------------------------------------------------------------- image sets


def square_set(synthetic: bool = False, groups: tuple[int, ...] = (8, 3, 5)) -> ImageSet:
    images = np.stack([noise((32, 32), i) for i in range(3)])
    ids = ("x", "y", "z")
    return ImageSet(images, np.array([1, 0, 1]), ("a", "b"), np.array(groups), ids, synthetic, {"age": ("1", "2", "3")})


@pytest.mark.parametrize("synthetic", [False, True])
def test_an_image_set_of_the_size_passes_unchanged(tmp_path: Path, synthetic: bool) -> None:
    data = square_set(synthetic)
    data.save(tmp_path / "set")
    same, notes = prepare_images(read_source(tmp_path / "set"), 32)
    assert same.fingerprint() == data.fingerprint()
    assert (same.ids, dict(same.extra), same.synthetic) == (data.ids, dict(data.extra), synthetic)
    assert any("nothing resampled" in note for note in notes)
    smaller, _ = prepare_images(read_source(tmp_path / "set"), 16)
    assert smaller.size == (16, 16) and smaller.synthetic is synthetic
    assert smaller.groups.tolist() == [8, 3, 5] and smaller.extra["original_path"][0] == "b/x.png"
    assert np.array_equal(smaller.images, data.resized(16).images)


def test_copies_in_a_real_image_set_are_joined_and_in_a_synthetic_one_left(tmp_path: Path) -> None:
    for synthetic, groups in ((False, [8, 3, 8]), (True, [8, 3, 5])):
        data = square_set(synthetic)
        data = replace(data, images=data.images[[0, 1, 0]])
        data.save(tmp_path / str(synthetic))
        assert prepare_images(read_source(tmp_path / str(synthetic)), 32)[0].groups.tolist() == groups


def test_preparing_twice_carries_the_record_on(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", a=[(48, 36), (24, 48)])
    prepare_images(source, 32, "pad")[0].save(tmp_path / "32")
    twice, _ = prepare_images(read_source(tmp_path / "32"), 16, "crop")
    once, _ = prepare_images(source, 16, "pad")
    for name in once.extra:
        numbers = name in ("scale_x", "scale_y")
        expected = pytest.approx([float(x) for x in once.extra[name]]) if numbers else list(once.extra[name])
        assert [float(x) if numbers else x for x in twice.extra[name]] == expected, name
    assert not any("source_" in name for name in twice.extra)


def test_groups_of_an_image_set_must_be_numbers(tmp_path: Path) -> None:
    square_set().save(tmp_path / "set")
    path = tmp_path / "set" / "manifest.csv"
    path.write_text(path.read_text().replace(",8,", ",p8,"))
    with pytest.raises(ManifestError, match="group 'p8' of 'x' is not a whole number"):
        load(tmp_path / "set")


def test_any_source_of_one_size_is_an_image_set(tmp_path: Path) -> None:
    folder(tmp_path, a=[(40, 30), (40, 30)], b=[(40, 30)])
    data = load(tmp_path)
    assert data.size == (30, 40) and data.class_counts == {"a": 2, "b": 1}
    assert np.array_equal(data.images[2], noise((40, 30), 100))


def test_mixed_sizes_are_named(tmp_path: Path) -> None:
    folder(tmp_path, a=[(40, 30), (40, 30)], b=[(41, 30)])
    with pytest.raises(MixedSizesError, match=r"40 × 30 and 'b \(1\)' is 41 × 30 .*sonosynth data prepare"):
        load(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no images"):
        load(tmp_path)


# ---------------------------------------------------------------------------------------------------- save_once


def test_the_same_arguments_write_once(tmp_path: Path) -> None:
    built = []

    def build() -> tuple[ImageSet, list[str]]:
        built.append(1)
        return square_set().with_classes(["b", "a"]), ["a note"]

    data, notes, new = save_once(tmp_path / "out", {"size": 32}, build)
    assert new and notes == ["a note"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again, notes, new = save_once(tmp_path / "out", {"size": 32}, build)
    assert not new and notes == ["a note"] and len(built) == 1 and np.array_equal(again.images, data.images)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert read_json(tmp_path / "out" / PREPARE)["arguments"] == {"size": 32}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"size": 64}, "size 32, not 64"), ({"size": 32, "seed": 1}, "seed None, not 1"), ({}, "size 32, not None")],
)
def test_other_arguments_are_refused(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    save_once(tmp_path / "out", {"size": 32}, lambda: (square_set(), []))
    with pytest.raises(OutputError, match=f"made with other arguments .{message}"):
        save_once(tmp_path / "out", arguments, lambda: (square_set(), []))


def test_an_output_changed_since_is_not_called_done(tmp_path: Path) -> None:
    save_once(tmp_path / "out", {}, lambda: (square_set(), []))
    Image.fromarray(noise((32, 32), 99)).save(tmp_path / "out" / "a" / "y.png")
    with pytest.raises(OutputError, match="changed after it was made"):
        save_once(tmp_path / "out", {}, lambda: (square_set(), []))
    (tmp_path / "out" / PREPARE).write_text("{")
    with pytest.raises(OutputError, match=r"prepare\.json is damaged"):
        save_once(tmp_path / "out", {}, lambda: (square_set(), []))


def test_foreign_folders_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(OutputError, match="already exists"):
            save_once(out, {}, lambda: pytest.fail("must not be built"))
    with pytest.raises(OutputError, match="cannot be written"):
        save_once(tmp_path / "mine.txt" / "out", {}, lambda: (square_set(), []))


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> tuple[ImageSet, list[str]]:
        raise UnreadableImageError("bad")

    with pytest.raises(UnreadableImageError):
        save_once(tmp_path / "out", {}, fail)
    assert not list(tmp_path.iterdir())


def test_source_fingerprint_sees_contents_labels_and_groups(tmp_path: Path) -> None:
    source = folder(tmp_path, a=[(20, 20), (20, 20)])
    seen = {source_fingerprint(source)}
    (tmp_path / "notes.txt").write_text("not an image")
    assert source_fingerprint(read_source(tmp_path)) in seen
    seen.add(source_fingerprint(replace(source, items=source.items[:1])))
    seen.add(source_fingerprint(replace(source, items=tuple(replace(item, group="g") for item in source.items))))
    png(tmp_path / "a" / "a (1).png", 9, (20, 20))
    seen.add(source_fingerprint(read_source(tmp_path)))
    assert len(seen) == 4


@pytest.mark.long
@pytest.mark.real_images
@pytest.mark.skipif("SONOSYNTH_DATA" not in os.environ, reason="SONOSYNTH_DATA is not set")
def test_hc18_keeps_its_groups() -> None:
    data, _ = prepare_images(read_source(Path(os.environ["SONOSYNTH_DATA"]) / "hc18_256"), 32, "crop")
    assert data.images.shape == (999, 32, 32) and len(np.unique(data.groups)) == 806
    assert data.class_counts == {"trimester1": 165, "trimester2": 693, "trimester3": 141}

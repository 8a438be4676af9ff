import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonosynth.core.errors import ClassError, ManifestError, SourceError, UnreadableImageError
from sonosynth.data.imageset import ImageSet
from sonosynth.data.scan import decode_image, read_source, scan
from sonosynth.data.source import Source


def png(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10)) -> Path:
    """Write noise of `size` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)).save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (12, 10), value: int = 255) -> Path:
    """Write an ellipse of `value` on black, of `size` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]))
    Image.fromarray(np.where(x**2 + (2 * y) ** 2 < 0.5, np.uint8(value), np.uint8(0))).save(path)
    return path


def has_note(source: Source, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in source.notes)


def test_busi_layout(tmp_path: Path) -> None:
    for i, number in enumerate([10, 2, 1]):
        png(tmp_path / "benign" / f"benign ({number}).png", i)
        mask(tmp_path / "benign" / f"benign ({number})_mask.png")
    mask(tmp_path / "benign" / "benign (2)_mask_1.png")
    png(tmp_path / "normal" / "normal (1).png", 9)
    mask(tmp_path / "normal" / "normal (7)_mask.png")  # its image is gone
    source = read_source(tmp_path)
    assert source.kind == "BUSI layout" and source.classes == ("benign", "normal") and source.root == tmp_path
    assert [item.id for item in source.items] == ["benign (1)", "benign (2)", "benign (10)", "normal (1)"]
    assert [item.label for item in source.items] == ["benign"] * 3 + ["normal"]
    assert {item.group for item in source.items} == {None}
    assert [len(item.masks) for item in source.items] == [1, 2, 1, 0]
    assert source.notes == (
        "4 masks paired with 3 images",
        "1 mask without an image left out: normal (7)_mask.png",
    )


def test_a_class_of_masks_alone_beside_masked_images_is_an_error(tmp_path: Path) -> None:
    png(tmp_path / "benign" / "a.png")
    for name in ("benign/a_mask.png", "normal/b_mask.png"):
        mask(tmp_path / name)
    with pytest.raises(SourceError, match="normal holds only masks"):
        read_source(tmp_path)


def test_image_folder_tells_what_it_leaves_out(tmp_path: Path) -> None:
    png(tmp_path / "b" / "1.png")
    png(tmp_path / "a" / "1.PNG")
    png(tmp_path / "a" / "old" / "2.png")
    png(tmp_path / "stray.png")
    (tmp_path / "empty").mkdir()
    for name in ("a/notes.txt", "a/Thumbs.db", "b/table.csv", "a/.hidden.png", "README.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".git").mkdir()
    source = read_source(tmp_path)
    assert source.kind == "image folder" and source.classes == ("a", "b")
    assert [(item.id, item.group) for item in source.items] == [("a/1", None), ("a/old/2", "old"), ("b/1", None)]
    assert has_note(source, "1 image outside the class folders", "stray.png")
    assert has_note(source, "3 files that are not images", ".txt (1)", ".csv (1)", ".md (1)")
    assert has_note(source, "3 hidden or system files")
    assert has_note(source, "1 image in subfolders of class folders", "1 group")
    assert has_note(source, "1 folder without images is not a class: empty")


def test_ids_are_distinct_even_if_only_the_suffix_differs(tmp_path: Path) -> None:
    png(tmp_path / "a" / "1.png")
    Image.open(tmp_path / "a" / "1.png").save(tmp_path / "a" / "1.bmp")
    assert [item.id for item in read_source(tmp_path).items] == ["a/1.bmp", "a/1.png"]


def test_class_names_that_differ_in_case_are_told(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(f"path,label\n{png(tmp_path / 'x.png').name},Benign\ny.png,benign\n")
    png(tmp_path / "y.png")
    source = read_source(tmp_path)
    assert source.classes == ("Benign", "benign") and has_note(source, "differ only in case")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no images; give"),
        (["a/scan.mat", "a/scan2.mat", "readme.txt"], r"holds no images \(only \.mat \(2\), \.txt \(1\)\)"),
        (["1.png", "2.png"], "2 images lie in the folder itself; give the folder above"),
        (["BUSI/benign/1.png"], "has no images in its folders, but .*BUSI has"),
    ],
)
def test_folders_without_images_in_classes(tmp_path: Path, files: list[str], message: str) -> None:
    for name in files:
        png(tmp_path / name) if name.endswith(".png") else touch(tmp_path / name)
    with pytest.raises(SourceError, match=message):
        read_source(tmp_path)


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


def test_what_is_neither_folder_nor_manifest(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read_source(tmp_path / "nowhere")
    touch(tmp_path / "data.mat")
    with pytest.raises(SourceError, match=r"data\.mat is neither a folder nor a manifest\.csv nor an \.npz file"):
        read_source(tmp_path / "data.mat")


@pytest.mark.skipif(os.name != "posix", reason="needs names that are not text")
def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    try:
        (tmp_path / "a" / os.fsdecode(b"x\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("the file system refuses such names")
    with pytest.raises(SourceError, match="not valid text"):
        read_source(tmp_path)


# ---------------------------------------------------------------------------------------------------- manifests


def manifest(folder: Path, text: str, *files: str, encoding: str = "utf-8") -> Path:
    for i, name in enumerate(files):
        png(folder / name, i)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder / "manifest.csv"


def test_manifest_with_groups_and_further_columns(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,age,label,group\nx/a.png,50,m,p1\nb.png,,b,\n", "x/a.png", "b.png", "c.png")
    for source in (read_source(tmp_path), read_source(path)):
        assert source.kind == "manifest" and source.classes == ("b", "m") and source.root == tmp_path
        assert [(i.id, i.label, i.group, dict(i.extra)) for i in source.items] == [
            ("a", "m", "p1", {"age": "50"}),
            ("b", "b", None, {"age": ""}),
        ]
        assert has_note(source, "further manifest columns kept: age")
        assert has_note(source, "1 of 2 images have no group")
        assert has_note(source, "1 image file beside the listed ones is not in manifest.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_manifest_as_spreadsheets_write_it(tmp_path: Path, encoding: str, newline: str) -> None:
    text = newline.join(["path, label ", '"ä, 1.png", benign', "", ".\\sub\\b.png,malignant", ""])
    manifest(tmp_path, text, "ä, 1.png", "sub/b.png", encoding=encoding)
    source = read_source(tmp_path)
    assert [(item.path, item.label) for item in source.items] == [
        (tmp_path / "ä, 1.png", "benign"),
        (tmp_path / "sub" / "b.png", "malignant"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'path'"),
        ("path,lable\na.png,x\n", r"lacks the column 'label' \(did you mean 'lable'\?\)"),
        ("path;label\na.png;x\n", r"lacks the column 'path' \(separated by ';'\? use ','\)"),
        ("path,label\n", "has no rows"),
        ("path,label,label\na.png,x,y\n", "column 'label' more than once"),
        ("path,label\na.png,x\nb.png\n", "line 3: 1 field where the first line has 2"),
        ("path,label\na.png,x\nc.png,x\nd.png,x\n", r"line 3: no file 'c\.png' .*\(and 1 more\)"),
        ("path,label\na.png,x\nb.png,x\n./a.png,y\n", r"line 4: 'a\.png' is already on line 2"),
        ("path,label\n/etc/a.png,x\n", "line 2: '/etc/a.png' is outside"),
        ("path,label\nC:\\scans\\a.png,x\n", "line 2: .* is outside"),
        ("path,label\nsub/../../a.png,x\n", "line 2: .* is outside"),
        ("path,label\na.png,\n", r"line 2: no label for 'a\.png'"),
        ("path,label\n ,x\n", "line 2: no path"),
        ('path,label\n"a.png,x\n', "not a comma-separated table"),
        ("path,label,synthetic\na.png,x,1\nb.png,x,0\n", "'synthetic' must be 0 on every line or 1"),
    ],
)
def test_manifest_mistakes(tmp_path: Path, text: str, message: str) -> None:
    manifest(tmp_path, text, "a.png", "b.png")
    with pytest.raises(ManifestError, match=message) as caught:
        read_source(tmp_path)
    assert "\n" not in str(caught.value)


def test_manifest_in_another_encoding(tmp_path: Path) -> None:
    manifest(tmp_path, "path,label\nä.png,x\n", encoding="latin-1")
    with pytest.raises(ManifestError, match="UTF-8"):
        read_source(tmp_path)


def test_manifest_ids_are_used_if_they_are_distinct(tmp_path: Path) -> None:
    manifest(tmp_path, "path,label,id\na.png,x,P1\nb.png,x,P2\n", "a.png", "b.png")
    assert [item.id for item in read_source(tmp_path).items] == ["P1", "P2"]
    manifest(tmp_path, "path,label,id\na.png,x,P1\nb.png,x,P1\n")
    source = read_source(tmp_path)
    assert [item.id for item in source.items] == ["a", "b"]
    assert [dict(item.extra) for item in source.items] == [{"source_id": "P1"}, {"source_id": "P1"}]
    assert has_note(source, "columns kept: source_id")


@pytest.mark.parametrize("synthetic", [False, True])
def test_image_set(tmp_path: Path, synthetic: bool) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    columns = {"age": ("1", "2")}
    data = ImageSet(images, np.array([1, 0]), ("a", "b"), np.array([4, 9]), ("p", "q"), synthetic, columns)
    data.save(tmp_path / "set")
    source = read_source(tmp_path / "set")
    assert source.kind == "image set" and source.synthetic is synthetic and source.notes == ()
    assert [(item.id, item.label, item.group) for item in source.items] == [("p", "b", "4"), ("q", "a", "9")]
    assert [dict(item.extra) for item in source.items] == [{"age": "1"}, {"age": "2"}]


# ---------------------------------------------------------------------------------------------------- contents


def test_scan_reports_sizes_modes_copies_and_conflicts(tmp_path: Path) -> None:
    png(tmp_path / "a" / "1.png", 1, (20, 10))
    png(tmp_path / "a" / "2.png", 1, (20, 10))
    png(tmp_path / "b" / "3.png", 1, (20, 10))
    png(tmp_path / "b" / "4.png", 2, (10, 20))
    rgb = np.zeros((10, 10, 3), np.uint8)
    rgb[0, 0, 0] = 200
    Image.fromarray(rgb).save(tmp_path / "c.bmp")
    (tmp_path / "c").mkdir()
    (tmp_path / "c.bmp").rename(tmp_path / "c" / "5.bmp")
    calls: list[tuple[int, int]] = []
    report = scan(read_source(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 5) for i in range(1, 6)]
    assert report.class_counts == {"a": 2, "b": 2, "c": 1}
    assert report.sizes == {(20, 10): 3, (10, 20): 1, (10, 10): 1}
    assert report.duplicates == report.conflicts == [[0, 1, 2]]
    assert report.conversions() == {"colour overlay": ["5"]}
    summary = report.summary()
    assert summary["exact_copies"] == 2 and summary["conflicts"] == [["a/1", "a/2", "b/3"]]
    assert summary["width"] == {"min": 10, "median": 20, "max": 20} and summary["aspect"]["min"] == 0.5
    assert summary["modes"] == {"L": 4, "RGB": 1} and summary["groups"] is None
    notes = "\n".join(report.notes())
    assert "colour overlay: 1 of 5 images: 5" in notes
    assert "one group with its original: 2" in notes
    assert "different labels, at least one of them wrong: a/1 = a/2 = b/3" in notes
    assert "class 'c' has a single image" in notes


def test_notes_name_three_and_say_where_the_others_are(tmp_path: Path) -> None:
    for k in range(5):
        png(tmp_path / "a" / f"a{k}.png", k)
        png(tmp_path / "b" / f"b{k}.png", k)
    report = scan(read_source(tmp_path))
    (note,) = [note for note in report.notes() if "different labels" in note]
    assert note.endswith(
        "wrong: a/a0 = b/b0, a/a1 = b/b1, a/a2 = b/b2 and 2 more ('sonosynth data info SOURCE --json' lists all)"
    )
    assert len(report.summary()["conflicts"]) == 5


def test_copies_are_found_by_pixels_whatever_the_file(tmp_path: Path) -> None:
    with Image.open(png(tmp_path / "a" / "1.png")) as picture:
        picture.convert("RGB").save(tmp_path / "a" / "2.bmp")
        Image.fromarray(np.asarray(picture).reshape(12, 10)).save(tmp_path / "a" / "3.png")  # same bytes, other shape
    assert scan(read_source(tmp_path)).duplicates == [[0, 1]]


def test_one_class_is_told(tmp_path: Path) -> None:
    png(tmp_path / "a" / "1.png")
    notes = scan(read_source(tmp_path)).notes()
    assert "only one class: a" in notes and "class 'a' has a single image" in notes


def bad_source(folder: Path) -> Source:
    png(folder / "a" / "1.png", 1)
    png(folder / "b" / "1.png", 2)
    touch(folder / "a" / "2.png")
    (folder / "a" / "3.png").write_bytes(b"")
    (folder / "a" / "4.png").symlink_to(folder / "gone.png")
    return read_source(folder)


def test_unreadable_files_stop_or_are_counted(tmp_path: Path) -> None:
    source = bad_source(tmp_path)
    assert len(source.items) == 5
    with pytest.raises(UnreadableImageError, match=r"2\.png: no image"):
        scan(source)
    report = scan(source, skip_unreadable=True)
    assert [item.id for item in report.source.items] == ["a/1", "b/1"] and len(report.images) == 2
    assert len(report.unreadable) == 3 and "--skip" not in "".join(report.unreadable)
    assert report.notes()[0].startswith("3 unreadable files left out: ")


def test_a_class_with_no_readable_image_is_an_error(tmp_path: Path) -> None:
    png(tmp_path / "a" / "1.png")
    touch(tmp_path / "b" / "1.png")
    with pytest.raises(ClassError, match="class 'b' has no readable image"):
        scan(read_source(tmp_path), skip_unreadable=True)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(SourceError, match="none of 2 image files can be read"):
        scan(read_source(tmp_path), skip_unreadable=True)


def test_decode_reads_one_item(tmp_path: Path) -> None:
    path = png(tmp_path / "a" / "1.png", 3)
    with Image.open(path) as picture:
        assert np.array_equal(decode_image(read_source(tmp_path).items[0]).grey, np.asarray(picture))


@pytest.mark.long
@pytest.mark.real_images
@pytest.mark.skipif("SONOSYNTH_DATA" not in os.environ, reason="SONOSYNTH_DATA is not set")
def test_busi_itself() -> None:
    source = read_source(Path(os.environ["SONOSYNTH_DATA"]) / "Dataset_BUSI_with_GT")
    assert source.kind == "BUSI layout" and "798 masks paired with 780 images" in source.notes
    report = scan(source)
    assert report.class_counts == {"benign": 437, "malignant": 210, "normal": 133}
    assert len(report.conversions()["colour overlay"]) == 15
    assert report.summary()["conflicts"] == [["benign/benign (433)", "malignant/malignant (145)"]]


# ---------------------------------------------------------------------------------------------------- subfolders


def test_subfolders_of_class_folders_are_groups(tmp_path: Path) -> None:
    for name in (
        "benign/p1/0.png",
        "benign/p1/t2/1.png",
        "benign/p2/0.png",
        "malignant/p1/0.png",
        "malignant/p3/0.png",
    ):
        png(tmp_path / name, len(name))
    source = read_source(tmp_path)
    assert source.classes == ("benign", "malignant")
    assert [(item.label, item.group) for item in source.items] == [
        ("benign", "p1"),
        ("benign", "p1"),
        ("benign", "p2"),
        ("malignant", "p1"),
        ("malignant", "p3"),
    ]
    assert has_note(
        source, "5 images in subfolders of class folders", "3 groups", "in several classes is one group: p1"
    )


def test_a_subfolder_that_is_called_images_says_nothing_of_a_patient(tmp_path: Path) -> None:
    for name in ("a/images/1.png", "a/images/p7/2.png", "b/PNG/1.png"):
        png(tmp_path / name, len(name))
    assert [item.group for item in read_source(tmp_path).items] == [None, "p7", None]


def test_one_subfolder_of_the_same_name_in_every_class_says_nothing_of_a_patient(tmp_path: Path) -> None:
    for name in ("a/US/1.png", "a/US/2.png", "b/US/3.png"):
        png(tmp_path / name, len(name))
    source = read_source(tmp_path)
    assert [item.group for item in source.items] == [None] * 3 and has_note(source, "subfolder 'US' holds all images")


def test_patients_below_a_subfolder_that_all_classes_share_are_groups(tmp_path: Path) -> None:
    for name in ("a/US/p1/1.png", "a/US/p1/2.png", "a/US/p2/1.png", "b/US/p3/1.png"):
        png(tmp_path / name, len(name))
    assert [item.group for item in read_source(tmp_path).items] == ["p1", "p1", "p2", "p3"]


def test_parts_beside_their_masks_are_no_classes(tmp_path: Path) -> None:
    for i, part in enumerate(("train", "test")):
        png(tmp_path / "images" / part / f"{i}.png")
        mask(tmp_path / "labels" / part / f"{i}.png")
    with pytest.raises(SourceError, match="nothing says of what class their images are"):
        read_source(tmp_path)


def test_a_data_set_of_one_class_is_not_read_with_its_classes_as_patients(tmp_path: Path) -> None:
    for name in ("BUSI/benign/1.png", "BUSI/malignant/1.png"):
        png(tmp_path / name)
    with pytest.raises(SourceError, match=r"BUSI has, in its subfolders: benign, malignant; give that folder"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("parts", "study"),
    [
        (("train", "val", "test"), r"data\.source: .*train and split\.test: .*test"),
        (("Training", "Testing"), r"data\.source: .*Training and split\.test: .*Testing"),
        (("fold1", "fold2"), r"data\.source: .*fold1"),
        (("hospital A", "hospital B"), r"data\.source: .*hospital A"),
    ],
)
def test_parts_of_a_data_set_are_all_named(tmp_path: Path, parts: tuple[str, ...], study: str) -> None:
    for part in parts:
        for label in ("benign", "malignant"):
            png(tmp_path / part / label / "1.png")
    with pytest.raises(SourceError, match=study) as caught:
        read_source(tmp_path)
    assert all(str(tmp_path / part) in str(caught.value) for part in parts)


def test_parts_that_are_prepared_sets(tmp_path: Path) -> None:
    for part in ("one", "other"):
        png(tmp_path / part / "p1" / "1.png")
        png(tmp_path / part / "p2" / "1.png")
        (tmp_path / part / "manifest.csv").write_text("path,label\np1/1.png,a\np2/1.png,b\n")
    with pytest.raises(SourceError, match="as parts of a data set; give one of them as SOURCE"):
        read_source(tmp_path)


@pytest.mark.parametrize("loose", [False, True])
def test_parts_inside_the_classes_are_no_patients(tmp_path: Path, loose: bool) -> None:
    for label in ("benign", "malignant"):
        for part in ("train", "test"):
            png(tmp_path / label / part / "1.png")
        if loose:
            png(tmp_path / label / "2.png")
    with pytest.raises(SourceError, match=r"divided into parts of a data set \(test, train\), which are no patients"):
        read_source(tmp_path)


def test_parts_without_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        png(tmp_path / part / "1.png")
    with pytest.raises(SourceError, match="nothing says of what class their images are"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "__MACOSX", ".AppleDouble", "lost+found", "$RECYCLE.BIN", "System Volume Information"],
)
def test_what_systems_put_beside_the_images_is_no_class(tmp_path: Path, name: str) -> None:
    for folder in ("a", "b", name, f"a/{name}"):
        png(tmp_path / folder / "1.png")
    source = read_source(tmp_path)
    assert source.classes == ("a", "b") and len(source.items) == 2 and has_note(source, "2 hidden or system files")

"""Masks are paired with their images or left out and counted, and nothing that looks like an image is lost."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mask_files import mask, speckle
from sonosynth.core.errors import ManifestError, SourceError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.data.source import Source


def pairs(source: Source) -> dict[str, list[str]]:
    root = source.root
    return {item.id: sorted(path.relative_to(root).as_posix() for path in item.masks) for item in source.items}


def notes(source: Source) -> str:
    return "\n".join(source.notes)


@pytest.mark.parametrize(
    "name",
    ["{}_mask", "{}_mask_1", "{}-mask", "{} mask", "mask_{}", "{}_GT", "GT_{}", "{}_gt2", "{}_seg", "{}_segmentation",
     "{}_label", "{}_Annotation", "{}_tumor", "{}_other1", "{}_lesion", "{}_groundtruth", "{}_ground_truth",
     "{}_mask(1)", "{}_contour", "{}_anything", "anything_{}", "{}Mask", "{}Anything", "Anything{}"],
)  # fmt: skip
def test_masks_named_as_the_field_names_them(tmp_path: Path, name: str) -> None:
    for label in ("benign", "malignant"):
        for i in range(2):
            speckle(tmp_path / label / f"00{i}.png", i)
            mask(tmp_path / label / f"{name.format(f'00{i}')}.png")
    source = read_source(tmp_path)
    assert len(source.items) == 4 and "4 masks paired with 4 images" in notes(source)
    for item in source.items:
        assert [path.stem for path in item.masks] == [name.format(item.path.stem)]


@pytest.mark.parametrize("name", ["mask", "label", "seg_1"])
def test_one_image_and_its_mask_in_a_folder_per_patient(tmp_path: Path, name: str) -> None:
    for label in ("benign", "malignant"):
        for patient in ("p1", "p2"):
            speckle(tmp_path / label / patient / "image.png", len(label))
            mask(tmp_path / label / patient / f"{name}.png")
    source = read_source(tmp_path)
    assert [(item.path.name, item.group) for item in source.items] == [("image.png", "p1"), ("image.png", "p2")] * 2
    assert all([path.stem for path in item.masks] == [name] for item in source.items)


@pytest.mark.parametrize("how", ["empty", "1 bit", "0 and 1", "three lesions", "jpeg", "resampled", "other size"])
def test_whatever_a_named_mask_holds(tmp_path: Path, how: str) -> None:
    speckle(tmp_path / "a" / "x.png", size=(96, 80))
    path = tmp_path / "a" / ("x_mask.jpg" if how == "jpeg" else "x_mask.png")
    if how == "three lesions":
        levels = np.zeros((80, 96), np.uint8)
        levels[10:20, 10:30], levels[30:40, 10:30], levels[50:60, 10:30] = 1, 2, 3
        Image.fromarray(levels).save(path)
    elif how == "resampled":
        with Image.open(mask(path, size=(192, 160))) as large:
            large.resize((96, 80), Image.Resampling.BICUBIC).save(path)
    else:
        high = {"empty": 0, "0 and 1": 1}.get(how, 255)
        mask(path, high, (48, 40) if how == "other size" else (96, 80), "1" if how == "1 bit" else "L")
    source = read_source(tmp_path)
    assert pairs(source) == {"x": [f"a/{path.name}"]} and source.kind == "BUSI layout"


def test_an_image_that_is_named_like_a_mask_stays_an_image(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "x.png", 1)
    speckle(tmp_path / "a" / "x_lesion.png", 2)
    speckle(tmp_path / "a" / "tumor_1.png", 3)
    source = read_source(tmp_path)
    assert [item.id for item in source.items] == ["tumor_1", "x", "x_lesion"]
    told = "2 files are named like masks but look like images: counted as images: tumor_1.png, x_lesion.png"
    assert told in notes(source)


def test_a_mask_without_its_image_is_left_out_and_counted(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "x.png")
    mask(tmp_path / "a" / "y_mask.png")
    mask(tmp_path / "a" / "z_mask.png", 0)  # empty
    source = read_source(tmp_path)
    assert pairs(source) == {"x": []}
    assert "2 masks without an image left out: y_mask.png, z_mask.png" in notes(source)


def test_by_content_a_mask_has_two_levels_and_the_size_and_name_of_an_image(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "x.png")
    mask(tmp_path / "a" / "x.bmp")  # the same name, another suffix
    mask(tmp_path / "a" / "x_foo.png", size=(12, 10))  # another size
    mask(tmp_path / "a" / "y.png")  # of no other file
    Image.fromarray(np.tile(np.uint8([0, 9, 200]), (20, 8))).save(tmp_path / "a" / "x_bar.png")  # three levels
    source = read_source(tmp_path)
    assert pairs(source) == {"x": ["a/x.bmp"], "x_bar": [], "x_foo": [], "y": []}


@pytest.mark.parametrize(
    "folder", ["masks", "mask", "labels", "annotations", "groundtruth", "Ground_Truth", "GT", "seg"]
)
def test_a_folder_of_masks_beside_the_images_is_no_class(tmp_path: Path, folder: str) -> None:
    for label in ("benign", "malignant"):
        for i in range(3):
            speckle(tmp_path / label / f"{label}{i}.png", i)
            mask(tmp_path / folder / f"{label}{i}.png", 255 * (i > 0))
    source = read_source(tmp_path)
    assert source.classes == ("benign", "malignant") and source.kind == "image folder"
    assert pairs(source) == {f"{name}{i}": [f"{folder}/{name}{i}.png"] for name in source.classes for i in range(3)}


def test_a_folder_that_is_called_like_masks_but_holds_images_is_a_class(tmp_path: Path) -> None:
    for label in ("labels", "none"):
        speckle(tmp_path / label / f"{label}.png")
    assert read_source(tmp_path).classes == ("labels", "none")


@pytest.mark.parametrize(
    ("images", "masks"),
    [("{}/images", "{}/masks"), ("images/{}", "masks/{}"), ("{}", "masks/{}"), ("{}", "{}_masks"), ("{}", "{} GT"),
     ("{}", "{}/masks"), ("{}/p1", "{}/p1/masks")],
)  # fmt: skip
def test_twin_folders_with_the_same_names_in_every_class(tmp_path: Path, images: str, masks: str) -> None:
    for seed, label in enumerate(("benign", "malignant")):
        for name in ("0", "1"):
            speckle(tmp_path / images.format(label) / f"{name}.png", seed)
            mask(tmp_path / masks.format(label) / f"{name}.png")
    source = read_source(tmp_path)
    assert source.classes == ("benign", "malignant") and len(source.items) == 4
    for item in source.items:
        assert item.masks == (tmp_path / masks.format(item.label) / item.path.name,)
        assert item.group is None  # not even p1, which is the only subfolder of both classes


def test_a_twin_folder_of_any_name_is_known_by_its_content(tmp_path: Path) -> None:
    for i in range(4):
        speckle(tmp_path / "scans" / f"{i}.png", i)
        speckle(tmp_path / "others" / f"{i}.png", 9 + i)  # the same names, and images
        mask(tmp_path / "drawn" / f"{i}.png", 255 * (i > 0))
    source = read_source(tmp_path)
    assert source.classes == ("others", "scans") and "4 masks without an image" in notes(source)  # whose is not known


def test_a_class_of_masks_alone_is_an_error(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "x.png")
    mask(tmp_path / "b" / "y_mask.png")
    with pytest.raises(SourceError, match="b holds only masks"):
        read_source(tmp_path)


# ---------------------------------------------------------------------------------------------------- tables


def table(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_a_manifest_names_masks_in_a_column(tmp_path: Path) -> None:
    for name in ("i/a.png", "i/b.png", "i/c.png"):
        speckle(tmp_path / name)
    for name in ("drawn/a.png", "drawn/b1.png", "drawn/b2.png"):
        mask(tmp_path / name)
    table(tmp_path, "path,label,mask\ni/a.png,x,drawn/a.png\ni/b.png,x,drawn/b1.png; drawn/b2.png\ni/c.png,x,nan\n")
    source = read_source(tmp_path)
    assert pairs(source) == {"a": ["drawn/a.png"], "b": ["drawn/b1.png", "drawn/b2.png"], "c": []}
    assert "3 masks paired with 2 images" in notes(source)
    data, _ = prepare_images(source, 16, "mask")
    assert data.extra["crop_width"] == ("9", "9", "20")  # one and a half times six; the middle where nothing is marked
    data.save(tmp_path / "prepared")
    assert read_source(tmp_path / "prepared").kind == "image set"  # whose masks are not beside it


def test_a_mask_column_never_names_the_images_themselves(tmp_path: Path) -> None:
    for i in range(3):
        speckle(tmp_path / "images" / f"{i}.png", i)
        mask(tmp_path / "masks" / f"{i}.png")
    table(tmp_path, "image,label,mask\n0.png,a,0.png\n1.png,a,1.png\n2.png,b,2.png\n")
    assert pairs(read_source(tmp_path)) == {f"{i}": [f"masks/{i}.png"] for i in range(3)}
    table(tmp_path, "image,label,mask_area\n0.png,a,1\n1.png,a,2\n2.png,b,0\n")  # numbers that are also names
    source = read_source(tmp_path)
    assert [item.extra["mask_area"] for item in source.items] == ["1", "2", "0"]
    table(tmp_path, "image,label,mask\n0.png,a,images/1.png\n1.png,a,1.png\n2.png,b,2.png\n")
    with pytest.raises(ManifestError, match=r"line 2: 'mask' names 'images/1\.png'"):
        read_source(tmp_path)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 0, 0), (1, 1, 1), (100, 100, 100)])
def test_a_lesion_is_seen_in_a_mask_of_any_colour(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    speckle(tmp_path / "a" / "x.png", size=(120, 100))
    drawn = np.zeros((100, 120, 3), np.uint8)
    drawn[5:25, 90:110] = colour
    Image.fromarray(drawn).save(tmp_path / "a" / "x_mask.png")
    data, _ = prepare_images(read_source(tmp_path), 16, "mask")
    assert (data.extra["crop_left"], data.extra["crop_top"], data.extra["crop_width"]) == (("85",), ("0",), ("30",))


def test_a_mask_column_with_a_missing_file_is_an_error_and_one_of_no_files_is_kept(tmp_path: Path) -> None:
    speckle(tmp_path / "a.png")
    speckle(tmp_path / "b.png", 1)
    mask(tmp_path / "m.png")
    table(tmp_path, "path,label,mask\na.png,x,m.png\nb.png,x,gone.png\n")
    with pytest.raises(ManifestError, match=r"line 3: 'mask' names 'gone\.png'"):
        read_source(tmp_path)
    table(tmp_path, "path,label,mask\na.png,x,yes\nb.png,x,no\n")
    source = read_source(tmp_path)
    assert [item.extra["mask"] for item in source.items] == ["yes", "no"] and not any(pairs(source).values())


def test_masks_beside_listed_images_are_paired_and_listed_ones_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        speckle(tmp_path / f"{name}.png")
        mask(tmp_path / f"{name}_tumor.png")
    table(tmp_path, "path,label\na.png,x\nb.png,y\n")
    source = read_source(tmp_path)
    assert pairs(source) == {"a": ["a_tumor.png"], "b": ["b_tumor.png"]} and "not in manifest.csv" not in notes(source)
    table(tmp_path, "path,label\na.png,x\nb.png,y\nb_tumor.png,y\n")
    source = read_source(tmp_path)
    assert len(source.items) == 3 and "1 listed file looks like a mask of another: b_tumor.png" in notes(source)

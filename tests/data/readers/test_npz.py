"""Arrays of images in one .npz file."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.readers.base import COLOUR
from sonosynth.data.readers.npz import read_npz
from sonosynth.data.scan import decode_all, decode_image, read_source, scan
from sonosynth.data.source import Source

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 12, 16), dtype=np.uint8)


def save(path: Path, **arrays: np.ndarray | list) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def pictures(source: Source) -> list[np.ndarray]:
    return decode_all(source, lambda item, picture: picture.grey)[1]


def has_note(source: Source, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in source.notes)


# ---------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("colour", [False, True])
def test_medmnist_layout(tmp_path: Path, colour: bool) -> None:
    images = np.stack([GREY] * 3, axis=3) if colour else GREY
    parts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 5)}
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    labels = np.array([[1], [0], [1], [1], [0]], np.uint8)
    arrays |= {f"{name}_labels": labels[part] for name, part in parts.items()}
    source = read_source(save(tmp_path / "breastmnist.npz", **arrays))
    assert source.kind == "MedMNIST file" and source.classes == ("0", "1") and source.root == tmp_path
    assert [item.label for item in source.items] == ["1", "0", "1", "1", "0"]
    assert [item.id for item in source.items] == ["train_0000", "train_0001", "train_0002", "val_0000", "test_0000"]
    assert [item.extra["part"] for item in source.items] == ["train", "train", "train", "val", "test"]
    assert [item.extra["frame"] for item in source.items] == ["0", "1", "2", "0", "0"]
    assert has_note(source, "parts joined", "train, val, test")
    assert np.array_equal(pictures(source), GREY)
    assert np.array_equal(decode_image(source.items[3]).grey, GREY[3])


def test_plain_layout_with_everything(tmp_path: Path) -> None:
    path = save(
        tmp_path / "x.npz",
        images=GREY[..., None],
        labels=np.array([0, 1, 1, 0, 1]),
        groups=np.array([7, 7, 3, 3, 3]),
        ids=np.array(["a", "b", "c", "d", "e"]),
        classes=np.array(["benign", "malignant"]),
        pixel_size=np.array(0.1),
    )
    source = read_source(path)
    assert source.kind == "npz file" and source.classes == ("benign", "malignant")
    assert [(item.id, item.label, item.group) for item in source.items] == [
        ("a", "benign", "7"),
        ("b", "malignant", "7"),
        ("c", "malignant", "3"),
        ("d", "benign", "3"),
        ("e", "malignant", "3"),
    ]
    assert has_note(source, "1 further arrays left out: pixel_size")
    data, _ = prepare_images(source, 12, "crop")
    assert data.groups.tolist() == [0, 0, 1, 1, 1] and np.array_equal(data.images, GREY[:, :, 2:14])
    assert data.extra["original_path"] == ("x.npz",) * 5 and data.extra["frame"] == ("0", "1", "2", "3", "4")


def test_class_names_and_labels_as_text(tmp_path: Path) -> None:
    named = save(tmp_path / "a.npz", images=GREY, labels=[1, 0, 1, 0, 1], class_names=["no", "yes"])
    assert [item.label for item in read_source(named).items] == ["yes", "no", "yes", "no", "yes"]
    text = save(tmp_path / "b.npz", images=GREY, labels=["x", "y", "x", "y", "x"])
    assert [item.label for item in read_source(text).items] == ["x", "y", "x", "y", "x"]
    yes_no = save(tmp_path / "c.npz", images=GREY, labels=np.array([True, False, True, False, True]))
    assert read_source(yes_no).classes == ("0", "1")
    assert [item.id for item in read_source(yes_no).items][:2] == ["c_0000", "c_0001"]


# ---------------------------------------------------------------------------------------------------- values


def test_sixteen_bits_share_the_depth_of_the_whole_file(tmp_path: Path) -> None:
    images = np.zeros((3, 2, 2), np.uint16)
    images[0, 0, 0], images[1, 0, 0], images[2, 0, 0] = 100, 4095, 2000
    source = read_source(save(tmp_path / "x.npz", images=images, labels=[0, 0, 0]))
    assert [picture[0, 0] for picture in pictures(source)] == [round(v * 255 / 4095) for v in (100, 4095, 2000)]
    assert (decode_image(source.items[0]).note or "").startswith(
        "16-bit file with 12-bit values; dark, at most a quarter"
    )


def test_bool_and_big_endian_and_fortran_order(tmp_path: Path) -> None:
    assert np.array_equal(
        pictures(read_source(save(tmp_path / "x.npz", images=GREY > 99, labels=[0] * 5))), np.where(GREY > 99, 255, 0)
    )
    deep = (GREY.astype(">u2") * 257).astype(">u2")
    assert np.array_equal(pictures(read_source(save(tmp_path / "y.npz", images=deep, labels=[0] * 5))), GREY)
    fortran = np.asfortranarray(GREY)
    assert np.array_equal(pictures(read_source(save(tmp_path / "z.npz", images=fortran, labels=[0] * 5))), GREY)


def test_colours_become_luma(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    picture = decode_image(read_source(save(tmp_path / "x.npz", images=images, labels=[0, 1])).items[1])
    assert np.array_equal(picture.grey, np.asarray(Image.fromarray(images[1]).convert("L"))) and picture.note == COLOUR


def test_the_file_is_loaded_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = RNG.integers(0, 256, (300, 6, 5), dtype=np.uint8)
    source = read_source(save(tmp_path / "x.npz", images=many, labels=np.arange(300) % 2))
    loads = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda path, allow_pickle: (loads.append(path), load(path))[1])
    assert np.array_equal(pictures(source), many) and len(loads) == 1
    before = source_fingerprint(source)
    save(tmp_path / "x.npz", images=many[::-1], labels=np.arange(300) % 2)
    assert source_fingerprint(read_source(tmp_path / "x.npz")) != before


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GREY}, r"holds neither 'images' nor 'train_images' \(its arrays: x\)"),
        ({"images": GREY}, "lacks 'labels'"),
        ({"images": GREY, "labels": [0, 1]}, r"'labels' has the shape \[2\]; give \[5\]"),
        ({"images": GREY, "labels": np.zeros((5, 14), int)}, "several labels per image are not read"),
        ({"images": GREY, "labels": np.zeros(5)}, "'labels' is of type float64; give whole numbers or text"),
        ({"images": GREY[0], "labels": [0] * 12}, r"'images' has the shape \[12, 16\]; give \[N, H, W\]"),
        ({"images": GREY[..., None].repeat(4, 3), "labels": [0] * 5}, r"give \[N, H, W\] or \[N, H, W, 1 or 3\]"),
        ({"images": GREY / 255, "labels": [0] * 5}, "of type float64, whose range is not known; store it as uint8"),
        ({"images": GREY.astype(int), "labels": [0] * 5}, "of type int64, whose range is not known"),
        ({"images": GREY, "labels": [0, 1, 2, 1, 0], "classes": ["a", "b"]}, "label 2, but 'classes' names 2 classes"),
        ({"images": GREY, "labels": [0, -1, 1, 1, 0], "classes": ["a", "b"]}, "label -1"),
        ({"images": GREY, "labels": [0, 1, 2, 1, 0], "classes": ["a", "b", "a"]}, "'classes' has 'a' more than once"),
        ({"images": GREY, "labels": [0] * 5, "ids": list("aabcd")}, "'ids' has 'a' more than once"),
        ({"images": GREY, "labels": ["a", "", "a", "b", "b"]}, "'labels' has an empty entry"),
        ({"images": GREY, "labels": ["a", "NaN", "a", "b", "b"]}, "'labels' has the label 'NaN'.*a value is missing"),
        ({"images": GREY[:0], "labels": np.zeros(0, int)}, "holds no images"),
        ({"train_images": GREY, "test_labels": [0] * 5}, "lacks 'train_labels'"),
        ({"images": GREY, "labels": np.array([0, 1, None, 1, 2])}, "'labels' holds Python objects"),
    ],
)
def test_mistakes(tmp_path: Path, arrays: dict, message: str) -> None:
    path = save(tmp_path / "x.npz", **arrays)
    with pytest.raises(SourceError, match=message) as error:
        read_source(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    touched = tmp_path / "touched"

    class Bad:
        def __reduce__(self) -> tuple:
            return Path.touch, (touched,)

    path = save(tmp_path / "x.npz", images=GREY, labels=np.array([Bad()] * 5, dtype=object))
    with pytest.raises(SourceError, match="holds Python objects, which may run code"):
        read_source(path)
    path.write_bytes(b"\x80\x04N.")  # a pickle where an archive should be
    with pytest.raises(SourceError, match=r"not an \.npz file"):
        read_source(path)
    assert not touched.exists()


def declared(path: Path, shape: tuple[int, ...], descr: str = "|u1") -> Path:
    """Write a file whose images declare `shape` and hold nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    labels = io.BytesIO()
    np.save(labels, np.zeros(shape[0] if shape[0] < 1000 else 3, int))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", labels.getvalue())
    return path


def test_arrays_that_would_fill_the_memory_are_refused_unread(tmp_path: Path) -> None:
    for shape, message in (
        ((3, 60_000, 60_000), "images of more than .* pixels"),
        ((10**9, 64, 64), "declares more than 4,294,967,296 bytes"),
    ):
        with pytest.raises(SourceError, match=message):
            read_source(declared(tmp_path / "x.npz", shape))


def test_images_that_are_not_there(tmp_path: Path) -> None:
    source = read_source(declared(tmp_path / "x.npz", (3, 8, 8)))
    with pytest.raises(UnreadableImageError, match=r"x\.npz: 'images' is damaged or cut short"):
        scan(source)
    save(tmp_path / "x.npz", images=GREY[:2], labels=[0, 1])  # changed since
    with pytest.raises(UnreadableImageError, match="image 2 is not there"):
        decode_image(source.items[2])


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
    share=st.one_of(st.just(1.0), st.floats(0, 1)),
    stored=st.booleans(),
)
def test_damaged_files_give_pixels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]], share: float, stored: bool
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.npz"
    (np.savez if stored else np.savez_compressed)(path, images=GREY, labels=list("aabba"), groups=[1, 1, 2, 2, 3])
    content = bytearray(path.read_bytes())
    for at, change in flips:
        content[int(at * len(content))] ^= change
    path.write_bytes(content[: int(len(content) * share)])
    try:
        found = pictures(read_npz(path))
    except SourceError:
        return
    assert all(picture.dtype == np.uint8 and picture.ndim == 2 for picture in found)

"""Volumes: which slices are taken, which way up they are, and what is refused before memory is taken."""

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.readers.base import MOST_FRAMES, evenly_spaced
from sonosynth.data.scan import decode_all, read_source, scan
from sonosynth.data.source import ReadOptions, Source

sitk = pytest.importorskip("SimpleITK")
NAMES = ("v.nii", "v.nii.gz", "v.mha", "v.mhd", "v.nrrd", "v.nhdr")
VOLUME = np.random.default_rng(0).integers(0, 256, (4, 6, 9), dtype=np.uint8)  # z, y, x


def write(path: Path, stored: np.ndarray, compressed: bool = False, colours: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(stored, isVector=colours)
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path


def pictures(source: Source) -> list[np.ndarray]:
    return decode_all(source, lambda item, picture: picture.grey)[1]


def refused(folder: Path) -> str:
    """Return the line with which the one volume in `folder` is refused."""
    with pytest.raises(UnreadableImageError) as caught:
        scan(read_source(folder))
    return str(caught.value)


def raw_nifti() -> bytes:
    """Return a NIfTI-1 file of `VOLUME`, made from the definition of its header."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 9, 6, 4, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 2, 8)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return bytes(header) + VOLUME.tobytes()


def raw_mha(size: str = "9 6 4") -> bytes:
    lines = f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    return lines.encode() + VOLUME.tobytes()


def raw_nrrd(sizes: str = "9 6 4") -> bytes:
    return f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes}\nencoding: raw\n\n".encode() + VOLUME.tobytes()


# ---------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_slices_along_each_axis_have_rows_and_columns_as_stored(tmp_path: Path, name: str, compressed: bool) -> None:
    write(tmp_path / "a" / name, VOLUME, compressed)
    slices: dict[str | None, Callable[[int], np.ndarray]] = {
        None: lambda k: VOLUME[k],
        "z": lambda k: VOLUME[k],
        "y": lambda k: VOLUME[:, k],
        "x": lambda k: VOLUME[:, :, k],
    }
    for axis, count in ((None, 4), ("z", 4), ("y", 6), ("x", 9)):
        source = read_source(tmp_path, ReadOptions(axis=axis))
        assert [item.id for item in source.items] == [f"v_f{k:04d}" for k in range(count)]
        assert {item.group for item in source.items} == {"1"}
        for k, grey in enumerate(pictures(source)):
            assert np.array_equal(grey, slices[axis](k))
        assert f"slices across {axis or 'z'} taken" in source.notes[-1] and len(source.notes) == 1


@pytest.mark.parametrize(("name", "content"), [("v.nii", raw_nifti()), ("v.nii.gz", gzip.compress(raw_nifti())),
                                               ("v.mha", raw_mha()), ("v.nrrd", raw_nrrd())])  # fmt: skip
def test_files_made_from_the_definition_of_the_format(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(content)
    assert all(np.array_equal(a, b) for a, b in zip(pictures(read_source(tmp_path)), VOLUME, strict=True))


@pytest.mark.parametrize("name", ["V.NII", "V.NII.GZ", "V.MHA", "V.NRRD"])
def test_suffixes_in_capitals(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a" / name.lower(), VOLUME).rename(tmp_path / "a" / name)
    assert read_source(tmp_path).items[0].id == "V_f0000"
    assert np.array_equal(pictures(read_source(tmp_path))[3], VOLUME[3])


def test_the_direction_that_a_header_gives_turns_nothing(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VOLUME)
    image.SetDirection((0, 0, 1, 0, -1, 0, -1, 0, 0))
    for name in ("v.nii", "w.mha", "x.nrrd"):
        (tmp_path / "a").mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / "a" / name))
    assert all(np.array_equal(grey, VOLUME[i % 4]) for i, grey in enumerate(pictures(read_source(tmp_path))))


def test_few_evenly_spaced_slices_are_taken_and_the_file_is_a_group(tmp_path: Path) -> None:
    many = np.random.default_rng(1).integers(0, 256, (37, 5, 6), dtype=np.uint8)
    write(tmp_path / "a" / "x.nrrd", many)
    write(tmp_path / "b" / "y.mha", 255 - many)
    source = read_source(tmp_path)
    assert [item.frame for item in source.items] == evenly_spaced(37) * 2
    assert [item.group for item in source.items] == ["1"] * MOST_FRAMES + ["2"] * MOST_FRAMES
    assert source.notes == (
        "2 volumes, each a group: at most 10 evenly spaced slices across z taken of each, for neighbouring ones are "
        "nearly alike: 20 images",
    )
    taken = many[evenly_spaced(37)]
    assert np.array_equal(np.stack(pictures(source)), np.concatenate([taken, 255 - taken]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stored", [VOLUME[0], VOLUME[:1]], ids=["2D", "one slice"])
def test_a_volume_of_one_slice_is_an_image(tmp_path: Path, name: str, stored: np.ndarray) -> None:
    write(tmp_path / "a" / name, stored)
    (item,) = read_source(tmp_path).items
    assert (item.id, item.frame, item.group) == ("v", None, None)
    assert np.array_equal(pictures(read_source(tmp_path))[0], VOLUME[0])


def test_files_with_the_pixels_of_a_volume_are_part_of_it(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.mhd", VOLUME)
    write(tmp_path / "a" / "y.mhd", VOLUME, compressed=True)
    write(tmp_path / "a" / "z.nhdr", VOLUME)
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"x.raw", "y.zraw", "z.raw"} <= names
    (tmp_path / "a" / "lone.raw").write_bytes(b"1")
    source = read_source(tmp_path)
    assert source.notes[0] == "1 file that is not an image left out: .raw (1)"
    before = source_fingerprint(source)
    (tmp_path / "a" / "x.raw").write_bytes(VOLUME[::-1].tobytes())
    assert source_fingerprint(read_source(tmp_path)) != before


def test_a_manifest_lists_volumes(tmp_path: Path) -> None:
    write(tmp_path / "case1.nii.gz", VOLUME)
    (tmp_path / "manifest.csv").write_text("path,label,group\ncase1.nii.gz,benign,patient 7\n")
    source = read_source(tmp_path)
    assert {item.group for item in source.items} == {"patient 7"} and len(source.items) == 4
    assert prepare_images(source, 16)[0].extra["frame"] == ("0", "1", "2", "3")


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("name", ["v.nii", "v.mha", "v.nrrd"])
@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "float32", "float64"])
def test_deep_volumes_share_the_depth_of_the_source(tmp_path: Path, name: str, kind: str) -> None:
    deep = VOLUME.astype(kind) * 16
    write(tmp_path / "a" / name, deep)
    alone = pictures(read_source(tmp_path))
    assert all(np.array_equal(grey, np.rint(plane * 255.0 / 4095)) for grey, plane in zip(alone, deep, strict=True))
    bright = np.zeros((5, 6), np.uint16)
    bright[0, 0] = 4300
    write(tmp_path / "b" / "bright.nrrd", bright)
    report, greys = decode_all(read_source(tmp_path), lambda item, picture: picture.grey)
    assert np.array_equal(greys[3], np.rint(deep[3] * 255.0 / 65535))
    assert next(iter(report.conversions())) == "16-bit file with 16-bit values"
    with pytest.raises(SourceError, match=r"bright\.nrrd: the value 4300 is above 4095"):
        scan(read_source(tmp_path, ReadOptions(bits=12)))


def test_the_rescaling_of_a_nifti_header_is_applied(tmp_path: Path) -> None:
    content = bytearray(raw_nifti())
    (tmp_path / "a").mkdir()
    struct.pack_into("<ff", content, 112, 2.0, 10.0)  # slope and intercept
    (tmp_path / "a" / "v.nii").write_bytes(content)
    assert np.array_equal(pictures(read_source(tmp_path))[1], np.rint((VOLUME[1] * 2.0 + 10) * 255 / 4095))


@pytest.mark.parametrize(
    "stored",
    [VOLUME / 255.0, VOLUME.astype(np.int16) - 1, VOLUME.astype(np.float32) * 1000, np.full((2, 3, 4), np.nan)],
)
def test_values_of_unknown_range_are_refused(tmp_path: Path, stored: np.ndarray) -> None:
    write(tmp_path / "a" / "v.nrrd", stored)
    assert "v.nrrd: pixel values of unknown range" in refused(tmp_path)


def test_series_and_vectors_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "time" / "a" / "v.nii", np.stack([VOLUME, VOLUME]))
    assert "4 dimensions (a series in time?), of which 2 or 3 are read" in refused(tmp_path / "time")
    for name in ("v.nii", "v.mha", "v.nrrd"):
        write(tmp_path / name / "a" / name, np.stack([VOLUME] * 3, axis=-1), colours=True)
        assert "3 numbers per pixel (colours or vectors)" in refused(tmp_path / name)


def test_an_axis_is_x_y_or_z() -> None:
    with pytest.raises(SourceError, match="axis must be one of x, y, z, not 'w'"):
        ReadOptions(axis="w")


@pytest.mark.parametrize("name", NAMES)
def test_without_simpleitk_a_line_says_what_to_install(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a" / name, VOLUME)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    kind = {"nii": "NIfTI", "gz": "NIfTI", "mha": "MetaImage", "mhd": "MetaImage"}.get(name.split(".")[-1], "NRRD")
    with pytest.raises(SourceError, match=rf"{name}: {kind} volumes .* pip install 'sonosynth\[volumes\]'"):
        read_source(tmp_path)


# ---------------------------------------------------------------------------------------------------- bad headers


def header(folder: Path, data: str, size: str = "9 6 4", more: str = "") -> None:
    (folder / "a").mkdir(parents=True, exist_ok=True)
    lines = (
        f"ObjectType = Image\nNDims = 3\nDimSize = {size}\nElementType = MET_UCHAR\n{more}ElementDataFile = {data}\n"
    )
    (folder / "a" / "v.mhd").write_text(lines)


def detached(folder: Path, data: str, sizes: str = "9 6 4") -> None:
    (folder / "a").mkdir(parents=True, exist_ok=True)
    lines = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes}\nencoding: raw\ndata file: {data}\n"
    (folder / "a" / "v.nhdr").write_text(lines)


@pytest.mark.parametrize("make", [header, detached])
@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("../secret.raw", "its header names pixels in another folder"),
        ("b/../../secret.raw", "its header names pixels in another folder"),
        ("/etc/passwd", "its header names pixels in another folder"),
        ("C:\\secret.raw", "its header names pixels in another folder"),
        ("LIST", "its pixels lie in several files"),
        ("v%03d.raw 1 4 1", "its pixels lie in several files"),
        ("missing.raw", "the file of its pixels, 'missing.raw', is not there"),
    ],
)
def test_headers_that_name_other_files(tmp_path: Path, make: Callable[..., None], data: str, line: str) -> None:
    (tmp_path / "secret.raw").write_bytes(VOLUME.tobytes())
    make(tmp_path, data)
    assert line in refused(tmp_path)


@pytest.mark.parametrize("make", [header, detached])
@pytest.mark.parametrize("size", ["99999 99999 99999", "9000 9000 9000", "900 600 400", "9 6 5", "0 6 4"])
def test_sizes_that_the_file_cannot_hold(tmp_path: Path, make: Callable[..., None], size: str) -> None:
    make(tmp_path, "v.raw", size)
    (tmp_path / "a" / "v.raw").write_bytes(VOLUME.tobytes())
    assert "v.mhd: " in refused(tmp_path) or "v.nhdr: " in refused(tmp_path)


def test_a_compressed_file_is_not_inflated_beyond_what_it_can_hold(tmp_path: Path) -> None:
    content = bytearray(raw_nifti())
    struct.pack_into("<3h", content, 42, 900, 900, 900)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "v.nii.gz").write_bytes(gzip.compress(bytes(content)))
    assert "cut short: its header declares more pixels than the file can hold" in refused(tmp_path)


@pytest.mark.parametrize("name", ["v.mhd", "v.mha", "v.nrrd", "v.nhdr"])
def test_a_header_without_end_is_not_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    with (tmp_path / "a" / name).open("wb") as file:
        file.write(b"NRRD0004\n# " if "n" in name else b"ObjectType = Image\nComment = ")
        file.truncate(500 << 20)
    line = refused(tmp_path)
    assert "a header of more than 1,048,576 bytes" in line or "no ElementDataFile in its header" in line


@pytest.mark.parametrize(("offset", "value"), [(108, struct.pack("<f", 2e9)), (108, struct.pack("<f", float("nan"))),
                                               (42, struct.pack("<h", -9)), (70, struct.pack("<h", 999)),
                                               (344, b"ni1\0"), (0, b"\0\0\0\0")])  # fmt: skip
def test_damaged_nifti_headers(tmp_path: Path, offset: int, value: bytes) -> None:
    content = bytearray(raw_nifti())
    content[offset : offset + len(value)] = value
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "v.nii").write_bytes(content)
    if offset == 0:  # the byte order is then that of the magic number alone
        content[344:348] = bytes(4)
        (tmp_path / "a" / "v.nii").write_bytes(content)
    assert "v.nii: " in refused(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.mha", "v.nrrd"])
def test_a_volume_cut_short_anywhere_is_an_error(
    tmp_path: Path, name: str, compressed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    content = write(tmp_path / "a" / name, VOLUME, compressed).read_bytes()
    for share in (0, 0.01, 0.3, 0.6, 0.95):
        (tmp_path / "a" / name).write_bytes(content[: int(len(content) * share)])
        assert f"{name}: " in refused(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_unreadable_volumes_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a" / "good.nrrd", VOLUME)
    (tmp_path / "a" / "bad.nrrd").write_bytes(raw_nrrd("9 6 40"))
    report = scan(read_source(tmp_path), skip_unreadable=True)
    assert len(report.images) == 4 and len(report.unreadable) == 1


@pytest.mark.parametrize("name", ["v.nii.gz", "v.mha", "v.nrrd"])
def test_a_damaged_byte_of_compressed_pixels_is_an_error(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "a" / name, VOLUME, compressed=True)
    content = bytearray(path.read_bytes())
    content[-40] ^= 0xFF
    path.write_bytes(content)
    assert f"{name}: damaged" in refused(tmp_path)

"""The pixels of DICOM files."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_windowing
from pydicom.uid import (
    MPEG4HP41,
    UID,
    ComprehensiveSRStorage,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from dicom_files import LOSSLESS, coded, dataset, encapsulated, jpeg, region, write
from sonosynth.core.errors import SourceError, UnreadableImageError
from sonosynth.data.readers.base import COLOUR, DecodedImage
from sonosynth.data.readers.dicom.reader import DicomFile
from sonosynth.data.readers.frames import expand_frames
from sonosynth.data.scan import decode_image
from sonosynth.data.source import ReadOptions, Source, SourceItem

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (1, 21, 31), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (1, 21, 31), dtype=np.uint16)
COLOURS = RNG.integers(0, 256, (1, 21, 31, 3), dtype=np.uint8)


def read(path: Path, frame: int | None = None) -> DecodedImage:
    return decode_image(SourceItem(path, "a", None, "x", frame=frame))


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


# ---------------------------------------------------------------------------------------------------- syntaxes


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
def test_lossless_syntaxes_give_the_exact_pixels(tmp_path: Path, syntax: UID) -> None:
    grey = read(write(tmp_path / "g.dcm", coded(dataset(GREY), syntax)))
    assert np.array_equal(grey.grey, GREY[0]) and grey.original_mode == "DICOM MONOCHROME2 8-bit"
    deep = read(write(tmp_path / "d.dcm", coded(dataset(DEEP), syntax)))
    assert np.array_equal(deep.grey, np.rint(DEEP[0] / 257)) and "full range of 16 bits" in (deep.note or "")
    colours = read(write(tmp_path / "c.dcm", coded(dataset(COLOURS, "RGB"), syntax)))
    assert np.array_equal(colours.grey, luma(COLOURS[0])) and COLOUR in (colours.note or "")


def test_jpeg_baseline(tmp_path: Path) -> None:
    smooth = np.asarray(Image.fromarray(GREY[0]).resize((64, 48), Image.Resampling.BICUBIC))
    grey = read(write(tmp_path / "g.dcm", coded(dataset(smooth[None]), JPEGBaseline8Bit)))
    assert abs(grey.grey.astype(int) - smooth).mean() < 2
    colours = coded(dataset(np.stack([smooth] * 3, axis=2)[None], "RGB"), JPEGBaseline8Bit)
    colours = read(write(tmp_path / "c.dcm", colours))
    assert abs(colours.grey.astype(int) - smooth).mean() < 2
    assert "grey stored as YBR_FULL_422" in (colours.note or "")


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
def test_frames_are_decoded_one_by_one(tmp_path: Path, syntax: UID) -> None:
    frames = RNG.integers(0, 256, (5, 21, 31), dtype=np.uint8)
    file = DicomFile(write(tmp_path / "x.dcm", coded(dataset(frames), syntax)))
    for index in (4, 0, 2, 1, 3):
        assert np.array_equal(file.image(index).grey, frames[index])
    with pytest.raises(UnreadableImageError, match="5 frames"):
        file.image(5)


def test_frames_found_through_an_extended_offset_table(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (3, 21, 31), dtype=np.uint8)
    data = dataset(frames)
    data.compress(JPEGLSLossless, encapsulate_ext=True, generate_instance_uid=False)
    assert "ExtendedOffsetTable" in data
    file = DicomFile(write(tmp_path / "x.dcm", data))
    assert all(np.array_equal(file.image(i).grey, frames[i]) for i in range(3))


# ---------------------------------------------------------------------------------------------------- colours


def test_ybr_without_colour_is_exact(tmp_path: Path) -> None:
    ybr = np.stack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)], axis=3)
    picture = read(write(tmp_path / "x.dcm", dataset(ybr, "YBR_FULL")))
    assert np.array_equal(picture.grey, GREY[0]) and "grey stored as YBR_FULL" in (picture.note or "")


def test_ybr_422_uncompressed(tmp_path: Path) -> None:
    grey = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    pairs = grey.reshape(4, 3, 2)
    body = np.concatenate([pairs, np.full((4, 3, 2), 128, np.uint8)], axis=2)  # Y Y Cb Cr
    data = dataset(np.zeros((1, 4, 6, 3), np.uint8), "YBR_FULL_422", PixelData=body.tobytes())
    assert np.array_equal(read(write(tmp_path / "x.dcm", data)).grey, grey)


def test_sixteen_bit_colours(tmp_path: Path) -> None:
    deep = np.stack([DEEP] * 3, axis=3)
    assert np.array_equal(read(write(tmp_path / "x.dcm", dataset(deep, "RGB"))).grey, np.rint(DEEP[0] / 257))


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_palette(tmp_path: Path, bits: int, dtype: type) -> None:
    grey = RNG.integers(0, 256, 256).astype(np.uint8)
    table = grey.astype(dtype) * (257 if bits == 16 else 1)
    data = dataset(GREY, "PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(data, f"{name}PaletteColorLookupTableData", table.tobytes())
    assert np.array_equal(read(write(tmp_path / "x.dcm", data)).grey, grey[GREY[0]])


# ---------------------------------------------------------------------------------------------------- values


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    picture = read(write(tmp_path / "x.dcm", dataset(GREY, "MONOCHROME1")))
    assert np.array_equal(picture.grey, 255 - GREY[0]) and "inverted" in (picture.note or "")


@pytest.mark.parametrize("bits", [10, 12])
def test_stored_bits_give_the_range(tmp_path: Path, bits: int) -> None:
    values = DEEP >> (16 - bits)
    picture = read(write(tmp_path / "x.dcm", dataset(values, BitsStored=bits, HighBit=bits - 1)))
    assert np.array_equal(picture.grey, np.rint(values[0] * (255 / (2**bits - 1))))


def test_signed_values_and_rescaling(tmp_path: Path) -> None:
    signed = (DEEP.astype(np.int32) - 32768).astype(np.int16)
    for tags in ({}, {"RescaleSlope": 2.5, "RescaleIntercept": -1024}):
        picture = read(write(tmp_path / "x.dcm", dataset(signed, **tags)))
        assert np.array_equal(picture.grey, np.rint(DEEP[0] / 257))
    picture = read(write(tmp_path / "x.dcm", dataset(signed, RescaleSlope=-1, RescaleIntercept=0)))
    assert np.array_equal(picture.grey, np.rint((65535 - DEEP[0].astype(int)) / 257))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(300.5, 1), (2000, 700), (900.25, 3000.5)])
def test_windows_as_pydicom_has_them(tmp_path: Path, function: str, center: float, width: float) -> None:
    values = DEEP >> 4
    tags = {"BitsStored": 12, "HighBit": 11, "WindowCenter": [center, 1], "WindowWidth": [width, 1]}
    data = dataset(values, **tags, VOILUTFunction=function, RescaleSlope=1, RescaleIntercept=0)
    picture = read(write(tmp_path / "x.dcm", data))
    expected = apply_windowing(values[0], data) * (255 / 4095)
    assert abs(picture.grey - expected).max() <= 0.51 and picture.grey.max() - picture.grey.min() > 180
    assert "window of the header applied" in (picture.note or "")


def falling_table() -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.LUTData = (np.arange(256, dtype="<u2")[::-1] * 257).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    return table


@pytest.mark.parametrize("entries", [256, 255])
@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_of_bytes(tmp_path: Path, kind: str, entries: int) -> None:
    table = falling_table()
    falling = np.arange(256, dtype=np.uint8)[::-1]
    table.LUTDescriptor, table.LUTData = [entries, 0, 8], falling[:entries].tobytes() + b"\0" * (entries % 2)
    table["LUTData"].VR = "OW"
    if kind == "ModalityLUTSequence":
        table.ModalityLUTType = "US"
    grey = read(write(tmp_path / "x.dcm", dataset(GREY, **{kind: [table]}))).grey
    assert np.array_equal(grey, falling[np.minimum(GREY[0], entries - 1)])


def test_voi_table(tmp_path: Path) -> None:
    table = falling_table()
    assert np.array_equal(read(write(tmp_path / "x.dcm", dataset(GREY, VOILUTSequence=[table]))).grey, 255 - GREY[0])


def test_modality_table(tmp_path: Path) -> None:
    table = falling_table()
    table.ModalityLUTType = "US"
    data = dataset(GREY, ModalityLUTSequence=[table])
    assert np.array_equal(read(write(tmp_path / "x.dcm", data)).grey, 255 - GREY[0])


# ---------------------------------------------------------------------------------------------------- regions


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "RGB"])
def test_the_largest_region_of_tissue_is_cut_out(tmp_path: Path, photometric: str) -> None:
    regions = [
        region(0, 0, 4, 4),
        region(3, 5, 20, 15),
        region(0, 0, 30, 20, RegionDataType=3),  # colour flow
        region(0, 0, 30, 20, RegionSpatialFormat=2),  # M-mode
        region(0, 10, 30, 5),  # upside down
    ]
    frames = GREY if photometric == "MONOCHROME2" else COLOURS
    picture = read(write(tmp_path / "x.dcm", dataset(frames, photometric, SequenceOfUltrasoundRegions=regions)))
    whole = frames[0] if photometric == "MONOCHROME2" else luma(frames[0])
    assert np.array_equal(picture.grey, whole[5:16, 3:21]) and "cut to the B-mode region" in (picture.note or "")


@pytest.mark.parametrize(
    ("corners", "place", "taken"),
    [
        ([(0, 0, 14, 20), (16, 0, 30, 20)], "left", (0, 0)),
        ([(16, 0, 30, 20), (1, 0, 15, 20)], "right", (0, 16)),
        ([(0, 0, 30, 9), (0, 11, 30, 20)], "upper", (0, 0)),
        ([(0, 11, 30, 20), (0, 0, 30, 9)], "lower", (11, 0)),
        ([(0, 0, 14, 20), (7, 0, 21, 20)], "first", (0, 0)),
    ],
)
def test_several_regions_of_the_same_size_are_told(
    tmp_path: Path, corners: list[tuple[int, int, int, int]], place: str, taken: tuple[int, int]
) -> None:
    small = region(2, 2, 6, 6)
    regions = [small, *(region(*corner) for corner in corners), region(*corners[0])]  # one is listed twice
    picture = read(write(tmp_path / "x.dcm", dataset(GREY, SequenceOfUltrasoundRegions=regions)))
    height, width = picture.grey.shape
    assert np.array_equal(picture.grey, GREY[0][taken[0] : taken[0] + height, taken[1] : taken[1] + width])
    assert f"cut to the {place} one of 2 B-mode regions of about the same size in the header" in (picture.note or "")


def test_regions_that_differ_by_a_pixel_are_told_and_others_are_not(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (1, 100, 220), dtype=np.uint8)
    for second, note in (((110, 0, 219, 98), "the left one of 2"), ((110, 0, 200, 98), "cut to the B-mode region of")):
        data = dataset(frames, SequenceOfUltrasoundRegions=[region(0, 0, 109, 99), region(*second)])
        assert note in (read(write(tmp_path / "x.dcm", data)).note or "")


def test_a_region_ends_with_the_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", dataset(GREY, SequenceOfUltrasoundRegions=[region(10, 2, 5000, 21)]))
    assert np.array_equal(read(path).grey, GREY[0][2:, 10:])


def test_no_region_is_told(tmp_path: Path) -> None:
    for regions in ([], [region(40, 40, 60, 60)], [region(0, 0, 9, 9, RegionDataType=2)]):
        picture = read(write(tmp_path / "x.dcm", dataset(GREY, SequenceOfUltrasoundRegions=regions)))
        assert np.array_equal(picture.grey, GREY[0]) and "whole frame" in (picture.note or "")


# ---------------------------------------------------------------------------------------------------- pydicom's files


def test_a_multi_frame_ultrasound_file() -> None:
    path = Path(get_testdata_file("examples_ybr_color.dcm", download=False))
    data = pydicom.dcmread(path)
    found = next(item for item in data.SequenceOfUltrasoundRegions if item.RegionDataType == 1)
    rows = slice(found.RegionLocationMinY0, found.RegionLocationMaxY1 + 1)
    columns = slice(found.RegionLocationMinX0, found.RegionLocationMaxX1 + 1)
    file = DicomFile(path)
    for index in (0, 7):
        assert np.array_equal(file.image(index).grey, luma(data.pixel_array[index])[rows, columns])


def test_a_palette_ultrasound_file() -> None:
    picture = read(Path(get_testdata_file("examples_palette.dcm", download=False)))
    assert picture.grey.shape == (290, 680) and picture.original_mode == "DICOM PALETTE COLOR 8-bit"


@pytest.mark.parametrize("name", ["SC_rgb_rle_2frame.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm"])
def test_colour_bars(name: str) -> None:
    # The files show the same bars; the first is lossless.
    path = Path(get_testdata_file(name, download=False))
    bars = read(Path(get_testdata_file("SC_rgb_rle.dcm", download=False))).grey
    grey = read(path, 0 if "2frame" in name else None).grey
    assert abs(grey[5::10, 50].astype(int) - bars[5::10, 50]).max() <= 2


def test_lossless_jpeg_of_another_program() -> None:
    # Both hold the same bars without loss; the first was written by GDCM.
    found = read(Path(get_testdata_file("SC_rgb_jpeg_gdcm.dcm", download=False))).grey
    assert np.array_equal(found, read(Path(get_testdata_file("SC_rgb_rle.dcm", download=False))).grey)


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_extended_jpeg_of_another_program(name: str) -> None:
    # Two stored values that other decoders give too, by pydicom's own tests: 244 and 95 of 4095.
    grey = read(Path(get_testdata_file(name, download=False))).grey
    assert grey.shape == (1024, 256) and (grey[420, 140], grey[230, 120]) == (15, 6)


# ---------------------------------------------------------------------------------------------------- errors


def broken(kind: str) -> Dataset:
    data = dataset(GREY)
    if kind == "no pixels":
        del data.PixelData
    elif kind == "short":
        data.PixelData = data.PixelData[:-20]
    elif kind == "long":
        data.PixelData += b"\0" * 20
    elif kind == "bits":
        data.BitsAllocated = data.BitsStored = 32
    elif kind == "samples":
        data.SamplesPerPixel = 2
    elif kind == "float":
        data.FloatPixelData = data.PixelData
        del data.PixelData
    elif kind == "huge":
        data.Rows = data.Columns = 65535
    elif kind == "video":
        encapsulated(data, [b"\0" * 64], MPEG4HP41)
    elif kind == "lossless JPEG":
        encapsulated(data, [jpeg(GREY[0])], JPEGLosslessSV1)
    elif kind == "other size":
        encapsulated(data, [jpeg(GREY[0][:10])], JPEGBaseline8Bit)
    elif kind == "empty frame":
        encapsulated(data, [b"\0\0"], JPEGBaseline8Bit)
    elif kind in ("report", "no size"):
        for name in ("Rows", "Columns", "PixelData"):
            delattr(data, name)
        data.SOPClassUID = ComprehensiveSRStorage if kind == "report" else data.SOPClassUID
    return data


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no pixels", "has no pixel data"),
        ("short", "631 bytes|632 bytes of pixels|612 bytes of pixels where its header describes 651"),
        ("long", "672 bytes of pixels where its header describes 651"),
        ("bits", "only these are read"),
        ("samples", "number of samples"),
        ("float", "has no pixel data"),
        ("huge", "more than .* pixels"),
        ("video", "holds video .*MPEG-4.*export it as MP4"),
        ("lossless JPEG", "is not lossless JPEG; its transfer syntax is JPEG Lossless"),
        ("other size", "is 31 × 10 where the header gives 31 × 21"),
        ("empty frame", "has no JPEG header"),
        ("report", "holds no image"),
        ("no size", "gives no image size"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message) as error:
        read(write(tmp_path / "x.dcm", broken(kind)))
    assert "\n" not in str(error.value) and "x.dcm: " in str(error.value) and "--skip-unreadable" in str(error.value)


def test_an_unknown_transfer_syntax(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", dataset(GREY))
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"))
    with pytest.raises(UnreadableImageError, match=r"transfer syntax \(an unknown one\) is not read"):
        read(path)


def test_files_cut_short_anywhere(tmp_path: Path) -> None:
    for syntax in LOSSLESS:
        whole = write(tmp_path / "whole.dcm", coded(dataset(GREY), syntax)).read_bytes()
        for share in (0.0, 0.05, 0.3, 0.7, 0.95):
            (tmp_path / "cut.dcm").write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UnreadableImageError, match=r"cut\.dcm: "):
                read(tmp_path / "cut.dcm")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        read(tmp_path / "x.dcm")


def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sonosynth.data.readers.dicom.header._INFLATED_LIMIT", 10_000)
    data = dataset(np.zeros((1, 200, 200), np.uint8))
    path = write(tmp_path / "x.dcm", coded(data, pydicom.uid.DeflatedExplicitVRLittleEndian))
    assert path.stat().st_size < 2000
    with pytest.raises(UnreadableImageError, match="inflates to more than 10,000 bytes"):
        read(path)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    syntax=st.sampled_from([*LOSSLESS, JPEGBaseline8Bit]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
    share=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_pixels_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, syntax: UID, flips: list[tuple[float, int]], share: float
) -> None:
    from sonosynth.data.scan import decode_all

    folder = tmp_path_factory.mktemp("fuzz")
    frames = np.stack([GREY[0]] * 2)
    regions = [region(1, 1, 20, 20, 0.01)]
    content = bytearray(
        write(folder / "x.dcm", coded(dataset(frames, SequenceOfUltrasoundRegions=regions), syntax)).read_bytes()
    )
    for at, change in flips:
        content[132 + int(at * (len(content) - 132))] ^= change
    (folder / "x.dcm").write_bytes(content[: int(len(content) * share)])
    items, notes = expand_frames(folder, [SourceItem(folder / "x.dcm", "a", None, "")], True, ReadOptions())
    source = Source("DICOM folder", folder, items[:50], ("a",), tuple(notes))
    try:
        _, pictures = decode_all(source, lambda item, picture: picture, skip_unreadable=True)
    except SourceError:
        return
    assert all(picture.grey.dtype == np.uint8 and picture.grey.ndim == 2 for picture in pictures)

"""From stored values to greys: palettes, tables, rescales, windows and functional groups of DICOM headers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    EnhancedUSVolumeStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

from dicom_files import coded, dataset, write
from sonosynth.core.errors import UnreadableImageError
from sonosynth.data.readers.base import DecodedImage
from sonosynth.data.readers.dicom.reader import DicomFile

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (1, 21, 31), dtype=np.uint8)
TWELVE = RNG.integers(0, 4096, (1, 21, 31), dtype=np.uint16)
SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
ORDERS = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)


def read(path: Path, data: Dataset, frame: int | None = None, syntax: UID = ExplicitVRLittleEndian) -> DecodedImage:
    return DicomFile(write(path, coded(data, syntax))).image(frame)


def refused(path: Path, data: Dataset, frame: int | None = None) -> str:
    with pytest.raises(UnreadableImageError) as error:
        read(path, data, frame)
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def words(values: Sequence[int] | np.ndarray, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Return numbers of 16 bits in the byte order of `syntax`."""
    return np.asarray(values).astype("<u2" if syntax.is_little_endian else ">u2").tobytes()


def in_words(values: np.ndarray, syntax: UID) -> bytes:
    """Return bytes, two in a word with the lower one first, in the byte order of `syntax`."""
    packed = values.astype(np.uint8).tobytes() + b"\0" * (len(values) % 2)
    return words(np.frombuffer(packed, "<u2"), syntax)


def palette(data: Dataset, descriptor: list[int], *tables: bytes, segmented: bool = False) -> Dataset:
    """Give `data` three palettes, or one for all three colours."""
    for name, table in zip(("Red", "Green", "Blue"), tables * (3 // len(tables)), strict=True):
        setattr(data, f"{name}PaletteColorLookupTableDescriptor", descriptor)
        key = f"{'Segmented' * segmented}{name}PaletteColorLookupTableData"
        setattr(data, key, table)
        data[key].VR = "OW"
    return data


# ---------------------------------------------------------------------------------------------------- palettes

ENTRIES = RNG.permutation(256)
NARROW = "palette entries of 8 bits in fields of 16"


@ORDERS
def test_palette_entries_of_8_bits_in_fields_of_16(tmp_path: Path, syntax: UID) -> None:
    data = palette(dataset(GREY, "PALETTE COLOR"), [256, 0, 16], words(ENTRIES, syntax))
    picture = read(tmp_path / "x.dcm", data, syntax=syntax)
    assert np.array_equal(picture.grey, ENTRIES[GREY[0]]) and NARROW in (picture.note or "")
    data = palette(dataset(GREY, "PALETTE COLOR"), [256, 0, 8], words(ENTRIES, syntax))
    picture = read(tmp_path / "y.dcm", data, syntax=syntax)
    assert np.array_equal(picture.grey, ENTRIES[GREY[0]]) and NARROW not in (picture.note or "")


@ORDERS
def test_palette_entries_of_16_bits(tmp_path: Path, syntax: UID) -> None:
    for entries in (ENTRIES * 257, ENTRIES * 256):  # the second in the upper byte alone
        data = palette(dataset(GREY, "PALETTE COLOR"), [256, 0, 16], words(entries, syntax))
        picture = read(tmp_path / "x.dcm", data, syntax=syntax)
        assert np.array_equal(picture.grey, np.rint(entries / 257)[GREY[0]]) and NARROW not in (picture.note or "")


def test_one_palette_above_255_makes_all_three_of_16_bits(tmp_path: Path) -> None:
    dark, bright = words(np.minimum(ENTRIES, 100)), words(np.full(256, 25700))
    picture = read(tmp_path / "x.dcm", palette(dataset(GREY, "PALETTE COLOR"), [256, 0, 16], dark, dark, bright))
    assert set(np.unique(picture.grey)) == {11} and NARROW not in (picture.note or "")  # blue of 100 alone


@pytest.mark.parametrize("count", [256, 255, 1])
@ORDERS
def test_palettes_packed_in_bytes(tmp_path: Path, syntax: UID, count: int) -> None:
    data = palette(dataset(GREY, "PALETTE COLOR"), [count, 0, 8], in_words(ENTRIES[:count], syntax))
    picture = read(tmp_path / "x.dcm", data, syntax=syntax)
    assert np.array_equal(picture.grey, ENTRIES[np.minimum(GREY[0], count - 1)])


@pytest.mark.parametrize("first", [0, 40, -20])
def test_the_first_value_that_a_palette_maps(tmp_path: Path, first: int) -> None:
    stored = (GREY.astype(np.int16) - 100).astype(np.int16) if first < 0 else GREY.astype(np.uint16)
    data = palette(dataset(stored, "PALETTE COLOR"), [100, 0, 16], words(ENTRIES[:100]))
    for name in ("Red", "Green", "Blue"):
        data[f"{name}PaletteColorLookupTableDescriptor"].VR = "SS" if first < 0 else "US"
        data[f"{name}PaletteColorLookupTableDescriptor"].value = [100, first, 16]
    picture = read(tmp_path / "x.dcm", data)
    assert np.array_equal(picture.grey, ENTRIES[(stored[0].astype(int) - first).clip(0, 99)])


def test_a_palette_of_65536_entries(tmp_path: Path) -> None:
    stored = RNG.integers(0, 65536, (1, 21, 31), dtype=np.uint16)
    data = palette(dataset(stored, "PALETTE COLOR"), [0, 0, 16], words(np.arange(65536)[::-1]))
    assert np.array_equal(read(tmp_path / "x.dcm", data).grey, np.rint((65535 - stored[0].astype(int)) / 257))


@pytest.mark.parametrize("bits", [8, 16])
@ORDERS
def test_segmented_palettes(tmp_path: Path, syntax: UID, bits: int) -> None:
    last = 2**bits - 1
    segments = np.array([0, 3, 0, 5, 9, 1, 150, last, 1, 103, 0])  # three values, a rise of 150, a fall of 103
    rise = 9 + np.arange(1, 151) * (last - 9) / 150
    expected = np.rint(np.concatenate([[0, 5, 9], rise, last - np.arange(1, 104) * last / 103]))
    packed = in_words(segments, syntax) if bits == 8 else words(segments, syntax)
    data = palette(dataset(GREY, "PALETTE COLOR"), [256, 0, bits], packed, segmented=True)
    picture = read(tmp_path / "x.dcm", data, syntax=syntax)
    assert np.array_equal(picture.grey, np.rint(expected * 255 / last)[GREY[0]])


@pytest.mark.parametrize(
    ("descriptor", "table", "segmented", "message"),
    [
        ([256, 0, 16], bytes(500), False, "palette of red has 500 bytes, which do not fit the 256 entries"),
        ([256, 0, 32], bytes(512), False, "palette of red has entries of 32 bits"),
        ([256, 0], bytes(512), False, "palette of red has no descriptor of three numbers"),
        ([256, 0, 16], words([0, 2, 5, 6, 2, 1, 0, 0]), True, "segmented palette of red has segments that are not"),
        ([256, 0, 16], words([1, 2, 5]), True, "segmented palette of red has segments that are not read"),
        ([256, 0, 16], words([0, 2, 5, 6]), True, "gives 2 entries where its descriptor gives 256"),
    ],
)
def test_palettes_that_are_not_read(
    tmp_path: Path, descriptor: list[int], table: bytes, segmented: bool, message: str
) -> None:
    data = palette(dataset(GREY, "PALETTE COLOR"), descriptor, table, segmented=segmented)
    assert message in refused(tmp_path / "x.dcm", data)


def test_palettes_that_are_missing_or_differ(tmp_path: Path) -> None:
    assert "palette of red has no descriptor" in refused(tmp_path / "x.dcm", dataset(GREY, "PALETTE COLOR"))
    data = palette(dataset(GREY, "PALETTE COLOR"), [256, 0, 16], words(ENTRIES))
    data.BluePaletteColorLookupTableDescriptor = [256, 1, 16]
    assert "red, green and blue differ" in refused(tmp_path / "x.dcm", data)
    del data.BluePaletteColorLookupTableData
    assert "palette of blue has no entries" in refused(tmp_path / "x.dcm", data)


# ---------------------------------------------------------------------------------------------------- tables


def table(descriptor: list[int], content: bytes) -> Dataset:
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = descriptor, content, "US"
    item["LUTData"].VR = "OW"
    return item


@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
@ORDERS
def test_tables_of_words(tmp_path: Path, syntax: UID, kind: str) -> None:
    data = dataset(GREY, **{kind: [table([256, 0, 16], words(ENTRIES * 257, syntax))]})
    assert np.array_equal(read(tmp_path / "x.dcm", data, syntax=syntax).grey, ENTRIES[GREY[0]])


def test_voi_entries_of_8_bits_in_fields_of_16(tmp_path: Path) -> None:
    picture = read(tmp_path / "x.dcm", dataset(GREY, VOILUTSequence=[table([256, 0, 16], words(ENTRIES))]))
    assert np.array_equal(picture.grey, ENTRIES[GREY[0]])
    assert "VOI table entries of 8 bits in fields of 16" in (picture.note or "")


@pytest.mark.parametrize(
    ("descriptor", "content", "message"),
    [
        ([256, 0, 0], bytes(512), "has entries of 0 bits; 8 to 16 are read"),
        ([256, 0, 16], bytes(100), "has 100 bytes, which do not fit the 256 entries of its descriptor"),
        ([256, 0], bytes(512), "has no descriptor of three numbers"),
    ],
)
@pytest.mark.parametrize("kind", ["VOILUTSequence", "ModalityLUTSequence"])
def test_tables_that_are_not_read(
    tmp_path: Path, kind: str, descriptor: list[int], content: bytes, message: str
) -> None:
    name = "VOI table" if kind == "VOILUTSequence" else "modality table"
    data = dataset(GREY, **{kind: [table(descriptor, content)]})
    assert f"its {name} {message}" in refused(tmp_path / "x.dcm", data)


# ---------------------------------------------------------------------------------------------------- windows


def full_range(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values * (255 / (2**bits - 1)))


def windowed(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Return values under a linear window; PS3.3 C.11.2.1.2.1."""
    return np.rint(((values - (center - 0.5)) / (width - 1) + 0.5).clip(0, 1) * 255)


@pytest.mark.parametrize(
    ("center", "width", "told"),
    [
        (128, 0, "window of width 0 ignored: full range of 8 bits"),
        (128, -5, "window of width -5 ignored: full range of 8 bits"),
        (128, 0.5, "window of width 0.5 ignored: full range of 8 bits"),
        ([128, 1], [0, 0], "window of width 0 ignored: full range of 8 bits"),
    ],
)
def test_a_window_without_width_is_ignored_and_told(tmp_path: Path, center: Any, width: Any, told: str) -> None:
    picture = read(tmp_path / "x.dcm", dataset(GREY, WindowCenter=center, WindowWidth=width))
    assert np.array_equal(picture.grey, GREY[0]) and told in (picture.note or "").split("; ")


@pytest.mark.parametrize("kind", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", [b"inf ", b"nan ", b"a b "])
def test_a_window_that_is_no_number_is_ignored_and_told(tmp_path: Path, kind: str, text: bytes) -> None:
    path = write(
        tmp_path / "x.dcm", dataset(TWELVE, BitsStored=12, HighBit=11, WindowCenter="1111", WindowWidth="2222")
    )
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1111" if kind == "WindowCenter" else b"2222", text))
    picture = DicomFile(path).image(None)
    assert np.array_equal(picture.grey, full_range(TWELVE[0], 12))
    told = "window whose centre or width is no finite number ignored: full range of 12 bits"
    assert told in (picture.note or "").split("; ") and "scaled to 8" not in (picture.note or "")


def test_the_next_window_is_taken_where_one_is_invalid(tmp_path: Path) -> None:
    picture = read(tmp_path / "x.dcm", dataset(GREY, WindowCenter=[9, 100, 1], WindowWidth=[0, 51, 2]))
    assert np.array_equal(picture.grey, windowed(GREY[0], 100, 51))
    assert "window of the header applied; window of width 0 ignored: next one applied" in (picture.note or "")


def test_an_unknown_window_function_is_told(tmp_path: Path) -> None:
    data = dataset(GREY, WindowCenter=100, WindowWidth=51, VOILUTFunction="CURVED")
    picture = read(tmp_path / "x.dcm", data)
    assert np.array_equal(picture.grey, windowed(GREY[0], 100, 51))
    assert "window of an unknown function taken as linear" in (picture.note or "") and "CURVED" not in str(picture.note)


# ---------------------------------------------------------------------------------------------------- header values


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "its rescale slope is 0, or"),
        ({"RescaleSlope": [1, 2], "RescaleIntercept": 1}, "its rescale slope or intercept is no finite number"),
        ({"PhotometricInterpretation": "CIELAB"}, "its photometric interpretation or number of samples is none that"),
        ({"BitsStored": 9}, r"gives 9 stored bits (BitsStored) of 8 allocated ones"),
        ({"PixelRepresentation": 2}, "gives a PixelRepresentation that is neither 0 nor 1"),
        ({"NumberOfFrames": -1}, "gives -1 frames"),
    ],
)
def test_values_of_a_header_are_not_called_damage(tmp_path: Path, tags: dict[str, Any], message: str) -> None:
    assert message in refused(tmp_path / "x.dcm", dataset(GREY, **tags))


def test_a_rescale_that_is_no_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", dataset(GREY, RescaleSlope="1111", RescaleIntercept="0"))
    path.write_bytes(path.read_bytes().replace(b"1111", b"a1b "))
    with pytest.raises(UnreadableImageError, match="rescale slope or intercept is no finite number"):
        DicomFile(path).image(None)


@pytest.mark.parametrize(
    "keyword", ["BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation"]
)
def test_what_a_header_lacks_is_named(tmp_path: Path, keyword: str) -> None:
    data = dataset(GREY)
    delattr(data, keyword)
    assert f"its header lacks {keyword}, without which" in refused(tmp_path / "x.dcm", data)


def test_colours_without_planar_configuration(tmp_path: Path) -> None:
    data = dataset(np.stack([GREY] * 3, axis=3), "RGB")
    del data.PlanarConfiguration
    assert "gives no PlanarConfiguration" in refused(tmp_path / "x.dcm", data)


def test_ybr_of_more_than_8_bits_is_not_read(tmp_path: Path) -> None:
    message = "holds YBR_FULL of more than 8 bits, which is not read; convert it to RGB"
    assert message in refused(tmp_path / "x.dcm", dataset(np.stack([TWELVE] * 3, axis=3), "YBR_FULL"))


# ---------------------------------------------------------------------------------------------------- functional groups


def group(window: tuple[float, float] | None = None, rescale: tuple[float, float] | None = None) -> Dataset:
    """Return one item of functional groups, with a window (center, width) and a rescale (slope, intercept)."""
    item = Dataset()
    if window:
        item.FrameVOILUTSequence = [Dataset()]
        item.FrameVOILUTSequence[0].WindowCenter, item.FrameVOILUTSequence[0].WindowWidth = window
    if rescale:
        item.PixelValueTransformationSequence = [Dataset()]
        change = item.PixelValueTransformationSequence[0]
        change.RescaleSlope, change.RescaleIntercept = rescale
        change.RescaleType = "US"
    return item


def enhanced(frames: np.ndarray, kind: UID, shared: Dataset | None, own: list[Dataset], **tags: Any) -> Dataset:
    data = dataset(frames, BitsStored=12, HighBit=11, **tags)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    if shared is not None:
        data.SharedFunctionalGroupsSequence = [shared]
    if own:
        data.PerFrameFunctionalGroupsSequence = own
    return data


VOLUME = RNG.integers(0, 4096, (3, 21, 31), dtype=np.uint16)
KINDS = pytest.mark.parametrize(
    "kind", [EnhancedUSVolumeStorage, MultiFrameGrayscaleWordSecondaryCaptureImageStorage], ids=lambda uid: uid.keyword
)


@KINDS
def test_windows_of_frames_come_before_shared_ones_before_that_of_the_data_set(tmp_path: Path, kind: UID) -> None:
    own = [group((1000, 501)), group(), group((3000, 1001))]
    top = {"WindowCenter": 50, "WindowWidth": 11}
    data = enhanced(VOLUME, kind, group((2000, 301)), own, **top)
    for frame, window in enumerate([(1000, 501), (2000, 301), (3000, 1001)]):
        picture = read(tmp_path / "x.dcm", data, frame)
        assert np.array_equal(picture.grey, windowed(VOLUME[frame], *window))
        assert "window of the header applied" in (picture.note or "")
    data = enhanced(VOLUME, kind, group(rescale=(1, 0)), own, **top)
    assert np.array_equal(read(tmp_path / "x.dcm", data, 1).grey, windowed(VOLUME[1], 50, 11))


@KINDS
def test_rescales_of_frames_come_before_shared_ones(tmp_path: Path, kind: UID) -> None:
    own = [group(rescale=(2, -100)), group((500, 1001)), group((500, 1001), (-1, 10))]
    data = enhanced(VOLUME, kind, group((1500, 2001), (0.5, 7)), own, RescaleSlope=9, RescaleIntercept=9)
    expected = [
        windowed(VOLUME[0] * 2.0 - 100, 1500, 2001),
        windowed(VOLUME[1] * 0.5 + 7, 500, 1001),
        windowed(10.0 - VOLUME[2], 500, 1001),
    ]
    for frame in range(3):
        assert np.array_equal(read(tmp_path / "x.dcm", data, frame).grey, expected[frame])


def test_a_table_in_a_functional_group(tmp_path: Path) -> None:
    shared = Dataset()
    shared.FrameVOILUTSequence = [Dataset()]
    shared.FrameVOILUTSequence[0].VOILUTSequence = [table([4096, 0, 16], words(np.arange(4096)[::-1] * 16))]
    data = enhanced(VOLUME, EnhancedUSVolumeStorage, shared, [])
    expected = np.rint((4095 - VOLUME[2].astype(int)) * 16 * (255 / 65535))
    assert np.array_equal(read(tmp_path / "x.dcm", data, 2).grey, expected)


def test_functional_groups_of_another_number_of_frames(tmp_path: Path) -> None:
    data = enhanced(VOLUME, EnhancedUSVolumeStorage, None, [group((9, 9))] * 2)
    message = "its header has functional groups for 2 frames, but the pixel data hold 3"
    assert message in refused(tmp_path / "x.dcm", data, 0)


# ---------------------------------------------------------------------------------------------------- depth

UNUSED = "little contrast: values use less than a sixteenth of the 16 bits that the header states"


@pytest.mark.parametrize(("largest", "told"), [(4095, True), (4096, False), (65535, False)])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "RGB"])
def test_values_that_leave_most_of_the_stated_range_unused_are_told(
    tmp_path: Path, photometric: str, largest: int, told: bool
) -> None:
    values = TWELVE.copy()
    values[0, 0, 0] = largest
    frames = values if photometric == "MONOCHROME2" else np.stack([values] * 3, axis=3)
    picture = read(tmp_path / "x.dcm", dataset(frames, photometric))
    assert np.array_equal(picture.grey, full_range(values[0], 16))
    assert (UNUSED in (picture.note or "")) == told


def test_a_dark_image_of_8_bits_or_under_a_window_is_not_told(tmp_path: Path) -> None:
    assert "sixteenth" not in str(read(tmp_path / "x.dcm", dataset(GREY // 32)).note)
    assert "sixteenth" not in str(read(tmp_path / "y.dcm", dataset(TWELVE, WindowCenter=2048, WindowWidth=4096)).note)

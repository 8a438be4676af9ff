"""Frames and code streams in the pixel data of DICOM files: how many frames there are, and lossless and deep JPEG."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_files import LOSSLESS, NATIVE, coded, dataset, encapsulated, jpeg, lossless_jpeg, write
from sonosynth.core.errors import UnreadableImageError
from sonosynth.data.readers.dicom.reader import DicomFile
from sonosynth.data.readers.dicom.streams import CodeStream, code_stream

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (5, 21, 31), dtype=np.uint8)  # of an odd number of bytes
COLOURS = RNG.integers(0, 256, (21, 31, 3), dtype=np.uint8)
ENCAPSULATED = (RLELossless, JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)
TABLES = ("basic", "extended", "empty")


def code_streams(syntax: UID, frames: np.ndarray = FRAMES) -> list[bytes]:
    return list(generate_frames(coded(dataset(frames), syntax).PixelData, number_of_frames=len(frames)))


def refused(path: Path, data: Dataset) -> str:
    with pytest.raises(UnreadableImageError) as error:
        DicomFile(write(path, data))
    assert "\n" not in str(error.value) and "--skip-unreadable" in str(error.value)
    return str(error.value)


def stored(path: Path, data: Dataset, frame: int = 0) -> np.ndarray:
    return DicomFile(write(path, data))._frames.values(frame)


# ---------------------------------------------------------------------------------------------------- numbers of frames


@pytest.mark.parametrize("stated", [None, 1, 3, 6])
@pytest.mark.parametrize("syntax", [*NATIVE, *ENCAPSULATED], ids=lambda uid: uid.keyword)
def test_another_number_of_frames_than_the_header_gives_is_refused(
    tmp_path: Path, syntax: UID, stated: int | None
) -> None:
    data = coded(dataset(FRAMES), syntax)
    given = f"gives {stated} frame{'s' * (stated != 1)}, the pixel data hold 5"
    if stated is None:
        del data.NumberOfFrames
        given = "gives no number of frames, so 1, the pixel data hold 5"
    else:
        data.NumberOfFrames = stated
    assert given in refused(tmp_path / "x.dcm", data)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda uid: uid.keyword)
def test_tables_of_offsets_do_not_hide_frames(tmp_path: Path, syntax: UID, table: str) -> None:
    for stated in (2, 7):
        data = encapsulated(dataset(FRAMES, NumberOfFrames=stated), code_streams(syntax), syntax, table)
        assert f"gives {stated} frames, the pixel data hold 5" in refused(tmp_path / "x.dcm", data)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_a_table_that_names_only_the_stated_frames_hides_none(tmp_path: Path, syntax: UID) -> None:
    data = encapsulated(dataset(FRAMES, NumberOfFrames=3), code_streams(syntax), syntax)
    assert data.PixelData[4] == 20  # bytes of five offsets
    data.PixelData = data.PixelData[:4] + b"\x0c\0\0\0" + data.PixelData[8:20] + data.PixelData[28:]
    assert "gives 3 frames, the pixel data hold 5" in refused(tmp_path / "x.dcm", data)


@pytest.mark.parametrize("table", ["basic", "empty"])
@pytest.mark.parametrize("syntax", ENCAPSULATED, ids=lambda uid: uid.keyword)
def test_frames_split_into_fragments_are_joined(tmp_path: Path, syntax: UID, table: str) -> None:
    for count in (1, 5):
        streams = code_streams(syntax, FRAMES[:count])
        data = encapsulated(dataset(FRAMES[:count]), streams, syntax, table, fragments=3)
        whole = encapsulated(dataset(FRAMES[:count]), streams, syntax)
        for index in range(count):
            expected = stored(tmp_path / "whole.dcm", whole, index)
            assert np.array_equal(stored(tmp_path / "x.dcm", data, index), expected)
            if syntax != JPEGBaseline8Bit:
                assert np.array_equal(expected, FRAMES[index])
        data.NumberOfFrames = count + 1
        assert f"gives {count + 1} frames, the pixel data hold {count}" in refused(tmp_path / "x.dcm", data)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword)
def test_frames_within_one_fragment_are_counted_and_read(tmp_path: Path, syntax: UID) -> None:
    streams = code_streams(syntax)
    data = encapsulated(dataset(FRAMES), [b"".join(streams)], syntax, "empty")
    for index in range(5):
        assert np.array_equal(stored(tmp_path / "x.dcm", data, index), FRAMES[index])
    del data.NumberOfFrames
    assert "the pixel data hold 5" in refused(tmp_path / "x.dcm", data)


def test_a_damaged_frame_that_the_table_names_does_not_cost_the_others(tmp_path: Path) -> None:
    streams = code_streams(JPEGLSLossless)
    streams[2] = bytes(len(streams[2]))
    file = DicomFile(write(tmp_path / "x.dcm", encapsulated(dataset(FRAMES), streams, JPEGLSLossless)))
    assert np.array_equal(file.image(3).grey, FRAMES[3])
    with pytest.raises(UnreadableImageError, match="frame 2 has no JPEG header"):
        file.image(2)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.keyword)
def test_native_pixels_with_a_byte_of_padding(tmp_path: Path, syntax: UID, count: int) -> None:
    data = coded(dataset(FRAMES[:count]), syntax)
    assert len(data.PixelData) == count * 651 + count % 2
    assert all(np.array_equal(stored(tmp_path / "x.dcm", data, i), FRAMES[i]) for i in range(count))


def test_native_ybr_422_of_several_frames(tmp_path: Path) -> None:
    grey = FRAMES[:, :, :30]
    pairs = grey.reshape(5, 21, 15, 2)
    body = np.concatenate([pairs, np.full_like(pairs, 128)], axis=3).tobytes()
    data = dataset(np.zeros((5, 21, 30, 3), np.uint8), "YBR_FULL_422", PixelData=body)
    file = DicomFile(write(tmp_path / "x.dcm", data))
    assert all(np.array_equal(file.image(i).grey, grey[i]) for i in range(5))
    data.NumberOfFrames = 4
    assert "gives 4 frames, the pixel data hold 5" in refused(tmp_path / "x.dcm", data)


def test_pixels_cut_inside_a_frame_are_told_in_bytes(tmp_path: Path) -> None:
    data = dataset(FRAMES, PixelData=FRAMES.tobytes()[:-51])
    assert "has 3,204 bytes of pixels where its header describes 3,255" in refused(tmp_path / "x.dcm", data)


def test_compressed_pixels_that_the_transfer_syntax_does_not_say(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", encapsulated(dataset(FRAMES), code_streams(JPEGLSLossless), JPEGLSLossless))
    for syntax, how in ((JPEGLSLossless, "uncompressed"), (ExplicitVRLittleEndian, "compressed")):
        content = path.read_bytes() if how == "compressed" else write(tmp_path / "n.dcm", dataset(FRAMES)).read_bytes()
        old = JPEGLSLossless if how == "compressed" else ExplicitVRLittleEndian
        names = [uid.encode().ljust(len(uid) + len(uid) % 2, b"\0") for uid in (old, syntax)]
        names = [bytes((len(name), 0)) + name for name in names]
        assert names[0] in content
        (tmp_path / "y.dcm").write_bytes(content.replace(*names))
        with pytest.raises(UnreadableImageError, match=f"its pixels are {how}"):
            DicomFile(tmp_path / "y.dcm")


# ---------------------------------------------------------------------------------------------------- lossless JPEG


def noise(bits: int, components: int) -> np.ndarray:
    """Return values of all sizes, the extremes among them: ``[21, 31]`` or ``[21, 31, 3]``."""
    values = np.random.default_rng(bits).integers(0, 2**bits, (21, 31, components))
    values[:4] = np.where(values[:4] % 2, 2**bits - 1, 0)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)[..., 0 if components == 1 else slice(None)]


def by_libjpeg(values: np.ndarray, bits: int, predictor: int) -> bytes:
    colours = {"colorspace": "RGB", "outcolorspace": "RGB"} if values.ndim == 3 else {}
    return imagecodecs.jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits, **colours)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("bits", [4, 8, 10, 12, 16])
def test_lossless_jpeg_is_exact(tmp_path: Path, bits: int, components: int, predictor: int) -> None:
    values = noise(bits, components)
    kept = (values >> 2) << 2
    variants: list[tuple[np.ndarray, bytes]] = [
        (values, lossless_jpeg(values, bits, predictor)),
        (values, lossless_jpeg(values, bits, predictor, restart_rows=2)),
        (values, lossless_jpeg(values, bits, predictor, interleaved=False)),
        (kept, lossless_jpeg(values, bits, predictor, shift=2)),
        (values, by_libjpeg(values, bits, predictor)),
    ]
    for expected, stream in variants:
        data = dataset(values[None], "RGB" if components == 3 else "MONOCHROME2", BitsStored=bits, HighBit=bits - 1)
        for syntax in (JPEGLossless, JPEGLosslessSV1):
            found = stored(tmp_path / "x.dcm", encapsulated(data, [stream], syntax))
            assert found.dtype == values.dtype and np.array_equal(found, expected)


def test_lossless_jpeg_of_ybr_becomes_what_native_ybr_does(tmp_path: Path) -> None:
    native = DicomFile(write(tmp_path / "n.dcm", dataset(COLOURS[None], "YBR_FULL"))).image(None).grey
    for ids, same in (((1, 2, 3), "YBR_FULL"), ((82, 71, 66), "RGB")):  # components named R, G and B are these
        data = encapsulated(dataset(COLOURS[None], "YBR_FULL"), [lossless_jpeg(COLOURS, 8, ids=ids)], JPEGLossless)
        grey = DicomFile(write(tmp_path / "x.dcm", data)).image(None).grey
        whole = DicomFile(write(tmp_path / "r.dcm", dataset(COLOURS[None], same))).image(None).grey
        assert np.array_equal(grey, whole) and np.array_equal(grey, native) == (same == "YBR_FULL")


@pytest.mark.parametrize("precision", [12, 16])
def test_lossless_jpeg_of_signed_values(tmp_path: Path, precision: int) -> None:
    values = RNG.integers(-2048, 2048, (1, 21, 31)).astype(np.int16)
    data = dataset(values, BitsStored=12, HighBit=11)
    stream = lossless_jpeg(values[0].astype(np.uint16) & (2**precision - 1), precision)
    found = stored(tmp_path / "x.dcm", encapsulated(data, [stream], JPEGLosslessSV1))
    assert np.array_equal(found, values[0])


def test_eight_bits_in_sixteen_allocated(tmp_path: Path) -> None:
    data = dataset(FRAMES[:1].astype(np.uint16), BitsStored=8, HighBit=7)
    picture = DicomFile(write(tmp_path / "x.dcm", coded(data, JPEGLosslessSV1))).image(None)
    assert np.array_equal(picture.grey, FRAMES[0])


def shortened(stream: bytes) -> bytes:
    return stream[: len(stream) // 2]


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1], ids=lambda uid: uid.keyword)
def test_a_lossless_jpeg_cut_short_is_damaged(tmp_path: Path, syntax: UID) -> None:
    data = encapsulated(dataset(FRAMES[:1]), [shortened(lossless_jpeg(FRAMES[0], 8))], syntax)
    with pytest.raises(UnreadableImageError, match=r"is damaged or cut short \(JPEG Lossless"):
        DicomFile(write(tmp_path / "x.dcm", data)).image(None)


# ---------------------------------------------------------------------------------------------------- deep JPEG


def smooth(bits: int) -> np.ndarray:
    y, x = np.mgrid[:48, :64]
    return np.rint((0.5 + 0.45 * np.sin(x / 9) * np.cos(y / 7)) * (2**bits - 1)).astype(np.uint16)


def test_extended_jpeg_of_twelve_bits(tmp_path: Path) -> None:
    values = smooth(12)
    stream = imagecodecs.jpeg8_encode(values, level=99, bitspersample=12)
    assert code_stream(stream) == CodeStream(48, 64, 1, 12, 0xC1, False, b"\1")
    data = encapsulated(dataset(values[None], BitsStored=12, HighBit=11), [stream], JPEGExtended12Bit)
    assert np.array_equal(stored(tmp_path / "x.dcm", data), imagecodecs.jpeg8_decode(stream))
    grey = DicomFile(tmp_path / "x.dcm").image(None).grey
    assert abs(grey - values * (255 / 4095)).max() < 1


def test_extended_jpeg_of_eight_bits_is_decoded_as_baseline_is(tmp_path: Path) -> None:
    stream = jpeg((smooth(8)).astype(np.uint8))
    data = dataset(smooth(8).astype(np.uint8)[None])
    baseline = stored(tmp_path / "b.dcm", encapsulated(data, [stream], JPEGBaseline8Bit))
    assert np.array_equal(stored(tmp_path / "x.dcm", encapsulated(data, [stream], JPEGExtended12Bit)), baseline)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
def test_jpeg_2000_colours_of_more_than_8_bits(tmp_path: Path, bits: int, mixed: bool) -> None:
    values = noise(bits, 3)
    stream = imagecodecs.jpeg2k_encode(
        values, level=0, codecformat="j2k", reversible=True, mct=mixed, bitspersample=bits, resolutions=2
    )
    data = dataset(values[None], "YBR_RCT" if mixed else "RGB", BitsStored=bits, HighBit=bits - 1)
    assert np.array_equal(stored(tmp_path / "x.dcm", encapsulated(data, [stream], JPEG2000Lossless)), values)


def test_high_throughput_jpeg_2000(tmp_path: Path) -> None:
    values = noise(8, 1)
    data = encapsulated(dataset(values[None]), [imagecodecs.htj2k_encode(values, reversible=True)], HTJ2KLossless)
    assert np.array_equal(stored(tmp_path / "x.dcm", data), values)


# ---------------------------------------------------------------------------------------------------- decoders


@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEGBaseline8Bit], ids=lambda uid: uid.keyword)
def test_other_plugins_move_no_value(tmp_path: Path, syntax: UID, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.dcm", coded(dataset(FRAMES[:1]), syntax))
    before = DicomFile(path).image(None).grey
    decoder = get_decoder(syntax)
    wrong = {"gdcm": lambda source, runner: bytes(21 * 31)}
    monkeypatch.setattr(decoder, "_available", wrong | decoder._available)
    assert np.array_equal(DicomFile(path).image(None).grey, before) and before.any()


def altered(stream: bytes, old: bytes, new: bytes) -> bytes:
    assert stream.count(old) >= 1
    return stream.replace(old, new, 1)


GREY_STREAM, COLOUR_STREAM = lossless_jpeg(FRAMES[0], 8), lossless_jpeg(COLOURS, 8)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (lossless_jpeg(FRAMES[0][:10], 8), "is 31 × 10 where the header gives 31 × 21"),
        (lossless_jpeg(FRAMES[0], 12), "has values of 12 bits where the header allocates 8"),
        (COLOUR_STREAM, "has 3 components where the header gives 1"),
        (jpeg(FRAMES[0]), "is not lossless JPEG; its transfer syntax is JPEG Lossless"),
        (altered(GREY_STREAM, b"\0\x15\0\x1f", b"\xff\xff\xff\xff"), "is 65535 × 65535 where"),
    ],
)
def test_a_code_stream_must_agree_with_its_header(
    tmp_path: Path, stream: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(imagecodecs, "jpeg8_decode", lambda *args, **options: calls.append(args))
    file = DicomFile(write(tmp_path / "x.dcm", encapsulated(dataset(FRAMES[:1]), [stream], JPEGLosslessSV1)))
    with pytest.raises(UnreadableImageError, match=message) as error:
        file.image(None)
    assert "damaged" not in str(error.value) and not calls


def subsampled() -> Dataset:
    stream = altered(COLOUR_STREAM, b"\1\x11\0\2\x11\0", b"\1\x22\0\2\x11\0")
    return encapsulated(dataset(COLOURS[None], "YBR_FULL"), [stream], JPEGLossless)


def mislabelled() -> Dataset:
    return encapsulated(dataset(FRAMES[:1]), [GREY_STREAM], JPEGBaseline8Bit)


def deep_baseline() -> Dataset:
    stream = imagecodecs.jpeg8_encode(smooth(12), bitspersample=12)
    return encapsulated(dataset(smooth(12)[None], BitsStored=12, HighBit=11), [stream], JPEGBaseline8Bit)


def too_deep() -> Dataset:
    stream = imagecodecs.jpeg8_encode(smooth(12), bitspersample=12)
    return encapsulated(dataset(smooth(12)[None], BitsStored=10, HighBit=9), [stream], JPEGExtended12Bit)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (subsampled, "is lossless JPEG with components of different sizes"),
        (mislabelled, "is lossless JPEG; its transfer syntax is JPEG Baseline"),
        (deep_baseline, "has values of 12 bits, which its transfer syntax, JPEG Baseline, cannot have"),
        (too_deep, "has values of 12 bits where the header states 10"),
    ],
)
def test_other_code_streams_that_are_not_read(tmp_path: Path, made: Callable[[], Dataset], message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        DicomFile(write(tmp_path / "x.dcm", made())).image(None)


def test_headers_of_code_streams() -> None:
    assert code_stream(jpeg(FRAMES[0])) == CodeStream(21, 31, 1, 8, 0xC0, False, b"\1")
    assert code_stream(lossless_jpeg(COLOURS, 8)) == CodeStream(21, 31, 3, 8, 0xC3, False, b"\1\2\3")
    assert code_stream(code_streams(JPEGLSLossless)[0]) == CodeStream(21, 31, 1, 8, 0xF7, False, b"\1")
    assert code_stream(code_streams(JPEG2000Lossless)[0]) == CodeStream(21, 31, 1, 8, 0, False, b"")
    assert code_stream(b"") is code_stream(b"\xff\xd8\xff") is code_stream(b"nothing") is None
    assert all(code_stream(jpeg(FRAMES[0])[:length]) is None for length in range(100))

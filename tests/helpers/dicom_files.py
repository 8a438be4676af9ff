"""DICOM files made for tests, in every transfer syntax that is read."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (*NATIVE, RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless)


def dataset(frames: np.ndarray, photometric: str = "MONOCHROME2", **tags: Any) -> Dataset:
    """Return a data set of uint8 or uint16 ``[F, H, W]`` or ``[F, H, W, 3]``, uncompressed; `tags` by keyword."""
    samples = frames.shape[3] if frames.ndim == 4 else 1
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = UltrasoundImageStorage if len(frames) == 1 else UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "US"
    data.Rows, data.Columns, data.SamplesPerPixel = frames.shape[1], frames.shape[2], samples
    data.PhotometricInterpretation = photometric
    data.BitsAllocated = data.BitsStored = 8 * frames.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(frames.dtype.kind == "i")
    if samples == 3:
        data.PlanarConfiguration = 0
    if len(frames) > 1:
        data.NumberOfFrames = len(frames)
    body = frames.astype(frames.dtype.newbyteorder("<")).tobytes()
    data.PixelData = body + b"\0" * (len(body) % 2)
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def encapsulated(
    data: Dataset, frames: Sequence[bytes], syntax: UID, table: str = "basic", fragments: int = 1
) -> Dataset:
    """Put coded frames into `data`, with a "basic", "extended" or "empty" table of offsets, each in some fragments."""
    if table == "extended":
        data.PixelData, data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths = encapsulate_extended(list(frames))
    else:
        data.PixelData = encapsulate(list(frames), fragments_per_frame=fragments, has_bot=table == "basic")
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    return data


def coded(data: Dataset, syntax: UID) -> Dataset:
    """Return `data` in the transfer syntax `syntax`; JPEG baseline is the only one that loses anything."""
    if syntax in (RLELossless, JPEGLSLossless):
        data.compress(syntax, generate_instance_uid=False)
        return data
    if syntax == JPEG2000Lossless:
        frames = [_jpeg2000(frame) for frame in _arrays(data)]
        if data.SamplesPerPixel == 3:
            data.PhotometricInterpretation = "YBR_RCT"
        return encapsulated(data, frames, syntax)
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        predictor = 1 if syntax == JPEGLosslessSV1 else 7
        frames = [lossless_jpeg(frame, data.BitsStored, predictor) for frame in _arrays(data)]
        return encapsulated(data, frames, syntax)
    if syntax == JPEGBaseline8Bit:
        frames = [jpeg(frame) for frame in _arrays(data)]
        if data.SamplesPerPixel == 3:
            data.PhotometricInterpretation = "YBR_FULL_422"
        return encapsulated(data, frames, syntax)
    if syntax == ExplicitVRBigEndian and data.BitsAllocated == 16:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    return data


def jpeg(frame: np.ndarray) -> bytes:
    """Return `frame` as a JPEG file of high quality."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95)
    return file.getvalue()


def lossless_jpeg(
    frame: np.ndarray,
    precision: int,
    predictor: int = 1,
    shift: int = 0,
    restart_rows: int = 0,
    ids: Sequence[int] = (1, 2, 3),
    interleaved: bool = True,
) -> bytes:
    """Return `frame` ``[H, W]`` or ``[H, W, 3]`` as a lossless JPEG code stream, ITU-T T.81 annex H.

    Args:
        frame: values of 0 to 2 ** precision - 1.
        precision: 2 to 16 bits.
        predictor: 1 to 7.
        shift: the point transform: lower bits that are left out.
        restart_rows: rows after which prediction starts anew; 0 for never.
        ids: of the components.
        interleaved: one scan for all components, not one each.
    """
    samples = frame.reshape(*frame.shape[:2], -1).astype(np.int64) >> shift
    height, width, count = samples.shape
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    parts = b"".join(bytes((ids[i], 0x11, 0)) for i in range(count))
    out = b"\xff\xd8" + _segment(0xC3, bytes((precision,)) + size + bytes((count,)) + parts)
    # One Huffman table: 15 codes of four bits for differences of 0 to 14 bits, two of six for those of 15 and 16.
    out += _segment(0xC4, bytes((0, 0, 0, 0, 15, 0, 2, *[0] * 10, *range(17))))
    if restart_rows:
        out += _segment(0xDD, (restart_rows * width).to_bytes(2, "big"))
    for scan in [list(range(count))] if interleaved else [[i] for i in range(count)]:
        tables = b"".join(bytes((ids[i], 0)) for i in scan)
        out += _segment(0xDA, bytes((len(scan),)) + tables + bytes((predictor, 0, shift)))
        step = restart_rows or height
        for number, top in enumerate(range(0, height, step)):
            out += bytes((0xFF, 0xD0 + (number - 1) % 8)) if number else b""
            out += _huffman(_differences(samples[top : top + step], predictor, precision - shift)[:, :, scan])
    return out + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _differences(samples: np.ndarray, predictor: int, precision: int) -> np.ndarray:
    a, b = np.roll(samples, 1, axis=1), np.roll(samples, 1, axis=0)  # left and above
    c = np.roll(b, 1, axis=1)
    predictions = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)
    predicted = predictions[predictor - 1].copy()
    predicted[:, 0], predicted[0] = b[:, 0], a[0]
    predicted[0, 0] = 1 << (precision - 1)
    differences = (samples - predicted) & 0xFFFF
    return np.where(differences > 32768, differences - 65536, differences)


def _huffman(differences: np.ndarray) -> bytes:
    bits = []
    for value in differences.reshape(-1).tolist():
        size = 16 if value == 32768 else abs(value).bit_length()
        bits.append(f"{size:04b}" if size < 15 else f"{60 + size - 15:06b}")
        if 0 < size < 16:
            bits.append(f"{value if value > 0 else value + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")


def _jpeg2000(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    # Two resolutions, for the frames of tests are smaller than the usual six want; components mixed if there are three.
    options = {"irreversible": False, "no_jp2": True, "num_resolutions": 2, "mct": int(frame.ndim == 3)}
    Image.fromarray(frame).save(file, "JPEG2000", **options)
    return file.getvalue()


def _arrays(data: Dataset) -> np.ndarray:
    array = data.pixel_array
    return array if int(data.get("NumberOfFrames", 1)) > 1 else array[None]


def write(path: Path, data: Dataset) -> Path:
    """Write `data` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    syntax = data.file_meta.TransferSyntaxUID
    data.save_as(
        path, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian, enforce_file_format=True
    )
    return path


def write_unmarked(path: Path, data: Dataset, kind: str) -> Path:
    """Write `data` to `path` as a file that lacks what a DICOM file begins with.

    Args:
        path: the file.
        data: uncompressed.
        kind: "implicit" or "explicit": the data set alone; "meta" or "mark": with its file meta information, or with
            that and DICM before it; "preamble" or "no mark": after 128 bytes, or after 128 bytes and four that are not
            DICM; "no syntax": all but the transfer syntax.
    """
    whole = write(path, coded(data, ImplicitVRLittleEndian if kind == "implicit" else ExplicitVRLittleEndian))
    content = whole.read_bytes()
    body = content[144 + int.from_bytes(content[140:144], "little") :]  # the group of meta information gives its length
    syntax = b"\2\0\x10\0UI\x14\0" + ExplicitVRLittleEndian.encode() + b"\0"
    unmarked = {
        "meta": content[132:],
        "mark": content[128:],
        "preamble": bytes(128) + body,
        "no mark": bytes(132) + body,
        "no syntax": content.replace(syntax, b"\2\0\x16\0AE\x14\0" + b"SOMEWHERE".ljust(20)),
    }
    assert (body[:2] == b"\x08\0" and syntax in content) or kind == "implicit"
    path.write_bytes(unmarked.get(kind, body))
    return path


def region(left: int, top: int, right: int, bottom: int, delta: float | None = None, **tags: Any) -> Dataset:
    """Return one ultrasound region of two-dimensional tissue; `delta` in centimetres a pixel."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3 if delta else 0
    if delta:
        item.PhysicalDeltaX, item.PhysicalDeltaY = delta, 2 * delta
    for name, value in tags.items():
        setattr(item, name, value)
    return item

"""DICOM files made for tests, in every transfer syntax that is read."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
LOSSLESS = (*NATIVE, RLELossless, JPEGLSLossless, JPEG2000Lossless)


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


def encapsulated(data: Dataset, frames: Sequence[bytes], syntax: UID) -> Dataset:
    """Put coded frames into `data`."""
    data.PixelData = encapsulate(list(frames))
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

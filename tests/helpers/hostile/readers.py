"""Files of formats with readers of their own: DICOM, arrays and clips.

Which line a reader says is its own affair, so these cases ask only that there is one, that it names the file, and that
nothing hangs or is left behind.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hostile.case import Case, encoded, put, sound

# ---------------------------------------------------------------------------------------------------- DICOM


def dicom(**changes: Any) -> bytes:
    """Return an ultrasound picture of 24 by 20 as a DICOM file; a change to None removes an element."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = changes.pop("syntax", ExplicitVRLittleEndian)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.Modality, data.PatientID = "US", "P1"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 20, 24, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = np.random.default_rng(0).integers(0, 256, 20 * 24, dtype=np.uint8).tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def jpeg_dicom(picture: bytes, **changes: Any) -> bytes:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    return dicom(syntax=JPEGBaseline8Bit, PixelData=encapsulate([picture]), **changes)


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


_DICOM: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("no bytes at all", lambda: b""),
    "text": ("a text file", lambda: b"this is text\n"),
    "preamble": ("a preamble alone", lambda: bytes(128) + b"DICM"),
    "preamble-half": ("half a preamble", lambda: bytes(64)),
    "header-half": ("cut in its header", lambda: dicom()[:200]),
    "pixels-half": ("cut in its pixels", lambda: dicom()[:-240]),
    "pixels-none": ("no pixels", lambda: dicom(PixelData=None)),
    "pixels-empty": ("pixels of no bytes", lambda: dicom(PixelData=b"")),
    "rows-none": ("no number of rows", lambda: dicom(Rows=None)),
    "rows-zero": ("no rows", lambda: dicom(Rows=0)),
    "bomb": ("65,535 by 65,535 in 480 bytes", lambda: dicom(Rows=65_535, Columns=65_535)),
    "frames-bomb": ("two billion frames in 480 bytes", lambda: dicom(NumberOfFrames=2**31 - 1)),
    "frames-zero": ("no frames", lambda: dicom(NumberOfFrames=0)),
    "bits": ("13 bits per pixel", lambda: dicom(BitsAllocated=13)),
    "meaning": ("pixels of unknown meaning", lambda: dicom(PhotometricInterpretation="NONSENSE")),
    "samples": ("7 samples a pixel", lambda: dicom(SamplesPerPixel=7)),
    "flip-meta": ("a byte of its header changed", lambda: _flipped(dicom(), 140)),
    "flip-tag": ("a byte of a tag changed", lambda: _flipped(dicom(), 330)),
    "jpeg-half": ("JPEG pixels cut in the middle", lambda: jpeg_dicom(encoded(format="JPEG")[:300])),
    "jpeg-other-size": ("JPEG pixels of another size", lambda: jpeg_dicom(encoded(format="JPEG", size=(64, 64)))),
    "jpeg-text": ("text for JPEG pixels", lambda: jpeg_dicom(b"this is text")),
    "syntax-unknown": (
        "packed in an unknown way",
        lambda: dicom().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.9.9.9\0"),
    ),
    "png": ("a PNG named .dcm", encoded),
    "not-ultrasound": ("a report, not an image", lambda: dicom(Modality="SR", PixelData=None, Rows=None)),
    "escape-patient": ("terminal codes in the patient's number", lambda: dicom(PatientID="\x1b[31m\nP")),
}


def _dicom_case(name: str, what: str, content: Callable[[], bytes]) -> Case:
    def build(folder: Path) -> None:
        for seed, place in enumerate(("a/1.dcm", "a/2.dcm", "b/1.dcm", "b/2.dcm")):
            put(folder / place, dicom(SOPInstanceUID=f"1.2.3.{seed}", PatientID=f"P{seed}"))
        put(folder / "a" / "bad.dcm", content())

    return Case(f"dicom-{name}", f"DICOM: {what}", build, r"bad\.dcm", skipped=1, either=True)


# ---------------------------------------------------------------------------------------------------- MedMNIST files


def arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([[0], [1]] * 3, dtype=np.uint8)
    whole = {
        f"{part}_{kind}": array
        for part in ("train", "val", "test")
        for kind, array in (("images", noise), ("labels", labels))
    }
    return {name: array for name, array in (whole | changes).items() if array is not None}


def npz(**changes: np.ndarray | None) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(**changes), allow_pickle=True)  # type: ignore[arg-type]
    return buffer.getvalue()


def npz_of(members: dict[str, bytes]) -> bytes:
    """Return a sound file in which the members named are others."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as whole, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in whole.namelist():
            archive.writestr(name, members.get(name, whole.read(name)))
    return buffer.getvalue()


def npy(shape: tuple[int, ...], content: bytes = b"", kind: str = "|u1") -> bytes:
    """Return an array file whose header says `shape`, whatever follows."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


class _Runs:
    """What a pickle can do: unpacking it makes a file beside."""

    def __reduce__(self) -> Any:
        return open, ("unpickled", "w")


IMAGES = "train_images.npy"
_NPZ: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("no bytes at all", lambda: b""),
    "text": ("a text file", lambda: b"this is text\n"),
    "half": ("cut in the middle", lambda: npz()[: len(npz()) // 2]),
    "flip": ("a byte of its pixels changed", lambda: _flipped(npz(), 2000)),
    "objects": ("objects, whose reading runs code", lambda: npz(train_images=np.array([_Runs()] * 6, dtype=object))),
    "other-names": ("arrays of other names", lambda: npz(train_images=None, val_images=None, test_images=None)),
    "no-labels": ("no labels", lambda: npz(train_labels=None)),
    "shape-flat": ("flat images", lambda: npz(train_images=np.zeros((6, 784), np.uint8))),
    "shape-none": ("no images", lambda: npz(train_images=np.zeros((0, 28, 28), np.uint8))),
    "shape-other": ("fewer labels than images", lambda: npz(train_labels=np.zeros((5, 1), np.uint8))),
    "floats": ("floating point of unknown range", lambda: npz(train_images=np.full((6, 28, 28), np.nan))),
    "words": ("words for labels", lambda: npz(train_labels=np.array([["x"]] * 6))),
    "many-labels": ("several labels per image", lambda: npz(train_labels=np.ones((6, 14), np.uint8))),
    "terabytes": ("a header that promises terabytes", lambda: npz_of({IMAGES: npy((10**8, 224, 224))})),
    "negative": ("a shape below zero", lambda: npz_of({IMAGES: npy((-6, 28, 28))})),
    "header": ("a header that is no table", lambda: npz_of({IMAGES: b"\x93NUMPY\x01\x00\x04\x00(((\n"})),
    "bomb": (
        "half a gigabyte of zeros in half a megabyte",
        lambda: npz_of({IMAGES: npy((10_000, 224, 224), bytes(501_760_000))}),
    ),
    "png": ("a PNG named .npz", encoded),
}


def _npz_case(name: str, what: str, content: Callable[[], bytes]) -> Case:
    def build(folder: Path) -> Path:
        return put(folder / "bad.npz", content())

    return Case(f"npz-{name}", f"MedMNIST: {what}", build, r"bad\.npz", either=True)


# ---------------------------------------------------------------------------------------------------- clips


def clip(frames: int = 3, format: str = "mp4") -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(frames):
            noise = np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        container.mux(stream.encode())
    return buffer.getvalue()


_CLIPS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "empty": ("no bytes at all", ".mp4", lambda: b""),
    "text": ("a text file", ".avi", lambda: b"this is text\n"),
    "mp4-half": ("MP4 cut in the middle", ".mp4", lambda: clip()[: len(clip()) // 2]),
    "mp4-flip": ("MP4 with a byte of its frames changed", ".mp4", lambda: _flipped(clip(), 200)),
    "avi-half": ("AVI cut in the middle", ".avi", lambda: clip(format="avi")[: len(clip(format="avi")) // 2]),
    "avi-header": ("AVI of a header alone", ".avi", lambda: clip(format="avi")[:300]),
    "no-frames": ("no frames", ".avi", lambda: clip(0, "avi")),
    "other-suffix": ("AVI named .mp4", ".mp4", lambda: clip(format="avi")),
    "png": ("a PNG named .mp4", ".mp4", encoded),
    "playlist": ("a list of files to play", ".mp4", lambda: b"ffconcat version 1.0\nfile /etc/passwd\n"),
}


def _clip_case(name: str, what: str, suffix: str, content: Callable[[], bytes]) -> Case:
    def build(folder: Path) -> None:
        sound(folder)
        put(folder / "a" / f"bad{suffix}", content())

    return Case(f"clip-{name}", f"clip: {what}", build, rf"bad\{suffix}", skipped=1, either=True)


CASES = [
    *(_dicom_case(name, *rest) for name, rest in _DICOM.items()),
    *(_npz_case(name, *rest) for name, rest in _NPZ.items()),
    *(_clip_case(name, *rest) for name, rest in _CLIPS.items()),
]

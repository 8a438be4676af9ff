"""Synthetic images as DICOM: Ultrasound Image Storage, and clips as Ultrasound Multi-frame Image Storage.

Each image is of a made-up patient of its own, ``SYNTHETIC-...``. Every identifier is derived from the release, so the
same release has the same files. What marks them as synthetic: Synthetic Data (0008,001C), Image Type DERIVED, the
Contributing Equipment Sequence with "Synthesizing Equipment" (DICOM PS3.16, CID 7005), Quality Control Subject
(0010,0200) and Content Qualification (0018,9004). No Region Sequence and no pixel spacing is written, since neither is
known of a generated image.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage

from sonosynth.core.types import Array
from sonosynth.data.imageset import SYNTHETIC_NOTICE
from sonosynth.data.readers.dicom.header import SYNTHETIC_DATA

FRAME_TIME_MS = 50.0  # of clips; the path through the latents has no time of its own
_FRAME_TIME = 0x00181063


@dataclass(frozen=True)
class Identity:
    """What UIDs and patient IDs are made of."""

    sha256: str  # of weights, seed and number of images
    weights: str  # SHA-256 of the weights
    version: str  # of sonosynth

    @property
    def root(self) -> str:
        """The root of all UIDs of a release: 2.25 and a UUID's worth of bits of the hash (PS3.5, B.2)."""
        return f"2.25.{int(self.sha256[:32], 16)}"

    def uid(self, kind: int, number: int) -> str:
        """Return the UID of study (1), series (2) or instance (3) `number`."""
        return f"{self.root}.{kind}.{number}"

    def patient(self, number: int) -> str:
        """Return the ID of the made-up patient `number`."""
        return f"SYNTHETIC-{self.sha256[:12].upper()}-{number:06d}"


def image_file(image: Array, class_name: str, number: int, identity: Identity) -> bytes:
    """Return uint8 `image` ``[H, W]`` as a DICOM file; `number` counts the files of a release from 1."""
    data = _common(image, class_name, number, identity)
    data.SOPClassUID = UltrasoundImageStorage
    return _encoded(data)


def clip_file(frames: Array, class_name: str, number: int, identity: Identity) -> bytes:
    """Return uint8 `frames` ``[T, H, W]`` as a multi-frame DICOM file."""
    data = _common(frames[0], class_name, number, identity)
    data.SOPClassUID = UltrasoundMultiFrameImageStorage
    data.DerivationDescription += "; a closed path through the latents of four images, no motion of tissue"
    data.NumberOfFrames = len(frames)
    data.FrameIncrementPointer = _FRAME_TIME
    data.FrameTime = f"{FRAME_TIME_MS:g}"
    _set_pixels(data, frames)
    return _encoded(data)


def _common(image: Array, class_name: str, number: int, identity: Identity) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.ImageType = ["DERIVED", "SECONDARY"]
    data.add_new(SYNTHETIC_DATA, "CS", "YES")
    data.SOPInstanceUID = identity.uid(3, number)
    for name in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"):
        setattr(data, name, "")
    data.StudyID = "SYNTHETIC"
    data.Modality = "US"
    data.Manufacturer = data.ManufacturerModelName = "sonosynth"
    data.SoftwareVersions = identity.version
    data.SeriesDescription = f"Synthetic: {class_name}"[:64].replace("\\", "/")
    data.DerivationDescription = f"{SYNTHETIC_NOTICE}; weights SHA-256 {identity.weights}"
    data.PatientID = identity.patient(number)
    data.PatientName = f"SYNTHETIC^{number:06d}"
    data.PatientBirthDate = data.PatientSex = ""
    data.QualityControlSubject = "YES"
    data.ContributingEquipmentSequence = [_synthesizer(identity)]
    data.ContentQualification = "RESEARCH"
    data.StudyInstanceUID, data.SeriesInstanceUID = identity.uid(1, number), identity.uid(2, number)
    data.SeriesNumber = data.InstanceNumber = "1"
    data.PatientOrientation = data.Laterality = ""
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = image.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.LossyImageCompression = "00"
    _set_pixels(data, image)
    return data


def _synthesizer(identity: Identity) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109100", "DCM"
    purpose.CodeMeaning = "Synthesizing Equipment"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer = equipment.ManufacturerModelName = "sonosynth"
    equipment.SoftwareVersions = identity.version
    equipment.ContributionDescription = f"generator weights, SHA-256 {identity.weights}"
    return equipment


def _set_pixels(data: Dataset, pixels: Array) -> None:
    content = pixels.tobytes()
    data.add_new(0x7FE00010, "OB", content + b"\x00" * (len(content) % 2))


def _encoded(data: Dataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def frames_of(data: Dataset) -> Iterator[bytes]:
    """Yield the pixels of each frame of a file that this module wrote, row by row."""
    size = int(data.Rows) * int(data.Columns)
    for frame in range(int(data.get("NumberOfFrames", 1))):
        yield data.PixelData[frame * size : (frame + 1) * size]

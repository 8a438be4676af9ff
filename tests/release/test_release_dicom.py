"""DICOM files of a release, by four readers and a validator."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from sonosynth.data.scan import read_source, scan
from sonosynth.release.dicom import Identity, clip_file, image_file

pytestmark = pytest.mark.long
ODD = np.arange(33 * 35, dtype=np.uint64).reshape(33, 35).astype(np.uint8)  # an odd number of pixels
IDENTITY = Identity("ab" * 32, "cd" * 32, "1.0")
# Of its release of 2022, which does not know Synthetic Data (0008,001C) of the standard of 2023.
UNKNOWN_THERE = "not a recognized standard attribute - (0x0008,0x001c)"


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install dicom3tools dcmtk libgdcm-tools")


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["image", "clip"])
def file(request, tmp_path) -> tuple[Path, np.ndarray]:
    path = tmp_path / "file.dcm"
    if request.param == "image":
        path.write_bytes(image_file(ODD, "benign", 1, IDENTITY))
        return path, ODD[None]
    frames = np.stack([ODD, 255 - ODD, ODD // 2])
    path.write_bytes(clip_file(frames, "benign", 2, IDENTITY))
    return path, frames


def test_the_validator_finds_no_error(file):
    need("dciodvfy")
    done = subprocess.run(["dciodvfy", file[0]], capture_output=True, text=True, check=False)
    told = (done.stdout + done.stderr).splitlines()
    assert any(line in ("USImage", "USMultiFrameImage") for line in told)
    assert [line for line in told if line.startswith("Error") and UNKNOWN_THERE not in line] == []


def test_all_files_of_a_release_are_valid_and_have_uids_of_their_own(made):
    files = sorted((made.folder / "dicom").rglob("*.dcm"))
    assert len(files) == 26
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    for name in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
        assert len({header[name].value for header in headers}) == 26
    assert len({header.SOPInstanceUID.rsplit(".", 2)[0] for header in headers}) == 1
    need("dciodvfy")
    for path in files:
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False).stderr.splitlines()
        assert [line for line in told if line.startswith("Error") and UNKNOWN_THERE not in line] == []


def test_pydicom_reads_the_pixels_and_the_marks(file):
    data = pydicom.dcmread(file[0])
    assert np.array_equal(data.pixel_array.reshape(file[1].shape), file[1])
    assert data[0x0008001C].value == data.QualityControlSubject == "YES" and data.ContentQualification == "RESEARCH"
    assert list(data.ImageType) == ["DERIVED", "SECONDARY"] and data.PhotometricInterpretation == "MONOCHROME2"
    equipment = data.ContributingEquipmentSequence[0]
    purpose = equipment.PurposeOfReferenceCodeSequence[0]
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
    assert equipment.SoftwareVersions == "1.0" and "cd" * 32 in equipment.ContributionDescription
    assert data.PatientID.startswith("SYNTHETIC-") and "SequenceOfUltrasoundRegions" not in data
    assert len(data.SOPInstanceUID) <= 64 and data.SOPInstanceUID.startswith("2.25.")


def test_dcmtk_reads_the_same_pixels(file, tmp_path):
    need("dcmj2pnm")
    assert "(0010,0020) LO [SYNTHETIC-" in run("dcmdump", file[0])
    for number, frame in enumerate(file[1], start=1):
        run("dcmj2pnm", "--frame", number, "--write-raw-pnm", "--set-window", 128, 256, file[0], tmp_path / "frame.pgm")
        assert np.array_equal(np.asarray(Image.open(tmp_path / "frame.pgm")), frame)


def test_gdcm_reads_the_same_pixels(file, tmp_path):
    need("gdcmraw")
    run("gdcmraw", "-i", file[0], "-o", tmp_path / "pixels")
    assert (tmp_path / "pixels").read_bytes()[: file[1].size] == file[1].tobytes()
    run("gdcmconv", "--raw", file[0], tmp_path / "again.dcm")
    assert np.array_equal(pydicom.dcmread(tmp_path / "again.dcm").pixel_array.reshape(file[1].shape), file[1])


def test_the_reader_of_sources_takes_the_files_for_synthetic(made, tmp_path):
    for name in ("dark", "light"):
        shutil.copytree(made.folder / "dicom" / name, tmp_path / "source" / name)
    assert read_source(tmp_path / "source").synthetic
    assert scan(tmp_path / "source").summary()["synthetic"]

"""Every way in which a release can be spoiled is told."""

import hashlib
import json
import shutil

import pydicom
import pytest
from PIL import Image
from typer.testing import CliRunner

from sonosynth.cli.main import app
from sonosynth.core.errors import ReleaseError
from sonosynth.release.release import write_sums
from sonosynth.release.verify import verify

pytestmark = pytest.mark.long
IMAGE = "dark/synthetic-000000.png"


def unmarked(folder):
    with Image.open(folder / IMAGE) as picture:
        pixels = picture.copy()
    pixels.info.clear()
    pixels.save(folder / IMAGE)


def of_a_patient(folder):
    path = folder / "dicom" / IMAGE.replace(".png", ".dcm")
    data = pydicom.dcmread(path)
    data.PatientID, data[0x0008001C].value = "12345", "NO"
    data.save_as(path)


def other_pixels(folder):
    path = folder / "dicom" / IMAGE.replace(".png", ".dcm")
    data = pydicom.dcmread(path)
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(path)


def one_line_less(folder):
    path = folder / "manifest.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def refused_by_the_gate(folder):
    path = folder / "release.json"
    record = json.loads(path.read_text())
    record["privacy"]["checks"][0]["state"] = "failed"
    path.write_text(json.dumps(record))


def other_weights(folder):
    with (folder / "generator.safetensors").open("ab") as file:
        file.write(b"0")


SPOILED = {
    "changed": (lambda folder: (folder / IMAGE).write_bytes(b"no"), False, f"{IMAGE}: changed"),
    "missing": (lambda folder: (folder / IMAGE).unlink(), False, f"{IMAGE}: missing"),
    "added": (lambda folder: (folder / "dark" / "real.png").touch(), False, "dark/real.png: not in SHA256SUMS"),
    "no list": (lambda folder: (folder / "SHA256SUMS").write_text(""), False, "SHA256SUMS is empty"),
    "outside": (
        lambda folder: (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../x\n"),
        False,
        "line 1: not a checksum",
    ),
    # What was spoiled before the list was made anew shows by the content.
    "unmarked": (unmarked, True, f"{IMAGE}: not marked as synthetic in its text"),
    "no XMP": (unmarked, True, f"{IMAGE}: no digital source type"),
    "of a patient": (of_a_patient, True, "dicom/dark/synthetic-000000.dcm: not marked as synthetic"),
    "other pixels": (other_pixels, True, f"other pixels than {IMAGE}"),
    "count": (one_line_less, True, "manifest.csv: 23 images"),
    "gate": (refused_by_the_gate, True, "the privacy gate refuses these images"),
    "weights": (other_weights, True, "not the weights that release.json names"),
    "card": (lambda folder: (folder / "README.md").write_text("hello"), True, "README.md: no card"),
    "no card": (lambda folder: (folder / "README.md").unlink(), True, "README.md: not in SHA256SUMS"),
    "picture": (lambda folder: (folder / "pictures" / "samples.png").unlink(), True, "leads to pictures/samples.png"),
    "no DICOM": (lambda folder: shutil.rmtree(folder / "dicom"), True, "dicom: 0 files, and release.json says 26"),
    "record": (lambda folder: (folder / "release.json").write_text("{}"), True, "release.json: no record"),
    "Croissant": (lambda folder: (folder / "croissant.json").write_text("[]"), True, "croissant.json: no description"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_was_spoiled_is_told(case, copied):
    spoil, listed_anew, said = SPOILED[case]
    spoil(copied)
    if listed_anew:
        write_sums_again(copied)
    assert any(said in problem for problem in verify(copied).problems), verify(copied).problems


def write_sums_again(folder):
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)


def test_a_link_is_no_file_of_a_release(copied, tmp_path):
    (tmp_path / "elsewhere").write_bytes((copied / IMAGE).read_bytes())
    (copied / IMAGE).unlink()
    (copied / IMAGE).symlink_to(tmp_path / "elsewhere")
    assert f"{IMAGE}: a link, which no release has" in verify(copied).problems


def test_the_list_is_what_sha256sum_reads(made):
    for line in (made.folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((made.folder / name).read_bytes()).hexdigest() == digest


def test_the_command_says_what_is_wrong_and_exits_with_2(made, copied, tmp_path):
    whole = CliRunner().invoke(app, ["verify", str(made.folder)])
    assert whole.exit_code == 0 and "as released, marks, counts and cards in order" in whole.stdout
    assert "note: there is no signature" in whole.stderr
    (copied / IMAGE).unlink()
    result = CliRunner().invoke(app, ["verify", str(copied)])
    assert result.exit_code == 2 and f"{IMAGE}: missing" in result.stdout and result.stderr.count("error: ") == 1
    with pytest.raises(ReleaseError, match="is no release"):
        verify(tmp_path / "nothing")

"""Folders and tables of DICOM files: which are read, how they are labelled and grouped, and what is never copied."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ComprehensiveSRStorage, MediaStorageDirectoryStorage, RLELossless
from typer.testing import CliRunner, Result

from dicom_files import coded, dataset, region, write, write_unmarked
from sonosynth.cli.main import app
from sonosynth.core.errors import ManifestError, SourceError, UnreadableImageError
from sonosynth.data.prepare import prepare_images
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.scan import decode_image, read_source, scan
from sonosynth.data.source import ReadOptions, Source


def noise(seed: int, frames: int = 1, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, *size), dtype=np.uint8)


def has_note(source: Source, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in source.notes)


def export(root: Path) -> Source:
    """Write two classes of DICOM files of three patients, one of them seen in both."""
    write(root / "benign" / "a.dcm", dataset(noise(1), PatientID="P-17"))
    write(root / "benign" / "b.dicom", coded(dataset(noise(2, 3), PatientID="P-23"), RLELossless))
    write(root / "benign" / "IM0001", dataset(noise(3), PatientID="P-17 "))
    write(root / "malignant" / "p9" / "study" / "1.2.840.7", dataset(noise(4), PatientID="", StudyInstanceUID="1.2.3"))
    write(root / "malignant" / "p9" / "study" / "1.2.840.8", dataset(noise(5), StudyInstanceUID="1.2.3"))
    write(root / "malignant" / "c.IMA", dataset(noise(6), PatientID="P-23"))
    return read_source(root)


# ---------------------------------------------------------------------------------------------------- class folders


def test_files_frames_and_patients(tmp_path: Path) -> None:
    source = export(tmp_path)
    assert source.kind == "DICOM folder" and source.classes == ("benign", "malignant")
    assert [(item.id, item.group, item.frame) for item in source.items] == [
        ("a", "1", None),
        ("b_f0000", "2", 0),
        ("b_f0001", "2", 1),
        ("b_f0002", "2", 2),
        ("IM0001", "1", None),
        ("c", "2", None),
        ("1.2.840.7", "3", None),
        ("1.2.840.8", "3", None),
    ]
    assert has_note(source, "3 patients (or studies)")
    for item, (seed, frame) in zip(source.items, [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (6, 0)], strict=False):
        frames = 3 if seed == 2 else 1
        assert np.array_equal(decode_image(item).grey, noise(seed, frames)[frame])


def test_prepared_record_leads_back_to_the_stored_pixels(tmp_path: Path) -> None:
    regions = [region(4, 2, 27, 21, 0.015)]
    write(tmp_path / "in" / "a" / "x.dcm", dataset(noise(1, 2), SequenceOfUltrasoundRegions=regions))
    write(tmp_path / "in" / "b" / "y.dcm", dataset(noise(2)))
    data, _ = prepare_images(read_source(tmp_path / "in"), 20, "crop")
    row = {name: column[1] for name, column in data.extra.items()}
    assert (row["original_path"], row["frame"]) == ("a/x.dcm", "1")
    assert [row[f"region_{name}"] for name in ("left", "top", "width", "height")] == ["4", "2", "24", "20"]
    assert (row["spacing_x_mm"], row["spacing_y_mm"]) == ("0.15", "0.3")
    assert (row["original_width"], row["crop_left"], row["crop_width"]) == ("24", "2", "20")
    left = int(row["region_left"]) + int(row["crop_left"])
    assert np.array_equal(data.images[1], noise(1, 2)[1][2:22, left : left + 20])
    assert data.extra["spacing_x_mm"][2] == data.extra["frame"][2] == "" and data.extra["region_width"][2] == "32"
    assert data.groups.tolist() == [0, 0, 1]


def test_each_file_is_read_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a" / "x.dcm", coded(dataset(noise(1, 40)), RLELossless))
    source = read_source(tmp_path)
    reads: list[bool] = []
    original = pydicom.dcmread

    def dcmread(path: Path, stop_before_pixels: bool) -> pydicom.FileDataset:
        reads.append(not stop_before_pixels)
        return original(path, stop_before_pixels=stop_before_pixels)

    monkeypatch.setattr(pydicom, "dcmread", dcmread)
    assert len(scan(source).images) == 40 and reads == [True]
    opened: list[Path] = []
    path_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *args: (opened.append(path), path_open(path, *args))[1])
    before = source_fingerprint(source)
    assert opened == [tmp_path / "a" / "x.dcm"]
    write(tmp_path / "a" / "x.dcm", coded(dataset(noise(2, 40)), RLELossless))
    assert source_fingerprint(source) != before


def test_what_is_no_image_is_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.dcm", dataset(noise(1), BurnedInAnnotation="YES"))
    for name, kind in (("report", ComprehensiveSRStorage), ("DICOMDIR", MediaStorageDirectoryStorage)):
        report = dataset(noise(1))
        del report.PixelData, report.Rows, report.Columns
        report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = kind
        write(tmp_path / "a" / name, report)
    (tmp_path / "a" / "README").write_text("text " * 100)
    source = read_source(tmp_path)
    assert [item.id for item in source.items] == ["x"]
    assert has_note(source, "1 DICOM file without images left out: report")
    assert has_note(source, "DICOMDIR ignored") and has_note(
        source, "1 DICOM file says that identifying text is burned"
    )
    assert has_note(source, "1 file that is not an image left out", "README")
    (tmp_path / "a" / "x.dcm").unlink()
    with pytest.raises(SourceError, match="only other DICOM objects"):
        read_source(tmp_path)


def test_pictures_and_dicom_files_side_by_side(tmp_path: Path) -> None:
    from PIL import Image

    write(tmp_path / "a" / "x.dcm", dataset(noise(1)))
    Image.fromarray(noise(2)[0]).save(tmp_path / "a" / "y.png")
    source = read_source(tmp_path)
    assert source.kind == "image folder" and [item.group for item in source.items] == ["1", None]
    assert scan(source).summary()["modes"] == {"DICOM MONOCHROME2 8-bit": 1, "L": 1}


def test_one_patient_for_all_is_told(tmp_path: Path) -> None:
    for name in ("a/1.dcm", "a/2.dcm", "b/3.dcm"):
        write(tmp_path / name, dataset(noise(1), PatientID="anonymous"))
    assert has_note(read_source(tmp_path), "one and the same patient", "column 'group'")


def test_a_number_of_frames_that_cannot_be(tmp_path: Path) -> None:
    data = coded(dataset(noise(1, 2)), RLELossless)
    data.NumberOfFrames = 2_000_000_000
    write(tmp_path / "a" / "x.dcm", data)
    source = read_source(tmp_path)
    assert len(source.items) == 1
    with pytest.raises(UnreadableImageError, match="gives 2,000,000,000 frames, the pixel data hold 2"):
        scan(source)


# ---------------------------------------------------------------------------------------------------- tables of labels


def flat(root: Path) -> list[str]:
    """Write four files without classes, one in a subfolder; return their UIDs."""
    uids = []
    for i, name in enumerate(["1.dcm", "2.dcm", "sub/3.dcm", "4"]):
        data = dataset(noise(i), PatientID=f"P{i // 2}")
        write(root / name, data)
        uids.append(str(data.SOPInstanceUID))
    return uids


def test_files_without_labels_are_an_error_that_says_how_to_give_them(tmp_path: Path) -> None:
    write(tmp_path / "1.dcm", dataset(noise(1)))
    write(tmp_path / "2", dataset(noise(2)))
    with pytest.raises(SourceError, match=r"2 DICOM files lie .* labels\.csv .*path,label or sop_instance_uid,label"):
        read_source(tmp_path)


@pytest.mark.parametrize("name", ["labels.csv", "manifest.csv"])
def test_labels_by_uid(tmp_path: Path, name: str) -> None:
    uids = flat(tmp_path)
    table = f"sop_instance_uid,label,side\n{uids[2]},m,left\n{uids[0]},b,right\n{uids[1]},m,\n"
    (tmp_path / name).write_text(table)
    source = read_source(tmp_path)
    assert source.kind == "manifest" and source.classes == ("b", "m")
    assert [(item.id, item.label, item.group, item.extra["side"]) for item in source.items] == [
        ("3", "m", "1", "left"),
        ("1", "b", "2", "right"),
        ("2", "m", "2", ""),
    ]
    assert not any(uid in repr(source) for uid in uids)
    assert has_note(source, "1 image file beside the listed ones")


def test_labels_by_path_with_groups_of_their_own(tmp_path: Path) -> None:
    flat(tmp_path)
    rows = "path,label,group,PatientID\n1.dcm,b,2,P0\n2.dcm,m,,P0\nsub/3.dcm,m,,P1\n4,b,1,P1\n"
    (tmp_path / "labels.csv").write_text(rows)
    source = read_source(tmp_path)
    assert [item.group for item in source.items] == ["2", "3", "4", "1"]
    assert "PatientID" not in source.items[0].extra and has_note(source, "who a patient is left out: PatientID")


def test_mistakes_in_labels_by_uid(tmp_path: Path) -> None:
    uids = flat(tmp_path)
    (tmp_path / "labels.csv").write_text(f"sop_instance_uid,label\n{uids[0]},a\n1.2.3.4.5.6,b\n")
    with pytest.raises(ManifestError, match=r"labels\.csv, line 3: no DICOM file in") as error:
        read_source(tmp_path)
    assert "1.2.3.4.5.6" not in str(error.value)
    (tmp_path / "labels.csv").write_text(f"sop_instance_uid,label\n{uids[0]},a\n{uids[0]},b\n")
    with pytest.raises(ManifestError, match=r"line 3: '1\.dcm' is already on line 2"):
        read_source(tmp_path)
    (tmp_path / "copy.dcm").write_bytes((tmp_path / "1.dcm").read_bytes())
    with pytest.raises(ManifestError, match=r"1\.dcm and copy\.dcm have one SOP instance UID"):
        read_source(tmp_path)


def test_a_table_of_labels_beside_pictures_is_not_ours(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "a").mkdir()
    Image.fromarray(noise(2)[0]).save(tmp_path / "a" / "y.png")
    (tmp_path / "labels.csv").write_text("image,diagnosis\n")
    assert read_source(tmp_path).kind == "image folder"


def test_a_listed_file_without_image_is_unreadable(tmp_path: Path) -> None:
    report = dataset(noise(1))
    del report.PixelData, report.Rows, report.Columns
    report.SOPClassUID = ComprehensiveSRStorage
    write(tmp_path / "x.dcm", report)
    (tmp_path / "manifest.csv").write_text("path,label\nx.dcm,a\n")
    with pytest.raises(UnreadableImageError, match="holds no image"):
        scan(read_source(tmp_path))


def test_columns_of_the_user_give_way(tmp_path: Path) -> None:
    write(tmp_path / "x.dcm", dataset(noise(1, 2)))
    (tmp_path / "manifest.csv").write_text("path,label,frame,id\nx.dcm,a,7,scan\n")
    source = read_source(tmp_path)
    assert [(i.id, i.extra["frame"], i.extra["source_frame"]) for i in source.items] == [
        ("scan_f0000", "0", "7"),
        ("scan_f0001", "1", "7"),
    ]
    assert has_note(source, "begin with 'source_': frame")


# ---------------------------------------------------------------------------------------------------- without the mark

KINDS = ("implicit", "explicit", "meta", "mark", "preamble", "no mark")
FORCED = ReadOptions(force_dicom=True)


def told(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("kind", [*KINDS, "no syntax"])
def test_files_without_the_mark_are_read_with_one_option(tmp_path: Path, kind: str) -> None:
    for i, name in enumerate(["a/1.dcm", "a/2.IMA", "b/3.dcm"]):
        write_unmarked(tmp_path / name, dataset(noise(i), PatientID=f"P{i // 2}"), kind)
    source = read_source(tmp_path, FORCED)
    assert source.kind == "DICOM folder" and [item.group for item in source.items] == ["1", "1", "2"]
    for i, item in enumerate(source.items):
        assert np.array_equal(decode_image(item, FORCED).grey, noise(i)[0])
    with pytest.raises(UnreadableImageError, match=r"--force-dicom .*data\.force_dicom: true") as error:
        scan(read_source(tmp_path))
    assert "\n" not in str(error.value) and "a/1.dcm: " in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_files_without_mark_and_suffix_are_images_with_that_option_alone(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "a" / "x.dcm", dataset(noise(0)))
    for i, name in enumerate(["a/IM0001", "a/study/1.2.840.7"], 1):
        write_unmarked(tmp_path / name, dataset(noise(i)), kind)
    (tmp_path / "a" / "README").write_text("text " * 100)
    (tmp_path / "a" / "short").write_bytes(b"\x08")
    (tmp_path / "a" / "zeros").write_bytes(bytes(500))
    assert [item.id for item in read_source(tmp_path).items] == ["x"]
    assert has_note(read_source(tmp_path), "4 files that are not images left out")
    source = read_source(tmp_path, FORCED)
    assert [item.id for item in source.items] == ["IM0001", "x", "1.2.840.7"]
    assert has_note(source, "3 files that are not images left out")
    assert len(scan(source).images) == 3


@pytest.mark.parametrize("content", [b"", b"text " * 100, b"\x08", bytes(500), b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_what_is_no_dicom_file_is_named_with_or_without_the_option(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.dcm").write_bytes(content)
    for force in ([], ["--force-dicom"]):
        result = told("data", "info", tmp_path, *force)
        assert result.exit_code == 2 and "x.dcm: " in result.output and "Traceback" not in result.output
        assert "empty file" in result.output or "not a DICOM file" in " ".join(result.output.split())


def test_a_file_that_only_begins_like_one_is_named(tmp_path: Path) -> None:
    whole = write_unmarked(tmp_path / "a" / "x.dcm", dataset(noise(0)), "explicit").read_bytes()
    for content in (whole[:8] + b"text " * 100, whole[:200], whole[:8]):
        (tmp_path / "a" / "x.dcm").write_bytes(content)
        result = told("data", "info", tmp_path, "--force-dicom")
        assert result.exit_code == 2 and "x.dcm: " in result.output and "Traceback" not in result.output


def test_compressed_pixels_of_unknown_syntax_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "x.dcm", coded(dataset(noise(0)), RLELossless))
    content = path.read_bytes()
    path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])
    with pytest.raises(UnreadableImageError, match="its pixels are compressed, which its transfer syntax does not say"):
        scan(read_source(tmp_path, FORCED))
    path.write_bytes(content[132:])  # with the meta information that names it
    assert np.array_equal(decode_image(read_source(tmp_path, FORCED).items[0], FORCED).grey, noise(0)[0])


@pytest.mark.parametrize("kind", ["implicit", "explicit"])
def test_labels_by_uid_of_files_without_the_mark(tmp_path: Path, kind: str) -> None:
    uids = []
    for i, name in enumerate(["1.dcm", "sub/2", "sub/3.7"]):
        data = dataset(noise(i))
        write_unmarked(tmp_path / name, data, kind)
        uids.append(str(data.SOPInstanceUID))
    rows = "".join(f"{uid},{'ab'[i % 2]},S\n" for i, uid in enumerate(uids))
    (tmp_path / "labels.csv").write_text(f"sop_instance_uid,label,StudyID\n{rows}")
    source = read_source(tmp_path, FORCED)
    assert [(item.id, item.label) for item in source.items] == [("1", "a"), ("2", "b"), ("3.7", "a")]
    assert has_note(source, "may tell who a patient is left out", "StudyID") and len(scan(source).images) == 3
    with pytest.raises(ManifestError, match=r"no DICOM file in .*; 1 of its DICOM files .*1\.dcm: .* --force-dicom"):
        read_source(tmp_path / "labels.csv")


def test_the_option_on_the_command_line(tmp_path: Path) -> None:
    for i, name in enumerate(["a/1.dcm", "b/2.dcm"]):
        write_unmarked(tmp_path / "in" / name, dataset(noise(i)), "implicit")
    for command in (("info",), ("prepare", "--out", tmp_path / "out", "--size", 16)):
        place = (command[0], tmp_path / "in", *command[1:])
        refused = told("data", *place)
        assert refused.exit_code == 2 and "--force-dicom" in " ".join(refused.output.split())
        assert told("data", *place, "--force-dicom").exit_code == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


# ---------------------------------------------------------------------------------------------------- depth


def test_different_depths_are_told(tmp_path: Path) -> None:
    for name, bits in (("a/1.dcm", 12), ("a/2.dcm", 12), ("b/3.dcm", 16)):
        write(tmp_path / name, dataset(noise(1).astype(np.uint16) * 16, BitsStored=bits, HighBit=bits - 1))
    report = scan(read_source(tmp_path))
    assert any("DICOM headers state different depths (12, 16 bits)" in note for note in report.notes())
    assert report.images[0].digest == report.images[1].digest != report.images[2].digest
    (tmp_path / "b" / "3.dcm").unlink()
    assert not has_note(read_source(tmp_path), "different depths")


# ---------------------------------------------------------------------------------------------------- privacy


SECRETS = {
    "PatientName": "Lovelace^Ada",
    "PatientID": "MRN-0815-4711",
    "IssuerOfPatientID": "Saint-Elsewhere",
    "PatientBirthDate": "18151210",
    "OtherPatientIDs": "OTHER-99-42",
    "AccessionNumber": "ACC-31337",
    "StudyDate": "20240229",
    "StudyTime": "235859.123",
    "StudyID": "STUDY-77",
    "InstitutionName": "Hospital-of-Nowhere",
    "ReferringPhysicianName": "Who^Doctor",
    "StudyInstanceUID": "1.2.826.0.1.111.222.333.1",
    "SeriesInstanceUID": "1.2.826.0.1.111.222.333.2",
    "SOPInstanceUID": "1.2.826.0.1.111.222.333.3",
    "DeviceSerialNumber": "SERIAL-123456",
}


def secret(root: Path, name: str, seed: int, **tags: object) -> Path:
    return write(
        root / name, dataset(noise(seed), **{**SECRETS, "SOPInstanceUID": f"1.2.826.0.1.111.222.333.{seed}", **tags})
    )


def assert_nothing_told(text: str) -> None:
    for name, value in SECRETS.items():
        for part in (value, *value.split("^")):
            assert part not in text, name
    assert "1.2.826" not in text


def test_nothing_that_identifies_a_patient_comes_out(tmp_path: Path) -> None:
    secret(tmp_path / "in", "a/x.dcm", 3)
    secret(tmp_path / "in", "b/y.dcm", 4, NumberOfFrames=1, PatientBirthDate="18151210")
    told = CliRunner().invoke(app, ["data", "info", str(tmp_path / "in"), "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["kind"] == "DICOM folder"
    made = CliRunner().invoke(
        app, ["data", "prepare", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--size", "16"]
    )
    assert made.exit_code == 0
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".png", ".csv", ".json"}
    written = "".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in files)
    assert_nothing_told(told.output + made.output + written + repr(read_source(tmp_path / "in")))


@pytest.mark.parametrize(
    ("header", "row"), [("path,label", "x.dcm,a"), ("path,label,group,id,synthetic", "x.dcm,a,1,s,0")]
)
def test_columns_that_may_tell_who_a_patient_is_are_left_out(tmp_path: Path, header: str, row: str) -> None:
    telling = ["AcquisitionDateTime", "Series Time", "study_time", "OperatorsName", "PerformingPhysicianName"]
    telling += ["Patient's Address", "PatientTelephoneNumbers", "InstitutionAddress", "FrameOfReferenceUID"]
    telling += ["DeviceSerialNumber", "IssuerOfPatientID", "patient_id", "Referring Physician", "PatientBirthTime"]
    harmless = ["PatientAge", "patient_sex", "Patient's Size", "PatientWeight", "age", "side", "birads", "Manufacturer"]
    write(tmp_path / "x.dcm", dataset(noise(1)))
    values = ["v"] * len(telling + harmless)
    (tmp_path / "manifest.csv").write_text(f"{','.join([header, *telling, *harmless])}\n{','.join([row, *values])}\n")
    source = read_source(tmp_path)
    assert set(harmless) <= set(source.items[0].extra) and not set(telling) & set(source.items[0].extra)
    assert has_note(source, f"may tell who a patient is left out: {', '.join(telling)}")


def test_damaged_headers_are_not_quoted(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = secret(tmp_path, "a/x.dcm", 3)
    whole = path.read_bytes()
    rows, no_rows = b"\x28\x00\x10\x00US", b"\x28\x00\x09\x00US"
    assert rows in whole
    damages = [
        whole.replace(b"1.2.826.0.1.111.222.333.3", b"1.2.826.0.1.111.222.333.x"),
        whole.replace(b"1.2.840.10008.5.1.4.1.1.6.1", b"1.2.826.0.1.111.222.333.x.y"),
        whole.replace(b"1.2.840.10008.5.1.4.1.1.6.1", b"1.2.826.0.1.111.222.333.x.y").replace(rows, no_rows),
        whole.replace(b"18151210", b"1815121x"),
        whole.replace(b"MONOCHROME2 ", b"MRN-0815    "),
        whole[: whole.index(b"MONOCHROME2")],
        whole[: whole.index(b"Saint")],
        whole[:-30],
    ]
    texts = []
    for content in damages:
        path.write_bytes(content)
        source = read_source(tmp_path)
        texts.append(repr(source))
        try:
            scan(source)
        except UnreadableImageError as error:
            texts.append(str(error))
    assert sum("x.dcm: " in text for text in texts) == 5
    warned = "".join(str(warning.message) for warning in recwarn)
    assert_nothing_told("".join(texts) + warned + "".join(capfd.readouterr()) + caplog.text)

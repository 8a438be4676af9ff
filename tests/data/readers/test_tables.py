"""Tables of others: columns of any name, labels beside pictures, patients, and what is no value."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_files import dataset, write
from mask_files import mask, speckle
from sonosynth.cli.main import app
from sonosynth.core.errors import ManifestError, SourceError
from sonosynth.data.load import load
from sonosynth.data.prepare import prepare_images
from sonosynth.data.scan import read_source
from sonosynth.data.source import ReadOptions, Source


def notes(source: Source) -> str:
    return "\n".join(source.notes)


def listed(folder: Path, text: str, *names: str, table: str = "manifest.csv") -> Path:
    for seed, name in enumerate(names):
        speckle(folder / name, seed)
    (folder / table).write_text(text, encoding="utf-8")
    return folder / table


BUS_BRA = "ID,Case,Histology,Pathology\nbus_01-l,1,IDC,malignant\nbus_01-r,1,IDC,malignant\nbus_02-l,2,FA,benign\n"


def bus_bra(folder: Path) -> Path:
    for name in ("01-l", "01-r", "02-l"):
        mask(folder / "Masks" / f"mask_{name}.png")
    return listed(
        folder, BUS_BRA, *(f"Images/bus_{name}.png" for name in ("01-l", "01-r", "02-l")), table="bus_data.csv"
    )


@pytest.mark.parametrize("given", ["table", "folder"])
def test_a_public_table_of_names_without_folder_and_suffix(tmp_path: Path, given: str) -> None:
    path = bus_bra(tmp_path)
    options = ReadOptions(path="ID", label="Pathology", group="Case")
    source = read_source(path if given == "table" else tmp_path, options)
    assert [(item.id, item.label, item.group) for item in source.items] == [
        ("bus_01-l", "malignant", "1"),
        ("bus_01-r", "malignant", "1"),
        ("bus_02-l", "benign", "2"),
    ]
    assert [item.masks[0].name for item in source.items] == ["mask_01-l.png", "mask_01-r.png", "mask_02-l.png"]
    assert source.items[0].extra == {"Histology": "IDC"}


def test_a_flat_folder_with_masks_and_a_table_of_file_names_and_labels(tmp_path: Path) -> None:
    for i in (1, 2):
        mask(tmp_path / f"case00{i}_tumor.png")
        mask(tmp_path / f"case00{i}_other1.png", 0)
    text = "Filename,Label\ncase001.png,benign\ncase002.png,malignant\n"
    path = listed(tmp_path, text, "case001.png", "case002.png", table="anything.csv")
    for source in (
        read_source(path),
        read_source(tmp_path, ReadOptions(path="Filename", label="Label")),
    ):
        assert [(item.id, item.label, len(item.masks)) for item in source.items] == [
            ("case001", "benign", 2),
            ("case002", "malignant", 2),
        ]
    assert "columns taken: 'Filename' as path and 'Label' as label" in notes(read_source(path))


def test_mask_columns_of_a_public_table(tmp_path: Path) -> None:
    mask(tmp_path / "images" / "c1_tumor.png")
    text = "Image_filename,Mask_tumor_filename,class\nc1.png,c1_tumor.png,b\nc2.png,,m\n"
    source = read_source(listed(tmp_path, text, "images/c1.png", "images/c2.png"))
    assert [[path.name for path in item.masks] for item in source.items] == [["c1_tumor.png"], []]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ReadOptions(path="Id"),
            r"has no column 'Id' \(did you mean 'ID'\?\), which --path names; its columns: ID, Case",
        ),
        (ReadOptions(path="ID"), "lacks the column 'label'.*--label"),
        (ReadOptions(path="ID", label="Pathology", group="Patient"), "no column 'Patient'.*--group"),
        (ReadOptions(path="Case", label="Pathology"), "line 3: '1' is already on line 2"),
    ],
)
def test_a_column_that_is_not_there(tmp_path: Path, options: ReadOptions, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_source(bus_bra(tmp_path), options)


def test_a_name_that_stands_for_several_files(tmp_path: Path) -> None:
    path = listed(tmp_path, "ID,label\nx,a\n", "p/x.png", "q/x.png")
    with pytest.raises(ManifestError, match=r"line 2: 'x' stands for 2 files: p/x\.png, q/x\.png"):
        read_source(path, ReadOptions(path="ID"))
    path = listed(tmp_path, "path,label\nx.png,a\n")  # a path that was written for this program is not searched for
    with pytest.raises(ManifestError, match=r"line 2: no file 'x\.png'"):
        read_source(path)


def test_columns_of_a_source_without_table(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "1.png")
    with pytest.raises(SourceError, match="is no table, so it has no columns for --group case"):
        read_source(tmp_path, ReadOptions(group="case"))
    for name in ("x.csv", "y.csv"):
        (tmp_path / name).write_text("a,b\n")
    with pytest.raises(SourceError, match=r"holds 2 tables: x\.csv, y\.csv"):
        read_source(tmp_path, ReadOptions(group="case"))


# ---------------------------------------------------------------------------------------------------- patients


@pytest.mark.parametrize("name", ["patient_id", "Case", "subject", "study", "PatientID", "Patient ID", "exam"])
def test_a_column_of_patients_is_told_and_used_with_one_option(tmp_path: Path, name: str) -> None:
    text = f"path,label,{name}\n" + "".join(f"{i}.png,{'ab'[i // 2]},P{i // 2}\n" for i in range(4))
    path = listed(tmp_path, text, *(f"{i}.png" for i in range(4)))
    source = read_source(path)
    option = f"'{name}'" if " " in name else name
    assert f"column '{name}' repeats: use it as group with --group {option}" in notes(source)
    grouped = read_source(path, ReadOptions(group=name))
    assert [item.group for item in grouped.items] == ["P0", "P0", "P1", "P1"] and "repeats" not in notes(grouped)


@pytest.mark.parametrize(
    "column",
    ["age\n50\n50\n60", "patient_id\n1\n2\n3", "study\nBUSI\nBUSI\nBUSI", "patient\nnan\nnan\n1"],
)
def test_other_columns_are_not_taken_for_patients(tmp_path: Path, column: str) -> None:
    name, *values = column.split("\n")
    text = f"path,label,{name}\n" + "".join(f"{i}.png,a,{value}\n" for i, value in enumerate(values))
    assert "repeats" not in notes(read_source(listed(tmp_path, text, *(f"{i}.png" for i in range(3)))))


def test_a_prepared_set_can_be_grouped_by_a_column_it_kept(tmp_path: Path) -> None:
    text = "path,label,case\na.png,x,P1\nb.png,y,P1\nc.png,x,P2\nd.png,y,\ne.png,y,\n"
    path = listed(tmp_path, text, *(f"{name}.png" for name in "abcde"))
    prepare_images(read_source(path), 16)[0].save(tmp_path / "set")
    assert "column 'case' repeats" in notes(read_source(tmp_path / "set"))
    data, _ = prepare_images(read_source(tmp_path / "set", ReadOptions(group="case")), 16)
    assert data.groups.tolist() == [0, 0, 1, 2, 3]
    data.save(tmp_path / "grouped")
    assert load(tmp_path / "grouped").groups.tolist() == [0, 0, 1, 2, 3]


def test_a_group_that_says_it_is_missing_joins_no_images(tmp_path: Path) -> None:
    source = read_source(
        listed(tmp_path, "path,label,group\na.png,x,nan\nb.png,x,NA\nc.png,x,1\n", "a.png", "b.png", "c.png")
    )
    assert [item.group for item in source.items] == [None, None, "1"] and "2 of 3 images have no group" in notes(source)


def test_patients_of_a_table_beside_dicom_files_are_numbered(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        write(tmp_path / name, dataset(np.zeros((1, 8, 8), np.uint8)))
    table = listed(tmp_path, "path,label,patient_id\na.dcm,x,Smith\nb.dcm,x,Jones\nc.dcm,y,Smith\n")
    source = read_source(table, ReadOptions(group="patient_id"))
    assert [item.group for item in source.items] == ["0", "1", "0"] and "Smith" not in str(source)


@pytest.mark.long
def test_the_options_go_through_the_commands(tmp_path: Path) -> None:
    path = bus_bra(tmp_path / "in")
    options = ["--path", "ID", "--label", "Pathology", "--group", "Case"]
    told = CliRunner().invoke(app, ["data", "info", str(path), *options], env={"COLUMNS": "1000"})
    assert told.exit_code == 0 and "groups        2" in told.stdout, told.output
    assert f"next: sonosynth data prepare {path} --path ID --label Pathology --group Case --out DIR" in told.stdout
    made = CliRunner().invoke(
        app, ["data", "prepare", str(path), *options, "--out", str(tmp_path / "out"), "--size", "16"]
    )
    assert made.exit_code == 0, made.output
    assert load(tmp_path / "out").groups.tolist() == [0, 0, 1]
    hint = CliRunner().invoke(app, ["data", "info", str(path), *options[:4]], env={"COLUMNS": "1000"})
    assert "column 'Case' repeats: use it as group with --group Case" in hint.stdout


# ---------------------------------------------------------------------------------------------------- labels beside


def test_labels_beside_pictures(tmp_path: Path) -> None:
    listed(tmp_path, "filename,label\na.png,x\nb.png,y\n", "a.png", "b.png", table="labels.csv")
    assert [(item.id, item.label) for item in read_source(tmp_path).items] == [("a", "x"), ("b", "y")]


def test_a_table_called_labels_that_is_about_something_else(tmp_path: Path) -> None:
    listed(tmp_path, "number,name\n0,a\n", "a/1.png", "b/1.png", table="labels.csv")
    source = read_source(tmp_path)
    assert source.classes == ("a", "b") and "labels.csv not read" in notes(source)
    speckle(tmp_path / "1.png")
    with pytest.raises(ManifestError, match="lacks the column 'path'"):
        read_source(tmp_path)


def test_labels_as_stylegan_writes_them(tmp_path: Path) -> None:
    for i in range(3):
        speckle(tmp_path / "00000" / f"img{i}.png", i)
    text = json.dumps({"labels": [["00000/img0.png", 1], ["00000/img2.png", 0], ["00000/img1.png", 1]]})
    (tmp_path / "dataset.json").write_text(text)
    for source in (read_source(tmp_path), read_source(tmp_path / "dataset.json")):
        assert [(item.id, item.label) for item in source.items] == [("img0", "1"), ("img2", "0"), ("img1", "1")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"labels": null}', "holds no labels as StyleGAN writes them"),
        ('{"labels": []}', "lists no images"),
        ('{"labels": [["a/1.png", null]]}', "entry 1: must be"),
        ('{"labels": [["a/1.png", [0.5, 0.5]]]}', "entry 1: must be"),
        ('{"labels": [["1.png", 0], ["gone.png", 1]]}', r"entry 2: no file 'gone\.png'"),
        ('{"labels": [["../../etc/passwd", 0]]}', "outside"),
        ("[" * 100_000, "is not a JSON file"),
        ("no json", "is not a JSON file"),
    ],
)
def test_a_dataset_json_that_is_none(tmp_path: Path, content: str, message: str) -> None:
    speckle(tmp_path / "1.png")
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ManifestError, match=message):
        read_source(tmp_path)


def test_a_dataset_json_of_another_program_beside_class_folders(tmp_path: Path) -> None:
    speckle(tmp_path / "a" / "1.png")
    speckle(tmp_path / "b" / "1.png")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "lesion": 1}}')
    assert read_source(tmp_path).classes == ("a", "b")


# ---------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "n/a", "", "null"])
def test_a_label_that_is_missing_is_an_error(tmp_path: Path, text: str) -> None:
    path = listed(tmp_path, f"path,label\na.png,x\nb.png,{text}\n", "a.png", "b.png")
    with pytest.raises(ManifestError, match=r"line 3: .*label.*'b\.png'.*fill it in or remove the line"):
        read_source(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\tlabel\na.png\tx\n", "separated by tabs; save it as 'CSV UTF-8'"),
        ("sep=,\npath,label\na.png,x\n", "begins with the line 'sep=,'.*remove that line"),
        ("sep=;\npath;label\na.png;x\n", "begins with the line 'sep=;'.*remove that line"),
    ],
)
def test_tables_as_spreadsheets_write_them_get_a_hint(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_source(listed(tmp_path, text, "a.png"))


def test_class_names_whose_accents_are_composed_differently_are_told(tmp_path: Path) -> None:
    one, other = (unicodedata.normalize(form, "gutartig é") for form in ("NFC", "NFD"))
    source = read_source(listed(tmp_path, f"path,label\na.png,{one}\nb.png,{other}\n", "a.png", "b.png"))
    assert len(source.classes) == 2 and "how accents are composed (NFC or NFD)" in notes(source)

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bad_server import SHORT, Server, checksum
from fake_sets import EXPECTED, FAKES, UCLM, png, workbook, zipped
from sonosynth.cli.main import app
from sonosynth.core.errors import ArchiveError, FetchError, OutputError
from sonosynth.core.files import locked
from sonosynth.data.scan import read_source
from sonosynth.datasets import catalogue
from sonosynth.datasets.catalogue import CATALOGUE, PublicDataset, public_dataset
from sonosynth.datasets.fetch import RECORD, fetch
from sonosynth.datasets.label_tables import read_sheet


def served(server: Server, name: str, **changed: object) -> PublicDataset:
    """The entry `name` with the addresses, sizes and checksums of its tiny fake."""
    entry = public_dataset(name)
    files = []
    for file in entry.files:
        content = FAKES[name][file.name]
        server.files[file.name] = content
        known = {"size": len(content), "checksum": checksum(content)} if file.checksum else {}
        files.append(replace(file, url=f"{server.url}/{file.name}", **known))
    return replace(entry, files=tuple(files), **changed)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_every_layout_becomes_a_source_with_labels_and_groups(server, tmp_path, name):
    found = fetch(served(server, name), tmp_path / "out", SHORT)
    source = read_source(found.source)
    assert [(item.id, item.label, item.group) for item in source.items] == EXPECTED[name]
    assert source.classes == tuple(sorted(public_dataset(name).classes))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_measurements_of_hc18_are_kept(server, tmp_path):
    found = fetch(served(server, "HC18"), tmp_path / "out", SHORT)
    first = read_source(found.source).items[0]
    assert first.extra == {"pixel_size_mm": "0.0691358041432", "head_circumference_mm": "44.3"}


def test_a_file_that_is_no_archive_is_kept_as_it_is(server, tmp_path):
    found = fetch(served(server, "BreastMNIST"), tmp_path / "out", SHORT)
    assert found.source == (tmp_path / "out" / "breastmnist.npz").resolve()
    assert found.source.read_bytes() == FAKES["BreastMNIST"]["breastmnist.npz"]


def test_the_record_says_where_all_came_from_and_equal_fetches_are_equal(server, tmp_path):
    entry = served(server, "BrEaST")
    for out in ("one", "two"):
        fetch(entry, tmp_path / out, SHORT)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    record = json.loads((tmp_path / "one" / RECORD).read_text())
    for name in ("name", "licence", "weights", "citation", "doi", "page"):
        assert record[name] == getattr(entry, name)
    contents = FAKES["BrEaST"]
    assert [file["sha256"] for file in record["downloads"]] == [
        hashlib.sha256(contents[file.name]).hexdigest() for file in entry.files
    ]
    assert [file["url"] for file in record["downloads"]] == [file.url for file in entry.files]
    assert all(file["published_checksum"] is None for file in record["downloads"])


def test_the_same_call_again_downloads_nothing_and_notices_changes(server, tmp_path):
    entry, out = served(server, "BUS-BRA"), tmp_path / "out"
    assert fetch(entry, out, SHORT).new
    before = len(server.asked)
    again = fetch(entry, out, SHORT)
    assert not again.new and again.source == out.resolve() and len(server.asked) == before
    with pytest.raises(OutputError, match="holds BUS-BRA, not HC18"):
        fetch(served(server, "HC18"), out, SHORT)
    (out / "notes.txt").write_text("mine")  # is nobody's business
    assert not fetch(entry, out, SHORT).new
    (out / "BUSBRA/Images/bus_0002-l.png").write_bytes(b"cut")
    with pytest.raises(OutputError, match=r"bus_0002-l\.png was changed or removed"):
        fetch(entry, out, SHORT)
    (out / RECORD).write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        fetch(entry, out, SHORT)


def test_nothing_appears_before_all_is_there_and_what_came_is_used(server, tmp_path):
    entry, out = served(server, "HC18"), tmp_path / "out"
    server.faults = ["", "404"]
    with pytest.raises(
        FetchError, match=r"HTTP 404.*by hand from https://zenodo\.org/records/1327317, save it as .*csv"
    ):
        fetch(entry, out, SHORT)
    assert not out.exists() and (tmp_path / "out.download" / "training_set.zip").is_file()
    fetch(entry, out, SHORT)
    assert [path for path, _ in server.asked].count("/training_set.zip") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_page_instead_of_the_archive_is_told_and_not_kept(server, tmp_path):
    entry, out = served(server, "BUSI"), tmp_path / "out"
    server.files["Dataset_BUSI.zip"] = b"<!DOCTYPE html>please log in"
    with pytest.raises(ArchiveError, match=r"neither a zip.*DOCTYPE.*the download is removed.*by hand"):
        fetch(entry, out, SHORT)
    assert not out.exists() and not (tmp_path / "out.download" / "Dataset_BUSI.zip").exists()
    (tmp_path / "out.download" / "Dataset_BUSI.zip").write_bytes(FAKES["BUSI"]["Dataset_BUSI.zip"])  # by hand
    asked = len(server.asked)
    assert fetch(entry, out, SHORT).new and len(server.asked) == asked


def test_what_a_killed_call_left_is_removed_and_a_living_one_is_waited_for(server, tmp_path):
    entry, out = served(server, "BUS-BRA"), tmp_path / "out [1]"
    (tmp_path / ".out [1].0123abcd.tmp" / "BUSBRA").mkdir(parents=True)
    with locked(tmp_path / "out [1].download"), pytest.raises(OutputError, match="another process"):
        fetch(entry, out, SHORT)
    assert not server.asked
    assert fetch(entry, out, SHORT).new
    assert [path.name for path in tmp_path.iterdir()] == ["out [1]"]


def test_a_hostile_archive_leaves_nothing(server, tmp_path):
    entry, out = served(server, "BUSI"), tmp_path / "deep" / "out"
    server.files["Dataset_BUSI.zip"] = zipped({"fine.png": png(1), "../../evil.png": png(2)})
    with pytest.raises(ArchiveError, match="outside the folder"):
        fetch(entry, out, SHORT)
    assert not out.exists() and not list(tmp_path.rglob("*.png"))


def test_a_folder_that_holds_something_is_left_alone(server, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        fetch(served(server, "BUSI"), tmp_path, SHORT)
    assert not server.asked and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_link_that_leads_to_itself_is_told(server, tmp_path):
    (tmp_path / "out").symlink_to("out")
    with pytest.raises(OutputError, match="leads to itself"):
        fetch(served(server, "BUSI"), tmp_path / "out", SHORT)
    assert not server.asked


CHANGES = {
    "no table": ("BUS-BRA", {"BUSBRA/readme.txt": b""}, r"no bus_data\.csv where"),
    "no column": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Pathology\na,benign\n"}, "lacks the column 'Case'"),
    "no rows": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Case,Pathology\n"}, "has no rows"),
    "no image": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Case,Pathology\na,1,benign\n"}, r"names BUSBRA/Images/a\.png"),
    "no label": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Case,Pathology\na,1,\n"}, "no label or no group"),
    "no text": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Case,Pathology\n\xff,1,x\n"}, "not the table"),
    "long row": ("BUS-BRA", {"BUSBRA/bus_data.csv": b"ID,Case,Pathology\na,1,benign,more\n"}, "longer than"),
    "other names": ("BUS-UCLM", {f"{UCLM}/INFO.csv": b"Image;Label\nx.png;Benign\n"}, "documented form"),
    "no folder": ("BUSI", {"Other/benign/a.png": png(1)}, "no Dataset_BUSI_with_GT in"),
    "other classes": ("BUSI", {"Dataset_BUSI_with_GT/cyst/a.png": png(1)}, "classes cyst where"),
    "no images": ("BUSI", {"Dataset_BUSI_with_GT/a.txt": b""}, "holds no images"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_another_layout_is_told_and_never_guessed_at(server, tmp_path, change):
    name, files, message = CHANGES[change]
    entry = served(server, name)
    content = zipped(files)
    server.files[entry.files[0].name] = content
    known = {"size": len(content), "checksum": checksum(content)} if entry.files[0].checksum else {}
    entry = replace(entry, files=(replace(entry.files[0], **known),))
    with pytest.raises(FetchError, match=f"{message}.*unpack it by hand"):
        fetch(entry, tmp_path / "out", SHORT)
    assert not (tmp_path / "out").exists()


def test_a_spreadsheet_is_read_by_place(tmp_path):
    rows = [["name", "a & b", "c"], [1, "", "x < y"], ["", "last", ""]]
    (tmp_path / "x.xlsx").write_bytes(workbook(rows))
    assert read_sheet(tmp_path / "x.xlsx") == [["name", "a & b", "c"], ["1", "", "x < y"], ["", "last", ""]]


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        zipped({"a.txt": b""}),
        workbook([["a"], ["b"]])[:-100],
        zipped({"xl/workbook.xml": b"<workbook"}),
        zipped({"xl/workbook.xml": b"<workbook/>", "xl/_rels/workbook.xml.rels": b"<a/>"}),
    ],
)
def test_a_broken_spreadsheet_is_one_line(tmp_path, content):
    (tmp_path / "x.xlsx").write_bytes(content)
    with pytest.raises(FetchError, match=r"x\.xlsx is not a readable \.xlsx table"):
        read_sheet(tmp_path / "x.xlsx")


# ---------------------------------------------------------------------------------------------------- the catalogue


def test_entries_are_complete_and_well_formed():
    assert [entry.name for entry in CATALOGUE] == ["BUSI", "BUS-BRA", "BUS-UCLM", "BrEaST", "BreastMNIST", "HC18"]
    digits = {"md5": 32, "sha256": 64}
    for entry in CATALOGUE:
        assert entry.licence and entry.citation and entry.layout and entry.doi.startswith("10.")
        assert entry.page.startswith("https://") and entry.images > 0
        assert 1 <= entry.weights.count(". ") + entry.weights.endswith(".") <= 2
        for file in entry.files:
            assert file.url.startswith("https://") and Path(file.name).name == file.name
            assert file.archive == file.name.endswith(".zip")
            if file.checksum is not None:
                kind, found = file.checksum.split(":")
                assert len(found) == digits[kind] and set(found) <= set("0123456789abcdef")


def test_what_weights_may_be_used_for_follows_from_the_licence():
    for entry in CATALOGUE:
        if "CC BY-NC" in entry.licence:
            assert entry.weights.startswith("Not for commercial use")
        elif entry.licence.startswith("none stated"):
            assert "ask the authors" in entry.weights
        else:
            assert entry.weights.startswith("May be published") and any(w in entry.weights for w in ("credit", "cit"))
    assert public_dataset("BUS-UCLM").licence.startswith("CC BY-NC 4.0")
    assert "notice" in public_dataset("BUS-BRA").licence and "CC BY" not in public_dataset("BUS-BRA").licence


def test_an_unknown_name_names_the_nearest():
    assert public_dataset("bus-bra").name == "BUS-BRA"
    with pytest.raises(FetchError, match=r"no data set 'busbra'.*did you mean 'bus-bra'.*known: BUSI, BUS-BRA"):
        public_dataset("busbra")


# ---------------------------------------------------------------------------------------------------- the command


def call(*arguments: object) -> Result:
    words = ["data", "fetch", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "500"})


def test_without_a_name_all_are_listed():
    result = call()
    assert result.exit_code == 0
    for entry in CATALOGUE:
        assert all(text in result.stdout for text in (entry.name, entry.licence, entry.weights))
    assert "size not published" in result.stdout and "none published" in result.stdout
    listed = json.loads(call("--json").stdout)
    assert [entry["name"] for entry in listed] == [entry.name for entry in CATALOGUE]
    assert listed[0]["files"][0]["checksum"] is None and listed[1]["files"][0]["checksum"].startswith("md5:")


@pytest.mark.parametrize("name", ["BUS-BRA", "BrEaST"])
def test_fetch_shows_the_licence_first_and_says_what_to_do_next(server, tmp_path, monkeypatch, name):
    entry = served(server, name)
    monkeypatch.setattr(catalogue, "CATALOGUE", (entry,))
    result = call(name.lower(), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert (
        text.index(entry.licence) < text.index(entry.weights) < text.index("wrote")
        and entry.doi in text
        and entry.layout in text
    )
    assert f"next: sonosynth data info {(tmp_path / 'out').resolve()}" in text
    for file in entry.files:
        found = hashlib.sha256(FAKES[name][file.name]).hexdigest()
        if file.checksum:
            assert f"{file.name}: verified, {file.checksum}" in text
        else:
            assert f"{file.name}: none published; sha256 of what came {found}" in text
    assert "already done" in call(name, "--out", tmp_path / "out").stdout
    again = call(name, "--out", tmp_path / "out", "--json")
    assert json.loads(again.stdout)["source"] == str((tmp_path / "out").resolve()) and entry.licence in again.stderr


def test_what_a_user_can_mend_is_one_line_with_exit_2(server, tmp_path, monkeypatch):
    entry = served(server, "BUSI")
    monkeypatch.setattr(catalogue, "CATALOGUE", (entry,))
    server.always = "404"
    for arguments, message in (
        (("BUSI",), "give --out DIR"),
        (("--out", tmp_path / "out"), "give the NAME"),
        (("nothing", "--out", tmp_path / "out"), "no data set 'nothing'"),
        (("BUSI", "--out", tmp_path / "out"), "HTTP 404"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2 and message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_plain_csv(server, tmp_path):
    found = fetch(served(server, "BUS-UCLM"), tmp_path / "out", SHORT)
    with (found.source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"path": f"{UCLM}/images/ALWI_001.png", "label": "benign", "group": "ALWI"}

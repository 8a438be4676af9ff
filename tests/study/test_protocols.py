"""Studies whose groups come from an audit, beside a split that knows of none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import planting
from monitor import Told
from sonosynth.analysis.read_record import read_record
from sonosynth.analysis.tables import f1_rows, leakage
from sonosynth.audit import shortcuts
from sonosynth.core.errors import LeakageError, StudyError
from sonosynth.data.imageset import ImageSet
from sonosynth.phantoms.phantom import phantom
from sonosynth.report.study.page import write_report
from sonosynth.study.prepared import prepare_study
from sonosynth.study.results import COLUMNS as TABLES
from sonosynth.study.results import PROTOCOLS_CSV
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def few_forests():
    """Learn what chance is from fewer forests: nothing here looks at the shortcuts of an audit."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shortcuts, "_CHANCE_RUNS", 2)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """20 phantoms, each of ten also flipped; one flipped copy carries the other label."""
    root = tmp_path_factory.mktemp("copies") / "source"
    data = phantom(10, 128, seed=1, classes=("benign", "normal"))
    rng = np.random.default_rng(0)
    for name in data.classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for k, grey in enumerate(data.of_class(name).images):
            Image.fromarray(grey).save(root / name / f"{name}{k}.png")
            if k < 5:
                other = "normal" if (name, k) == ("benign", 4) else name
                (root / other).mkdir(exist_ok=True)
                Image.fromarray(planting.flip(grey, rng)).save(root / other / f"{name}{k}-flipped.png")
    return root


def run(out: Path, source: Path, sizes=(8,), seeds=(0,), **data) -> Told:
    raw = {
        "name": "protocols",
        "data": {"source": str(source), "size": 32, **data},
        "split": {"sizes": list(sizes)},
        "classifiers": QUICK | {"arms": ["real", "real+synthetic"], "seeds": list(seeds)},
    }
    monitor = Told()
    run_design(parse_design(raw, "study"), yaml.safe_dump(raw), Store(out), monitor, "test")
    return monitor


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "run"
    return out, run(out, source, (8, 12), (0, 1), groups="audit")


@pytest.mark.long
def test_duplicates_stay_on_one_side_and_conflicts_are_dropped(finished):
    out, monitor = finished
    assert any(
        "audit: 10 clusters of duplicates hold 20 of 30 images, 1 of them with two labels" in n for n in monitor.notes
    )
    data, split = ImageSet.load(out / "data"), json.loads((out / "split.json").read_text())
    assert len(data) == 28 and "benign4" not in data.ids
    for subset in split["subsets"]:
        assert not set(data.groups[subset["indices"]]) & set(data.groups[split["test"]])
    assert (out / "audit" / "groups.csv").is_file() and (out / "audit" / "duplicates.csv").is_file()


def test_the_naive_split_breaks_groups_and_is_as_large(finished):
    out, _ = finished
    data, split = ImageSet.load(out / "data"), json.loads((out / "split.json").read_text())
    naive = split["naive"]
    assert abs(len(naive["test"]) - len(split["test"])) <= 2
    others = np.delete(data.groups, naive["test"])
    assert set(others) & set(data.groups[naive["test"]])
    assert [(s["size"], s["draw"]) for s in naive["subsets"]] == [(s["size"], s["draw"]) for s in split["subsets"]]


@pytest.mark.long
def test_both_protocols_stand_side_by_side(finished):
    out, _ = finished
    table = pd.read_csv(out / "protocols.csv")
    assert tuple(table.columns) == TABLES[PROTOCOLS_CSV]
    counts = table[table.metric == "macro_f1"].groupby(["protocol", "size"]).size()
    assert counts.to_dict() == {(p, n): 2 for p in ("grouped", "naive") for n in (8, 12)}
    f1 = pd.read_csv(out / "f1.csv")
    assert len(f1[f1.metric == "macro_f1"]) == 4  # of the study's own split alone
    record = read_record(out)
    rows = leakage(record, f1_rows(record))
    assert [(row.arm, row.size, row.runs) for row in rows] == [("real", 8, 2), ("real", 12, 2)]
    own = table[(table.metric == "macro_f1") & (table.protocol == "naive") & (table["size"] == 8)].value.mean()
    assert rows[0].naive.value == pytest.approx(own, abs=1e-5)
    page = write_report(out).read_text(encoding="utf-8")
    assert "What leakage would have shown" in page


def test_a_study_goes_on_without_a_second_audit(finished, source, monkeypatch):
    out, _ = finished
    before = {path.name: path.read_bytes() for path in out.glob("*.csv")}

    def never(*args, **kwargs):
        raise AssertionError("audited again")

    monkeypatch.setattr("sonosynth.study.prepared.find_problems", never)
    run(out, source, (8, 12), (0, 1), groups="audit")
    assert {path.name: path.read_bytes() for path in out.glob("*.csv")} == before


def test_groups_from_a_table_give_the_same_split(finished, source, tmp_path):
    out, _ = finished
    table = out / "audit" / "groups.csv"
    moved = tmp_path / "groups.csv"
    moved.write_text(table.read_text())
    run(tmp_path / "moved", source, (8, 12), groups=str(moved))
    assert (tmp_path / "moved" / "split.json").read_text() == (out / "split.json").read_text()
    moved.write_text(table.read_text().replace("normal/normal9.png,", "normal/normal9.png,9"))
    with pytest.raises(StudyError, match="have changed since this study began"):
        run(tmp_path / "moved", source, (8, 12), groups=str(moved))


def test_without_groups_there_is_one_protocol(source, tmp_path):
    run(tmp_path / "run", source)
    assert not (tmp_path / "run" / "protocols.csv").exists()
    assert "naive" not in json.loads((tmp_path / "run" / "split.json").read_text())
    with pytest.raises(StudyError, match="drop_conflicts needs groups"):
        run(tmp_path / "other", source, drop_conflicts=True)


@pytest.mark.slow
def test_a_test_set_of_ones_own_may_not_hold_near_copies_of_training_images(tmp_path):
    two, rng = ("benign", "normal"), np.random.default_rng(0)
    known, strangers = phantom(4, 128, seed=1, classes=two), phantom(2, 128, seed=2, classes=two)
    known.save(tmp_path / "known")
    strangers.save(tmp_path / "strangers")
    replace(known, images=np.stack([planting.zoom(grey, rng) for grey in known.images])).save(tmp_path / "copies")

    def asked(test: str, groups: str):
        split = {"test": str(tmp_path / test), "sizes": [4]}
        data = {"source": str(tmp_path / "known"), "size": 32, "groups": groups}
        return parse_design({"name": "own-test", "data": data, "split": split}, "test")

    with pytest.raises(LeakageError, match=r"images of split\.test \(near copies, crops or flips\) are also"):
        prepare_study(asked("copies", "audit"))
    assert len(prepare_study(asked("strangers", "audit")).splits[0].held_out) == 4
    assert len(prepare_study(asked("copies", "source")).splits[0].held_out) == 8


# ---------------------------------------------------------------------------------------------------- tables of others


def public_table(folder: Path, seed: int) -> Path:
    """24 images of two classes and six patients, in a table whose columns are called otherwise."""
    rng, rows = np.random.default_rng(seed), ["ID,Case,Pathology"]
    for i in range(24):
        (folder / "Images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / "Images" / f"{seed}-{i}.png")
        rows.append(f"{seed}-{i},P{seed}-{i // 4},{'benign' if i // 4 % 2 else 'malignant'}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder / "table.csv"


def table_study(tmp_path: Path, columns: dict[str, str], test: Path) -> dict:
    table = public_table(tmp_path / "train", 1)
    return {
        "name": "table",
        "data": {"source": str(table), "size": 32, "columns": columns},
        "split": {"sizes": [8], "test": str(test)},
        "classifiers": QUICK | {"arms": ["real"], "seeds": [0]},
    }


COLUMNS = {"path": "ID", "label": "Pathology", "group": "Case"}


def test_columns_of_a_table_reach_the_study_and_its_own_test_set(tmp_path):
    raw = table_study(tmp_path, COLUMNS, public_table(tmp_path / "test", 2))
    data = prepare_study(parse_design(raw, "study"))
    assert len(np.unique(data.images.groups)) == len(np.unique(data.splits[0].held_out.groups)) == 6
    assert not any("repeats" in note for note in data.notes)


def test_a_test_folder_beside_a_table_needs_no_columns(tmp_path):
    for i, name in enumerate(("benign", "malignant") * 4):
        (tmp_path / "test" / name).mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(90 + i).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "test" / name / f"{i}.png")
    data = prepare_study(parse_design(table_study(tmp_path, COLUMNS, tmp_path / "test"), "study"))
    assert len(data.splits[0].held_out) == 8


def test_a_column_of_patients_that_is_not_used_is_told_in_the_plan(tmp_path):
    raw = table_study(tmp_path, {"path": "ID", "label": "Pathology"}, public_table(tmp_path / "test", 2))
    notes = prepare_study(parse_design(raw, "study")).notes
    assert any("column 'Case' repeats: use it as group with --group Case (data.columns.group" in n for n in notes)

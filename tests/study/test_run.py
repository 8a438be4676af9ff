"""Whole studies on tiny images, in this process."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dicom_files import dataset, write, write_unmarked
from image_sets import blobs
from monitor import Told
from sonosynth.analysis.read_record import read_record
from sonosynth.core.errors import (
    ClassError,
    LeakageError,
    OutputError,
    RunError,
    SourceError,
    SplitError,
    StudyError,
    UnreadableImageError,
)
from sonosynth.core.files import locked, read_json
from sonosynth.data.imageset import ImageSet
from sonosynth.data.scan import read_source
from sonosynth.data.source import ReadOptions
from sonosynth.data.split import shared_images
from sonosynth.gan.sample import generate
from sonosynth.study.config import StudyDesign
from sonosynth.study.plan import estimate
from sonosynth.study.prepared import prepare_study, shared_groups
from sonosynth.study.results import COLUMNS, F1_CSV, SCORES_CSV
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from sonosynth.study.synthetic import SyntheticPool
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

pytestmark = pytest.mark.long

TINY_GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "real"
    blobs(30).save(folder)
    return folder


def plain(source: Path, **changes) -> dict:
    return {
        "name": "tiny",
        "data": {"source": str(source), "size": 32},
        "split": {"sizes": [8, 16], "draws": 1},
        "gans": [TINY_GAN],
        "training": {"kimg": 0.012, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20},
        "classifiers": QUICK | {"arms": ["real", "real+synthetic"]},
    } | changes


def run(raw: dict, directory: Path, workers: int = 1) -> tuple[StudyDesign, Told]:
    design, monitor = parse_design(raw, "study.yaml"), Told()
    run_design(design, yaml.safe_dump(raw), Store(directory), monitor, "sonosynth study run study.yaml", workers)
    return design, monitor


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("study") / "tiny"
    run(plain(source), directory)
    return directory


@pytest.mark.long
def test_tables_have_the_contract_columns_and_a_row_for_every_cell(finished):
    scores, f1 = pd.read_csv(finished / "scores.csv"), pd.read_csv(finished / "f1.csv")
    assert tuple(scores.columns) == COLUMNS[SCORES_CSV]
    assert tuple(f1.columns) == COLUMNS[F1_CSV]
    assert set(scores["size"]) == set(f1["size"]) == {8, 16}
    assert set(scores["reference"]) == {"train", "held-out"}
    assert {"frechet_distance", "kernel_distance"} <= set(scores["metric"])
    assert {"macro_f1", "f1_dark", "f1_light", "balanced_accuracy", "auc", "brier"} <= set(f1["metric"])
    real = f1[f1["arm"] == "real"]
    assert real["gan"].isna().all() and real["ratio"].isna().all() and (real["n_synthetic"] == 0).all()
    made = f1[f1["arm"] == "real+synthetic"]
    assert set(made["gan"]) == {"stylegan2"} and (made["n_synthetic"] == made["size"]).all()
    assert (f1["n_test"] == 15).all()


def test_a_second_run_does_nothing(source, finished):
    before = {path: path.read_bytes() for path in finished.glob("*.csv")}
    _, monitor = run(plain(source), finished)
    assert monitor.fresh == []
    assert {path: path.read_bytes() for path in finished.glob("*.csv")} == before


@pytest.fixture
def results_alone(finished, tmp_path) -> Path:
    """What a repository keeps of the finished study, less one cell that needs a generator: no data, no weights."""
    kept = tmp_path / "kept"
    shutil.copytree(finished, kept, ignore=shutil.ignore_patterns("data", "runs", "features"))
    last = next(p for p in sorted((kept / "cells").glob("classify-*")) if read_json(p)["result"]["gan"])
    last.unlink()
    return kept


@pytest.mark.long
def test_a_study_goes_on_from_its_results_alone(source, finished, results_alone):
    _, monitor = run(plain(source), results_alone)
    assert sorted(monitor.fresh) == ["classify", "score", "train"]
    assert any("1 generator whose" in note and "1 result that rests on it" in note for note in monitor.notes)
    assert (results_alone / "f1.csv").read_bytes() == (finished / "f1.csv").read_bytes()
    made_on = [read_json(path)["made_on"] for path in (results_alone / "cells").glob("*.json")]
    assert len(made_on) == 8 and all(machine["versions"]["torch"] for machine in made_on)


def test_a_generator_that_is_being_trained_again_is_not_finished(source, results_alone, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sonosynth.study.run.do_cell", killed)
    with pytest.raises(KeyboardInterrupt):
        run(plain(source), results_alone)
    monkeypatch.undo()
    design = parse_design(plain(source), "study.yaml")
    store = Store(results_alone)
    waiting = store.waiting(prepare_study(design, store).cells(design))
    assert [cell.kind for cell in waiting] == ["train", "score", "classify"]
    store.run(waiting[0]).mkdir(parents=True)  # as a killed training leaves it
    assert store.waiting(waiting) == waiting and not store.gallery(waiting[0]).exists()


def test_results_of_other_images_are_not_gone_on_with(source, results_alone, tmp_path):
    before = {path: path.read_bytes() for path in results_alone.rglob("*") if path.is_file()}
    folder = tmp_path / "others"
    blobs(30, seed=7).save(folder)
    others = plain(source) | {"data": {"source": str(folder), "size": 32}}
    (results_alone / "study.yaml").write_text(yaml.safe_dump(others))
    with pytest.raises(StudyError, match="differ from those of the results"):
        run(others, results_alone)
    (results_alone / "study.yaml").write_text(yaml.safe_dump(plain(source)))
    assert {path: path.read_bytes() for path in results_alone.rglob("*") if path.is_file()} == before


def test_a_test_set_of_ones_own_that_changed_is_not_gone_on_with(source, tmp_path):
    folder, directory = tmp_path / "test", tmp_path / "study"
    blobs(6, seed=9).save(folder)
    raw = plain(source, split={"test": str(folder), "sizes": [8]}, gans=[])
    run(raw, directory)
    for kept in ("data", "test"):
        shutil.rmtree(directory / kept)
    _, monitor = run(raw, directory)
    assert monitor.fresh == []
    for kept in ("data", "test"):
        shutil.rmtree(directory / kept)
    shutil.rmtree(folder)
    blobs(6, seed=10).save(folder)
    with pytest.raises(StudyError, match="of the test images differ"):
        run(raw, directory)


@pytest.mark.long
def test_the_same_pixels_in_other_files_are_gone_on_with(source, results_alone, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(source, copy)
    path = next(copy.rglob("*.png"))
    Image.open(path).save(path, compress_level=1)
    raw = plain(source) | {"data": {"source": str(copy), "size": 32}}
    (results_alone / "study.yaml").write_text(yaml.safe_dump(raw))
    run(raw, results_alone)
    _, monitor = run(raw, results_alone)  # the files of the first of these two are those to compare with
    assert monitor.fresh == []


def test_test_images_are_in_no_subset_and_subsets_are_nested(finished):
    split = json.loads((finished / "split.json").read_text())
    small, large = (set(subset["indices"]) for subset in split["subsets"])
    assert small < large
    assert not large & set(split["test"])


def test_scored_and_classifier_images_differ(source, finished):
    design = parse_design(plain(source), "study.yaml")
    data, store = prepare_study(design, Store(finished)), Store(finished)
    cells = [cell for cell in data.cells(design) if cell.size == 16]
    pool = SyntheticPool(store, {}, lambda done, total, text: None)
    train = next(data.images_of(subset) for subset in data.subsets if subset.size == 16)
    scored = pool.to_score(next(cell for cell in cells if cell.kind == "score"), train)
    used = pool.to_classify(next(cell for cell in cells if cell.kind == "classify" and cell.generation), train)[0]
    assert (len(scored), len(used)) == (20, 16)
    assert not shared_images(scored, used)


@pytest.mark.long
def test_new_generators_join_and_old_results_stay(source, finished, tmp_path):
    directory = tmp_path / "grown"
    shutil.copytree(finished, directory)
    _, monitor = run(plain(source, gans=[TINY_GAN, TINY_GAN | {"name": "wider", "channel_max": 16}]), directory)
    assert sorted(monitor.fresh) == ["classify"] * 2 + ["score"] * 2 + ["train"] * 2
    assert set(pd.read_csv(directory / "scores.csv")["gan"]) == {"stylegan2", "wider"}


def test_tables_take_little_of_the_time_and_are_whole_in_the_end(source, tmp_path, monkeypatch):
    write, calls = Store.write_tables, []

    def counted(store, cells):
        calls.append(len(list((store.directory / "cells").iterdir())))
        write(store, cells)

    monkeypatch.setattr(Store, "write_tables", counted)
    monkeypatch.setattr("sonosynth.study.run.TABLES_SHARE", 1e-9)
    how = {"gans": [], "classifiers": QUICK | {"arms": ["real"], "seeds": [0, 1, 2]}}
    run(plain(source, split={"sizes": [8]}, **how), tmp_path)
    assert calls == [1, 3]
    assert set(pd.read_csv(tmp_path / "f1.csv")["seed"]) == {0, 1, 2}


def test_draws_and_sizes_join_and_old_results_stay(source, tmp_path):
    how = {"gans": [], "classifiers": QUICK | {"arms": ["real"]}}
    run(plain(source, split={"sizes": [8], "draws": 1}, **how), tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    _, monitor = run(plain(source, split={"sizes": [8, 16], "draws": 2}, **how), tmp_path)
    assert len(before) == 1 and monitor.fresh == ["classify"] * 3
    assert all(path.read_bytes() == content for path, content in before.items())
    record = read_record(tmp_path)
    assert [(s.size, s.replicate) for s in record.subsets] == [(8, 0), (8, 1), (16, 0), (16, 1)]


def test_another_split_or_a_strangers_folder_is_refused(source, finished, tmp_path):
    with pytest.raises(StudyError, match="other test or validation images"):
        run(plain(source, split={"sizes": [8, 16], "seed": 1}), finished)
    with pytest.raises(StudyError, match="other test or validation images"):
        run(plain(source, split={"sizes": [8, 16], "repeats": 2}), finished)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds no study"):
        run(plain(source), tmp_path)


@pytest.mark.long
def test_a_folder_made_elsewhere_that_differs_in_compression_is_told(tmp_path):
    def pictures(images: ImageSet, folder: Path, suffix: str) -> str:
        for k, grey in enumerate(images.images):
            path = folder / images.classes[images.labels[k]] / f"{k}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(path, quality=70)
        return str(folder)

    real, made = pictures(blobs(30), tmp_path / "real", "jpg"), pictures(blobs(40, seed=7), tmp_path / "made", "png")
    gans = [{"folder": made, "name": "theirs"}]
    raw = plain(Path(real), gans=gans, split={"sizes": [8]}, classifiers=QUICK | {"arms": ["real"]})
    run(raw, tmp_path / "study")
    run(raw, tmp_path / "study")  # from its own copy of the images, which says it as well
    (scored,) = (read_json(path)["result"] for path in (tmp_path / "study" / "cells").glob("score-*.json"))
    (note,) = [note for note in scored["notes"] if "compression" in note]
    assert "JPEG in 100 % of the training images (quality about 70), 100 % of the held-out images" in note
    assert note.endswith("0 % of the synthetic images; its marks move every distance")
    assert [shown.text for shown in read_record(tmp_path / "study").score_notes if "compression" in shown.text] == [
        note
    ]


@pytest.mark.long
def test_a_folder_made_elsewhere_takes_the_place_of_a_generator(source, tmp_path):
    made = ImageSet(**{**vars(blobs(40, seed=5)), "synthetic": True})
    made.save(tmp_path / "made")
    raw = plain(source, gans=[{"folder": str(tmp_path / "made"), "name": "theirs"}], split={"sizes": [8]})
    run(raw, tmp_path / "study")
    scores, f1 = pd.read_csv(tmp_path / "study" / "scores.csv"), pd.read_csv(tmp_path / "study" / "f1.csv")
    assert set(scores["gan"]) == {"theirs"} and scores["mode"].isna().all() and scores["seed"].isna().all()
    assert (f1[f1["arm"] == "real+synthetic"]["n_synthetic"] == 8).all()
    record = read_record(tmp_path / "study")
    assert record.trained == () and [shown.gan for shown in record.training] == ["theirs"]
    gallery = ImageSet.load(record.directory / record.training[0].gallery)
    assert gallery.synthetic and all(5 <= n <= 8 for n in gallery.class_counts.values())
    assert not shared_images(blobs(30), gallery) and len(shared_images(made, gallery)) == len(gallery)
    raw["classifiers"]["ratios"] = [6.0]
    with pytest.raises(
        StudyError, match=r"'theirs', size 8, draw 0: a classifier needs 48 .* half of the folder is 40"
    ):
        run(raw, tmp_path / "greedy")
    assert not (tmp_path / "greedy").exists()


def test_an_own_test_set_is_used_and_may_not_share_images(source, tmp_path):
    blobs(6, seed=9).save(tmp_path / "test")
    raw = plain(source, split={"test": str(tmp_path / "test"), "sizes": [8]}, gans=[])
    run(raw, tmp_path / "study")
    assert (pd.read_csv(tmp_path / "study" / "f1.csv")["n_test"] == 12).all()
    assert json.loads((tmp_path / "study" / "split.json").read_text())["test"] is None
    with pytest.raises(LeakageError, match=r"60 images of split\.test are also images of data\.source"):
        run(plain(source, split={"test": str(source), "sizes": [8]}, gans=[]), tmp_path / "leaky")


def test_patients_named_alike_in_an_own_test_set_are_told(source, tmp_path):
    def named(images: ImageSet, folder: Path, first: int) -> None:
        images.save(folder)
        table = pd.read_csv(folder / "manifest.csv")[["path", "label"]]
        table["group"] = [f"patient {first + i}" for i in range(len(table))]
        table.to_csv(folder / "manifest.csv", index=False)

    named(ImageSet.load(source), tmp_path / "real", 0)
    named(blobs(6, seed=9), tmp_path / "test", 55)
    quick = {"gans": [], "classifiers": QUICK | {"arms": ["real"]}}
    raw = plain(tmp_path / "real", split={"test": str(tmp_path / "test"), "sizes": [8]}, **quick)
    for _ in range(2):  # at first, and from the record
        _, monitor = run(raw, tmp_path / "study")
        (note,) = [note for note in monitor.notes if "are called like groups of data.source" in note]
        assert note.startswith("test images: 5 groups of split.test") and "patient 5" not in note
    (tmp_path / "apart").mkdir()
    named(blobs(6, seed=9), tmp_path / "apart" / "test", 60)
    raw["split"]["test"] = str(tmp_path / "apart" / "test")
    assert not any("called like" in note for note in prepare_study(parse_design(raw, "study.yaml")).notes)


def test_patients_of_dicom_headers_are_compared_and_running_numbers_are_not(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 1, 24, 32), dtype=np.uint8)
    places = ("ours/a/1.dcm", "ours/b/2.dcm", "test/a/3.dcm", "test/b/4.dcm", "other/a/5.dcm", "other/b/6.dcm")
    for place, pixels, patient in zip(places, noise, ("P-1", "P-2", "P-7", "P-2", "P-8", "P-9"), strict=True):
        write(tmp_path / place, dataset(pixels, PatientID=patient))
    ours, test, other = (read_source(tmp_path / name) for name in ("ours", "test", "other"))
    assert {item.group for item in ours.items} == {item.group for item in other.items} == {"1", "2"}
    (line,) = shared_groups(ours, test, ours.classes)
    assert (
        line.startswith("1 group of split.test is called")
        and "that of '4' like that of '2'" in line
        and "P-2" not in line
    )
    assert shared_groups(ours, test, ["a"]) == shared_groups(ours, other, ours.classes) == []


def test_dicom_files_without_the_mark_are_read_where_the_study_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 6, 1, 24, 32), dtype=np.uint8)
    for label, images in zip("ab", noise, strict=True):
        for number, pixels in enumerate(images):
            data = dataset(pixels, PatientID=f"{label}{number}")
            write_unmarked(tmp_path / "in" / label / f"{number}.dcm", data, "implicit")
    raw = plain(tmp_path / "in", split={"sizes": [8]}, gans=[])
    with pytest.raises(UnreadableImageError, match=r"data\.force_dicom: true"):
        prepare_study(parse_design(raw, "study.yaml"))
    raw["data"]["force_dicom"] = True
    data = prepare_study(parse_design(raw, "study.yaml"))
    assert data.images.class_counts == {"a": 6, "b": 6}
    source = read_source(tmp_path / "in", ReadOptions(force_dicom=True))
    (line,) = shared_groups(source, source, source.classes)
    assert line.startswith("12 groups of split.test")


def test_images_of_classes_that_a_study_lacks_are_refused_unless_left_out(source, tmp_path):
    three = blobs(6, seed=9, classes=("dark", "grey", "light"))
    three.save(tmp_path / "test")
    replace(three, images=255 - three.images, synthetic=True).save(tmp_path / "made")
    tested = {"split": {"test": str(tmp_path / "test"), "sizes": [8]}, "gans": []}
    made = {"split": {"sizes": [8]}, "gans": [{"folder": str(tmp_path / "made"), "name": "theirs"}]}
    for changes, folder, who in ((tested, "test", "test images"), (made, "made", "GAN 'theirs'")):
        raw = plain(source, **changes)
        with pytest.raises(ClassError, match=f"{folder} has 6 of class 'grey', and data.source has dark, light alone"):
            prepare_study(parse_design(raw, "study.yaml"))
        raw["data"] |= {"classes": ["dark", "light"]}
        data = prepare_study(parse_design(raw, "study.yaml"))
        assert f"{who}: left out, since data.classes does not name it: 6 of class 'grey'" in data.notes
        other = data.folders["theirs"] if data.folders else data.splits[0].held_out
        assert other.class_counts == {"dark": 6, "light": 6}


@pytest.mark.long
def test_what_is_told_of_test_images_and_folders_is_told_once(source, tmp_path):
    blobs(6, size=16, seed=9).save(tmp_path / "test")
    ImageSet(**{**vars(blobs(20, size=16, seed=5)), "synthetic": True}).save(tmp_path / "made")
    how = {"split": {"test": str(tmp_path / "test"), "sizes": [8]}, "classifiers": QUICK | {"arms": ["real"]}}
    raw = plain(source, gans=[{"folder": str(tmp_path / "made"), "name": "theirs"}], **how)
    expected = {
        "test images: enlarges 12 of 12 images: 32 px is more than they have",
        "GAN 'theirs': enlarges 40 of 40 images: 32 px is more than they have",
    }
    for _ in range(2):
        _, monitor = run(raw, tmp_path / "study")
        assert expected <= set(monitor.notes) and len(monitor.notes) == len(set(monitor.notes))
    assert expected <= set(read_json(tmp_path / "study" / "provenance.json")["data"]["notes"])
    shutil.rmtree(tmp_path / "test")
    _, monitor = run(raw, tmp_path / "study")
    assert any(note.startswith("test images: the images prepared before") for note in monitor.notes)


def test_images_made_elsewhere_need_no_masks_where_real_ones_are_cropped(tmp_path):
    for image, label in zip(blobs(12).images, np.arange(24) % 2, strict=True):
        folder = tmp_path / "real" / ("dark", "light")[label]
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.iterdir()))
        Image.fromarray(image).save(folder / f"{number}.png")
        Image.fromarray(np.full((32, 32), 255, np.uint8)).save(folder / f"{number}_mask.png")
    made = ImageSet(**{**vars(blobs(20, seed=5)), "synthetic": True})
    made.save(tmp_path / "made")
    raw = plain(tmp_path / "real", gans=[{"folder": str(tmp_path / "made"), "name": "theirs"}], split={"sizes": [8]})
    raw["data"] |= {"fit": "mask"}
    folders = prepare_study(parse_design(raw, "study.yaml")).folders
    assert np.array_equal(folders["theirs"].images, made.images)


def test_damaged_files_of_a_study_are_named(source, finished, tmp_path):
    directory = tmp_path / "merged"
    shutil.copytree(finished, directory)
    raw = plain(source)
    cell = next((directory / "cells").glob("classify-*.json"))
    whole = cell.read_text()
    for text, what in (("<<<<<<< HEAD\n" + whole, "Expecting value"), ("[]", "no object with 'result'")):
        cell.write_text(text)
        with pytest.raises(StudyError, match=rf"{cell.name} is damaged \(.*{what}.*\); remove it and run"):
            run(raw, directory)
        with pytest.raises(StudyError, match=rf"{cell.name} is damaged"):
            Store(directory).outdated([])
    cell.unlink()
    os.mkfifo(cell)
    with pytest.raises(OutputError, match=rf"{cell.name} is a pipe where a file is needed"):
        run(raw, directory)
    with pytest.raises(StudyError, match=rf"{cell.name} is not a file but a pipe; remove it and run"):
        read_record(directory)
    cell.unlink()
    _, monitor = run(raw, directory)
    assert monitor.fresh == ["classify"]
    provenance = directory / "provenance.json"
    provenance.write_bytes(b"\xff{}")
    design = parse_design(raw, "study.yaml")
    with pytest.raises(StudyError, match=r"provenance\.json is damaged \(.*\); restore it, or choose another --out"):
        prepare_study(design, Store(directory))
    provenance.unlink()
    with pytest.raises(StudyError, match=r"provenance\.json is missing; restore it"):
        prepare_study(design, Store(directory))


def test_bad_data_writes_nothing(source, tmp_path):
    blobs(20).of_class("dark").save(tmp_path / "one")
    with pytest.raises(ClassError, match="at least two classes"):
        run(plain(tmp_path / "one"), tmp_path / "study")
    with pytest.raises(SplitError, match="1000"):
        run(plain(source, split={"sizes": [1000]}), tmp_path / "study")
    assert not (tmp_path / "study").exists()


PHANTOM_GAN = TINY_GAN | {"base": "stylegan2-diffaug+phantom", "pretrain_kimg": 0.012, "pretrain_images": 2}


@pytest.mark.long
def test_cells_of_a_recipe_share_its_pretraining_and_a_study_cut_there_goes_on(source, tmp_path):
    quick = {"scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]}}
    raw = plain(source, gans=[PHANTOM_GAN], classifiers=QUICK | {"arms": ["real+synthetic"]}, **quick)
    run(raw, tmp_path / "whole")
    (shared,) = (tmp_path / "whole" / "pretraining").iterdir()
    (pretrained,) = shared.glob("*/run")
    assert (pretrained / "state.pt").is_file()
    runs = list((tmp_path / "whole" / "runs").iterdir())
    told = [json.loads((run / "transfer.json").read_text()) for run in runs]
    assert len(told) == 2 and told[0] == told[1]
    assert not any((run / "pretraining").exists() for run in runs)

    class Impatient(Told):
        def progress(self, cell, done, total, text) -> None:
            if text.startswith("0.01 of 0.01 kimg"):
                raise KeyboardInterrupt

    design = parse_design(raw, "study.yaml")
    with pytest.raises(KeyboardInterrupt):
        run_design(design, yaml.safe_dump(raw), Store(tmp_path / "cut"), Impatient(), "sonosynth study run")
    assert not list((tmp_path / "cut" / "cells").glob("train-*"))
    run(raw, tmp_path / "cut")
    for table in ("scores.csv", "f1.csv"):
        assert (tmp_path / "cut" / table).read_bytes() == (tmp_path / "whole" / table).read_bytes()


@pytest.mark.long
def test_the_estimate_counts_pretraining_once_for_all_cells(source):
    def seconds(**settings) -> float:
        design = parse_design(plain(source, gans=[PHANTOM_GAN | settings]), "study.yaml")
        data = prepare_study(design)
        (cost,) = estimate([cell for cell in data.cells(design) if cell.kind == "train"], data)
        return cost.seconds

    short, long = seconds(), seconds(pretrain_kimg=0.036, kimg=0.012)
    assert long < 20 * short
    assert seconds(pretrain_kimg=120) > 100 * short


@pytest.mark.long
def test_per_class_mode_trains_one_generator_a_class(source, tmp_path):
    raw = plain(source, split={"sizes": [8]}, training={"kimg": 0.008, "mode": "per_class"})
    run(raw, tmp_path / "study")
    (train,) = (tmp_path / "study" / "cells").glob("train-*.json")
    result = json.loads(train.read_text())["result"]
    assert result["runs"] == 2
    gallery = ImageSet.load(tmp_path / "study" / result["gallery"])
    assert gallery.synthetic and gallery.class_counts == {"dark": 8, "light": 8}
    assert np.unique(gallery.images.reshape(16, -1), axis=0).shape[0] == 16


def test_images_that_leak_or_stand_for_others_are_refused(source, tmp_path):
    real = ImageSet.load(source)
    ImageSet.concatenate([blobs(10, seed=7), real.subset([4])]).save(tmp_path / "leaking")
    made = plain(source, gans=[{"folder": str(tmp_path / "leaking"), "name": "theirs"}])
    with pytest.raises(LeakageError, match="1 images of GAN 'theirs' are also real images of this study"):
        run(made, tmp_path / "out")
    ImageSet(**{**vars(blobs(30, seed=8)), "synthetic": True}).save(tmp_path / "synthetic")
    with pytest.raises(LeakageError, match=r"images of data\.source are marked as synthetic"):
        run(plain(tmp_path / "synthetic"), tmp_path / "out")
    own_test = {"test": str(tmp_path / "synthetic"), "sizes": [8]}
    with pytest.raises(LeakageError, match=r"images of split\.test are marked as synthetic"):
        run(plain(source, split=own_test), tmp_path / "out")
    blobs(30, classes=("all", "light")).save(tmp_path / "named")
    with pytest.raises(ClassError, match="a class is called 'all'"):
        run(plain(tmp_path / "named"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_images_are_refused_and_missing_ones_are_told(tmp_path):
    blobs(30).save(tmp_path / "real")
    raw = plain(tmp_path / "real", gans=[], classifiers=QUICK | {"arms": ["real"]})
    design, _ = run(raw, tmp_path / "study")
    moved = (tmp_path / "real").rename(tmp_path / "moved")
    notes = prepare_study(design, Store(tmp_path / "study")).notes
    assert any("are used, for the source cannot be read again" in note for note in notes)
    moved.rename(tmp_path / "real")
    next((tmp_path / "real" / "dark").iterdir()).unlink()
    rows = (tmp_path / "real" / "manifest.csv").read_text().splitlines()
    there = [row for row in rows if row.startswith("path,") or (tmp_path / "real" / row.split(",")[0]).is_file()]
    (tmp_path / "real" / "manifest.csv").write_text("\n".join(there) + "\n")
    with pytest.raises(StudyError, match="have changed since this study began"):
        run(raw, tmp_path / "study")


def test_two_processes_never_share_a_study(source, finished):
    with locked(finished), pytest.raises(OutputError, match="another process is working in"):
        run(plain(source), finished)


def test_a_study_killed_while_it_claimed_its_directory_begins_again(source, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / ".study.yaml.0a1b2c3d.tmp").write_text("na")
    raw = plain(source, gans=[], classifiers=QUICK | {"arms": ["real"]}, split={"sizes": [8]})
    run(raw, tmp_path / "study")
    assert not list((tmp_path / "study").glob(".*.tmp"))


@pytest.mark.long
def test_a_study_may_take_the_snapshot_nearest_to_the_training_images(source, tmp_path):
    training = {"kimg": 0.012, "mode": "conditional", "snapshot": "best", "patience_kimg": 1}
    design, _ = run(plain(source, training=training, split={"sizes": [8]}), tmp_path / "study")
    (best,) = (tmp_path / "study" / "runs").glob("*/best.safetensors")
    cells = prepare_study(design, Store(tmp_path / "study")).cells(design)
    trained = next(cell for cell in cells if cell.kind == "train")
    assert trained.generation.snapshot == "best" and best.parent.name == trained.hash
    (best.parent / "generator.safetensors").write_bytes(b"not looked at")
    with pytest.raises(RunError, match="is not a sonosynth generator"):
        generate(best.parent, 2)
    assert len(generate(best.parent, 2, snapshot="best")) == 2


def deep(folder: Path, top: int, seed: int, count: int = 12) -> Path:
    """Write two classes of 16-bit PNGs of 32 px with values up to `top`."""
    random = np.random.default_rng(seed)
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            stored = random.integers(0, top + 1, (32, 32)).astype(np.uint16)
            stored[0, 0] = top
            Image.fromarray(stored).save(folder / label / f"{label}{seed}_{i}.png")
    return folder


def test_training_and_test_images_have_one_depth(tmp_path):
    source, test = deep(tmp_path / "source", 3900, 1), deep(tmp_path / "test", 4300, 2, count=6)
    raw = plain(source, split={"test": str(test), "sizes": [8]}, gans=[])
    data = prepare_study(parse_design(raw, "study.yaml"))
    assert data.images.images.max() == round(3900 * 255 / 65535)
    assert data.splits[0].held_out.images.max() == round(4300 * 255 / 65535)
    raw["data"] |= {"bits": 13}
    data = prepare_study(parse_design(raw, "study.yaml"))
    assert data.images.images.max() == round(3900 * 255 / 8191)
    assert data.splits[0].held_out.images.max() == round(4300 * 255 / 8191)
    raw["data"] |= {"bits": 12}
    with pytest.raises(SourceError, match="the value 4300 is above 4095"):
        prepare_study(parse_design(raw, "study.yaml"))


@pytest.mark.parametrize("wrong", [{"bits": 7}, {"bits": 17}, {"axis": "w"}])
def test_bits_and_axis_of_a_study_are_checked(source, wrong):
    raw = plain(source)
    raw["data"] |= wrong
    with pytest.raises(StudyError, match=f"data.{next(iter(wrong))}"):
        parse_design(raw, "study.yaml")

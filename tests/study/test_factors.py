"""Arms, ratios, fill, filters, truncation and validation as factors of a study."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from image_sets import blobs
from monitor import Told
from sonosynth.analysis.read_record import read_record
from sonosynth.classify.filters import _filtered
from sonosynth.cli.main import app
from sonosynth.core.errors import SplitError, StudyError
from sonosynth.core.files import read_json, write_json
from sonosynth.data.imageset import ImageSet
from sonosynth.report.study.page import write_report
from sonosynth.statistics.f1 import f1_intervals, fixed_test_f1
from sonosynth.study.cells import format_of, needed_by
from sonosynth.study.plan import design_power
from sonosynth.study.prepared import prepare_study
from sonosynth.study.results import COLUMNS, F1_CSV, FILTERS_CSV
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from sonosynth.study.synthetic import SyntheticPool
from tiny_classifier import tiny_network as tiny_network

pytestmark = pytest.mark.long

GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
ARMS = ["real", "oversampled", "real+synthetic", "synthetic-only", "test-on-synthetic"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """48 real images, a third of them dark, and 160 made elsewhere."""
    root = tmp_path_factory.mktemp("images")
    images = blobs(32)
    images.subset(np.flatnonzero((images.labels == 1) | (np.arange(64) < 32))).save(root / "real")
    made = blobs(80, seed=5)
    ImageSet(**{**vars(made), "synthetic": True}).save(root / "made")
    return root


def plain(folder: Path, split=None, training=None, gans=None, **classifiers) -> dict:
    factors = {"arms": ARMS, "ratios": [0.5, 2], "fill": ["proportional", "balanced"], "filters": ["none", "distance"]}
    return {
        "name": "factors",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"sizes": [12]} | (split or {}),
        "gans": [{"folder": str(folder / "made"), "name": "theirs"}] if gans is None else gans,
        "training": {"kimg": 0.008, "mode": "conditional"} | (training or {}),
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {"networks": ["tiny"], "seeds": [0], "steps": 20} | factors | classifiers,
    }


def cells_of(raw: dict):
    design = parse_design(raw, "study.yaml")
    return prepare_study(design).cells(design)


def run(raw: dict, out: Path) -> Told:
    told = Told()
    run_design(parse_design(raw, "study.yaml"), yaml.safe_dump(raw), Store(out), told, "sonosynth study run")
    return told


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("study") / "run"
    run(plain(folder), out)
    return out


def test_arms_have_the_factors_that_mean_something_to_them(folder):
    gans = [{"folder": str(folder / "made"), "name": "theirs"}, GAN]
    cells = cells_of(plain(folder, gans=gans, training={"truncation": [1.0, 0.5]}))
    count = pd.Series([cell.arm for cell in cells if cell.kind == "classify"]).value_counts().to_dict()
    sources = 3  # the folder, and two truncations of one generator
    assert count == {
        "real": 1,
        "oversampled": 2 * 2,
        "real+synthetic": sources * 2 * 2 * 2,
        "synthetic-only": sources * 2 * 2,
        "test-on-synthetic": sources,
    }
    kinds = [cell.kind for cell in cells]
    assert (kinds.count("train"), kinds.count("score"), kinds.count("filter")) == (1, sources, sources)
    assert len({cell.hash for cell in cells}) == len(cells)
    before: set[str] = set()
    for cell in cells:  # what a cell needs comes first
        assert {needed.hash for needed in needed_by(cell)} <= before
        before.add(cell.hash)


@pytest.mark.parametrize("changes", [{"networks": []}, {"arms": ["real", "synthetic-only"]}])
def test_nothing_is_filtered_where_no_classifier_takes_it(folder, changes):
    cells = cells_of(plain(folder, filters=["none", "distance", "confidence"], **changes))
    assert {cell.kind for cell in cells} == ({"score"} if "networks" in changes else {"score", "classify"})


def test_levels_that_are_added_leave_the_cells_of_the_others_alone(folder):
    few = cells_of(plain(folder, ratios=[2], fill="proportional", filters="none", arms=["real", "real+synthetic"]))
    many = cells_of(plain(folder))
    assert {cell.hash for cell in few} < {cell.hash for cell in many}
    changed = cells_of(plain(folder, label_smoothing=0.1))
    same = {cell.hash for cell in many} & {cell.hash for cell in changed}
    assert same == {cell.hash for cell in many if cell.kind in ("score", "filter")}


@pytest.mark.long
def test_the_table_of_scores_names_every_factor(finished):
    table = pd.read_csv(finished / "f1.csv")
    assert tuple(table.columns) == COLUMNS[F1_CSV]
    rows = table[table.metric == "macro_f1"].set_index("arm")
    assert rows.loc["real", ["ratio", "fill", "filter", "truncation", "gan"]].isna().all()
    over = rows.loc["oversampled"]
    assert over.gan.isna().all() and sorted(over.ratio) == [0.5, 0.5, 2, 2] and (over.n_synthetic == 0).all()
    plainly = rows.loc["real+synthetic"][lambda t: t["filter"].isna()]
    assert (plainly.n_synthetic == plainly.ratio * 12).all()
    assert rows.loc["synthetic-only"].n_train.eq(0).all()
    assert rows.loc["test-on-synthetic", "n_test"] == 24 and rows.loc["real", "n_validation"] == 0
    cells = [read_json(path) for path in (finished / "cells").glob("classify-*.json")]
    digests = {cell["result"]["arm"]: cell["result"]["weights_digest"] for cell in cells}
    assert digests["test-on-synthetic"] == digests["real"] != digests["synthetic-only"]


def test_filters_tell_what_passes_and_what_that_costs(finished):
    table = pd.read_csv(finished / "filters.csv")
    assert tuple(table.columns) == COLUMNS[FILTERS_CSV]
    assert list(table["class"]) == ["all", "dark", "light"] and set(table["filter"]) == {"distance"}
    every, by_class = table.iloc[0], table.iloc[1:]
    assert every.candidates == by_class.candidates.sum() == 80 and every.accepted == by_class.accepted.sum()
    assert 0 < every.acceptance < 1 and every.acceptance == pytest.approx(every.accepted / 80)
    assert every.lost_coverage == pytest.approx(every.coverage_all - every.coverage_accepted)
    assert every.coverage_same_number <= every.coverage_all
    f1 = pd.read_csv(finished / "f1.csv").query("metric == 'macro_f1' and filter == 'distance'")
    assert len(f1) == 4 and f1.n_synthetic.le(f1.ratio * 12).all()


@pytest.mark.long
def test_tables_of_what_a_study_no_longer_asks_for_do_not_stay(folder, tmp_path):
    asked = plain(
        folder, {"naive": True}, arms=["real", "real+synthetic"], filters="distance", ratios=[1], fill="balanced"
    )
    run(asked, tmp_path / "run")
    tables = {path.name for path in (tmp_path / "run").glob("*.csv")}
    always = {"scores.csv", "f1.csv", "generators.csv", "predictions.csv", "images.csv"}
    assert tables - {"notes.csv"} == always | {"filters.csv", "protocols.csv"}
    asked["split"].pop("naive")
    asked["classifiers"]["filters"] = "none"
    run(asked, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").glob("*.csv")} - {"notes.csv"} == always


def test_filtered_images_are_the_first_that_pass_and_fill_balances_classes(folder, finished):
    raw = plain(folder)
    design = parse_design(raw, "study.yaml")
    data, store = prepare_study(design, Store(finished)), Store(finished)
    pool = SyntheticPool(store, data.folders, lambda done, total, text: None)
    (train,) = map(data.images_of, data.subsets)
    cells = [cell for cell in data.cells(design) if cell.kind == "classify" and cell.arm == "real+synthetic"]
    made = {(cell.ratio, cell.fill, cell.filter and cell.filter.by): pool.to_classify(cell, train)[0] for cell in cells}
    balanced = made[2, "balanced", None].class_counts
    assert {name: train.class_counts[name] + n for name, n in balanced.items()} == {"dark": 18, "light": 18}
    candidates = pool.to_filter(cells[-1].filter, train)
    kept = store.result(cells[-1].filter).kept
    for (_, _, by), images in made.items():
        for name in train.classes:
            stream, used = candidates.of_class(name).images, images.of_class(name).images
            order = kept[name] if by else range(len(stream))
            assert np.array_equal(used, stream[list(order)[: len(used)]])
    assert len(made[0.5, "proportional", None]) == 6 and not np.array_equal(kept["light"], np.arange(40))


def test_images_that_stand_alone_are_balanced_and_no_old_result_is_taken_for_theirs(folder, finished):
    design = parse_design(plain(folder, fill=["balanced", "proportional"]), "study.yaml")
    data = prepare_study(design)
    pool = SyntheticPool(Store(finished), data.folders, lambda done, total, text: None)
    (train,) = map(data.images_of, data.subsets)
    assert train.class_counts == {"dark": 4, "light": 8}
    cells = [cell for cell in data.cells(design) if cell.kind == "classify"]
    alone = [cell for cell in cells if cell.arm in ("synthetic-only", "test-on-synthetic") and cell.fill == "balanced"]
    assert [(cell.arm, cell.ratio) for cell in alone] == [
        ("synthetic-only", 0.5),
        ("synthetic-only", 2),
        ("test-on-synthetic", 2),
    ]
    for cell in alone:
        assert set(pool.to_classify(cell, train)[0].class_counts.values()) == {cell.ratio * 6}
    assert {cell.format for cell in alone} == {3}
    assert {cell.format for cell in cells if cell not in alone and cell.filter is None} == {2}
    assert all(format_of(cell.kind, cell.settings()) == cell.format for cell in data.cells(design))


def test_a_filter_that_leaves_too_few_of_a_class_changes_no_proportions(folder, finished, monkeypatch):
    kept = {"dark": [0, 2, 4], "light": list(range(40))}
    monkeypatch.setattr(Store, "result", lambda store, cell: SimpleNamespace(kept=kept))
    design = parse_design(plain(folder), "study.yaml")
    data = prepare_study(design, Store(finished))
    pool = SyntheticPool(Store(finished), data.folders, lambda done, total, text: None)
    (train,) = map(data.images_of, data.subsets)
    cells = [cell for cell in data.cells(design) if cell.kind == "classify" and cell.filter is not None]
    made = {(cell.ratio, cell.fill): pool.to_classify(cell, train)[0].class_counts for cell in cells}
    assert made == {
        (0.5, "proportional"): {"dark": 2, "light": 4},
        (2, "proportional"): {"dark": 3, "light": 6},
        (0.5, "balanced"): {"dark": 3, "light": 0},
        (2, "balanced"): {"dark": 3, "light": 2},
    }
    assert {cell.format for cell in cells} == {4}  # of older ones it cannot be seen whether they were cut
    told = {(cell.ratio, cell.fill): pool.to_classify(cell, train)[1] for cell in cells}
    assert told[0.5, "proportional"] == {} and told[2, "proportional"]["unfiltered"] == []
    (note,) = told[2, "proportional"]["notes"]
    assert note.startswith(
        "the filter distance left 3 candidates of class 'dark' where ratio 2, fill proportional, asks for 8"
    )
    assert note.endswith("from 24 synthetic images to 9")


@pytest.mark.long
def test_a_class_that_a_filter_empties_is_used_unfiltered_and_that_is_said(folder, tmp_path, monkeypatch):
    def nothing_light(train, made, *_, **__):
        return _filtered(made, (made.labels == 0) | (train.classes[1] != "light"), np.zeros(2))

    monkeypatch.setattr("sonosynth.study.synthetic.distance_filter", nothing_light)
    raw = plain(folder, filters=["none", "distance"], arms=["real", "real+synthetic"])
    run(raw, tmp_path / "run")
    results = [read_json(path) for path in (tmp_path / "run" / "cells").glob("classify-*.json")]
    filtered = [content for content in results if content["result"]["filter"]]
    assert len(filtered) == 4
    for content in filtered:
        cell, result = content["cell"], content["result"]
        assert result["n_synthetic"] == 12 * cell["ratio"] and result["unfiltered"] == ["light"]
        assert result["notes"][0].startswith("none of 40 candidates of class 'light' passed the filter distance")
    assert not any(content["result"]["notes"] for content in results if not content["result"]["filter"])
    data, store = prepare_study(parse_design(raw, "study.yaml"), Store(tmp_path / "run")), Store(tmp_path / "run")
    pool = SyntheticPool(store, data.folders, lambda done, total, text: None)
    (train,) = map(data.images_of, data.subsets)
    cells = [
        cell for cell in data.cells(parse_design(raw, "study.yaml")) if cell.kind == "classify" and cell.generation
    ]
    made = {(c.ratio, c.fill, c.filter is None): pool.to_classify(c, train)[0].class_counts for c in cells}
    for ratio, fill, _ in made:
        assert made[ratio, fill, True] == made[ratio, fill, False]
    page = write_report(tmp_path / "run").read_text()
    assert page.count("none of 40 candidates of class &#39;light&#39; passed the filter distance") == 1
    assert pd.read_csv(tmp_path / "run" / "filters.csv").set_index("class").accepted["light"] == 0


def test_a_folder_without_a_class_is_refused_for_filters_too(folder, tmp_path):
    made = ImageSet.load(folder / "made")
    made.subset(np.flatnonzero((made.labels == 0) | (np.arange(len(made)) < 2))).save(tmp_path / "made")
    gans = [{"folder": str(tmp_path / "made"), "name": "theirs"}]
    with pytest.raises(StudyError, match="0 of them of that class; add images"):
        cells_of(plain(folder, gans=gans, filters=["distance"], arms=["real+synthetic"]))


@pytest.mark.parametrize("name", ["distance", "confidence"])
def test_a_filter_without_groups_enough_is_refused_before_anything_runs(folder, tmp_path, name):
    images = ImageSet.load(folder / "real")
    groups, dark = images.groups.copy(), np.flatnonzero(images.labels == 0)
    groups[dark] = 1000 + np.arange(len(dark)) // 4
    replace(images, groups=groups).save(tmp_path / "real")
    raw = plain(folder, filters=["none", name]) | {"data": {"source": str(tmp_path / "real"), "size": 32}}
    with pytest.raises(StudyError, match="size 12, draw 0: class 'dark' has a single group of training images"):
        run(raw, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert cells_of(raw | {"classifiers": raw["classifiers"] | {"arms": ["real", "synthetic-only"]}})


@pytest.mark.long
def test_images_made_elsewhere_are_scored_in_the_proportions_of_the_training_images(folder, tmp_path):
    def scored(made: Path, n: int) -> tuple[dict[str, int], list[str]]:
        raw = plain(folder, networks=[], gans=[{"folder": str(made), "name": "theirs"}])
        raw["scores"]["n_synthetic"] = n
        out = tmp_path / f"{made.name}-{n}"
        run(raw, out)
        record = read_record(out)
        (n_scored,) = {
            row.n_synthetic for row in record.scores if row.class_ == "all" and row.metric == "frechet_distance"
        }
        design = parse_design(raw, "study.yaml")
        data = prepare_study(design, Store(out))
        (cell,) = data.cells(design)
        pool = SyntheticPool(Store(out), data.folders, lambda done, total, text: None)
        images = pool.to_score(cell, data.subset_of(cell))
        assert n_scored == len(images) and cell.format == 4
        return images.class_counts, [note.text for note in record.score_notes]

    assert scored(folder / "made", 30) == ({"dark": 10, "light": 20}, [])  # as 4 and 8 training images stand
    counts, (fewer,) = scored(folder / "made", 500)
    assert counts == {"dark": 20, "light": 40}
    assert fewer.startswith("60 images are scored where 500 are planned")
    made = ImageSet.load(folder / "made")
    made.subset(np.flatnonzero((made.labels == 0) | (np.arange(160) < 8))).save(tmp_path / "few")
    counts, (mix, fewer) = scored(tmp_path / "few", 30)
    assert counts == {"dark": 10, "light": 2}
    assert mix.startswith("class proportions of the synthetic images (dark 83 %, light 17 %)")


def test_validation_images_are_in_no_subset_and_choose_the_weights(folder, tmp_path):
    raw = plain(folder, {"validation_fraction": 0.25, "draws": 2}, arms=["real"], gans=[])
    run(raw, tmp_path / "run")
    split = read_json(tmp_path / "run" / "split.json")
    apart = set(split["validation"])
    assert len(apart) == 9 and not apart & set(split["test"])
    for subset in split["subsets"]:
        assert not apart & set(subset["indices"])
    results = [read_json(path)["result"] for path in (tmp_path / "run" / "cells").glob("classify-*.json")]
    assert len(results) == 2 and all(r["n_validation"] == 9 and 1 <= r["step"] <= 20 for r in results)
    with pytest.raises(StudyError, match="other test or validation images"):
        run(plain(folder, {"draws": 2}, arms=["real"], gans=[]), tmp_path / "run")


def test_the_naive_split_may_stand_at_one_size(folder):
    cells = cells_of(plain(folder, {"sizes": [8, 12], "naive": [12]}, gans=[], arms=["real", "oversampled"]))
    assert [(cell.size, cell.arm, cell.ratio) for cell in cells if cell.kind == "naive"] == [
        (12, "real", None),
        *[(12, "oversampled", ratio) for ratio in (0.5, 0.5, 2, 2)],
    ]
    assert sum(cell.kind == "classify" for cell in cells) == 2 * 5


@pytest.mark.long
def test_truncation_needs_no_second_generator_and_narrows_images(folder, tmp_path):
    raw = plain(folder, training={"truncation": [1.0, 0.0]}, gans=[GAN], arms=["real+synthetic"], filters="none")
    raw["classifiers"] |= {"ratios": [1], "fill": "proportional"}
    told = run(raw, tmp_path / "run")
    assert sorted(told.fresh) == ["classify"] * 2 + ["score"] * 2 + ["train"]
    design = parse_design(raw, "study.yaml")
    data = prepare_study(design, Store(tmp_path / "run"))
    pool = SyntheticPool(Store(tmp_path / "run"), {}, lambda done, total, text: None)
    scored = {
        cell.truncation: pool.to_score(cell, data.subset_of(cell))
        for cell in data.cells(design)
        if cell.kind == "score"
    }
    spread = {psi: made.of_class("light").images.std(axis=0).mean() for psi, made in scored.items()}
    assert spread[0.0] < spread[1.0]
    assert set(pd.read_csv(tmp_path / "run" / "scores.csv").truncation) == {0.0, 1.0}


def test_results_of_an_earlier_version_are_told_and_made_anew(folder, tmp_path):
    raw = plain(folder, arms=["real"], gans=[])
    assert not any("earlier version" in note for note in run(raw, tmp_path / "run").notes)
    (new,) = (tmp_path / "run" / "cells").glob("classify-*.json")
    old = read_json(new)
    del old["format"]
    write_json(new.with_name("classify-0123456789abcdef.json"), old)
    new.unlink()
    told = run(raw, tmp_path / "run")
    assert told.fresh == ["classify"]
    (note,) = [note for note in told.notes if "earlier version" in note]
    assert note.startswith("1 result of kind 'classify' is of an earlier version")


def test_a_plan_says_what_the_design_can_see(folder):
    def seen(draws: int, sizes: list[int], **changed):
        raw = plain(folder, {"draws": draws, "sizes": sizes}) | changed
        design = parse_design(raw, "study.yaml")
        return design_power(design, prepare_study(design))

    two, few, many = seen(2, [12]), seen(3, [12, 20]), seen(8, [12, 20])
    assert two.single is None and "description only, no test" in two.lines()[0] and len(two.lines()) == 1
    assert few.comparisons == 2 and few.groups == 12
    assert few.corrected > few.single > many.single > 0
    assert f"{few.single:.3f} is found" in few.lines()[0] and "group 0.19" in few.lines()[1]
    assert seen(3, [12], classifiers={"networks": []}) is None
    assert seen(3, [12], classifiers={"arms": ["real"]}) is None
    alone = {"gans": [], "classifiers": {"arms": ["real", "real+classical", "oversampled"]}}
    assert seen(3, [12, 20], **alone).comparisons == 2
    trained = {"gans": [GAN, GAN | {"name": "other"}], "training": {"truncation": [1.0, 0.7], "kimg": 0.01}}
    assert seen(3, [12, 20], **trained).comparisons == 8


def two_groups(folder, tmp_path, sizes):
    """Return data whose class 'dark' has two groups, of 4 and of 12 images."""
    images = ImageSet.load(folder / "real")
    dark = np.flatnonzero(images.labels == 0)
    groups = images.groups.copy()
    groups[dark[:4]], groups[dark[4:]] = 1000, 1001
    replace(images, groups=groups).save(tmp_path / "real")
    raw = plain(folder, {"sizes": sizes, "draws": 2}, gans=[], arms=["real"])
    return raw | {"data": {"source": str(tmp_path / "real"), "size": 32}}


@pytest.mark.long
def test_a_class_of_one_training_group_is_told_in_one_line(folder, tmp_path):
    raw = two_groups(folder, tmp_path, [8, 12])
    data = prepare_study(parse_design(raw, "study.yaml"))
    (line,) = data.lone_groups
    count = data.images_of(data.subsets[0]).class_counts["dark"]
    assert line.startswith(f"class 'dark' has one group ({count} images) in the training subset of size 8, draw 0, and")
    assert "and in 3 of the other 3 subsets" in line
    assert run(raw, tmp_path / "run").notes.count(line) == 1
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    plan = CliRunner().invoke(app, ["study", "plan", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "run")])
    assert plan.stdout.count(line) == 1
    assert not prepare_study(parse_design(plain(folder), "study.yaml")).lone_groups


def test_test_images_leave_what_validation_and_subsets_need(folder, tmp_path):
    # Of class 'dark' there are groups of 1 and of 5 images: whichever order comes first, 5 must stay for training.
    images = ImageSet.load(folder / "real").subset(range(30))
    dark = np.flatnonzero(images.labels == 0)[:6]
    light = np.flatnonzero(images.labels == 1)
    groups = np.arange(len(images))
    groups[dark[1:]] = groups[dark[1]]
    kept = np.sort(np.concatenate([dark, light]))
    replace(images, groups=groups).subset(kept).save(tmp_path / "real")
    for seed in range(6):
        raw = plain(folder, {"seed": seed, "sizes": [8]}, gans=[], arms=["real"])
        raw |= {"data": {"source": str(tmp_path / "real"), "size": 32}}
        data = prepare_study(parse_design(raw, "study.yaml"))
        assert data.splits[0].held_out.class_counts["dark"] == 1
    raw["split"] |= {"validation_fraction": 0.3}
    with pytest.raises(SplitError, match=r"class 'dark' is too small .* 5 of 6 images and 1 of 2 groups .* 3 and 2 "):
        prepare_study(parse_design(raw, "study.yaml"))


def test_a_plan_promises_nothing_where_a_class_is_tested_by_one_group(folder, tmp_path):
    test = blobs(20, seed=9)
    one_patient = np.where(test.labels == 1, 1000, test.groups)
    replace(test, groups=one_patient).save(tmp_path / "test")
    design = parse_design(plain(folder, {"test": str(tmp_path / "test"), "draws": 3}), "study.yaml")
    seen = design_power(design, prepare_study(design))
    assert (seen.groups, seen.single, seen.corrected, seen.lone_class) == (21, None, None, "light")
    (line,) = seen.lines()
    assert line.startswith("power: all test images of class 'light' are of one group: a description only")
    predictions = np.stack([test.labels, 1 - test.labels, test.labels])[:, None]
    interval = f1_intervals(fixed_test_f1(test.labels, one_patient, predictions, 2)).macro_f1
    assert np.isnan([interval.low, interval.high]).all()

import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from matplotlib.figure import Figure
from typer.testing import CliRunner

from html_page import read
from made_up_study import cells_of, write_fake_study
from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import contrasts
from sonosynth.analysis.findings import Ranking, findings, rankings
from sonosynth.analysis.limitations import limitations
from sonosynth.analysis.read_record import read_record
from sonosynth.cli.study import report as report_command
from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, write_json
from sonosynth.metrics.scores import Score
from sonosynth.report import drawing, wording
from sonosynth.report.study import figures
from sonosynth.report.study.page import write_report
from sonosynth.statistics.scores import Interval
from sonosynth.study.results import Generator, ScoreRow

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_fake_study(tmp_path_factory.mktemp("study") / "s")


@pytest.fixture(scope="module")
def report(study, tmp_path_factory) -> Path:
    return write_report(study, tmp_path_factory.mktemp("out"))


@pytest.mark.long
def test_the_page_begins_without_what_takes_seconds_to_import():
    code = (
        "import sys, sonosynth.report.study.page; "
        "sys.exit(', '.join({'torch', 'sklearn', 'skimage', 'pandas', 'scipy.stats', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.stderr.strip(), f"imported: {done.stderr}"


@pytest.mark.long
def test_page_is_self_contained(report):
    page, _ = read(report)
    assert report.name == "report.html"
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert all(link.startswith("#") or link == "https://doi.org/10.1515/cdbme-2022-0005" for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    assert all(len(image["alt"]) > 20 for image in page.images)
    assert report.stat().st_size < 2_500_000
    assert "<script" not in report.read_text(encoding="utf-8")


def test_names_are_escaped(report):
    text = report.read_text(encoding="utf-8")
    assert "<code>&lt;images&gt;</code>" in text and "<images>" not in text


def test_a_recipe_is_shown_with_the_length_and_mode_of_the_study(report):
    text = report.read_text(encoding="utf-8")
    shown = text[text.index("All settings, defaults included") :]
    assert "kimg: 5" in shown and "kimg: 300" not in shown and "mode: per_class" not in shown


def test_provenance_says_how_many_runs_an_hour(report):
    _, text = read(report)
    assert "median 12.5 s, 288 per hour in one process" in text


def test_figures_stand_on_disk_too(report):
    names = {path.name for path in (report.parent / "figures").iterdir()}
    stems = {"samples-20", "samples-40", "distance-inception", "learning-resnet18"}
    stems |= {"confusion-resnet18-20", "confusion-resnet18-40", "first-distance", "first-f1"}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")}


def test_tables_are_where_the_page_says(report):
    _, text = read(report)
    assert "f1.csv of the study directory" in text
    assert "the same directory gives the same page. The numbers also stand in its scores.csv" in text
    assert not list(report.parent.glob("*.csv"))


@pytest.mark.long
def test_same_study_gives_the_same_page(study, report, tmp_path):
    again = write_report(study, tmp_path)
    assert again.read_bytes() == report.read_bytes()
    for figure in (report.parent / "figures").iterdir():
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes()


def test_f1_on_the_page_is_the_mean_of_the_cells(study, report):
    page, _ = read(report)
    for arm in ("real", "real+classical"):
        values = [
            read_json(path)["result"]["metrics"]["macro_f1"]
            for path in cells_of(study, "classify")
            if (read_json(path)["cell"]["arm"], read_json(path)["cell"]["size"]) == (arm, 20)
        ]
        row = next(row for row in page.rows if row[:2] == [arm, "–"])
        assert row[4].startswith(f"{np.mean(values):.3f} [") and row[3] == "0 / 0, 1 / –" and row[2] == "20 / 0"


def test_distance_row_shows_value_interval_baseline_and_numbers(study, report):
    page, _ = read(report)
    cell = next(
        read_json(path)
        for path in cells_of(study, "score")
        if (read_json(path)["cell"]["gan"], read_json(path)["cell"]["size"]) == ("stylegan2-diffaug", 40)
    )
    score = next(
        s for s in cell["result"]["scores"] if (s["metric"], s["reference"]) == ("frechet_distance", "held-out")
    )
    start = next(i for i, row in enumerate(page.rows) if row == ["Size 40, to the held-out images"])
    row = next(row for row in page.rows[start:] if row[0] == "stylegan2-diffaug")
    assert row[1:3] == ["0 / 0", "30 / 500"]
    assert row[3:6] == [
        f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]",
        f"{1.2 * score['value']:.1f}",
        "25.0",
    ]
    assert row[8:] == ["0.0040", "30"]


def test_findings_are_careful(report):
    _, text = read(report)
    assert "supports a description of these subsets, not a test" in text
    assert "chosen after the fact" in text
    assert "reference claims, not targets" in text and "64.2" in text and "15.3" in text
    assert "stylegan2-diffaug has a KID of" in text
    assert "8 comparisons of an arm with synthetic images against the same arm without them" in text
    assert "is not finished" not in text and "phantom" not in text
    assert "steps: 200" in text and "channel_max:" in text  # the study file, and what it leaves to defaults


def test_relative_reduction_follows_from_the_distances(study, report):
    record = read_record(study)
    found = findings(record, tables.distances(record), [], [], [])
    assert [(r.distance.size, r.distance.generator.gan) for r in found.reductions] == [
        (20, "stylegan2-diffaug"),
        (40, "stylegan2-diffaug"),
    ]
    for r in found.reductions:
        ours, theirs = r.distance.scores[0].value, r.baseline.scores[0].value
        assert r.relative.value == pytest.approx(1 - ours / theirs)
        assert r.relative.low < r.relative.value < r.relative.high
    assert found.largest_reduction.relative.value == max(r.relative.value for r in found.reductions)
    page, _ = read(report)
    rows = [row for row in page.rows if row[0] in ("20", "40") and row[1:2] == ["stylegan2-diffaug"] and len(row) == 8]
    shown = [f"{100 * r.relative.value:.1f}\N{NO-BREAK SPACE}% [" for r in found.reductions]
    assert [row[-1].startswith(value) for row, value in zip(rows, shown, strict=True)] == [True, True]


def test_a_reduction_is_against_plain_stylegan2_or_the_first_that_begins_from_it(tmp_path):
    def baselines(*names):
        study = write_fake_study(tmp_path / names[0], gans=names, sizes=(20,), arms=())
        path = study / "study.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("stylegan2-diffaug\n  name", "stylegan2\n  name"))
        record = read_record(study)
        found = findings(record, tables.distances(record), [], [], [])
        return record.baseline_gan, [(r.baseline.generator.gan, r.distance.generator.gan) for r in found.reductions]

    pairs = [("stylegan2", "wide"), ("stylegan2", "fastgan")]
    assert baselines("wide", "stylegan2", "fastgan") == ("stylegan2", pairs)
    assert baselines("narrow", "wide", "fastgan") == ("narrow", [("narrow", "wide"), ("narrow", "fastgan")])


def test_the_published_distance_is_compared_in_its_own_features(tmp_path, undrawn):
    study = write_fake_study(tmp_path, sizes=(20,), arms=())
    path = study / "study.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  - inception\n", "  - efficientnet-lite0\n  - inception\n"), encoding="utf-8")
    for path in cells_of(study, "score"):
        content = read_json(path)
        others = [row | {"features": "efficientnet-lite0", "value": 1.0} for row in content["result"]["scores"]]
        write_json(path, content | {"result": {"scores": others + content["result"]["scores"]}})
    _, text = read(write_report(study))
    assert "By kernel distance to the held-out images in efficientnet-lite0 features, which is unbiased" in text
    assert "FID in inception features to the held-out images, relative to stylegan2 at the same" in text
    assert "Reduction of the FID against stylegan2. In inception features" in text


def test_a_generator_of_another_mode_is_named_as_the_reason(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("stylegan2", "fastgan"), sizes=(20,), arms=())
    for path in (*cells_of(study, "train"), *cells_of(study, "score")):
        content = read_json(path)
        if content["cell"]["gan"] == "stylegan2":
            write_json(path, content | {"cell": content["cell"] | {"mode": "per_class"}})
    _, text = read(write_report(study))
    assert "both stylegan2 and another generator at one size, of the same mode and truncation" in text


def test_generators_whose_intervals_overlap_are_not_ranked():
    def distance(gan, value, low, high):
        row = ("kernel_distance", "f", "held-out", "all", value, low, high, None, None, 30, 500)
        score = ScoreRow(
            **dict(zip(Score.model_fields, row, strict=False)), gan=gan, mode=None, size=20, draw=0, seed=0
        )
        return tables.Distance(Generator(gan), 20, "f", "held-out", "kernel_distance", (score,))

    near, far = distance("a", 0.01, 0.008, 0.012), distance("b", 0.03, 0.02, 0.04)
    touching, unknown = distance("b", 0.03, 0.011, 0.04), distance("b", 0.03, None, None)
    assert rankings([far, near]) == (Ranking(20, (near, far), ()),)
    assert rankings([touching, near]) == (Ranking(20, (near, touching), (touching.generator,)),)
    assert rankings([unknown, near])[0].unsettled == (unknown.generator,)
    assert rankings([near, distance("c", None, None, None)]) == (Ranking(20, (near,), ()),)


def test_the_order_of_generators_is_settled_only_where_intervals_lie_apart(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan", "stylegan2"), sizes=(20,), arms=())

    def sentence(**limits):
        for path in cells_of(study, "score"):
            content = read_json(path)
            low, high = limits[content["cell"]["gan"]]
            scores = [
                row | {"value": (low + high) / 2, "low": low, "high": high} for row in content["result"]["scores"]
            ]
            write_json(path, content | {"result": {"scores": scores}})
        return read(write_report(study))[1]

    first = "Size 20: stylegan2 has a KID of 0.0250 [0.0200, 0.0300], the smallest of 2 generators; next is"
    apart = sentence(stylegan2=(0.02, 0.03), fastgan=(0.04, 0.06))
    assert f"{first} fastgan with 0.0500 [0.0400, 0.0600]. Its interval does not overlap that of any other." in apart
    assert (
        "with a KID of 0.0250 [0.0200, 0.0300], where other real images are at 0.0040; of the 2 generators no" in apart
    )
    assert "Closest: stylegan2. All distances" in apart
    touching = sentence(stylegan2=(0.02, 0.03), fastgan=(0.03, 0.07))
    assert "Its interval overlaps that of fastgan: their order is not settled." in touching
    assert "of the 2 generators, fastgan may be as close." in touching
    assert "Closest: stylegan2; not settled at n = 20. " in touching


def test_baselines_of_other_numbers_of_images_stand_at_their_own_marks():
    def baselines(*of_gans):
        found = []
        for gan, baseline, m in of_gans:
            row = ("kernel_distance", "f", "held-out", "all", 0.1, 0.08, 0.12, baseline, m, 100, 500)
            score = ScoreRow(
                **dict(zip(Score.model_fields, row, strict=False)), gan=gan, mode=None, size=20, draw=0, seed=0
            )
            found.append(tables.Distance(Generator(gan), 20, "f", "held-out", "kernel_distance", (score,)))
        panel = Figure().subplots()
        figures._distance_panel(panel, found, "kernel_distance", [20], [d.generator for d in found])
        lines = [line.get_segments()[0] for line in panel.collections if line.get_label() == "real baseline"]
        return [(left.round(3), right.round(3), y.round(4)) for (left, y), (right, _) in lines]

    assert baselines(("a", 0.02, 50), ("b", 0.03, 50)) == [(-0.36, 0.36, 0.025)]
    assert baselines(("a", 0.02, 50), ("b", 0.03, 20), ("c", None, None)) == [
        (-0.075, -0.015, 0.02),
        (-0.005, 0.055, 0.03),
    ]


def test_limitations_follow_from_the_record(study, tmp_path):
    record = read_record(study)
    found = limitations(record, 8)
    assert (found.one_generator_seed, found.short_training, found.groups) == (True, True, "nobody")
    assert (found.feature_distances, found.copies_unknown, found.comparisons) == (True, True, 8)
    data = record.design.data.model_copy(update={"groups": "audit"})
    audited = replace(record, design=record.design.model_copy(update={"data": data}))
    assert limitations(audited, 0).groups == "audit or table"
    bare = limitations(replace(record, training=(), scores=()), 0)
    assert not any((bare.one_generator_seed, bare.short_training, bare.feature_distances, bare.copies_unknown))
    phantoms = write_fake_study(tmp_path, gans=("stylegan2",), sizes=(20,), origin="phantom", arms=())
    assert limitations(read_record(phantoms), 0).groups is None


def test_phantoms_are_never_called_patients(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("stylegan2",), sizes=(20,), origin="phantom", arms=("real",))
    _, text = read(write_report(study))
    assert "Simulated phantoms, not patients’ images." in text
    assert "120 simulated B-mode images" in text and "120 real B-mode images" not in text
    assert (study / "report.html").is_file()
    assert "no other generator to compare with" in text and "cannot say" in text


@pytest.mark.long
def test_a_page_with_real_images_says_so(report, tmp_path, undrawn):
    said = "This page contains real images"
    _, text = read(report)
    assert said in text and "Synthetic images show no patient; near-copies may." in text
    how = {"gans": ("stylegan2",), "sizes": (20,), "arms": ("real",)}
    assert said not in read(write_report(write_fake_study(tmp_path / "phantoms", origin="phantom", **how)))[1]
    assert said not in read(write_report(write_fake_study(tmp_path / "bare", gans=(), arms=("real",))))[1]


def test_without_any_generator(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=(), arms=("real", "real+classical"))
    page, text = read(write_report(study))
    assert "No generator has finished" not in text and "no figure from this study" in text
    assert "Classifiers (resnet18) were trained for 200 steps each" in text and "runs of one generator" not in text
    assert "samples" not in page.ids and "distances" not in page.ids and "classifiers" in page.ids


def test_without_any_classifier(tmp_path, undrawn):
    page, text = read(write_report(write_fake_study(tmp_path, arms=(), draws=1)))
    assert "Intervals cover other images; other training subsets could turn out differently." in text
    assert "generator runs: " in text and "classifiers, as planned" not in text and "generators, as planned" in text
    assert "distances" in page.ids and "classifiers" not in page.ids
    assert "trains no classifiers" in text and not any(
        word in text for word in ("every arm", "f1.csv", "lassifier runs")
    )


@pytest.mark.long
@pytest.mark.parametrize("several", [{"draws": 5}, {"repeats": 4}])
def test_without_classifiers_no_number_of_draws_makes_a_test(tmp_path, undrawn, several):
    _, text = read(write_report(write_fake_study(tmp_path, arms=(), sizes=(20,), **several)))
    assert "Intervals cover other images of the same runs; how runs differ is shown by their rows." in text
    assert "Holm" not in text and "other draws and other test groups" not in text


def test_scores_by_pixels_are_columns_beside_those_of_features(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(20,), draws=1)
    (path,) = cells_of(study, "score")
    cell = read_json(path)
    common = {
        "reference": "train",
        "class": "all",
        "n_real": 20,
        "n_synthetic": 500,
        "real_baseline": None,
        "real_baseline_n": None,
    }
    for metric, features, value in (
        ("membership_auc", "inception", 0.52),
        ("membership_auc", "pixels", 0.61),
        ("near_copies", "pixels", 0.25),
    ):
        cell["result"]["scores"].append(
            {**common, "metric": metric, "features": features, "value": value, "low": value - 0.1, "high": value + 0.1}
        )
    write_json(path, cell)
    page, text = read(write_report(study))
    assert "pixels features" not in text
    (titles,) = [row for row in page.rows if "Membership AUC, pixels" in row]
    (values,) = [row for row in page.rows if any(value.startswith("0.250") for value in row)]
    found = dict(zip(titles, values, strict=True))
    assert found["Near-copies"].startswith("0.250")
    assert found["Membership AUC"].startswith("0.52") and found["Membership AUC, pixels"].startswith("0.61")


def test_a_value_beside_its_baseline_stands_with_its_own_interval(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(20,), draws=1)
    (path,) = cells_of(study, "score")
    cell = read_json(path)
    common = {"class": "all", "n_synthetic": 500, "real_baseline": 0.83, "real_baseline_n": 30}
    recall = common | {"features": "inception", "reference": "held-out", "metric": "recall", "n_real": 98}
    copies = {
        "features": "pixels",
        "reference": "train",
        "metric": "near_copies",
        "real_baseline": 0.0,
        "real_baseline_n": 98,
    }
    authenticity = recall | {"reference": "train", "real_baseline_n": 25, "low": 0.6, "high": 0.8}
    cell["result"]["scores"] += [
        recall | {"value": 0.15, "low": 0.10, "high": 0.22},
        recall | {"metric": "recall_at_baseline_n", "value": 0.30, "low": 0.22, "high": 0.41, "n_real": 30},
        *({**authenticity, "metric": name, "value": 0.7} for name in ("authenticity", "authenticity_at_baseline_n")),
        common | copies | {"value": 0.004, "low": 0.0, "high": 0.014, "n_real": 118},
    ]
    write_json(path, cell)
    page, text = read(write_report(study))
    (titles,) = [row for row in page.rows if "Recall" in row]
    (values,) = [row for row in page.rows if any(value.startswith("0.30 /") for value in row)]
    found = dict(zip(titles, values, strict=True))
    assert (found["Recall"], found["Near-copies"], found["m"]) == ("0.30 / 0.83", "0.004 / 0.000", "30 / 25")
    assert "0.30 / 0.83[0.22, 0.41]" in text and "0.004 / 0.000[0.000, 0.014]" in text


def test_images_made_elsewhere_and_an_own_test_set(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("from-folder",), sizes=(20,), mode=None, own_test=True)
    page, text = read(write_report(study))
    assert "supplied as a set of its own" in text
    assert ["from-folder", "0 / –"] in [row[:2] for row in page.rows]
    assert "samples" in page.ids


@pytest.mark.long
def test_what_was_told_while_images_were_scored_is_listed(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(20,), draws=2)
    assert "Notes on the images that were scored" not in read(write_report(study))[1]  # earlier versions kept none
    for path in cells_of(study, "score"):
        content = read_json(path)
        content["result"]["notes"] = ["class proportions of <b> are others"]
        write_json(path, content)
    _, text = read(write_report(study))
    assert "Notes on the images that were scored (1)" in text
    assert "fastgan, size 20, draw 0, seed 0; fastgan, size 20, draw 1, seed 0: class proportions of <b> are" in text


@pytest.mark.long
def test_two_draws_two_ratios_and_classes_apart(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=2, ratios=(0.5, 2.0), per_class=True, gans=("fastgan",), sizes=(20,))
    page, text = read(write_report(study))
    assert "Two draws of the training subset per size" in text
    assert "Distances, inception features, class malignant." in text
    rows = [row for row in page.rows if row[:3] == ["real+synthetic", "fastgan", "2"]]
    assert rows[0][3:5] == ["20 / 40", "0, 1 / 0, 1 / 0"]


@pytest.mark.long
def test_unfinished_study(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=2)
    runs = {path: read_json(path)["cell"] for path in cells_of(study, "classify")}
    one = next(path for path, cell in runs.items() if cell["size"] == 20)
    for path in [*cells_of(study, "score"), one, *(path for path, cell in runs.items() if cell["size"] == 40)]:
        path.unlink()
    left = [path.stem for path in (study / "cells").iterdir()]
    write_json(study / "plan.json", {"cells": [*left, *(path.stem for path in runs if path.stem not in left)]})
    page, text = read(write_report(study))
    assert f"This study is not finished: {len(left)} of {len(left) + 25} cells." in text
    assert "scores of stylegan2 at size 20" in text
    assert "resnet18, arm real, at size 40" in text
    assert "Classifiers (resnet18) were then trained with and without synthetic images" in text
    assert "left out of the figures and tables" in text
    assert "distances" not in page.ids and "samples" in page.ids
    for path in cells_of(study, "classify"):
        if read_json(path)["cell"]["gan"] is not None:
            path.unlink()
    assert "Classifiers (resnet18) were trained for 200 steps each" in read(write_report(study))[1]


def test_nothing_finished_yet(tmp_path):
    study = write_fake_study(tmp_path)
    for path in (study / "cells").iterdir():
        path.unlink()
    (study / "provenance.json").unlink()
    page, text = read(write_report(study))
    assert "is not finished" in text and "machine and versions are unknown" in text
    assert not page.images


def test_runs_that_other_draws_lack_are_left_out(tmp_path):
    study = write_fake_study(tmp_path, draws=3, seeds=(0, 1), gans=(), arms=("real",), sizes=(20,))
    gone = next(p for p in cells_of(study, "classify") if read_json(p)["cell"]["draw"] == 2)
    gone.unlink()
    (row,) = tables.f1_rows(read_record(study))
    assert (row.replicates, [len(of_draw) for of_draw in row.predictions], row.left_out) == ((0, 1), [2, 2], 1)


def test_results_of_earlier_settings_never_mix_with_present_ones(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real",), sizes=(20,), seeds=(0,))
    (path,) = cells_of(study, "classify")
    old = path.with_name("0-old.json")
    old.write_bytes(path.read_bytes())
    with pytest.raises(StudyError, match=r"are the same run under different settings"):
        read_record(study)
    write_json(study / "plan.json", {"cells": [path.stem, "not-yet"]})
    record = read_record(study)
    assert (len(record.classifiers), record.n_finished, record.n_planned) == (1, 1, 2)


def test_a_tie_from_rounding_is_no_damage(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real",), sizes=(20,), seeds=(0,))
    (path,) = cells_of(study, "classify")
    cell = read_json(path)
    row = cell["result"]["probabilities"][0]
    first, second = np.argsort(row)[::-1][:2]
    row[first] = row[second] = 0.45  # may now fall to the other class than the confusion matrix says
    write_json(path, cell)
    assert len(read_record(study).classifiers) == 1
    row[second] += 0.05
    write_json(path, cell)
    with pytest.raises(StudyError, match="does not follow"):
        read_record(study)


def test_no_study(tmp_path):
    with pytest.raises(StudyError, match=r"not a study directory: it has no study\.yaml"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_cells_are_named(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real",), sizes=(20,), seeds=(0,))
    (path,) = cells_of(study, "classify")
    cell = read_json(path)
    write_json(path, {**cell, "result": {**cell["result"], "confusion": [[1, 2, 3]] * 3}})
    with pytest.raises(StudyError, match=f"{path.name}: the confusion matrix does not follow"):
        write_report(study)
    write_json(path, {**cell, "result": {**cell["result"], "probabilities": [[0.5, 0.5]]}})
    with pytest.raises(StudyError, match="do not fit 30 test images of 3 classes"):
        write_report(study)
    write_json(path, {"cell": cell["cell"]})
    with pytest.raises(StudyError, match="lacks the field 'result'"):
        write_report(study)
    path.write_text("{")
    with pytest.raises(StudyError, match=r"is damaged"):
        write_report(study)


def test_command_prints_the_path_last(tmp_path, undrawn):
    study = write_fake_study(tmp_path / "s", gans=(), arms=("real",), sizes=(20,))
    app = typer.Typer()
    app.command()(report_command)
    result = CliRunner().invoke(app, [str(study), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    assert result.output.strip().splitlines()[-1] == str(tmp_path / "o" / "report.html")


def test_embedded_charts_are_vector_and_samples_grey(report):
    page, _ = read(report)
    kinds = [image["src"].partition(";")[0] for image in page.images]
    assert kinds.count("data:image/png") == 3 + 2 and kinds.count("data:image/svg+xml") == 2 + 4
    pngs = [base64.b64decode(i["src"].partition(",")[2]) for i in page.images if "png;" in i["src"]]
    assert [png[25] for png in pngs] == [4, 4, 4, 0, 0]  # colour type of the PNG header: greyscale, strips with alpha


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.0123, "−0.012"), (-0.0001, "0.000"), (None, "–"), (float("nan"), "–"), (2, "2.000")]
)
def test_numbers(value, expected):
    assert wording.number(value, 3) == expected


def test_percent():
    assert wording.percent(Interval(0.07, -0.021, 0.153)) == "+7.0\N{NO-BREAK SPACE}% [−2.1, +15.3]"
    assert wording.percent(None) == "–"


def test_many_generators_differ_in_colour_or_mark():
    order = [Generator(f"gan-{i}") for i in range(42)]
    assert len({(drawing.colour_of(one, order), drawing.marker_of(one, order)) for one in order}) == 42


def test_equal_draws_of_an_earlier_version_count_once(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(10, 20), draws=3)
    content = read_json(study / "split.json")
    first = next(s["indices"] for s in content["subsets"] if (s["size"], s["draw"]) == (20, 0))
    for subset in content["subsets"]:
        if subset["size"] == 20:
            subset["indices"] = first
    write_json(study / "split.json", content)
    record = read_record(study)
    assert {(s.size, s.replicate) for s in record.subsets} == {(10, 0), (10, 1), (10, 2), (20, 0)}
    for rows in (record.classifiers, record.scores, record.training):
        assert {row.replicate for row in rows if row.size == 20} == {0}
    _, text = read(write_report(study))
    assert "At size 20 every draw is the whole pool, so it counts as one draw." in text


def test_the_best_difference_is_adjusted_over_all_it_was_chosen_from(tmp_path, undrawn):
    study = write_fake_study(tmp_path, sizes=(10, 20), draws=3, ratios=(1.0, 2.0))
    record = read_record(study)
    found = contrasts(tables.f1_rows(record), record.design)
    primary = [c for c in found if c.primary]
    best = max(primary, key=lambda c: c.difference.absolute.value)
    result = findings(record, [], found, [], [])
    assert result.n_chosen_from == len(primary) > best.family
    assert result.best_p_value >= best.adjusted
    assert result.best_p_value <= min(1.0, best.difference.p_value * len(primary)) + 1e-12
    _, text = read(write_report(study))
    assert f"by Holm’s method among all {len(primary)}." in text


def test_subsets_with_few_images_per_group_are_told(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(10, 20))
    content, groups = read_json(study / "split.json"), read_record(study).data.groups
    pool = sorted(set(range(len(groups))) - set(content["test"]))
    _, first = np.unique(groups[pool], return_index=True)
    for subset in content["subsets"]:
        if subset["size"] == 10:
            subset["indices"] = [pool[i] for i in first[:10]]
    write_json(study / "split.json", content)
    _, text = read(write_report(study))
    told = (
        "Large groups seldom fit into small subsets: all images are 2.00 per group, those of the subsets 1.00 (size 10)"
    )
    assert told in text

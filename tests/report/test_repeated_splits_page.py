"""The report of a study over repeated splits, each with test images of its own."""

import re

import numpy as np
import pytest
from scipy import stats

from html_page import read
from made_up_study import CLASSES, cells_of, write_fake_study
from simulated_outcomes import macro_f1
from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import contrasts
from sonosynth.analysis.equivalent_real_images import curves, image_equivalences
from sonosynth.analysis.pairs import pairs
from sonosynth.analysis.power import detectable_differences
from sonosynth.analysis.read_record import read_record
from sonosynth.analysis.record import StudyRecord
from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, write_json
from sonosynth.report.study.page import write_report

pytestmark = pytest.mark.long

SPLITS = 5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_fake_study(tmp_path_factory.mktemp("splits"), repeats=SPLITS, gans=("fastgan",), sizes=(10, 20))


@pytest.fixture(scope="module")
def record(study) -> StudyRecord:
    return read_record(study)


@pytest.fixture(scope="module")
def rows(record):
    return tables.f1_rows(record)


@pytest.mark.long
def test_every_split_is_judged_by_its_own_images(record, rows):
    assert len(record.tests) == SPLITS and record.splits is not None
    assert len({tuple(test.extra["id"]) for test in record.tests}) == SPLITS
    row = rows[0]
    assert row.replicates == tuple(range(SPLITS))
    by_hand = [
        macro_f1(test.labels, predictions, len(CLASSES)).mean()
        for test, predictions in zip(record.tests, row.predictions, strict=True)
    ]
    assert row.macro.whole == pytest.approx(by_hand)


def test_differences_are_those_of_the_corrected_resampled_t_test(record, rows):
    c = next(c for c in contrasts(rows, record.design) if c.primary and c.row.size == 10)
    difference = c.row.macro.whole - c.baseline.macro.whole
    share = np.mean([len(test) for test in record.tests]) / (len(record.data) - max(map(len, record.tests)))
    error = np.sqrt((1 / SPLITS + share) * difference.var(ddof=1))
    assert c.difference.absolute.value == pytest.approx(difference.mean())
    half = (c.difference.absolute.high - c.difference.absolute.low) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, SPLITS - 1) * error)
    assert c.difference.p_value == pytest.approx(2 * stats.t.sf(abs(difference.mean()) / error, SPLITS - 1))
    assert c.adjusted >= c.difference.p_value and c.family == 2


def test_curves_worth_pairs_and_power_stand_on_splits_too(record, rows):
    found = contrasts(rows, record.design)
    assert all(curve.curve.covers == "splits" and len(curve.replicates) == SPLITS for curve in curves(rows))
    assert image_equivalences(rows)
    assert all(len(pair.tests) == SPLITS * 2 for pair in pairs(record, found))
    small, large = detectable_differences(record, found)
    assert (small.size, large.size, small.replicates, small.tested_replicates) == (10, 20, SPLITS, SPLITS)
    assert small.pairs == 2 and 0 < small.alone < small.in_family < 1


@pytest.mark.long
def test_page_speaks_of_splits(study, undrawn):
    _, text = read(write_report(study))
    assert "{{" not in text and not re.search(r"[a-z]\.[A-Z]", text)
    assert f"were divided at random {SPLITS} times" in text
    assert f"In each of {SPLITS} splits, all arms were evaluated on the same 30 test images" in text
    assert "Nadeau and Bengio 2003" in text and "crossed random factors" not in text
    assert "Corrected resampled t test, paired by split; Holm over sizes and generators" in text
    assert "test set, split 4" in text and "training, size 20, split 4" in text
    assert set(re.findall(r"\bdraws?\b.{0,3}", text, re.IGNORECASE)) == {"draws: 1"}  # of the settings in full


def test_two_splits_are_described(tmp_path, undrawn):
    study = write_fake_study(tmp_path, repeats=2, gans=("fastgan",), sizes=(10,))
    record = read_record(study)
    found = contrasts(tables.f1_rows(record), record.design)
    assert {c.difference.p_value for c in found} == {None}
    (power,) = detectable_differences(record, found)
    assert (power.pairs, power.replicates, power.tested_replicates) == (0, 2, 3) and 0 < power.alone < 1
    _, text = read(write_report(study))
    assert "No p-value: two splits of the images: a description, not a test; three are needed." in text
    assert "Two splits of the images: this supports a description of these splits, not a test." in text


@pytest.mark.long
def test_planned_splits_are_no_finished_ones(tmp_path, undrawn):
    study = write_fake_study(tmp_path, repeats=5, gans=("fastgan",), sizes=(10,))
    for path in cells_of(study, "classify"):
        if read_json(path)["cell"]["draw"] > 1:
            path.unlink()
    _, text = read(write_report(study))
    assert "There are none: fewer than three splits have finished." in text
    assert "Two splits: a description of these splits" in text and "aim at splits" not in text
    assert "With fewer than three splits, as here, there are no intervals" in text


def test_splits_with_one_test_set_are_damage(tmp_path):
    study = write_fake_study(tmp_path, repeats=2, gans=(), arms=("real",), sizes=(10,))
    split = read_json(study / "split.json")
    split["repeats"][1]["test"] = split["repeats"][0]["test"]
    write_json(study / "split.json", split)
    with pytest.raises(StudyError, match="one test set"):
        read_record(study)


def test_splits_with_validation_images_of_their_own_are_one_series(tmp_path, undrawn):
    study = write_fake_study(tmp_path, repeats=3, gans=("fastgan",), sizes=(10,))
    for path in cells_of(study, "classify"):
        content = read_json(path)
        content["result"]["n_validation"] = 7
        write_json(path, content)
    rows = tables.f1_rows(read_record(study))
    assert {row.replicates for row in rows} == {(0, 1, 2)} and not any(row.series.levels for row in rows)


def test_sensitivity_is_a_mean_over_runs_where_test_sets_differ(record, rows):
    row = rows[0]
    runs = [run for run in record.classifiers if (run.arm, run.size) == (row.series.arm, row.size)]
    confusions = [np.array(run.confusion) for run in runs]
    recalls = [confusion.diagonal() / confusion.sum(axis=1) for confusion in confusions]
    assert row.rates[0] == pytest.approx(np.mean(recalls, axis=0))

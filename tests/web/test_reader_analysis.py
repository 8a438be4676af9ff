"""From answers to numbers, on studies whose result is known."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reader_studies import small_study
from sonosynth.core.errors import OutputError, ReaderStudyError
from sonosynth.web.answers import Answer, Answers
from sonosynth.web.reader_analysis import analyse_readers
from sonosynth.web.reader_report import write_reader_report


def answers_of(study, reader, rate, **more):
    return [
        Answer(reader, position, item, rate(study.items[item], position), None, None, None, 1500, 2000)
        for position, item in enumerate(study.order(reader))
    ]


def knows(item, _):
    return 6 if item.synthetic else 1


def guesses(seed):
    rng = np.random.default_rng(seed)
    return lambda item, _: int(rng.integers(1, 7))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return small_study(tmp_path_factory.mktemp("study"), per_class=10, repeats=8).study


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    return small_study(tmp_path_factory.mktemp("reported"), per_class=4)


def test_readers_who_know_are_right(study):
    found = analyse_readers(study, [a for r in ("R01", "R02") for a in answers_of(study, r, knows)])
    assert [(r.sensitivity[0], r.specificity[0], r.auc, r.agreement) for r in found.readers] == [(1, 1, 1, 1)] * 2
    assert found.readers[0].median_seconds == 1.5
    assert found.fleiss == 1 and found.cohen == (("R01", "R02", 1.0),)
    assert found.distinguishable_p == 0
    assert found.verdict.startswith("Readers told synthetic from real images")


def test_scores_of_a_reader_are_those_of_first_ratings(study):
    mine = answers_of(study, "R01", guesses(1))
    other = answers_of(study, "R02", guesses(2))
    first = {}
    for answer in mine:
        first.setdefault(answer.item, answer.rating)
    truth = [study.items[i].synthetic for i in study.rated]
    ratings = [first[i] for i in study.rated]
    found = analyse_readers(study, mine + other).readers[0]
    assert found.auc == pytest.approx(roc_auc_score(truth, ratings))
    called = np.array(ratings) >= 4
    assert found.sensitivity[0] == called[np.array(truth)].mean()
    assert found.specificity[0] == 1 - called[~np.array(truth)].mean()
    assert found.sensitivity[1] < found.sensitivity[0] < found.sensitivity[2]


def test_readers_who_press_one_key_show_nothing(study):
    def constant(item, position):
        return 3

    found = analyse_readers(study, [a for r in ("R01", "R02") for a in answers_of(study, r, constant)])
    assert found.auc.obuchowski_rockette.value == 0.5
    assert found.equivalence_p == 1
    assert found.verdict.startswith("Open")
    assert any("no spread" in note for note in found.notes)


def test_many_guessing_readers_show_equivalence(study):
    found = analyse_readers(study, [a for k in range(9) for a in answers_of(study, f"R{k}", guesses(k))], margin=0.2)
    assert found.equivalence_p < 0.05
    assert found.verdict.startswith("Readers could not tell")


def test_few_guessing_readers_leave_it_open(study):
    found = analyse_readers(study, [a for k in range(3) for a in answers_of(study, f"R{k}", guesses(k))], margin=0.05)
    assert found.verdict.startswith("Open")


def test_readers_who_are_fooled_are_told(study):
    def fooled(item, _):
        return 1 if item.synthetic else 6

    found = analyse_readers(study, [a for r in ("R01", "R02") for a in answers_of(study, r, fooled)])
    assert "more often than real ones" in found.verdict


def test_one_reader_gives_no_verdict(study):
    found = analyse_readers(study, answers_of(study, "R01", knows))
    assert found.auc is None and found.fleiss is None and found.cohen == ()
    assert "no verdict" in found.verdict


def test_readers_who_did_not_finish_are_left_out_and_named(study):
    whole, half = answers_of(study, "R01", knows), answers_of(study, "R02", knows)[:-1]
    found = analyse_readers(study, whole + half)
    assert [r.reader for r in found.readers] == ["R01"]
    assert "R02 did not finish and is left out" in found.notes
    with pytest.raises(ReaderStudyError, match="no reader has finished"):
        analyse_readers(study, half)


def test_diagnoses_on_synthetic_images_are_compared_with_those_on_real_ones(study):
    asked = study.model_copy(update={"questions": ("class",)})

    def labelled(reader, wrong_synthetic):
        return [
            replace(a, label="dark" if asked.items[a.item].synthetic and wrong_synthetic else asked.items[a.item].label)
            for a in answers_of(asked, reader, knows)
        ]

    same = analyse_readers(asked, labelled("R01", False) + labelled("R02", False))
    assert same.accuracy_difference.value == 0 and same.accuracy_equivalence_p == 1  # no spread
    worse = analyse_readers(asked, labelled("R01", True) + labelled("R02", True))
    assert worse.readers[0].accuracy == (1.0, 0.5)
    assert worse.accuracy_difference.value == -0.5 and worse.accuracy_equivalence_p > 0.9


@pytest.mark.parametrize("margin", [0, -0.1, 0.5, float("nan")])
def test_a_margin_that_means_nothing_is_refused(study, margin):
    with pytest.raises(ReaderStudyError, match="--margin"):
        analyse_readers(study, answers_of(study, "R01", knows), margin=margin)


def test_a_report_has_the_page_the_answers_and_the_numbers(frozen, tmp_path):
    study = frozen.study
    answers = Answers(frozen.directory / "answers.sqlite", study.images_sha256)
    for name in (answers.new_reader(), answers.new_reader()):
        for answer in answers_of(study, name, guesses(int(name[1:]))):
            assert answers.record(answer)
    found = write_reader_report(frozen.directory, tmp_path / "out")
    page = (tmp_path / "out" / "readers.html").read_text()
    assert found.verdict in page and "Gallas" in page and "http" not in page
    numbers = json.loads((tmp_path / "out" / "readers.json").read_text())
    assert numbers["auc"]["obuchowski_rockette"]["value"] == found.auc.obuchowski_rockette.value
    with (tmp_path / "out" / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(study.order("R01"))
    assert sum(int(row["repeated"]) for row in rows) == 2 * study.repeats
    with pytest.raises(OutputError):
        write_reader_report(frozen.directory, tmp_path / "out")


def test_the_input_of_imrmc_has_every_truth_and_every_first_rating(frozen, tmp_path):
    from sonosynth.web.reader_analysis import write_imrmc

    study = frozen.study
    write_imrmc(tmp_path / "imrmc.csv", study, answers_of(study, "R01", knows))
    lines = (tmp_path / "imrmc.csv").read_text().splitlines()
    data = [line.split(",") for line in lines[lines.index("BEGIN DATA:") + 1 :]]
    truth = {case: int(value) for reader, case, modality, value in data if reader == "-1"}
    assert truth == {study.items[i].name: int(study.items[i].synthetic) for i in study.rated}
    rated = {case: int(value) for reader, case, modality, value in data if reader == "R01"}
    assert rated == {case: 6 if synthetic else 1 for case, synthetic in truth.items()}

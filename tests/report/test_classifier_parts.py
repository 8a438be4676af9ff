"""What the report says of classifiers: paired tests, curves, worth, power, further scores, arms of all kinds."""

from dataclasses import replace

import numpy as np
import pytest

from f1_scores import macro_f1_difference, macro_f1_scores
from html_page import answers, parse, read
from made_up_study import CLASSES, cells_of, write_cell, write_fake_study
from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import contrasts
from sonosynth.analysis.equivalent_real_images import curves, image_equivalences
from sonosynth.analysis.findings import findings, tally
from sonosynth.analysis.pairs import pairs
from sonosynth.analysis.power import detectable_differences
from sonosynth.analysis.read_record import read_record
from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, write_json
from sonosynth.report.study import page as study_pages
from sonosynth.report.study.classifier_figures import learning_figures
from sonosynth.report.study.classifier_tables import filter_rows, on_synthetic
from sonosynth.report.study.page import study_page, write_report
from sonosynth.report.wording import p_text
from sonosynth.statistics.comparisons import holm
from sonosynth.statistics.learning_curves import equivalent_real_images
from sonosynth.statistics.power import BUSI_COMPONENTS, fixed_test_error, minimum_detectable_difference
from sonosynth.statistics.scores import Interval
from sonosynth.study.results import Generator

pytestmark = pytest.mark.long

ALL_ARMS = (
    *("real", "real+classical", "oversampled", "real+synthetic", "real+classical+synthetic"),
    *("synthetic-only", "test-on-synthetic"),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three draws, two seeds, two generators, two sizes, two ratios, every arm."""
    return write_fake_study(
        tmp_path_factory.mktemp("arms") / "s", draws=3, arms=ALL_ARMS, sizes=(10, 20), ratios=(1.0, 2.0)
    )


@pytest.fixture(scope="module")
def record(study):
    return read_record(study)


@pytest.fixture(scope="module")
def rows(record):
    return tables.f1_rows(record)


@pytest.fixture
def page_of(tmp_path, undrawn):
    """Takes a record and returns its page."""
    return lambda record: study_page(record, tmp_path / "figures")


def all_contrasts(study):
    record = read_record(study)
    return contrasts(tables.f1_rows(record), record.design)


def row_of(rows, arm, size, gan=None, ratio=None):
    return next(
        row
        for row in rows
        if (row.series.arm, row.size, row.series.ratio) == (arm, size, ratio)
        and (row.series.generator.gan if row.series.generator else None) == gan
    )


@pytest.mark.long
def test_every_arm_meets_its_baselines(record, rows):
    pairs = {(c.row.series.arm, c.baseline.series.arm) for c in contrasts(rows, record.design)}
    assert pairs == {
        ("real+classical", "real"),
        ("oversampled", "real"),
        ("real+synthetic", "real"),
        ("real+synthetic", "oversampled"),
        ("real+classical+synthetic", "real"),
        ("real+classical+synthetic", "real+classical"),
        ("real+classical+synthetic", "oversampled"),
        ("synthetic-only", "real"),
    }
    for c in contrasts(rows, record.design):
        assert c.row.size == c.baseline.size
        if c.baseline.series.arm == "oversampled":
            assert c.row.series.ratio == c.baseline.series.ratio
    assert {(c.row.series.arm, c.baseline.series.arm) for c in contrasts(rows, record.design) if c.primary} == {
        ("real+synthetic", "real"),
        ("real+classical+synthetic", "real+classical"),
    }
    assert {c.row.series.arm for c in contrasts(rows, record.design) if c.same_volume} == {"real+synthetic"}


def test_p_values_are_adjusted_over_sizes_and_generators(record, rows):
    family = [
        c
        for c in contrasts(rows, record.design)
        if (c.row.series.arm, c.baseline.series.arm, c.row.series.ratio) == ("real+synthetic", "real", 2.0)
    ]
    assert [(c.row.size, c.row.series.generator.gan) for c in family] == [
        *((10, "stylegan2"), (10, "stylegan2-diffaug")),
        *((20, "stylegan2"), (20, "stylegan2-diffaug")),
    ]
    test, p = record.tests[0], []
    for c in family:
        both = np.stack(c.baseline.predictions), np.stack(c.row.predictions)
        p.append(macro_f1_difference(test.labels, test.groups, *both, len(CLASSES)).p_value)
        assert c.difference.p_value == pytest.approx(p[-1]) and c.family == 4
    assert [c.adjusted for c in family] == pytest.approx(holm(p))
    assert max(c.adjusted - c.difference.p_value for c in family) > 0


@pytest.mark.long
def test_comparisons_that_have_not_finished_count_in_their_family(tmp_path):
    study = write_fake_study(tmp_path, draws=3, sizes=(10, 20, 40), arms=("real", "real+classical", "real+synthetic"))
    whole = {key(c): c for c in all_contrasts(study)}
    assert {(c.primary, c.family) for c in whole.values()} == {(True, 6), (False, 3)}
    found = all_contrasts(without(study, lambda cell: cell["size"] > 10))
    assert len(found) == 3 and {(c.primary, c.family) for c in found} == {(True, 6), (False, 3)}
    for asked, n in ((True, 6), (False, 3)):
        p = [c.difference.p_value for c in found if c.primary == asked]
        assert [c.adjusted for c in found if c.primary == asked] == pytest.approx(
            holm(p + [1.0] * (n - len(p)))[: len(p)]
        )
    assert all(c.adjusted >= whole[key(c)].adjusted for c in found)


def key(c):
    return c.row.series, c.row.size, c.baseline.series


def test_pairs_are_of_one_draw_and_seed_and_adjusted_among_themselves(record, rows):
    c = next(c for c in contrasts(rows, record.design) if c.primary and c.row.size == 20)
    (found,) = pairs(record, [c])
    seeds = [seed for _, seed in c.row.runs]
    assert len(found.tests) == len(c.replicates) * len(seeds)
    labels, right = record.tests[0].labels, []
    for draw in c.replicates:
        for place, seed in enumerate(seeds):
            a = c.baseline.predictions[c.baseline.replicates.index(draw)][c.baseline.runs.index((None, seed))] == labels
            b = c.row.predictions[c.row.replicates.index(draw)][place] == labels
            right.append((int((a & ~b).sum()), int((b & ~a).sum())))
    assert [(t.only_a, t.only_b) for t in found.tests] == right
    assert found.alone == pytest.approx(np.mean(right, axis=0))
    assert found.differences[1] == pytest.approx(np.mean([b - a for a, b in right]) / len(labels))
    p = [t.p_value for t in found.tests]
    assert found.differing == sum(adjusted <= 0.05 for adjusted in holm(p))


def test_pairs_need_a_seed_that_both_arms_have(record, rows):
    c = next(c for c in contrasts(rows, record.design) if c.primary)
    apart = replace(c, baseline=replace(c.baseline, runs=tuple((None, 90 + seed) for _, seed in c.baseline.runs)))
    assert pairs(record, [apart]) == []


@pytest.mark.long
def test_two_draws_have_no_p_value_but_a_reason(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=2, gans=("fastgan",), sizes=(10, 20))
    found = all_contrasts(study)
    assert {c.adjusted for c in found} == {None} and {c.difference.p_value for c in found} == {None}
    _, text = read(write_report(study))
    assert "No p-value: two draws of the training subset: a description, not a test; three are needed." in text
    assert "can detect nothing. Three would detect a true difference" in text
    assert "Holm (" not in text and "p, Holm" not in text


def test_worth_is_read_off_the_curve_of_the_same_arm(record, rows):
    found = next(
        w
        for w in image_equivalences(rows)
        if (w.row.series.arm, w.row.size, w.row.series.ratio) == ("real+classical+synthetic", 10, 1.0)
        and w.row.series.generator.gan == "stylegan2-diffaug"
    )
    test = record.tests[0]
    scores = [
        macro_f1_scores(test.labels, test.groups, np.stack(row.predictions), len(CLASSES))
        for row in (*(row_of(rows, "real+classical", size) for size in (10, 20)), found.row)
    ]
    expected = equivalent_real_images([10, 20], scores[:2], 10, scores[2])
    assert found.baseline.arm == "real+classical" and found.worth == expected
    assert {w.row.series.arm for w in image_equivalences(rows)} == {"real+synthetic", "real+classical+synthetic"}


def test_worth_in_real_images_is_told_only_where_it_is_settled(record, rows, page_of, monkeypatch):
    (one, *_) = (w for w in image_equivalences(rows) if w.row.size == 10)

    def made(value, low, high):
        return replace(one, worth=replace(one.worth, equivalent=Interval(value, low, high)))

    every = [made(np.inf, 12, np.inf), made(14, 8, np.inf), made(-np.inf, -np.inf, -np.inf), made(12, np.nan, np.nan)]
    found = findings(record, [], [], every, [])
    assert found.equivalence_sides == {"above": 1, "below": 1, "spans": 1, "unknown": 1}
    assert found.settled == (every[0], every[2])
    monkeypatch.setattr(study_pages, "image_equivalences", lambda _: every)
    page, text = parse(page_of(record))
    start = next(i for i, row in enumerate(page.rows) if "Equivalent real images" in row) + 1
    assert [row[-4:] for row in page.rows[start : start + 4]] == [
        ["> 20", "12 to > 20", "> +10", "more"],
        ["14", "8 to > 20", "+4", "not settled"],
        ["< 10", "< 10", "< 0", "fewer"],
        ["12", "–", "+2", "not settled"],
    ]
    assert "Of 4 arms and sizes, training with synthetic images equals training with more real images in 1" in text
    assert "In 2 this is not settled" in text
    assert text.count("10 real images with synthetic ones equal") == 2
    assert "Size 10, resnet18, real+synthetic, stylegan2, 1 synthetic image per real image: 10 real images with" in text


def test_curves_leave_out_sizes_that_lack_draws(tmp_path):
    study = write_fake_study(tmp_path, draws=3, gans=(), arms=("real",), sizes=(10, 20, 40), seeds=(0,))
    (whole,) = curves(tables.f1_rows(read_record(study)))
    assert (whole.replicates, whole.curve.sizes, whole.left_out) == ((0, 1, 2), (10, 20, 40), ())
    for path in cells_of(study, "classify"):
        if (cell := read_json(path)["cell"])["size"] == 40 and cell["draw"] > 0:
            path.unlink()
    (part,) = curves(tables.f1_rows(read_record(study)))
    assert (part.replicates, part.curve.sizes, part.left_out) == ((0, 1, 2), (10, 20), (40,))
    assert part.curve.points == whole.curve.points[:2]


def test_power_is_of_the_study_itself(record, rows, page_of):
    small, large = detectable_differences(record, contrasts(rows, record.design))
    assert (small.size, large.size, small.replicates, small.seeds, small.family) == (10, 20, 3, 2, 4)
    assert small.pairs == 8 and small.tested_replicates == 3  # two arms, two generators, two ratios
    assert 0 < small.alone < small.in_family < 1
    _, text = parse(page_of(record))
    assert small.alone_range[0] < small.alone < small.alone_range[1] and small.generators == 1

    assert small.alone_range[1] > 1  # no difference of F1 is

    def limits(d):
        low, high = (f"{end:.3f}" if end < 1 else "more than 1" for end in d.alone_range)
        return f"{d.alone:.3f} [{low}, {high}]"

    sizes = f"{limits(small)} (size 10) and {limits(large)} (size 20)"
    assert (
        f"with a power of 80% if it is {sizes} in a single test" in text
        and "This follows from the variances of this study itself." in text
    )


def test_power_stands_on_busi_where_a_study_knows_no_variance(tmp_path, page_of):
    study = write_fake_study(tmp_path, draws=1, gans=("fastgan",), sizes=(10,))
    record = read_record(study)
    (found,) = detectable_differences(record, contrasts(tables.f1_rows(record), record.design))
    groups = len(np.unique(record.tests[0].groups))
    assert found.alone == pytest.approx(minimum_detectable_difference(*fixed_test_error(BUSI_COMPONENTS, 3, 2, groups)))
    assert (found.pairs, found.replicates, found.tested_replicates, found.alone_range) == (0, 1, 3, None)
    _, text = parse(page_of(record))
    assert "can detect nothing" in text and "Variances are those of ResNet-18 on BUSI" in text


@pytest.mark.long
@pytest.mark.parametrize(("seeds", "covered"), [((0,), "test groups"), ((0, 1), "test groups and seeds")])
def test_what_intervals_of_one_draw_cover(tmp_path, undrawn, seeds, covered):
    study = write_fake_study(tmp_path, draws=1, gans=("fastgan",), sizes=(10, 20), seeds=seeds)
    _, text = read(write_report(study))
    assert f"Intervals cover other {covered}; other training subsets could turn out differently." in text
    assert f"t over {covered}; with fewer than three draws" in text
    assert f"intervals cover other {covered} only, hold for these training subsets alone" in text
    assert f", over {covered} only)" in text
    assert f"With fewer than three draws the intervals cover other {covered}, for these training subsets" in text


def test_seeds_of_generators_are_seeds_too(tmp_path):
    study = write_fake_study(tmp_path, draws=1, gans=("fastgan",), sizes=(10,), seeds=(0,))
    assert read_record(study).beside_replicates == "test groups"
    for path in cells_of(study, "classify"):
        content = read_json(path)
        if content["cell"]["gan"]:
            write_cell(study, content["cell"] | {"gan_seed": 1}, content["result"])
    assert read_record(study).beside_replicates == "test groups and seeds"


def without(study, unfinished):
    """Remove the finished classifiers whose cell is `unfinished`."""
    for path in cells_of(study, "classify"):
        if unfinished(read_json(path)["cell"]):
            path.unlink()
    return study


@pytest.mark.long
def test_planned_draws_are_no_finished_ones(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=5, gans=("fastgan",), sizes=(10, 20))
    _, text = read(write_report(without(study, lambda cell: cell["draw"] > 0)))
    assert (
        "One draw of the training subset per size" in text and "t over test groups and seeds; with fewer than" in text
    )
    assert "as here, intervals cover other test groups and seeds only" in text
    assert ", over test groups and seeds only)" in text and "other draws of this pool" not in text
    assert "Intervals cover other draws" not in text


@pytest.mark.long
def test_a_size_with_too_few_draws_is_named(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(10, 20))
    _, text = read(write_report(without(study, lambda cell: cell["size"] == 20 and cell["draw"] > 0)))
    assert "cover other draws and other test groups (at size 20: other test groups and seeds alone);" in text
    assert "as at size 20, intervals cover other test groups and seeds only" in text
    assert "Fewer than three draws have finished at size 20: a description" in text
    assert "At size 20, there are too few draws for that." in text
    assert "over test groups and seeds only at size 20" in text


@pytest.mark.long
def test_draws_that_no_two_arms_share_make_no_test(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(10, 20))
    record = read_record(without(study, lambda cell: cell["draw"] == 2 and cell["arm"] != "real"))
    assert (max(record.finished_replicates), record.shared_replicates, record.is_tested) == (3, 2, False)
    _, text = read(write_report(study))
    assert "Two draws of the training subset per size, of some arms more: this supports a description" in text
    assert "Intervals of fewer than three draws cover other test groups and seeds; other training subsets" in text
    assert "Two draws of the training subsets per size, of some arms more: a description of these subsets" in text
    assert "Holm’s method over sizes and generators, intervals" not in text and "crossed random factors; s" not in text
    _, text = parse(study_page(replace(record, classifiers=one_arm_a_size(record)), tmp_path / "figures"))
    assert "No draw of the training subset per size that two arms have in common: this supports" in text


def one_arm_a_size(record):
    """Return the runs of one arm at size 10 and of another at size 20."""
    return tuple(run for run in record.classifiers if (run.arm, run.size) in (("real", 10), ("real+classical", 20)))


@pytest.mark.long
def test_arms_with_too_few_draws_are_named_beside_others_that_have_them(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(10, 20))
    without(study, lambda cell: cell["size"] == 20 and cell["draw"] == 2 and cell["gan"] is not None)
    _, text = read(write_report(study))
    assert "other test groups (at size 20, of some arms: other test groups and seeds alone);" in text
    assert "as at size 20, of some arms, intervals cover other test groups and seeds only" in text
    assert "Fewer than three draws have finished at size 20, of some arms: a description" in text
    without(study, lambda cell: cell["size"] == 10 and cell["draw"] > 0)
    assert read_record(study).untested_sizes == "10 and 20, of every or some arms"


def test_a_draw_that_lacks_seeds_is_not_finished(tmp_path):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(10,))
    assert read_record(study).is_tested
    record = read_record(without(study, lambda cell: cell["draw"] == 2 and cell["seed"] == 1))
    assert set(record.finished_replicates) == {2} and not record.is_tested


def call_all_one_class(study, size):
    """Let every classifier of one size call every image by the first class."""
    record = read_record(study)
    for path in cells_of(study, "classify"):
        content = read_json(path)
        if content["cell"]["size"] == size:
            test = record.test_of(content["cell"]["draw"])
            confusion = np.zeros((3, 3), dtype=int)
            np.add.at(confusion, (test.labels, 0), 1)
            told = {"probabilities": [[0.6, 0.3, 0.1]] * len(test), "confusion": confusion.tolist()}
            write_json(path, content | {"result": content["result"] | told})
    return study


@pytest.mark.long
@pytest.mark.parametrize("several", [{"draws": 3}, {"repeats": 5}])
def test_arms_that_call_everything_one_class_know_no_variance(tmp_path, several, page_of):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(10, 20), **several)
    record = read_record(call_all_one_class(study, 10))
    small, large = detectable_differences(record, contrasts(tables.f1_rows(record), record.design))
    assert small.pairs == 0 and large.pairs == 2 and 0.01 < small.alone < 1
    _, text = parse(page_of(record))
    assert "At size 10 variances are those of ResNet-18 on BUSI" in text and "vary too little" in text


def test_what_filters_left_is_not_of_the_same_volume(tmp_path):
    arms = ("real", "oversampled", "real+synthetic")
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(20,), arms=arms, ratios=(2.0,))
    assert any(c.same_volume for c in all_contrasts(study))
    for path in cells_of(study, "classify"):
        content = read_json(path)
        if content["cell"]["gan"]:
            write_json(path, content | {"cell": content["cell"] | {"filter": "distance", "filter_quantile": 0.1}})
    found = all_contrasts(study)
    assert any(c.baseline.series.arm == "oversampled" for c in found) and not any(c.same_volume for c in found)


def test_scores_on_synthetic_images_stand_apart(record, rows):
    assert len(record.on_synthetic) == 2 * 2 * 2 * 3 * 2
    assert all(run.arm != "test-on-synthetic" for run in record.classifiers)
    assert all(row.series.arm != "test-on-synthetic" for row in rows)
    found = on_synthetic(record)
    assert len(found) == 8 and all(row["n_test"] == {50} for row in found)
    runs = [r for r in record.on_synthetic if (r.gan, r.size, r.ratio) == ("stylegan2", 10, 1.0)]
    assert found[0]["metrics"]["macro_f1"][1] == pytest.approx(np.mean([run.metrics["macro_f1"] for run in runs]))


def test_further_scores_come_from_all_runs(record, page_of):
    page, _ = parse(page_of(record))
    start = next(i for i, row in enumerate(page.rows) if row[-2:] == ["Brier score", "Calibration error"])
    shown = next(row for row in page.rows[start:] if row[0] == "real")
    runs = [run for run in record.classifiers if (run.arm, run.size) == ("real", 10)]
    for name, both in zip(CLASSES, shown[-5:-2], strict=True):
        pair = [np.mean([run.metrics[f"{score}_{name}"] for run in runs]) for score in ("sensitivity", "specificity")]
        assert both == f"{pair[0]:.3f} / {pair[1]:.3f}"
    assert shown[-2].startswith(f"{np.mean([run.metrics['brier'] for run in runs]):.3f} (")


def test_runs_of_earlier_versions_are_read(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(10,))
    for path in cells_of(study, "classify"):
        content = read_json(path)
        del content["result"]["tested_on"], content["result"]["labels"]
        kept = {k: v for k, v in content["result"]["metrics"].items() if k.startswith(("macro", "f1", "bal", "auc"))}
        write_json(path, {**content, "result": {**content["result"], "metrics": kept}})
    page, _ = read(write_report(study))
    rows = [row for row in page.rows if row[:3] == ["real", "–", "10 / 0"] and " / " in row[3] and len(row) == 8]
    assert rows and rows[0][-2:] == ["–", "–"] and "–" not in rows[0][3]


@pytest.mark.long
def test_unknown_arms_and_new_factors_do_not_mix_or_break(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), arms=("real", "real+synthetic"), sizes=(10, 20))
    usual = [read_json(path) for path in cells_of(study, "classify") if read_json(path)["cell"]["gan"]]
    for content in usual:
        for change in (
            {"arm": "real+future+synthetic"},
            {"filter": "confidence", "filter_quantile": 0.1},
            {"fill": "balanced"},
            {"truncation": 0.7},
        ):
            write_cell(study, content["cell"] | change, content["result"])
    record = read_record(study)
    rows = [row for row in tables.f1_rows(record) if row.size == 10]
    assert [
        (row.series.arm, row.series.levels, row.series.generator and row.series.generator.truncation) for row in rows
    ] == [
        ("real", "", None),
        ("real+synthetic", "", 0.7),
        ("real+synthetic", "", 1.0),
        ("real+synthetic", "fill balanced", 1.0),
        ("real+synthetic", "filter confidence 0.1", 1.0),
        ("real+future+synthetic", "", 1.0),
    ]
    assert all(len(row.runs) == 2 for row in rows)
    assert {c.baseline.series.arm for c in contrasts(rows, record.design)} == {"real"}
    _, text = read(write_report(study))
    assert "real+future+synthetic" in text and "fastgan, ψ 0.7" in text and "filter confidence 0.1" in text
    assert len(learning_figures(curves(rows), "resnet18", tables.generators(record), tmp_path)) == 3
    write_cell(study, usual[0]["cell"] | {"fill": "balanced", "subset": "another"}, usual[0]["result"])
    with pytest.raises(StudyError, match="are the same run under different settings"):
        read_record(study)


def test_filters_show_what_they_accept_and_what_it_costs(tmp_path, page_of):
    study = write_fake_study(tmp_path, gans=("fastgan",), arms=("real",), sizes=(10,), draws=2)
    for draw, acceptance in ((0, 0.5), (1, 0.7)):
        cell = {"kind": "filter", "gan": "fastgan", "mode": "conditional", "gan_seed": 0, "truncation": 1.0}
        cell |= {"size": 10, "draw": draw, "filter": "distance", "filter_quantile": 0.1}
        result = {
            "candidates": {"benign": 30, "malignant": 20, "normal": 10},
            "acceptance": acceptance,
            "acceptance_by_class": {"benign": acceptance, "malignant": 1.0},
            **{"coverage_accepted": 0.4, "coverage_same_number": 0.5, "lost_coverage": 0.25 if draw else None},
        }
        write_cell(study, cell, result)
    record = read_record(study)
    (row,) = filter_rows(record, tables.generators(record))
    assert (row["generator"].gan, row["level"]) == ("fastgan", "distance 0.1")
    assert (row["candidates"], row["draws"], row["seeds"]) == ({60}, {0, 1}, {0})
    assert row["acceptance"] == pytest.approx(0.6) and row["by_class"] == pytest.approx([0.6, 1.0, None])
    assert row["coverage"] == pytest.approx([0.4, 0.5]) and row["lost"] is None  # one of the two is not known
    page, _ = parse(page_of(record))
    assert [
        "fastgan",
        "distance 0.1",
        "10",
        "0, 1 / 0",
        "60",
        "0.60",
        "0.60",
        "1.00",
        "–",
        "0.40",
        "0.50",
        "–",
    ] in page.rows


@pytest.mark.long
def test_reviewers_find_their_answers(record, page_of):
    html = page_of(record)
    found = answers(html)
    assert found["How many images?"][0] == "Training 10 and 20; test 30 in 15 groups, the same for every arm."
    assert found["Which draws and seeds?"][0] == "3 draws per size, GAN seeds 0, classifier seeds 0, 1; split seed 11."
    tuned = "Nothing on the test images; each classifier 200 steps, no selection; generators: the last weights."
    assert found["What was tuned on which data?"][0] == tuned
    assert found["Which test, and which correction?"][0].endswith("; Holm over sizes and generators (4 comparisons).")
    assert "crossed random factors" in found["How are intervals computed?"][0]
    assert found["Which versions?"][0] == "sonosynth 0.1.0, torch 2.13.0, CPU (x86_64, AVX2)."
    page, text = parse(html)
    assert len(found) == 8 and {link for _, link in found.values()} <= page.ids
    assert "They compare with no other table" in text and "Cohen’s d" in text


def test_other_machines_of_a_record_are_told(record, page_of):
    elsewhere = replace(record, made_on={"NVIDIA H200, bfloat16, torch 2.11.0": 2} | dict(record.made_on))
    versions, _ = answers(page_of(elsewhere))["Which versions?"]
    assert versions.endswith("(x86_64, AVX2); 2 cells by NVIDIA H200, bfloat16, torch 2.11.0.")


@pytest.mark.parametrize(
    ("training", "told"),
    [
        (
            {"patience_kimg": 20.0},
            "the last weights, the length of each run chosen by distance to the training subset",
        ),
        ({"snapshot": "best"}, "the weights nearest to the training subset"),
    ],
)
def test_that_patience_chose_the_length_of_runs_is_told(record, page_of, training, told):
    changed = record.design.training.model_copy(update=training)
    html = page_of(replace(record, design=record.design.model_copy(update={"training": changed})))
    assert answers(html)["What was tuned on which data?"][0].endswith(f"; generators: {told}.")


def test_dropped_duplicates_are_told_first(record, page_of):
    note = "19 images dropped: copies that carry different labels"
    data = record.provenance["data"] | {"notes": [*record.provenance["data"]["notes"], note]}
    told, link = answers(page_of(replace(record, provenance={**record.provenance, "data": data})))[
        "How are groups and duplicates handled?"
    ]
    assert told.endswith(f"; {note}.") and link == "data"


def test_generators_of_one_name_are_told_apart():
    both = [Generator("fastgan", "per_class"), Generator("fastgan", "conditional", 0.7)]
    assert [g.label(both) for g in both] == ["fastgan (per_class)", "fastgan (conditional), ψ 0.7"]
    assert Generator("fastgan", "conditional").label([both[1], Generator("fastgan", "conditional")]) == "fastgan"


def test_the_largest_rectangle_is_kept():
    assert tables.complete_block({0: [1, 2, 3], 1: [1, 2], 2: [1]}) == ([0, 1], pytest.approx([1, 2]))
    assert tables.complete_block({5: [1], 3: [1]}) == ([3, 5], [1])
    assert tables.complete_block({}) == ([], [])


@pytest.mark.parametrize(("p", "expected"), [(None, "–"), (0.0004, "< 0.001"), (0.0312, "0.031"), (1.0, "1.000")])
def test_p_values_in_words(p, expected):
    assert p_text(p) == expected


def test_a_ratio_to_a_score_near_zero_is_told_as_no_ratio(record, rows, page_of, monkeypatch):
    found = contrasts(rows, record.design)
    largest = findings(record, [], found, [], []).largest_gain
    asked = [c for c in found if c.primary and c.baseline.series.arm == "real"]
    assert largest.difference.relative.value == max(c.difference.relative.value for c in asked)
    assert "below 100 real images: the largest relative" in parse(page_of(record))[1]
    unbounded = [replace(c, difference=replace(c.difference, relative=None)) for c in found]
    monkeypatch.setattr(study_pages, "contrasts", lambda *_: unbounded)
    told = "no figure from this study, because the F1 of real images alone is nowhere clearly above zero"
    assert told in parse(page_of(record))[1]
    monkeypatch.setattr(study_pages, "contrasts", lambda *_: [])
    assert "holds no such finished pair" in parse(page_of(record))[1]


def test_differences_are_counted_by_the_side_of_zero_they_lie_on(record, rows):
    found = [c for c in contrasts(rows, record.design) if c.primary and c.row.size == 10]
    ends = [(-0.2, -0.1), (-0.1, 0.1), (0.1, 0.2), (np.nan, np.nan)]
    made = [
        replace(c, difference=replace(c.difference, absolute=Interval(0.01 * i, low, high)), adjusted=p, family=4 + i)
        for i, (c, (low, high), p) in enumerate(zip(found, ends, (0.04, 0.06, 0.01, None), strict=False))
    ]
    told = tally(made)
    assert (told.n, told.sides) == (4, {"above": 1, "below": 1, "spans": 1, "unknown": 1})
    assert told.spread == pytest.approx((0, 0.015, 0.03))
    assert (told.families, told.tested, told.significant) == ((4, 5, 6, 7), 3, 2)
    assert tally(made, 20) is None

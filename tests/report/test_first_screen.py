"""The first screen of a study's report: one sentence of verdict, and three figures."""

import base64
import io
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from html_page import in_one_line, parse, read
from made_up_study import cells_of, write_fake_study
from sonosynth.analysis import tables
from sonosynth.analysis.contrasts import contrasts
from sonosynth.analysis.equivalent_real_images import curves, image_equivalence, image_equivalences
from sonosynth.analysis.read_record import read_record
from sonosynth.analysis.verdict import verdict
from sonosynth.core.files import read_json
from sonosynth.report import drawing
from sonosynth.report.drawing import INK, PAPER, Dot, colour_of, dot_figure, vector
from sonosynth.report.study import classifier_figures, figures
from sonosynth.report.study import page as study_pages
from sonosynth.report.study.page import study_page, write_report
from sonosynth.statistics.comparisons import holm
from sonosynth.statistics.scores import Interval
from sonosynth.study.results import Generator

CSS = Path(drawing.__file__).parent / "templates" / "report.css"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Three draws, one seed, two generators, three sizes, four arms."""
    study = tmp_path_factory.mktemp("first") / "s"
    return read_record(write_fake_study(study, draws=3, seeds=(0,), sizes=(10, 20, 40)))


@pytest.fixture(scope="module")
def rows(record):
    return tables.f1_rows(record)


@pytest.fixture(scope="module")
def found(record, rows):
    return contrasts(rows, record.design)


@pytest.fixture
def sentence_of(record, tmp_path, undrawn, monkeypatch):
    """Takes contrasts and returns the sentence of a page that has them, and what stands below it."""

    def sentence(made):
        monkeypatch.setattr(study_pages, "contrasts", lambda *_: made)
        return first_words(study_page(record, tmp_path / "figures"))

    return sentence


def first_words(html):
    """Return the sentence of verdict, and what it rests on."""
    paragraphs = [re.search(f'<p class="{name}">(.*?)</p>', html, re.DOTALL) for name in ("verdict", "basis")]
    return [in_one_line(unescape(re.sub("<.*?>", "", found[1]))) if found else "" for found in paragraphs]


def altered(found, *differences):
    """Return `found` with these differences and p-values for comparisons of synthetic images, zeros for the rest."""
    given = iter(differences)
    made = []
    for c in found:
        if c.primary:
            value, p = next(given, (0.0, 0.9))
            absolute = Interval(value, value - 0.01, value + 0.01)
            c = replace(c, difference=replace(c.difference, absolute=absolute, p_value=p), adjusted=p)
        made.append(c)
    return made


def test_the_best_of_what_holds_is_named_and_not_the_largest_of_all(rows, found):
    made = altered(found, (0.30, 0.2), (0.10, 1e-6), (0.20, 1e-5), (-0.05, 0.5))
    primary = [c for c in made if c.primary]
    told = verdict(rows, made)
    assert (told.outcome, told.gains, told.losses, told.n, told.n_planned) == ("helps", 2, 0, 12, 12)
    assert told.named.contrast is primary[2] and told.worst is None
    assert told.named.p_value == pytest.approx(holm([c.difference.p_value for c in primary])[2])


@pytest.mark.parametrize(
    ("differences", "outcome", "named", "worst"),
    [
        ([(0.1, 1e-6), (-0.1, 0.5)], "helps", 0.1, None),
        ([(0.1, 0.5), (-0.1, 1e-6), (-0.2, 1e-6)], "harms", -0.2, None),
        ([(0.1, 1e-6), (-0.1, 1e-6), (0.2, 1e-6), (-0.2, 0.5)], "mixed", 0.2, -0.1),
        ([(0.1, 0.01), (-0.1, 0.5)], "open", 0.1, None),  # 0.01 times 12 is no p below 0.05
        ([(0.1, None), (-0.1, None), *[(0.0, None)] * 10], "untested", 0.1, None),
    ],
)
def test_outcomes_follow_from_p_values_adjusted_over_all(rows, found, differences, outcome, named, worst):
    told = verdict(rows, altered(found, *differences))
    assert told.outcome == outcome
    assert told.named.contrast.difference.absolute.value == named
    assert (told.worst and told.worst.contrast.difference.absolute.value) == worst
    assert told.classical.contrast.row.series.arm == "real+classical"
    assert told.classical.contrast.row.size == told.named.contrast.row.size


def test_there_is_no_verdict_without_a_comparison_of_synthetic_images(rows, found):
    assert verdict(rows, [c for c in found if not c.primary]) is None


def test_the_worth_in_the_verdict_is_that_of_the_table(rows, found):
    told = verdict(rows, found)
    table = {(e.row.series, e.row.size): e.worth for e in image_equivalences(rows)}
    c = told.named.contrast
    assert told.named.worth == table[c.row.series, c.row.size] or told.named.no_worth_reason
    classical = image_equivalence(told.classical.contrast.row, rows, "real")
    assert told.classical.worth == classical.worth or told.classical.no_worth_reason


def test_why_a_gain_is_not_told_in_real_images(rows, found):
    def reason(rows, size, value):
        (c,) = [c for c in found if c.primary and c.row.size == size][:1]
        return verdict(rows, altered([c], (value, 1e-6))).named.no_worth_reason

    gain = next(e for e in image_equivalences(rows) if e.row.size == 20).worth.gain.value
    assert reason(rows, 20, 0.1 * np.sign(gain)) == "" and reason(rows, 20, -0.1 * np.sign(gain)) == "not rising"
    assert reason([row for row in rows if row.size == 20], 20, 0.1) == "one size"
    missing = [row for row in rows if row.size == 20 or row.series.generator is not None]
    assert reason(missing, 20, 0.1) == "unfinished"
    ends = [e for e in image_equivalences(rows) if e.row.size == 40 and e.worth.gain.value == np.inf]
    assert ends, "the made-up scores with synthetic images lie above the curve at its end"
    c = next(c for c in found if c.primary and (c.row.series, c.row.size) == (ends[0].row.series, 40))
    assert verdict(rows, altered([c], (0.1, 1e-6))).named.no_worth_reason == "beyond"


def equal_to(monkeypatch, value, low, high):
    """Let every arm be worth as many real images as `value`, of sizes measured from 10 to 40."""
    from sonosynth.analysis import verdict as module

    def made(row, rows, arm):
        one = image_equivalence(row, rows, arm)
        return replace(one, worth=replace(one.worth, equivalent=Interval(value, low, high)))

    monkeypatch.setattr(module, "image_equivalence", made)


def test_images_that_help_are_told_in_real_images(found, sentence_of, monkeypatch):
    equal_to(monkeypatch, 32.2, 14.0, np.inf)
    sentence, basis = sentence_of(altered(found, (0.1, 1e-6)))
    assert sentence == (
        "At n = 10 real training images, synthetic images of stylegan2 are worth 22 further real images [4, > 30], the "
        "best of 12 comparisons (p < 0.001, adjusted for all 12); classical augmentation alone is worth 22 [4, > 30]."
    )
    assert "after adjustment 1 gain and 0 losses keep p < 0.05." in basis
    assert "95% intervals (<, >: beyond the measured sizes), not widened for the choice of the best." in basis


def test_images_that_show_nothing_are_not_told_as_a_gain(found, sentence_of, monkeypatch):
    equal_to(monkeypatch, 12.0, -np.inf, 25.0)
    sentence, basis = sentence_of(altered(found, (0.1, 0.01)))
    assert sentence.startswith(
        "No benefit of synthetic images was found: the best of 12 comparisons, stylegan2 at n = 10, is worth 2 further "
        "real images [< 0, 15] (p = 0.120, adjusted for all 12); classical"
    )
    assert "That no benefit was found does not show that there is none." in basis


def test_images_that_harm_are_told_with_the_worst(found, sentence_of, monkeypatch):
    equal_to(monkeypatch, 12.0, -np.inf, 15.0)
    at_20 = [(0.0, 0.9)] * 2 + [(-0.1, 1e-6)]
    sentence, _ = sentence_of(altered([c for c in found if c.primary and c.row.series.arm == "real+synthetic"], *at_20))
    assert sentence == (
        "Synthetic images made the classifier worse: the worst of 6 comparisons, stylegan2 at n = 20, is worth 8 fewer "
        "real images [< −10, −5] (p < 0.001, adjusted for all 6)."
    )


def test_comparisons_that_have_not_finished_are_counted(found, sentence_of):
    sentence, basis = sentence_of(altered([c for c in found if c.primary and c.row.size == 10]))
    assert "the best of 4 comparisons so far" in sentence and "adjusted for all 12" in sentence
    assert basis.startswith("Of 4 comparisons (12 planned) of macro F1 with and without synthetic images")


def test_gains_and_losses_are_told_together(found, sentence_of, monkeypatch):
    equal_to(monkeypatch, 20.0, 10.0, 30.0)
    sentence, basis = sentence_of(altered(found, (0.1, 1e-6), (-0.1, 1e-6)))
    assert "Synthetic images help in 1 of 12 comparisons and harm in 1: the best, stylegan2 at n = 10, is" in sentence
    assert "and the worst, stylegan2-diffaug at n = 10, changes macro F1 by −0.100 [−0.110, −0.090]" in sentence
    assert "1 gain and 1 loss keep p < 0.05" in basis


def test_few_draws_settle_nothing(found, sentence_of, tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=2, gans=("fastgan",), sizes=(10, 20))
    sentence, basis = first_words(study_page(read_record(study), tmp_path / "figures"))
    assert sentence.startswith("Whether synthetic images help is not settled, as two draws of the images allow no test")
    assert ": the best of 4 comparisons, fastgan" in sentence and "p =" not in sentence and "keep p" not in basis
    assert "over test groups and seeds only" in basis


def test_the_ratio_that_the_verdict_speaks_of_is_the_one_drawn(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(10, 20), ratios=(0.5, 2.0), seeds=(0,))
    html = study_page(read_record(study), tmp_path / "figures")
    (ratio,) = re.findall(r"(\d\S*) synthetic per real image", first_words(html)[0])
    first = in_one_line(html[: html.index("</header>")])
    assert f"arm real+synthetic, {ratio} synthetic per real image. Bands" in first


def test_two_splits_have_no_bands(tmp_path, undrawn):
    study = write_fake_study(tmp_path, repeats=2, gans=("fastgan",), sizes=(10, 20), arms=("real", "real+synthetic"))
    html = study_page(read_record(study), tmp_path / "figures")
    sentence, basis = first_words(html)
    assert "as two splits of the images allow no test" in sentence and "[" not in sentence
    assert basis.startswith("There are no intervals") and "Brackets" not in basis
    assert "Bands" not in html[: html.index("</header>")]


def test_one_size_has_no_equivalent_real_images(tmp_path, undrawn):
    study = write_fake_study(tmp_path, draws=3, gans=("fastgan",), sizes=(20,), arms=("real", "real+synthetic"))
    html = study_page(read_record(study), tmp_path / "figures")
    sentence, basis = first_words(html)
    assert "the only comparison" in sentence or "synthetic images of fastgan" in sentence
    assert re.search(r"macro F1 by [+−]0\.\d{3} \[", sentence) and "classical" not in sentence
    assert "With one training size there is no learning curve" in basis and "comparisons of macro F1" not in basis
    assert "Scores of classifiers." in html and "Learning curves." not in html.split("</header>")[0]


def test_without_classifiers_the_verdict_is_about_distance(tmp_path, undrawn):
    study = write_fake_study(tmp_path, arms=(), sizes=(20, 40))
    sentence, basis = first_words(study_page(read_record(study), tmp_path / "figures"))
    assert sentence.startswith("At n = 40 real training images, synthetic images of stylegan2-diffaug come closest to")
    assert "where other real images are at 0.0040; of the 2 generators" in sentence
    assert basis.startswith("This study trains no classifiers, so it cannot say whether synthetic images help one.")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"gans": ()}, "This study has no synthetic images: it compares classifiers of real images alone."),
        ({"gans": ("fastgan",), "arms": ()}, "synthetic images of fastgan lie apart from the held-out images by a KID"),
    ],
)
def test_a_verdict_without_generators_or_with_one(tmp_path, undrawn, how, told):
    study = write_fake_study(tmp_path, **({"arms": ("real",)} | how))
    assert told in first_words(study_page(read_record(study), tmp_path / "figures"))[0]


def test_strips_show_as_many_images_of_every_source(record):
    rows = figures.sample_rows(record, tables.generators(record))[20]
    shown = figures.sample_strips(rows)
    assert [strip["label"] for strip in shown["strips"]] == ["real images", "stylegan2", "stylegan2-diffaug"]
    assert (shown["classes"], shown["each"]) == (record.data.classes, 2)
    px, gap, wide = 32, 1, 4
    for strip, row in zip(shown["strips"], rows, strict=True):
        grey, alpha = np.moveaxis(np.asarray(picture(strip["uri"])), -1, 0)
        assert grey.shape == (px, 6 * px + 3 * gap + 2 * wide)
        for c in range(3):
            indices = np.flatnonzero(row.images.labels == c)[:2]
            for k in range(2):
                x = c * (2 * px + gap + wide) + k * (px + gap)
                there = k < len(indices)
                assert (alpha[:, x : x + px] == (255 if there else 0)).all()
                if there:
                    assert np.array_equal(grey[:, x : x + px], row.images.images[indices[k]])
        assert shown["gap"] == wide / grey.shape[1]
        assert strip["alt"].startswith(f"{strip['label']}: 2 benign, 2 malignant, ") and "draw 0" in strip["alt"]


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_images_are_of_the_size_that_the_verdict_names(record, found, tmp_path, undrawn, monkeypatch):
    at_10 = [c for c in found if c.row.size == 10]
    monkeypatch.setattr(study_pages, "contrasts", lambda *_: at_10)
    assert "n = 10 real training images. <a" in study_page(record, tmp_path).split("</header>")[0]
    monkeypatch.setattr(study_pages, "contrasts", lambda *_: [])
    assert "n = 40 real training images. <a" in study_page(record, tmp_path).split("</header>")[0]


def test_curves_of_all_generators_stand_beside_the_named_one(record, rows, found, tmp_path, undrawn):
    named = next(c for c in found if c.primary and c.baseline.series.arm == "real+classical")
    order = tables.generators(record)
    told = classifier_figures.f1_summary(curves(rows), "resnet18", named, order, tmp_path)
    arm = "real+classical+synthetic"
    shown = [(c.series.arm, c.series.generator and c.series.generator.gan) for c in told.curves]
    assert shown == [("real", None), ("real+classical", None), (arm, "stylegan2"), (arm, "stylegan2-diffaug")]
    assert {c.series for c in told.banded} == {named.row.series, named.baseline.series}
    point = next(row for row in rows if (row.series, row.size) == (named.row.series, 20)).intervals.macro_f1
    assert f"{point.value:.3f} [{point.low:.3f}, {point.high:.3f}] at 20" in told.picture.alt
    alone = classifier_figures.f1_summary(curves(rows), "resnet18", None, order, tmp_path)
    assert [c.series.arm for c in alone.curves] == ["real", "real+classical"] and alone.banded == alone.curves


def test_the_distance_shown_is_unbiased_and_told_in_numbers(record, tmp_path, undrawn):
    distances, order = tables.distances(record), tables.generators(record)
    drawn, shown = figures.distance_summary(distances, "inception", order, tmp_path)
    assert {(d.metric, d.reference) for d in shown} == {("kernel_distance", "held-out")} and len(shown) == 6
    first = shown[0].interval
    assert f"stylegan2: {first.value:.4f} [{first.low:.4f}, {first.high:.4f}] at 10, " in drawn.alt
    assert "real baseline: 0.0040 at 10, 0.0040 at 20, 0.0040 at 40." in drawn.alt
    frechet = [d for d in distances if d.metric == "frechet_distance"]
    assert figures.distance_summary(frechet, "inception", order, tmp_path)[1][0].metric == "frechet_distance"
    assert figures.distance_summary(distances, "pixels", order, tmp_path) is None


def test_no_figure_is_drawn_twice(record, tmp_path, monkeypatch):
    names = []
    for module in (figures, classifier_figures):
        drawn = module.Picture
        monkeypatch.setattr(
            module,
            "finish",
            lambda figure, name, alt, *_, drawn=drawn, **__: names.append(name) or drawn(name, alt, "data:image/png,"),
        )
    page, _ = parse(study_page(record, tmp_path))
    assert len(names) == len(set(names)) and {"first-distance", "first-f1", "samples-20"} <= set(names)
    sources = [image["alt"] for image in page.images]
    assert len(sources) == len(set(sources)) == len(names) + 3  # strips


def test_the_page_begins_with_the_verdict_and_figures_before_all_prose(record, tmp_path, undrawn):
    html = study_page(record, tmp_path)
    page, _ = parse(html)
    assert page.links[0] == "#summary"  # past the first screen, for keyboards
    places = [
        html.index(part) for part in ("<h1>", 'class="verdict"', 'class="trio"', "<nav", 'id="summary"', "<table")
    ]
    assert places == sorted(places)
    first = html[: html.index("</header>")]
    assert first.count("<figure>") == 3 and "<script" not in html
    assert "@media print" in html and ":focus-visible" in html and "prefers-color-scheme: dark" in html


def test_charts_turn_dark_with_the_page_and_keep_what_tells_generators_apart():
    order = [Generator(f"gan-{i}") for i in range(6)]
    colours = [colour_of(one, order) for one in order]
    dots = [Dot(one.gan, Interval(i, i - 1, i + 1), colours[i], "o") for i, one in enumerate(order)]
    chart = base64.b64decode(vector(dot_figure(dots, "distance")).partition(",")[2]).decode()
    rules = dict(re.findall(r'\[style\*="fill: (#\w+)"\]{fill:(#\w+)!important}', chart))
    assert "@media screen and (prefers-color-scheme:dark){" in chart and rules[INK] != INK
    assert f"fill: {INK}" in chart and f"fill: {PAPER}" in chart
    turned = {rules.get(colour.lower(), colour.lower()) for colour in (*colours, INK, PAPER)}
    assert len(turned) == 8 and all(f"fill: {colour.lower()}" in chart for colour in colours)
    paper = re.search(r"--paper: (#\w+)", re.search(r"dark\) {(.*?)}", CSS.read_text(), re.DOTALL)[1])[1]
    assert rules[PAPER] == paper


def test_a_record_of_tables_says_that_it_has_no_images(tmp_path, undrawn):
    study = write_fake_study(tmp_path, gans=("fastgan",), sizes=(20,))
    for path in cells_of(study, "train"):
        assert read_json(path)["result"]["gallery"]
        path.unlink()
    page, text = read(write_report(study))
    assert "This record holds no images, so the page shows none." in text and "samples" not in page.ids

import base64
import html.parser
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from image_sets import blobs
from sonosynth.core.seeds import numpy_generator
from sonosynth.metrics import scorecard as module
from sonosynth.metrics.metric import PARTS, get_metric, list_metrics
from sonosynth.metrics.scorecard import score as score_images
from sonosynth.metrics.scores import Score
from sonosynth.phantoms.phantom import phantom
from sonosynth.report.scorecard import figures as score_figures
from sonosynth.report.scorecard.page import write_score_page
from sonosynth.report.scorecard.verdicts import Row, baseline_text, interpreted_rows, value_text, verdicts

pytestmark = pytest.mark.long

PLANTED = (3, 10, 17, 22)
SOURCES = {"train": "images/train", "held-out": "images/<new>", "synthetic": "runs/a"}


def pixels_as_features(images, name="inception", cache=None, progress=None):
    return images.images[:, ::4, ::4].reshape(len(images), -1).astype(np.float32) / 64


def of_role(images, role, number, synthetic=False):
    names = tuple(f"{role}-{i}" for i in range(len(images)))
    return replace(images, ids=names, groups=images.groups + 1000 * number, synthetic=synthetic)


@pytest.fixture(scope="module")
def sets():
    train, held_out, fresh = (phantom(8, 64, seed) for seed in range(3))
    pixels, rng = fresh.images.copy(), np.random.default_rng(0)
    for i in PLANTED:
        copy = train.images[i, :, ::-1] if i % 2 else train.images[i]
        pixels[i] = np.clip(copy + rng.normal(0, 4, copy.shape), 0, 255)
    made = replace(fresh, images=pixels)
    return of_role(train, "train", 0), of_role(made, "made", 2, True), of_role(held_out, "new", 1)


def scored(sets, **named):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "embed", pixels_as_features)
        return score_images(*sets, **named)


@pytest.fixture(scope="module")
def card(sets):
    return replace(scored(sets), sources=SOURCES, seed=5)


class Page(html.parser.HTMLParser):
    """The page taken apart: rows of tables, tiles of the gallery (source, classes, text), verdicts, links."""

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.rows, self.tiles, self.verdicts, self.links, self.banners, self.ids = [], [], [], [], [], set()
        self._into = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        classes = (named.get("class") or "").split()
        self.ids.add(named.get("id"))
        self.links += [named[key] for key in ("src", "href") if key in named]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._into = lambda text: self.rows[-1].append(self.rows[-1].pop() + text)
        elif "tile" in classes:
            self.tiles.append([None, classes, ""])
            self._into = lambda text: self.tiles[-1].append(self.tiles[-1].pop() + text)
        elif tag == "img" and self.tiles and self.tiles[-1][0] is None:
            self.tiles[-1][0] = named["src"]
        elif "verdict" in classes:
            self.verdicts.append([classes, ""])
            self._into = lambda text: self.verdicts[-1].append(self.verdicts[-1].pop() + text)
        elif "banner" in classes:
            self.banners.append("")
            self._into = lambda text: self.banners.append(self.banners.pop() + text)

    def handle_endtag(self, tag):
        if tag in ("td", "th", "figure", "section"):
            self._into = None

    def handle_data(self, data):
        if self._into:
            self._into(data)

    def gallery_rows(self, columns):
        return [self.tiles[i : i + columns] for i in range(0, len(self.tiles), columns)]


@pytest.fixture(scope="module")
def page(card, tmp_path_factory):
    path = write_score_page(card, tmp_path_factory.mktemp("page") / "score.html", "sonosynth score")
    return Page(path.read_text())


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


class TestGallery:
    @pytest.mark.long
    def test_planted_copies_come_first_and_are_marked(self, page, card):
        rows = page.gallery_rows(5)
        assert len(rows) == 16
        first = [row[0][2].split()[0] for row in rows[: len(PLANTED)]]
        assert sorted(first) == sorted(f"made-{i}" for i in PLANTED)
        assert all("near-copy" in row[0][2] for row in rows[: len(PLANTED)])
        assert not any("near-copy" in row[0][2] for row in rows[len(PLANTED) : 8])
        for row in rows[: len(PLANTED)]:
            i = int(row[0][2].split()[0].removeprefix("made-"))
            assert (
                row[1][2].startswith(f"train-{i} ")
                and f"similarity {card.near_copies.training.similarity[i]:.2f}" in row[1][2]
            )
            assert ("shown mirrored" in row[1][2]) == bool(i % 2)
            assert ["copied" in tile[1] for tile in row] == [True, True, False, False, False]

    def test_pictures_are_those_of_the_sets_and_mirrored_matches_are_turned(self, page, card):
        for row in page.gallery_rows(5)[: len(PLANTED)]:
            i = int(row[0][2].split()[0].removeprefix("made-"))
            np.testing.assert_array_equal(pixels_of(row[0][0]), card.sets["synthetic"].images[i])
            real = card.sets["train"].images[i]
            np.testing.assert_array_equal(pixels_of(row[1][0]), real[:, ::-1] if i % 2 else real)

    def test_columns_by_features_are_the_nearest(self, page, card):
        features = card.features["inception"].astype(float)
        for row in page.gallery_rows(5):
            made = features[48 + int(row[0][2].split()[0].removeprefix("made-"))]
            for tile, start, role in ((row[3], 0, "train"), (row[4], 24, "new")):
                distances = np.linalg.norm(features[start : start + 24] - made, axis=1)
                assert tile[2].startswith(f"{role}-{distances.argmin()} ")
                assert f"distance {distances.min():#.3g}" in tile[2]

    def test_some_rows_are_drawn_whatever_they_show(self, page):
        drawn = [int(row[0][2].split()[0].removeprefix("made-")) for row in page.gallery_rows(5)[8:]]
        assert drawn == sorted(numpy_generator(5, "gallery").choice(24, 8, replace=False))

    def test_every_near_copy_is_listed_by_name(self, page, card):
        listed = {(row[0], row[1]) for row in page.rows if len(row) == 4 and row[0].startswith("made-")}
        assert listed == {(f"made-{i}", f"train-{i}") for i in PLANTED}


class TestTables:
    def test_every_value_stands_there_with_its_baseline_and_interpretation(self, page, card):
        shown = [row for row in page.rows if len(row) == 8 and row[0] != "Measure"]
        rows = interpreted_rows(card.scores)
        assert len(shown) == len(rows)
        for row in rows:
            score = row.score
            value = "–" if score.value is None else value_text(row)
            found = [cells for cells in shown if cells[0].split(" (")[0] == row.title and cells[2] == value]
            assert found, (score.metric, score.reference)
            m = "–" if score.real_baseline_n is None else str(score.real_baseline_n)
            assert any(row.interpretation.text in cells[7] for cells in found)
            assert any(cells[5] == m for cells in found)
            assert any(cells[6] == f"{score.n_real} / {score.n_synthetic}" for cells in found)

    def test_frechet_and_kernel_distances_have_their_names_in_inception_features(self, page):
        assert {"FID", "KID", "CMMD"} < {row[0] for row in page.rows if len(row) == 8}

    def test_baselines_far_below_the_value_keep_two_digits(self):
        def texts(*values):
            score = Score(**dict(zip(Score.model_fields, values, strict=False)))
            row = Row(score, get_metric(score.metric, score.features), None, None)
            return value_text(row), baseline_text(row)

        axial = ("axial_width_distance", "pixels", "train", "all", 1.31, 1.26, 1.36)
        assert texts(*axial, 0.0134, 99, 99, 99) == ("1.31 [1.26, 1.36]", "0.013")
        assert texts(*axial, 0.0, 99, 99, 99)[1] == "0.00" and texts(*axial, None, None, 99, 99)[1] == "–"
        kernel = ("kernel_distance", "inception", "train", "all", 0.0375, 0.0335, 0.0416, -0.00012, 99, 99, 99)
        assert texts(*kernel) == ("0.0375 [0.0335, 0.0416]", "−0.0001")

    def test_every_metric_says_what_it_is(self):
        for metric in list_metrics():
            assert metric.part in PARTS and metric.about.endswith(".") and metric.title
            assert metric.interval_method or not metric.interval


class TestVerdicts:
    def test_copies_are_told(self, page, card):
        states = {one.title: one for one in verdicts(card, interpreted_rows(card.scores))}
        memory = states["Are training images remembered?"]
        assert memory.state == "worse" and memory.headline == "Signs of memorisation"
        assert memory.sentences[0].text.startswith("4 of 24 are near-copies of training images")
        assert "Near-copies, pixels: 0.167 [0.0" in memory.sentences[0].numbers
        assert len(page.verdicts) == 4
        assert any("worse" in classes and "4 of 24 are near-copies" in text for classes, text in page.verdicts)

    def test_copies_are_no_praise_of_diversity(self):
        train = of_role(blobs(120), "train", 0)
        found = scored((train, of_role(train, "made", 2, True)), parts=("diversity",))
        (verdict,) = verdicts(found, interpreted_rows(found.scores))
        assert (verdict.state, verdict.headline) == ("better", "Above real images")
        assert any(sentence.text.endswith("; look for copies") for sentence in verdict.sentences)

    def test_blurred_images_are_called_unlike_ultrasound(self, sets):
        train, made, held_out = sets
        blurred = made.images[:, :, ::-1].astype(float)
        blurred = sum(np.roll(blurred, shift, axis=2) for shift in range(-3, 4)) / 7
        worse = scored((train, replace(made, images=blurred.astype(np.uint8)), held_out), parts=("realism",))
        (verdict,) = verdicts(worse, interpreted_rows(worse.scores))
        assert verdict.state == "worse" and "measures above the real baseline" in verdict.headline
        assert "lateral width (" in verdict.sentences[0].text and "times)" in verdict.sentences[0].text


class TestPage:
    @pytest.mark.long
    def test_it_is_self_contained_and_always_the_same(self, page, card, tmp_path):
        assert all(link.startswith(("data:image/", "#")) for link in page.links)
        again = write_score_page(card, tmp_path / "score.html", "sonosynth score")
        assert again.read_text() == page.text
        assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids

    def test_sets_differ_in_their_lines_where_there_is_no_colour(self):
        assert len({dash for _, _, dash in score_figures._ROLES.values()}) == 3

    def test_names_are_escaped_and_phantoms_called_so(self, page):
        assert "images/&lt;new&gt;" in page.text and "<new>" not in page.text
        assert any("Simulated phantoms" in banner for banner in page.banners)

    @pytest.mark.long
    def test_a_page_with_real_images_says_so(self, card, page, tmp_path):
        said = "This page contains real images"
        assert said not in page.text
        real = card.sets | {"train": replace(card.sets["train"], extra={})}
        assert said in write_score_page(replace(card, sets=real), tmp_path / "real.html").read_text()
        bare = replace(card, sets=real, near_copies=None, features={})
        assert said not in write_score_page(bare, tmp_path / "bare.html").read_text()

    def test_notes_are_banners(self, sets, tmp_path):
        train, made, held_out = sets
        exact = made.images.copy()
        exact[0] = train.images[0]
        found = scored((train, replace(made, images=exact), held_out), parts=("memorisation",), features=())
        page = Page(write_score_page(found, tmp_path / "a.html").read_text())
        assert any("1 of 24 synthetic images is an exact copy of a training image" in text for text in page.banners)
        assert len(page.gallery_rows(3)[0]) == 3 and "made-0 " in page.tiles[0][2]

    def test_held_out_images_that_are_near_copies_are_told(self, sets, tmp_path):
        train, made, held_out = sets
        pixels = held_out.images.copy()
        pixels[:2] = np.clip(train.images[:2] + 3.0, 0, 255)
        found = scored((train, made, replace(held_out, images=pixels)), parts=("memorisation",), features=())
        page = Page(write_score_page(found, tmp_path / "a.html").read_text())
        assert any(text.startswith("2 of 24 held-out images are near-copies") for text in page.banners)

    def test_without_held_out_images(self, sets, tmp_path):
        page = Page(
            write_score_page(scored(sets[:2], parts=("distances", "memorisation")), tmp_path / "a.html").read_text()
        )
        assert any("There are no held-out images" in banner for banner in page.banners)
        assert any("How close to the training images?" in text for _, text in page.verdicts)
        assert len(page.gallery_rows(3)) == 16 and all(len(row) == 3 for row in page.gallery_rows(3))
        assert any("needs held-out images" in row[-1] for row in page.rows if len(row) == 8)

    def test_parts_that_were_not_asked_for_are_absent(self, sets, tmp_path):
        found = scored(sets, parts=("distances",), features=("inception",))
        page = Page(write_score_page(found, tmp_path / "a.html").read_text())
        assert [text.split("?")[0].strip() for _, text in page.verdicts] == ["How close to held-out images"]
        assert (
            sum(link.startswith("data:image/svg") for link in page.links) == 2
        )  # in inception features, and in pixels
        assert len(page.gallery_rows(3)) == 16  # by features alone

    @pytest.mark.long
    def test_images_without_speckle_are_counted(self, sets, tmp_path):
        train, made, held_out = sets
        pixels = made.images.copy()
        pixels[:3] = 90
        found = scored((train, replace(made, images=pixels), held_out), parts=("realism",), features=())
        text = write_score_page(found, tmp_path / "a.html").read_text()
        assert "Without speckle that could be measured: 3 synthetic images." in text
        (verdict,) = verdicts(found, interpreted_rows(found.scores))
        left_out = "3 of 24 synthetic images have no speckle that can be measured, left out"
        assert verdict.sentences[-1].text == left_out
        black = scored((train, replace(made, images=0 * pixels), held_out), parts=("realism",), features=())
        assert "at least 2 in each set" in write_score_page(black, tmp_path / "b.html").read_text()
        (verdict,) = verdicts(black, interpreted_rows(black.scores))
        assert (verdict.state, verdict.headline) == ("none", "Not known")
        (sentence,) = verdict.sentences
        assert sentence.text.startswith("24 and 0 images with speckle that can be measured")
        assert sentence.numbers.startswith("speckle contrast, Nakagami shape m, axial width")

"""The page of a reader study: what readers can do, and what they can never see."""

import io
import re
import sqlite3
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra 'web' is not installed")
pytest.importorskip("httpx")

from fastapi.testclient import TestClient
from PIL import Image

from reader_studies import small_study
from sonosynth.web.answers import Answers
from sonosynth.web.app import Access
from sonosynth.web.keys import Keys
from sonosynth.web.reader_app import reader_app

pytestmark = pytest.mark.long
BASE = "http://127.0.0.1:8766"


class Served:
    """A study that is served, and browsers of readers."""

    def __init__(self, folder, **settings):
        self.frozen = small_study(folder, **settings)
        self.study = self.frozen.study
        self.open()

    def open(self):
        database = self.frozen.directory / "answers.sqlite"
        self.answers, self.keys = Answers(database, self.study.images_sha256), Keys(database)
        self.app = reader_app(self.frozen, self.answers, self.keys, Access("readers"))

    def reader(self):
        return Reader(self, self.answers.new_reader())


class Reader:
    def __init__(self, served, name):
        self.served, self.name = served, name
        self.browser = TestClient(served.app, base_url=BASE)
        self.browser.post("/join", data={"key": served.keys.new_link(name, 1)})

    def post(self, path, **fields):
        csrf = re.search(r'name="csrf" value="(\w+)"', self.browser.get("/").text)
        return self.browser.post(path, data={"csrf": csrf[1] if csrf else "", **fields})

    def page(self):
        return self.browser.get("/").text

    def image(self):
        address = re.search(r"/image/(\w+)", self.page())[1]
        return self.browser.get(f"/image/{address}")

    def start(self):
        self.post("/consent")
        for position in range(len(self.served.study.practice_order(self.name))):
            self.post("/answer", position=position, rating=1)
            self.post("/next")
        return self

    def answer(self, rating=1, **fields):
        position = self.served.answers.progress(self.name)[1]
        return self.post("/answer", position=position, rating=rating, **fields)


@pytest.fixture
def served(tmp_path):
    return Served(tmp_path)


def test_consent_comes_before_any_image(served):
    reader = served.reader()
    assert "I have read this and take part" in reader.page()
    assert "/image/" not in reader.page()
    assert reader.answer().status_code == 403
    reader.post("/consent")
    assert "Practice 1 of 2" in reader.page()


def test_practice_tells_the_answer_and_does_not_count(served):
    reader = served.reader()
    reader.post("/consent")
    for position, item in enumerate(served.study.practice_order(reader.name)):
        told = reader.post("/answer", position=position, rating=2).text
        kind = "synthetic" if served.study.items[item].synthetic else "real"
        assert f"This image is {kind}." in told and "probably real" in told
        reader.post("/next")
    assert "Image 1 of" in reader.page()
    assert served.answers.all() == []


def test_a_reader_rates_all_images_in_their_own_order(served):
    reader = served.reader().start()
    order = served.study.order(reader.name)
    for item in order:
        picture = np.asarray(Image.open(io.BytesIO(reader.image().content)))
        expected = np.asarray(Image.open(io.BytesIO(served.frozen.pictures[item])))
        assert (picture == expected).all()
        reader.answer(rating=1 + item % 6, viewing_ms=1200)
    assert "Thank you" in reader.page()
    found = served.answers.all()
    assert [(a.item, a.rating) for a in found] == [(item, 1 + item % 6) for item in order]
    assert {a.viewing_ms for a in found} == {1200}
    assert all(a.elapsed_ms is not None and a.elapsed_ms >= 0 for a in found)


def test_an_answer_is_on_the_disk_before_the_next_image(served):
    reader = served.reader().start()
    reader.answer(rating=5)
    other = sqlite3.connect(served.frozen.directory / "answers.sqlite")
    assert other.execute("SELECT rating FROM answers WHERE practice = 0").fetchall() == [(5,)]
    assert served.answers._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert served.answers._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_first_answer_stands(served):
    reader = served.reader().start()
    reader.answer(rating=5)
    reader.post("/answer", position=0, rating=1)  # the back button
    reader.post("/answer", position=7, rating=1)  # ahead
    assert [(a.position, a.rating) for a in served.answers.all()] == [(0, 5)]


def test_a_reader_goes_on_where_they_paused_even_after_a_restart(served):
    reader = served.reader().start()
    reader.answer()
    assert "Paused" in reader.post("/pause").text
    before = reader.page()
    served.open()
    reader.browser = TestClient(served.app, base_url=BASE, cookies=reader.browser.cookies)
    assert re.search(r"/image/\w+", before)[0] == re.search(r"/image/\w+", reader.page())[0]
    assert "Image 2 of" in reader.page()


def test_a_new_link_goes_on_at_the_same_image(served):
    reader = served.reader().start()
    reader.answer()
    assert "Image 2 of" in Reader(served, reader.name).page()


def test_only_the_image_of_now_can_be_seen(served):
    reader, other = served.reader().start(), served.reader().start()
    first = re.search(r"/image/(\w+)", reader.page())[1]
    assert reader.browser.get(f"/image/{first}").status_code == 200
    assert other.browser.get(f"/image/{first}").status_code == 404
    reader.answer()
    assert reader.browser.get(f"/image/{first}").status_code == 404
    for address in ("0" * 32, "../readers.json", "..%2freaders.json", served.study.items[0].name, "%00", "é"):
        assert reader.browser.get(f"/image/{address}").status_code == 404


def test_images_are_neither_named_nor_cached_in_a_telling_way(served):
    reader = served.reader().start()
    seen = {}
    for item in served.study.order(reader.name):
        answer = reader.image()
        assert answer.headers["cache-control"] == "no-store"
        assert not {"etag", "last-modified", "content-disposition"} & set(answer.headers)
        seen.setdefault(item, []).append((answer.url.path, answer.headers["content-length"]))
        reader.answer()
    paths = [path for shown in seen.values() for path, _ in shown]
    assert len(set(paths)) == len(paths)  # a repeated image has a new address
    assert len({length for shown in seen.values() for _, length in shown}) == 1


def test_no_page_tells_labels_sources_or_other_readers(served):
    reader, other = served.reader().start(), served.reader()
    page = reader.page()
    for item in served.study.items:
        assert item.name not in page and item.source not in page
    assert other.name not in page and "dark" not in page and "light" not in page
    for path in ("/readers.json", "/answers.sqlite", "/images/x.png", "/gallery", "/results", "/readers"):
        assert reader.browser.get(path).status_code == 404


def test_further_questions_are_asked_and_kept(tmp_path):
    served = Served(tmp_path, questions=("quality", "class", "birads"))
    reader = served.reader()
    reader.post("/consent")
    for position in range(2):
        reader.post("/answer", position=position, rating=1, quality=1, label="dark", birads="2")
        reader.post("/next")
    assert reader.answer(rating=3).status_code == 422  # the others are missing
    assert reader.answer(rating=3, quality=4, label="elsewhere", birads="4A").status_code == 422
    assert reader.answer(rating=3, quality=4, label="dark", birads="9").status_code == 422
    reader.answer(rating=3, quality=4, label="dark", birads="4A")
    (kept,) = served.answers.all()
    assert (kept.quality, kept.label, kept.birads) == (4, "dark", "4A")


def test_questions_that_are_not_asked_are_not_kept(served):
    reader = served.reader().start()
    reader.answer(rating=3, quality=4)
    assert served.answers.all()[0].quality is None


@pytest.mark.parametrize(
    "fields",
    [
        {"rating": 0},
        {"rating": 7},
        {"rating": "x"},
        {"rating": 3, "viewing_ms": -1},
        {"rating": 3, "viewing_ms": 10**12},
        {"rating": 3, "reader": "R02"},
        {"rating": "'; DROP TABLE answers; --"},
        {},
    ],
)
def test_a_wrong_form_is_refused_and_changes_nothing(served, fields):
    reader = served.reader().start()
    assert reader.post("/answer", position=0, **fields).status_code == 422
    assert served.answers.all() == []


def test_answers_of_another_study_are_refused(served):
    from sonosynth.core.errors import ReaderStudyError

    with pytest.raises(ReaderStudyError, match="another study"):
        Answers(served.frozen.directory / "answers.sqlite", "0" * 64)


def test_time_counts_from_the_last_showing(served):
    reader = served.reader().start()
    reader.page()
    time.sleep(0.05)
    reader.answer()  # which loads the page again, as after a pause
    assert served.answers.all()[0].elapsed_ms < 50

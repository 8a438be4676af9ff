import base64
import hashlib
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

from sonosynth.classify.scores import score_predictions
from sonosynth.cli.report import report as report_command
from sonosynth.data.imageset import ImageSet
from sonosynth.errors import StudyError
from sonosynth.files import read_json, write_json, write_text
from sonosynth.gan.recipes import RECIPES
from sonosynth.report import findings, tables, wording
from sonosynth.report.page import write_report
from sonosynth.report.record import StudyRecord
from sonosynth.report.results import Generator, Score
from sonosynth.statistics import Interval

CLASSES = ("benign", "malignant", "normal")
ARMS = ("real", "real+classical", "real+synthetic", "real+classical+synthetic")


def picture(random, label, px):
    """A speckled oval on a depth gradient: enough to tell the classes apart by eye."""
    y, x = np.mgrid[0:px, 0:px] / px - 0.5
    radius = (0.30, 0.22, 0.0)[label % 3]
    oval = (x / (1.4 if label == 0 else 0.8)) ** 2 + y**2 < radius**2
    mean = np.where(oval, 45, 120) * (1 - 0.5 * (y + 0.5))
    return np.clip(mean * random.rayleigh(0.8, (px, px)), 0, 255).astype(np.uint8)


def image_set(random, n, px, classes=CLASSES, synthetic=False, origin=None):
    labels = np.sort(random.choice(len(classes), n, p=[0.5, 0.3, 0.2]))
    return ImageSet(
        images=np.stack([picture(random, label, px) for label in labels]),
        labels=labels,
        classes=classes,
        groups=np.arange(n) // 2 * 2,
        ids=tuple(f"{'syn' if synthetic else 'img'}{i:04d}" for i in range(n)),
        synthetic=synthetic,
        extra={"origin": (origin,) * n} if origin else {},
    )


def gan_entry(name, mode):
    if mode is None:
        return {"name": name, "folder": "made-elsewhere"}
    return {"base": name} if name in RECIPES else {"base": "stylegan2-diffaug", "name": name}


def write_fake_study(
    study: Path,
    gans=("stylegan2", "stylegan2-diffaug"),
    sizes=(20, 40),
    draws=1,
    seeds=(0, 1),
    arms=ARMS,
    ratios=(1.0,),
    px=32,
    n=120,
    mode="conditional",
    origin=None,
    own_test=False,
    per_class=False,
):
    """Write a study directory with made-up numbers: no training, only files of the right shape."""
    random = np.random.default_rng(3)
    data = image_set(random, n, px, origin=origin)
    data.save(study / "data")
    by_group = random.permutation(np.unique(data.groups))
    order = np.concatenate([np.flatnonzero(data.groups == g) for g in by_group])
    test, rest = order[: n // 4], order[n // 4 :]
    test_set = data.subset(test)
    if own_test:
        test_set = image_set(random, n // 4, px, origin=origin)
        test_set.save(study / "test")
    subsets = []
    for draw in range(draws):
        shuffled = random.permutation(rest)
        subsets += [{"size": s, "draw": draw, "n": s, "indices": shuffled[:s].tolist()} for s in sizes]
    write_json(study / "split.json", {"test": None if own_test else test.tolist(), "subsets": subsets})
    design = {
        "name": "made-up numbers",
        "data": {"source": "<images>", "size": px, "fit": "stretch", "classes": list(CLASSES)},
        "split": {"test_fraction": 0.25, "sizes": list(sizes), "draws": draws, "seed": 11},
        "gans": [gan_entry(gan, mode) for gan in gans],
        "training": {"kimg": 5, "mode": mode, "seeds": [0]},
        "scores": {"features": ["inception"], "n_synthetic": 500},
        "classifiers": {
            "networks": ["resnet18"],
            "arms": list(arms),
            "ratios": list(ratios),
            "seeds": list(seeds),
            "steps": 200,
        },
    }
    write_text(study / "study.yaml", yaml.safe_dump(design, sort_keys=False))
    write_json(
        study / "provenance.json",
        {
            "command": "sonosynth study run study.yaml --out runs/made-up",
            "system": "Linux",
            "device": "CPU (x86_64, AVX2)",
            "cores": 2,
            "threads": 2,
            "python": "3.11.2",
            "versions": {"sonosynth": "0.1.0", "torch": "2.13.0", "numpy": "2.4.6"},
            "data": {
                "source": "<images>",
                "kind": "folder of classes",
                "fingerprint": data.fingerprint(),
                "notes": ["15 images were stored as RGB and reduced to grey"],
            },
        },
    )
    for s in subsets:
        for i, gan in enumerate(gans):
            _write_generator(study, random, gan, i, mode, s, px, per_class)
            for arm in (a for a in arms if "synthetic" in a):
                for ratio in ratios:
                    for seed in seeds:
                        extra = {"gan": gan, "mode": mode, "gan_seed": 0 if mode else None, "ratio": ratio}
                        _write_classifier(study, random, test_set, arm, s, seed, extra, 0.03 + 0.05 * i)
        for arm in (a for a in arms if "synthetic" not in a):
            for ratio in ratios if arm == "oversampled" else (None,):
                for seed in seeds:
                    extra = {"gan": None, "mode": None, "gan_seed": None, "ratio": ratio}
                    _write_classifier(study, random, test_set, arm, s, seed, extra, 0.05 * ("classical" in arm))
    return study


def _write_generator(study, random, gan, i, mode, s, px, per_class):
    where = {"gan": gan, "mode": mode, "size": s["size"], "draw": s["draw"], "seed": 0 if mode else None}
    gallery = f"galleries/{gan}-{s['size']}-{s['draw']}"
    synthetic = image_set(random, 40, px, synthetic=True)
    synthetic.save(study / gallery)
    trained = {
        "kimg": 5.0,
        "seconds": 210.5,
        "img_per_s": 24.1,
        "parameters_generator": 2_345_678,
        "parameters_discriminator": 3_456_789,
        "gallery": gallery,
    }
    write_cell(study, dict(kind="train", **where), trained if mode else {"gallery": gallery})
    rows = []
    for reference, n_real in (("train", s["n"]), ("held-out", 30)):
        for class_name in ("all", *(CLASSES if per_class else ())):
            for metric, value in (
                ("frechet_distance", 140 * 0.7**i - 0.1 * s["size"]),
                ("kernel_distance", 0.09 * 0.7**i),
            ):
                value *= 1.1 if reference == "held-out" else 1
                value *= random.uniform(0.9, 1.1)
                common = {"features": "inception", "reference": reference, "n_real": n_real, "n_synthetic": 500}
                common["class"] = class_name
                low, high = value * 0.88, value * 1.14
                floor = {"floor": None, "floor_n": None}
                if n_real >= 20:
                    floor = {"floor": 25.0 if metric == "frechet_distance" else 0.004, "floor_n": n_real}
                rows.append(dict(common, metric=metric, value=value, low=low, high=high, **floor))
                if n_real >= 20:
                    small = {"value": value * 1.2, "low": None, "high": None, "n_synthetic": n_real}
                    rows.append(dict(common, metric=f"{metric}_at_floor_n", **floor) | small)
    write_cell(study, dict(kind="score", **where), {"scores": rows})


def _write_classifier(study, random, test, arm, s, seed, extra, gain):
    tested_on = "synthetic" if arm == "test-on-synthetic" else "real"
    if tested_on == "synthetic":
        test = image_set(random, 50, test.size[0], synthetic=True)
    n, n_classes = len(test), len(CLASSES)
    logits = random.normal(0, 1, (n, n_classes))
    logits[np.arange(n), test.labels] += 0.6 + 0.01 * s["size"] + 10 * gain
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion, (test.labels, predicted), 1)
    n_synthetic = int(s["n"] * (extra["ratio"] or 0)) if extra["gan"] and tested_on == "real" else 0
    write_cell(
        study,
        dict(kind="classify", network="resnet18", arm=arm, size=s["size"], draw=s["draw"], seed=seed, **extra),
        {
            "probabilities": probabilities.tolist(),
            "labels": test.labels.tolist(),
            "confusion": confusion.tolist(),
            "metrics": score_predictions(probabilities, test),
            "n_train": 0 if arm == "synthetic-only" else s["n"],
            "n_synthetic": n_synthetic,
            "n_test": n,
            "tested_on": tested_on,
            "seconds": 12.5,
        },
    )


def write_cell(study, cell, result):
    name = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]
    write_json(study / "cells" / f"{name}.json", {"cell": cell, "result": result})


def cells_of(study, kind):
    return [path for path in sorted((study / "cells").glob("*.json")) if read_json(path)["cell"]["kind"] == kind]


class Checker(html.parser.HTMLParser):
    """Collect addresses, alt texts, ids and text, and see that every element is closed."""

    VOID = ("meta", "img", "br", "link", "hr", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open, self.addresses, self.links, self.images, self.ids, self.text = [], [], [], [], set(), []
        self.rows: list[list[str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.addresses += [given[name] for name in ("src", "srcset", "data") if given.get(name)]
        if tag == "link":
            self.addresses.append(given["href"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.rows.append([])
        self.ids.add(given.get("id"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            assert "url(" not in data and "@import" not in data
            return
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th") and self.rows:
            self.rows[-1].append(data.strip())


def read(path: Path) -> tuple[Checker, str]:
    page = Checker(path.read_text(encoding="utf-8"))
    return page, re.sub(r"\s+", " ", "".join(page.text))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return write_fake_study(tmp_path_factory.mktemp("study") / "s")


@pytest.fixture(scope="module")
def report(study, tmp_path_factory) -> Path:
    return write_report(study, tmp_path_factory.mktemp("out"))


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


def test_figures_stand_on_disk_too(report):
    names = {path.name for path in (report.parent / "figures").iterdir()}
    stems = {"samples-20", "samples-40", "distance-inception", "learning-resnet18"}
    stems |= {"confusion-resnet18-20", "confusion-resnet18-40"}
    assert names == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf")}


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


def test_distance_row_shows_value_interval_floor_and_numbers(study, report):
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
    assert "stylegan2-diffaug has a kernel distance of" in text
    assert "8 comparisons of an arm with synthetic images against the same arm without them" in text
    assert "is not finished" not in text and "phantom" not in text
    assert "steps: 200" in text and "channel_max:" in text  # the study file, and what it leaves to defaults


def test_relative_reduction_follows_from_the_distances(study):
    record = StudyRecord.load(study)
    order = tables.generators(record)
    found = findings.findings(record, order, tables.distances(record), [], [], [])
    assert [(r.distance.size, r.distance.generator.gan) for r in found.reductions] == [
        (20, "stylegan2-diffaug"),
        (40, "stylegan2-diffaug"),
    ]
    for r in found.reductions:
        ours, theirs = r.distance.scores[0].value, r.baseline.scores[0].value
        assert r.relative.value == pytest.approx(1 - ours / theirs)
        assert r.relative.low < r.relative.value < r.relative.high


def test_overlap_is_said():
    def distance(gan, value, low, high):
        score = Score(
            gan, None, 20, 0, 0, "f", "held-out", "all", "kernel_distance", value, low, high, None, None, 30, 500
        )
        return tables.Distance(Generator(gan), 20, "f", "held-out", "kernel_distance", (score,))

    near, far = distance("a", 0.01, 0.008, 0.012), distance("b", 0.03, 0.02, 0.04)
    order = [near.generator, far.generator]
    assert "does not overlap" in findings._closest([far, near], order)[0]
    touching = distance("b", 0.03, 0.011, 0.04)
    assert "overlaps that of b: their order is not settled" in findings._closest([touching, near], order)[0]
    unknown = distance("b", 0.03, None, None)
    assert "not settled" in findings._closest([unknown, near], order)[0]
    assert "no other generator" in findings._closest([near], order)[0]


def test_phantoms_are_never_called_patients(tmp_path):
    study = write_fake_study(tmp_path, gans=("stylegan2",), sizes=(20,), origin="phantom", arms=("real",))
    _, text = read(write_report(study))
    assert "Simulated phantoms, not patients’ images." in text
    assert "120 simulated B-mode images" in text and "120 real B-mode images" not in text
    assert (study / "report.html").is_file()
    assert "no other generator to compare with" in text and "cannot say" in text


def test_without_any_generator(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real", "real+classical"))
    page, text = read(write_report(study))
    assert "No generator has finished" in text and "no figure of our own" in text
    assert "samples" not in page.ids and "distances" not in page.ids and "classifiers" in page.ids


def test_images_made_elsewhere_and_an_own_test_set(tmp_path):
    study = write_fake_study(tmp_path, gans=("from-folder",), sizes=(20,), mode=None, own_test=True)
    page, text = read(write_report(study))
    assert "supplied as a set of its own" in text
    assert ["from-folder", "0 / –"] in [row[:2] for row in page.rows]
    assert "samples" in page.ids


def test_two_draws_two_ratios_and_classes_apart(tmp_path):
    study = write_fake_study(tmp_path, draws=2, ratios=(0.5, 2.0), per_class=True, gans=("fastgan",), sizes=(20,))
    page, text = read(write_report(study))
    assert "Two draws of the training subset a size" in text
    assert "Distances, inception features, class malignant." in text
    rows = [row for row in page.rows if row[:3] == ["real+synthetic", "fastgan", "2"]]
    assert rows[0][3:5] == ["20 / 40", "0, 1 / 0, 1 / 0"]


def test_unfinished_study(tmp_path):
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
    assert "left out of the figures and tables" in text
    assert "distances" not in page.ids and "samples" in page.ids


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
    (row,) = tables.f1_rows(StudyRecord.load(study))
    assert (row.draws, row.predictions.shape[:2], row.left_out) == ((0, 1), (2, 2), 1)


def test_results_of_earlier_settings_never_mix_with_present_ones(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real",), sizes=(20,), seeds=(0,))
    (path,) = cells_of(study, "classify")
    old = path.with_name("0-old.json")
    old.write_bytes(path.read_bytes())
    with pytest.raises(StudyError, match=r"are the same run under different settings"):
        StudyRecord.load(study)
    write_json(study / "plan.json", {"cells": [path.stem, "not-yet"]})
    record = StudyRecord.load(study)
    assert (len(record.classifiers), record.n_finished, record.n_planned) == (1, 1, 2)


def test_a_tie_from_rounding_is_no_damage(tmp_path):
    study = write_fake_study(tmp_path, gans=(), arms=("real",), sizes=(20,), seeds=(0,))
    (path,) = cells_of(study, "classify")
    cell = read_json(path)
    row = cell["result"]["probabilities"][0]
    first, second = np.argsort(row)[::-1][:2]
    row[first] = row[second] = 0.45  # may now fall to the other class than the confusion matrix says
    write_json(path, cell)
    assert len(StudyRecord.load(study).classifiers) == 1
    row[second] += 0.05
    write_json(path, cell)
    with pytest.raises(StudyError, match="does not follow"):
        StudyRecord.load(study)


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


def test_command_prints_the_path_last(tmp_path):
    study = write_fake_study(tmp_path / "s", gans=(), arms=("real",), sizes=(20,))
    app = typer.Typer()
    app.command()(report_command)
    result = CliRunner().invoke(app, [str(study), "--out", str(tmp_path / "o")])
    assert result.exit_code == 0, result.output
    assert result.output.strip().splitlines()[-1] == str(tmp_path / "o" / "report.html")


def test_embedded_charts_are_vector_and_samples_grey(report):
    page, _ = read(report)
    kinds = [image["src"].partition(";")[0] for image in page.images]
    assert kinds.count("data:image/png") == 2 and kinds.count("data:image/svg+xml") == 4
    png = base64.b64decode(next(i["src"] for i in page.images if "png;" in i["src"]).partition(",")[2])
    assert png[25] == 0  # colour type of the PNG header: greyscale


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.0123, "−0.012"), (-0.0001, "0.000"), (None, "–"), (float("nan"), "–"), (2, "2.000")]
)
def test_numbers(value, expected):
    assert wording.number(value, 3) == expected


def test_percent():
    assert wording.percent(Interval(0.07, -0.021, 0.153)) == "+7.0\N{NO-BREAK SPACE}% [−2.1, +15.3]"
    assert wording.percent(None) == "–"

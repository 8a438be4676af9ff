import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sonosynth.cli.score import score
from sonosynth.core.errors import LeakageError, OutputError, SonosynthError
from sonosynth.data.imageset import ImageSet
from sonosynth.metrics import scorecard as module
from sonosynth.metrics.interpretation import format_value
from sonosynth.metrics.metric import get_metric
from sonosynth.metrics.scores import AT_BASELINE, read_scores

app = typer.Typer()
app.command()(score)


def save(path, n: int, seed: int, px: int = 8, classes: tuple[str, ...] = ("benign", "malignant")) -> str:
    rng = np.random.default_rng(seed)
    index = np.arange(n)
    pixels = rng.integers(0, 255, (n, px, px), dtype=np.uint8)
    ImageSet(pixels, index % len(classes), classes, index, tuple(map(str, index))).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    def pixels(images, name, cache=None, progress=None):
        progress(len(images), len(images))
        return images.images.reshape(len(images), -1).astype(np.float32) / 64

    monkeypatch.setattr(module, "embed", pixels)
    moments = lambda images: np.stack([images.mean((1, 2)), images.std((1, 2)), images[:, 0, 0]], axis=1)  # noqa: E731
    monkeypatch.setattr("sonosynth.metrics.distances.radiomics._N_FEATURES", 3)
    monkeypatch.setattr("sonosynth.metrics.distances.radiomics.radiomic_features", moments)


@pytest.mark.long
def test_table_file_and_page(tmp_path):
    real, made, held = (save(tmp_path / name, n, n, px=32) for name, n in [("real", 60), ("made", 50), ("held", 44)])
    out, page = tmp_path / "score.json", tmp_path / "score.html"
    asked = [real, made, "--held-out", held, "--out", str(out), "--page", str(page), "--by-class"]
    result = CliRunner().invoke(app, asked, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    rows = read_scores(out)
    assert {row.reference for row in rows} == {"train", "held-out"}
    assert {row.features for row in rows} == {"inception", "pixels"}
    bodies = [line for line in result.stdout.splitlines() if line.count("│") > 3]
    lines = [
        line for line in bodies if line.split("│")[2].strip() in ("train", "held-out", "both")
    ]  # not where a text wraps
    mains = [row for row in rows if not row.metric.endswith(AT_BASELINE)]
    assert len(lines) == len(mains)  # a value and its fellow at the real baseline's size share a line
    for line, row in zip(lines, mains, strict=True):
        assert f"{row.n_real}/{row.n_synthetic}" in line and row.class_ in line
        metric = get_metric(row.metric, row.features)
        if row.low is not None:
            assert f"{format_value(metric, row.low)} to {format_value(metric, row.high)}" in line
    assert "…" not in result.stdout
    assert str(out) in result.stdout and str(page) in result.stdout
    assert page.read_text().startswith("<!doctype html>")


def test_a_part_is_enough_and_only_known_ones_are_asked_for(tmp_path):
    real, made = save(tmp_path / "real", 30, 0), save(tmp_path / "made", 30, 1)
    out = tmp_path / "score.json"
    assert CliRunner().invoke(app, [real, made, "--only", "diversity", "--out", str(out)]).exit_code == 0
    assert {"precision", "recall"} < {row.metric for row in read_scores(out)}
    assert not any("distance" in row.metric for row in read_scores(out))
    wrong = CliRunner().invoke(app, [real, made, "--only", "diverse"])
    assert isinstance(wrong.exception, SonosynthError) and "no part 'diverse'" in str(wrong.exception)


def test_json_on_standard_output_is_json_alone(tmp_path):
    real, made = save(tmp_path / "real", 30, 0), save(tmp_path / "made", 30, 1, classes=("benign", "odd"))
    result = CliRunner().invoke(app, [real, made, "--json", "--features", "inception"])
    assert result.exit_code == 0, result.output
    assert {row["class"] for row in json.loads(result.stdout)} == {"all"}
    assert "left out: odd" in result.stderr


def test_sizes_that_differ_are_told(tmp_path):
    real, made = save(tmp_path / "real", 30, 0), save(tmp_path / "made", 30, 1, px=16)
    result = CliRunner().invoke(app, [real, made, "--only", "distances"])
    assert result.exit_code == 0
    assert "the synthetic images, 16 × 16 pixels (height × width), are resized to 8 × 8" in result.stderr


def test_copies_are_told(tmp_path):
    real, held = save(tmp_path / "real", 30, 0), save(tmp_path / "held", 24, 1)
    itself = CliRunner().invoke(app, [real, real, "--held-out", held])
    assert itself.exit_code == 0
    assert "30 of 30 synthetic images are exact copies of training images: this is the distance of a set to itself" in (
        itself.stderr
    )
    assert "held-out images" not in itself.stderr


@pytest.mark.long
def test_exchanged_or_overlapping_sets_are_refused(tmp_path):
    real, made = save(tmp_path / "real", 30, 0), tmp_path / "made"
    rng = np.random.default_rng(5)
    pixels, index = rng.integers(0, 255, (20, 8, 8), dtype=np.uint8), np.arange(20)
    ImageSet(pixels, index % 2, ("benign", "malignant"), index, tuple(map(str, index)), synthetic=True).save(made)
    assert isinstance(CliRunner().invoke(app, [str(made), real]).exception, LeakageError)
    swapped = CliRunner().invoke(app, [real, str(made), "--held-out", str(made)]).exception
    assert "held-out images are marked as synthetic" in str(swapped)
    overlap = CliRunner().invoke(app, [real, str(made), "--held-out", real]).exception
    assert isinstance(overlap, LeakageError) and "30 held-out images are also training images" in str(overlap)
    out = tmp_path / "score.json"
    allowed = CliRunner().invoke(app, [real, str(made), "--held-out", real, "--allow-shared", "--out", str(out)])
    assert allowed.exit_code == 0 and "30 of 30 held-out images are also training images" in allowed.stderr
    assert all("held-out images are also training images" in row.note for row in read_scores(out))


def test_an_out_that_is_a_folder_is_told_before_any_work(tmp_path):
    result = CliRunner().invoke(app, ["nowhere", "nothing", "--out", str(tmp_path)])
    assert isinstance(result.exception, OutputError) and "is a folder" in str(result.exception)


def test_a_cache_that_cannot_be_written_is_told_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    told = "choose another cache (--cache, or SONOSYNTH_CACHE)"
    for cache in (tmp_path / "file", tmp_path / "file" / "in" / "it"):
        result = CliRunner().invoke(app, ["nowhere", "nothing", "--cache", str(cache)])
        assert isinstance(result.exception, OutputError) and told in str(result.exception)
    monkeypatch.setenv("SONOSYNTH_CACHE", str(tmp_path / "file"))
    assert told in str(CliRunner().invoke(app, ["nowhere", "nothing"]).exception)
    monkeypatch.setenv("SONOSYNTH_CACHE", str(tmp_path / "new" / "cache"))
    assert "nowhere" in str(CliRunner().invoke(app, ["nowhere", "nothing"]).exception)
    assert not (tmp_path / "new").exists()


@pytest.mark.long
def test_real_jpeg_and_synthetic_png_are_told_in_table_file_and_page(tmp_path):
    rng = np.random.default_rng(0)
    for role, suffix in (("real", "jpg"), ("held", "jpg"), ("made", "png")):
        for k in range(40):
            path = tmp_path / role / "ab"[k % 2] / f"{k}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(path, quality=60)
    out, page = tmp_path / "score.json", tmp_path / "score.html"
    real, made, held = (str(tmp_path / role) for role in ("real", "made", "held"))
    asked = [real, made, "--held-out", held, "--only", "distances", "--out", str(out), "--page", str(page)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    line = (
        "JPEG in 100 % of the training images (quality about 60), 100 % of the held-out images (quality about 60), 0 %"
    )
    assert f"note: the sets differ in compression: {line} of the synthetic images" in result.stderr
    assert "the sets differ in compression" in result.stdout
    assert all("the sets differ in compression" in row.note for row in read_scores(out))
    assert line in page.read_text(encoding="utf-8")
    alike = CliRunner().invoke(app, [real, held, "--only", "distances"])
    assert alike.exit_code == 0 and "compression" not in alike.output

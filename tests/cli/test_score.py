import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from sonosynth.cli.score import score
from sonosynth.data.imageset import ImageSet
from sonosynth.errors import LeakageError, MixedSizesError, OutputError
from sonosynth.metrics import scorecard as module
from sonosynth.metrics.scorecard import read_scores

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


def test_table_and_file(tmp_path):
    real, made, held = (save(tmp_path / name, n, n) for name, n in [("real", 60), ("made", 50), ("held", 44)])
    out = tmp_path / "score.json"
    result = CliRunner().invoke(app, [real, made, "--held-out", held, "--out", str(out)], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    rows = read_scores(out)
    assert {row.reference for row in rows} == {"train", "held-out"}
    lines = [line for line in result.stdout.splitlines() if line.startswith(("│ frechet", "│ kernel"))]
    assert 2 * len(lines) == len(rows)  # a value and its fellow at the floor's size share a line
    assert "…" not in result.stdout
    for line, value, fellow in zip(lines, rows[::2], rows[1::2], strict=True):
        decimals = 4 if value.metric == "kernel_distance" else 1
        assert f"{value.low:.{decimals}f} to {value.high:.{decimals}f}" in line
        assert f"{fellow.value:.{decimals}f}" in line
        assert f"{value.n_real}/{value.n_synthetic}" in line
    assert str(out) in result.stdout


def test_json_on_standard_output_is_json_alone(tmp_path):
    real, made = save(tmp_path / "real", 30, 0), save(tmp_path / "made", 30, 1, classes=("benign", "odd"))
    result = CliRunner().invoke(app, [real, made, "--json", "--features", "inception"])
    assert result.exit_code == 0, result.output
    assert {row["class"] for row in json.loads(result.stdout)} == {"all"}
    assert "left out: odd" in result.stderr


def test_sizes_that_differ_name_both_paths(tmp_path):
    real, made = save(tmp_path / "real", 4, 0), save(tmp_path / "made", 4, 1, px=16)
    result = CliRunner().invoke(app, [real, made])
    assert isinstance(result.exception, MixedSizesError)
    assert real in str(result.exception) and made in str(result.exception)


def test_copies_are_told(tmp_path):
    real, held = save(tmp_path / "real", 30, 0), save(tmp_path / "held", 24, 1)
    itself = CliRunner().invoke(app, [real, real, "--held-out", held])
    assert itself.exit_code == 0
    assert "30 of 30 synthetic images are exact copies of training images: this is the distance of a set to itself" in (
        itself.stderr
    )
    assert "held-out images" not in itself.stderr


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


def test_an_out_that_is_a_folder_is_told_before_any_work(tmp_path):
    result = CliRunner().invoke(app, ["nowhere", "nothing", "--out", str(tmp_path)])
    assert isinstance(result.exception, OutputError) and "is a folder" in str(result.exception)

"""When a finished study is known to have nothing to do, and when all is checked anew."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from image_sets import blobs
from sonosynth.cli.main import app
from sonosynth.report.study import finished
from sonosynth.report.study.finished import RECORD, find_finished, look_at, remember
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

pytestmark = pytest.mark.long


def study_run(folder: Path) -> str:
    result = CliRunner().invoke(app, ["study", "run", str(folder / "study.yaml"), "--out", str(folder / "out")])
    assert result.exit_code == 0, (result.output, result.exception)
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """The folder of a study that has run once: its file, its sources and `out`."""
    folder = tmp_path_factory.mktemp("study")
    made = blobs(20, seed=1)
    blobs(30).save(folder / "real")
    replace(made, ids=tuple(f"made-{i}" for i in range(len(made))), synthetic=True).save(folder / "made")
    raw = {
        "name": "tiny",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"sizes": [8], "draws": 1},
        "gans": [{"name": "made", "folder": str(folder / "made")}],
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": QUICK | {"arms": ["real"]},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    study_run(folder)
    return folder


@pytest.fixture
def remembered(study, monkeypatch) -> Path:
    """The same study, known to be finished, whatever was changed before; a clock that never ticks twice for a file."""
    monkeypatch.setattr(finished, "_SETTLED", 0)
    path = study / "study.yaml"
    remember(look_at(path), path, False, study / "out", ["a note"])
    assert known(study) is not None
    return study


def known(study: Path, exclude_known: bool = False) -> finished.FinishedStudy | None:
    found = find_finished(study / "study.yaml", study / "out", exclude_known)
    if found is None:
        return None
    assert found[1] == study / "out" / "report.html"
    return found[0]


def edited(path: Path) -> None:
    """Change a byte of the file, and give it its former time of change back."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_size == before.st_size


def test_a_finished_study_answers_without_running(remembered, monkeypatch):
    monkeypatch.setattr("sonosynth.report.study.study.run_study", lambda *_, **__: pytest.fail("it ran"))
    told = study_run(remembered)
    assert "note: a note" in told and "all 2 cells are finished" in told and "1 of 1" not in told
    assert told.replace(" ", "").endswith(str(remembered / "out" / "report.html"))
    status = CliRunner().invoke(app, ["study", "status", str(remembered / "study.yaml"), "--out", f"{remembered}/out"])
    assert [line.split() for line in status.output.splitlines()] == [
        ["classify", "1", "of", "1"],
        ["score", "1", "of", "1"],
        ["finished"],
    ]


def test_to_answer_so_takes_no_pytorch(remembered):
    code = (
        "import sys; from sonosynth.cli.main import app; app(sys.argv[1:], standalone_mode=False); "
        "print({'torch', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    out = str(remembered / "out")
    for command in ("run", "status"):
        arguments = ["study", command, str(remembered / "study.yaml"), "--out", out]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1:] == ["set()"], done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("real/dark/image-0.png", "real/manifest.csv", "made/light/made-1.png", "study.yaml"),
        *("out/report.html", "out/f1.csv", "out/provenance.json", "out/data/light/image-1.png"),
    ],
)
def test_an_edit_that_keeps_size_and_time_is_noticed(remembered, name):
    edited(remembered / name)
    try:
        assert known(remembered) is None
    finally:
        edited(remembered / name)


def test_a_new_image_and_a_missing_result_are_noticed(remembered):
    cell, image = next((remembered / "out" / "cells").iterdir()), remembered / "made" / "dark" / "made-0.png"
    for path in (cell, image):
        aside = remembered / "aside"
        path.rename(aside)
        assert known(remembered) is None
        aside.rename(path)
        remember(look_at(remembered / "study.yaml"), remembered / "study.yaml", False, remembered / "out", [])
        assert known(remembered) is not None


def test_other_options_and_versions_are_noticed(remembered, monkeypatch):
    assert known(remembered, exclude_known=True) is None
    monkeypatch.setattr(finished, "version", lambda _: "99")
    assert known(remembered) is None


def test_a_source_that_cannot_be_read_is_left_to_the_full_check(remembered):
    away = remembered / "away"
    (remembered / "real").rename(away)
    try:
        assert known(remembered) is None and look_at(remembered / "study.yaml") is None
    finally:
        away.rename(remembered / "real")


def test_a_damaged_record_is_no_error(remembered):
    for content in ("", "{}", "\x00", '{"study": 3}'):
        (remembered / "out" / RECORD).write_text(content)
        assert known(remembered) is None
    assert "[2/2]" in study_run(remembered)


def test_a_study_file_that_goes_while_the_study_runs_is_no_error(remembered):
    path, record = remembered / "study.yaml", remembered / "out" / RECORD
    before, text = look_at(path), path.read_text(encoding="utf-8")
    record.unlink()
    path.write_text("name: [", encoding="utf-8")
    remember(before, path, False, remembered / "out", [])
    path.write_text(text, encoding="utf-8")
    assert not record.exists()


def test_nothing_is_kept_of_images_that_changed_just_now_or_meanwhile(study, monkeypatch):
    record, path = study / "out" / RECORD, study / "study.yaml"
    record.unlink(missing_ok=True)
    monkeypatch.setattr(finished, "_SETTLED", 3600 * 10**9)
    remember(look_at(path), path, False, study / "out", [])
    assert not record.exists()
    monkeypatch.setattr(finished, "_SETTLED", 0)
    before = look_at(path)
    edited(study / "real" / "dark" / "image-0.png")
    remember(before, path, False, study / "out", [])
    assert not record.exists()
    edited(study / "real" / "dark" / "image-0.png")


def test_nothing_is_kept_or_believed_where_another_package_adds_recipes(remembered, monkeypatch):
    class EntryPoints:
        groups = ("console_scripts", "sonosynth.gans")

    monkeypatch.setattr(finished, "entry_points", EntryPoints)
    assert look_at(remembered / "study.yaml") is None and known(remembered) is None

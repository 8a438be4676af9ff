"""Outputs that are no ordinary files, for every command that takes one: written through or refused, never replaced."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_commands import TINY, refused, sonosynth

import sonosynth as sonosynth_package
from image_sets import blobs
from sonosynth.core import special_files
from special_files import bound, device, is_device, pipe, read
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

SCORE = ("score", "images", "made", "--features", "texture", "--only", "distances")
SHORT = ("--network", "tiny", *(word for key in ("steps", "batch") for word in (f"--{key}", QUICK[key])))
CLASSIFY = ("classify", "images", "--test", "test", "--arm", "real", *SHORT)
FILES = {
    "score": (*SCORE, "--out"),
    "page": (*SCORE, "--page"),
    "classify": (*CLASSIFY, "--out"),
}
FOLDERS = {
    "prepare": ("data", "prepare", "images", "--size", 32, "--out"),
    "phantom": ("data", "phantom", "--per-class", 1, "--size", 32, "--out"),
    "audit": ("data", "audit", "images", "--out"),
    "train": ("train", "images", "--gan", "stylegan2", "--kimg", 0.004, "--conditional", *TINY, "--out"),
    "per class": ("train", "images", "--gan", "stylegan2", "--kimg", 0.004, "--per-class", *TINY, "--out"),
    "generate": ("generate", "run", "-n", 2, "--out"),
    "study": ("study", "run", "study.yaml", "--out"),
    "report": ("report", "study", "--out"),
    "demo": ("demo", "--out"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images, a run and a study that hold nothing but the beginning of one: what is refused comes no farther."""
    base = tmp_path_factory.mktemp("outputs")
    for seed, name in enumerate(("images", "made", "test")):
        blobs(30, seed=seed).save(base / name)
    text = {"name": "tiny", "data": {"source": str(base / "images"), "size": 32}, "split": {"sizes": [8]}}
    text["classifiers"] = {"arms": ["real"], "networks": []}
    (base / "study.yaml").write_text(yaml.safe_dump(text))
    here = Path.cwd()
    os.chdir(base)
    assert sonosynth("study", "run", "study.yaml", "--out", "study").exit_code == 0
    assert sonosynth(*FOLDERS["train"], "run").exit_code == 0
    os.chdir(here)
    return base


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(special_files, "_READER_SECONDS", 0.3)


@pytest.mark.parametrize("command", FILES)
def test_a_file_goes_through_a_device_or_a_pipe(command, tmp_path, tiny_network):
    path = device(tmp_path / "null")
    (tmp_path / "link").symlink_to("null")
    result = sonosynth(*FILES[command], tmp_path / "link")
    assert result.exit_code == 0, result.output
    assert is_device(path) and (tmp_path / "link").is_symlink()
    with read(pipe(tmp_path / "pipe")) as came:
        assert sonosynth(*FILES[command], tmp_path / "pipe").exit_code == 0
    assert came[0].startswith(b"<!doctype html>") if command == "page" else json.loads(came[0])
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_before_images_are_read(command, tmp_path, monkeypatch, tiny_network):
    monkeypatch.setattr("sonosynth.data.load.load", lambda path: pytest.fail("work has begun"))
    with bound(tmp_path / "socket") as path:
        assert "is a socket" in refused(*FILES[command], path)
        assert path.is_socket()
    assert "a pipe that nobody reads" in refused(*FILES[command], pipe(tmp_path / "pipe"))
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("command", FILES)
def test_an_output_never_takes_the_place_of_an_input(command):
    before = Path("images/manifest.csv").read_bytes()
    assert "is a file of the images that are read" in refused(*FILES[command], "images/manifest.csv")
    assert Path("images/manifest.csv").read_bytes() == before


def test_two_outputs_are_never_one_file(tmp_path):
    (tmp_path / "link").symlink_to("scores.json")
    line = refused(*SCORE, "--out", tmp_path / "scores.json", "--page", tmp_path / "link")
    assert "are one file, so one output would be lost" in line and not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize("command", FILES)
def test_a_link_to_a_file_leads_there_afterwards(command, tmp_path, tiny_network):
    (tmp_path / "link").symlink_to("target")
    for _ in range(2):  # the target is made, then replaced
        assert sonosynth(*FILES[command], tmp_path / "link").exit_code == 0
        assert (tmp_path / "link").is_symlink() and (tmp_path / "target").stat().st_size > 100


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_is_never_made_in_the_place_of_a_special_file(command, tmp_path):
    null = device(tmp_path / "null")
    with bound(tmp_path / "socket") as path:
        for out, kind in ((null, "device"), (pipe(tmp_path / "pipe"), "pipe"), (path, "socket")):
            line = refused(*FOLDERS[command], out)
            assert str(out) in line and (f"is a {kind}" in line or "Not a directory" in line)
        assert path.is_socket()
    assert is_device(null) and (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("train", ["recipe.yaml", "log.jsonl", "state.pt", "generator.safetensors", "samples", "tensorboard", "csv"]),
        ("per class", ["dark/log.jsonl", "light/state.pt"]),
        ("study", ["study.yaml", "f1.csv", "plan.json", "cells"]),
    ],
)
def test_special_files_in_a_run_or_a_study_are_refused_and_stay(command, names, tmp_path):
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        path = pipe(tmp_path / "out" / name)
        line = refused(*FOLDERS[command], tmp_path / "out")
        assert f"{path} is a pipe where a" in line or "which is not a run of one" in line
        assert path.is_fifo() and [p for p in (tmp_path / "out").rglob("*") if not p.is_dir()] == [path]
        path.unlink()


def test_figures_tables_and_caches_go_through_links(folder, tmp_path):
    null = device(tmp_path / "null")
    (tmp_path / "report.html").symlink_to(null)
    assert sonosynth("report", "study", "--out", tmp_path).exit_code == 0
    assert "cannot be written (Not a directory)" in refused(*SCORE, "--cache", null)
    assert is_device(null) and (tmp_path / "report.html").is_symlink()


SCORED = f"{sys.executable} -m sonosynth {' '.join(SCORE)}"
HERE = {"PYTHONPATH": str(Path(sonosynth_package.__file__).parents[1])}  # not another version that may be installed


def shell(script, folder):
    """Run a bash script; descriptors are named by links of the test's own, never by those in /dev."""
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | HERE, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"{SCORED} --out >(cat > came) > printed && while [ ! -s came ]; do sleep 0.05; done", "came"),
        (f"ln -s /proc/self/fd/1 stdout; {SCORED} --out stdout > printed; [ -L stdout ]", "printed"),
        (f"{SCORED} --out /proc/self/fd/3 3> came > printed", "came"),
        (f"echo first > came; {SCORED} --out /dev/fd/3 3>> came > printed", "came"),
        (f"mkfifo p; cat p > came & {SCORED} --out p > printed && wait", "came"),
    ],
)
def test_what_a_shell_opens_receives_the_file(script, expected, folder, tmp_path):
    for name in ("images", "made"):
        (tmp_path / name).symlink_to(folder / name)
    done = shell(script, tmp_path)
    assert done.returncode == 0 and not done.stderr.count("error"), done.stderr
    text = (tmp_path / expected).read_text()
    assert json.loads(text[text.index("[\n {") : text.index("\n]\n") + 3])[0]["metric"]
    assert "real baseline: the same between m reference" in (tmp_path / "printed").read_text()
    assert text.startswith("first") == ("first" in script)


def test_a_reader_that_ends_early_is_one_line(folder, tmp_path):
    done = shell(f"{SCORED} --out >(true)", folder)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "its reader stopped before the end" in done.stderr

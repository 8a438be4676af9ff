"""Studies in jobs of a real Slurm on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from image_sets import blobs
from slurm_cluster import slurm_cluster, why_not
from sonosynth.core.errors import StudyError
from sonosynth.study.engines.slurm import SlurmEngine, queue, queue_in_words
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design

TINY_GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
TABLES = ("scores.csv", "f1.csv")


class Log:
    """Keeps what a study tells, and calls `at_start` with every cell that begins."""

    def __init__(self, at_start=lambda cell: None) -> None:
        self.at_start = at_start
        self.finished: list[str] = []
        self.notes: list[str] = []

    def note(self, text) -> None:
        self.notes.append(text)

    def start(self, cell, number, total) -> None:
        self.at_start(cell)

    def progress(self, cell, done, total, text) -> None:
        pass

    def finish(self, cell, seconds) -> None:
        self.finished.append(cell.kind)


def design_of(folder: Path, kimg: float = 0.012) -> dict:
    return {
        "name": "tiny",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"sizes": [8, 16], "draws": 1},
        "gans": [TINY_GAN],
        "training": {"kimg": kimg, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {
            "networks": ["resnet18"],
            "arms": ["real", "real+synthetic"],
            "seeds": [0],
            "steps": 20,
            "batch": 4,
        },
    }


def run(raw: dict, directory: Path, engine: SlurmEngine | None = None, log: Log | None = None) -> Log:
    log = log or Log()
    design, text = parse_design(raw, "study.yaml"), yaml.safe_dump(raw)
    run_design(design, text, Store(directory), log, "sonosynth", engine=engine)
    return log


def wait_for_jobs(directory: Path) -> None:
    """Wait until no job is left: the last result comes a moment before its job has ended."""
    deadline = time.monotonic() + 60
    while queue_in_words(directory):
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    with (
        slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster") as environment,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        patch.setattr("sonosynth.study.engines.slurm.POLL_SECONDS", 0.5)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of the images and of a study that ran in this process."""
    folder = tmp_path_factory.mktemp("whole")
    blobs(30).save(folder / "real")
    run(design_of(folder), folder / "local")
    return folder


def test_without_slurm_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="there is no 'sbatch' here"):
        SlurmEngine().check()


@pytest.mark.long
def test_arrays_of_slurm_make_the_same_tables(cluster, whole, tmp_path):
    log = run(design_of(whole), tmp_path / "out", SlurmEngine(cells_per_task=2, time_limit="10"))
    assert sorted(log.finished) == ["classify"] * 4 + ["score"] * 2 + ["train"] * 2
    for table in TABLES:
        assert (tmp_path / "out" / table).read_bytes() == (whole / "local" / table).read_bytes()
    wait_for_jobs(tmp_path / "out")
    assert len(list((tmp_path / "out" / "slurm").glob("train-*_0.log"))) == 1  # two cells in one task


@pytest.mark.long
def test_jobs_that_cannot_be_submitted_are_told_in_one_line(cluster, whole, tmp_path):
    with pytest.raises(StudyError, match=r"^sbatch: .*invalid partition.*--partition"):
        run(design_of(whole), tmp_path / "out", SlurmEngine(partition="nowhere"))
    assert not queue_in_words(tmp_path / "out")


@pytest.mark.slow
def test_a_killed_job_is_submitted_again_within_a_minute(cluster, whole, tmp_path):
    began, killed = time.monotonic(), []

    def kill(cell):
        if cell.kind == "train" and not killed:
            task = next(task for task, state in queue(tmp_path / "out").items() if state == "RUNNING")
            killed.append(time.monotonic())
            subprocess.run(["scancel", "--signal=KILL", "--full", task], check=True)

    log = Log(kill)
    run(design_of(whole), tmp_path / "out", SlurmEngine(time_limit="10"), log)
    assert killed and any("submitted again" in note for note in log.notes), time.monotonic() - began
    for table in TABLES:
        assert (tmp_path / "out" / table).read_bytes() == (whole / "local" / table).read_bytes()


@pytest.mark.slow
def test_a_study_that_was_killed_cancels_its_jobs_and_goes_on_from_saved_states(cluster, whole, tmp_path):
    raw, out = design_of(whole, kimg=0.4), tmp_path / "out"
    run(raw, tmp_path / "local")
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "sonosynth", "study", "run", str(study), "--out", str(out), "--engine", "slurm"]
    driver = subprocess.Popen(command, env=os.environ)
    deadline = time.monotonic() + 240
    while not list(out.glob("runs/*/log.jsonl")):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert queue_in_words(out)
    log = run(raw, out, SlurmEngine())
    assert len(log.finished) == 8
    wait_for_jobs(out)
    for table in TABLES:
        assert (out / table).read_bytes() == (tmp_path / "local" / table).read_bytes()

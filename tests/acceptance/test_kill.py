"""A study that is killed again and again ends with the tables of one that never was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from conftest import blobs

# The command line as it is, but with the state of a run saved after every step, so that kills land between states too.
PROGRAM = """
import sys, sonosynth.gan.train as train
train.SAVE_SECONDS = 0.0
from sonosynth.cli.main import app
app(["study", "run", *sys.argv[1:]])
"""
STUDY = {
    "name": "killed",
    "data": {"size": 32},
    "split": {"sizes": [8, 16]},
    "gans": [{"base": "stylegan2-diffaug", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}],
    "training": {"kimg": 0.1, "mode": "conditional"},
    "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
    "classifiers": {"arms": ["real+classical", "real+classical+synthetic"], "seeds": [0], "steps": 20, "batch": 4},
}
TIMEOUT = 240.0


def start(study: Path, out: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(study), "--out", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(study: Path, out: Path) -> None:
    process = start(study, out)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors.decode()


def kill_when(study: Path, out: Path, reached: Callable[[], bool]) -> None:
    process = start(study, out)
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert process.poll() is None, f"ended before the kill: {process.communicate()[1].decode()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    blobs(30).save(tmp_path / "real")
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | {"data": {"source": str(tmp_path / "real"), "size": 32}}))
    return path


def test_killed_study_ends_with_identical_tables(study, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(study, whole)

    def states() -> list[float]:
        return [path.stat().st_mtime for path in cut.glob("runs/*/state.pt")]

    def cells(kind: str) -> int:
        return len(list(cut.glob(f"cells/{kind}-*.json")))

    kill_when(study, cut, lambda: (cut / "study.yaml").exists())
    kill_when(study, cut, lambda: (cut / "data").exists())
    kill_when(study, cut, lambda: bool(states()))
    first = max(states())
    kill_when(study, cut, lambda: bool(states()) and max(states()) > first + 0.2)
    kill_when(study, cut, lambda: cells("train") == 1)
    kill_when(study, cut, lambda: cells("score") == 1)
    kill_when(study, cut, lambda: cells("classify") == 3)
    finish(study, cut)
    for table in ("scores.csv", "f1.csv"):
        assert (cut / table).read_bytes() == (whole / table).read_bytes()
    assert not list(cut.rglob(".*.tmp"))

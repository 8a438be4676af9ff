"""A study that is killed again and again ends with the tables of one that never was."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import forked
from drawing import leave_out_drawing
from image_sets import blobs
from tiny_classifier import TINY

STUDY = {
    "name": "killed",
    "data": {"size": 32},
    "split": {"sizes": [8, 16]},
    "gans": [{"base": "stylegan2-diffaug", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}],
    "training": {"kimg": 0.1, "mode": "conditional"},
    "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
    "classifiers": {"arms": ["real+classical", "real+classical+synthetic"], "networks": ["tiny"], "seeds": [0]}
    | {"steps": 60, "batch": 4},
}
TIMEOUT = 240.0


def study_run(study: Path, out: Path) -> None:
    """Do what the command line does, but save the state of a run after every step: kills land between states too."""
    from sonosynth.classify.networks import NETWORKS
    from sonosynth.cli.main import app
    from sonosynth.gan.training import loop as train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "SAVE_SECONDS", 0.0)
        patch.setitem(NETWORKS, TINY.name, TINY)
        leave_out_drawing(patch)
        app(["study", "run", str(study), "--out", str(out)])


def finish(study: Path, out: Path) -> None:
    errors = out.with_suffix(".errors")
    process = forked.begin(study_run, study, out, errors=errors)
    process.join(TIMEOUT)
    assert process.exitcode == 0, errors.read_text()


def kill_when(study: Path, out: Path, reached: Callable[[], bool]) -> None:
    errors = out.with_suffix(".errors")
    process = forked.begin(study_run, study, out, errors=errors)
    deadline = time.monotonic() + TIMEOUT
    while not reached():
        assert process.is_alive(), f"ended before the kill: {errors.read_text()}"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


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
    kill_when(study, cut, lambda: cells("classify") >= 3)
    finish(study, cut)
    for table in ("scores.csv", "f1.csv"):
        assert (cut / table).read_bytes() == (whole / table).read_bytes()
    assert not list(cut.rglob(".*.tmp"))

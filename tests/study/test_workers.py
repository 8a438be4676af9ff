import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import blobs
from sonosynth.errors import OutputError
from sonosynth.files import locked
from sonosynth.study.cells import TrainCell, trained_for
from sonosynth.study.design import parse_design
from sonosynth.study.prepared import prepare_study
from sonosynth.study.run import run_study
from sonosynth.study.store import Store

TINY_GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}


class Log:
    """Keeps what a study tells."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.finished: list[str] = []
        self.under_way: set[str] = set()
        self.most = 0

    def note(self, text) -> None:
        pass

    def start(self, cell, number, total) -> None:
        self.started.append(cell.hash)
        self.under_way.add(cell.hash)
        self.most = max(self.most, len(self.under_way))

    def progress(self, cell, done, total, text) -> None:
        assert cell.hash in self.under_way

    def finish(self, cell, seconds) -> None:
        self.under_way.remove(cell.hash)
        self.finished.append(cell.hash)


def design_of(folder: Path, gans=(TINY_GAN,), **training) -> dict:
    if not (folder / "real").is_dir():
        blobs(30).save(folder / "real")
    return {
        "name": "tiny",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"sizes": [8], "draws": 1},
        "gans": list(gans),
        "training": {"kimg": 0.012, "mode": "conditional"} | training,
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {"arms": ["real", "real+synthetic"], "seeds": [0], "steps": 20, "batch": 4},
    }


def run(raw: dict, directory: Path, workers: int) -> Log:
    log = Log()
    run_study(parse_design(raw, "study.yaml"), yaml.safe_dump(raw), Store(directory), log, "sonosynth", workers)
    return log


def test_workers_make_the_same_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the workers; this process has one thread already
    pretrained = [TINY_GAN | {"name": name, "pretrain_kimg": 0.012, "pretrain_images": 2} for name in ("one", "two")]
    raw = design_of(tmp_path, [TINY_GAN, *pretrained])
    alone, shared = run(raw, tmp_path / "alone", 1), run(raw, tmp_path / "shared", 3)
    assert sorted(alone.finished) == sorted(shared.finished) == sorted(shared.started)
    assert alone.most == 1 and shared.most == 3
    for table in ("scores.csv", "f1.csv"):
        assert (tmp_path / "alone" / table).read_bytes() == (tmp_path / "shared" / table).read_bytes()
    design = parse_design(raw, "study.yaml")
    cells = prepare_study(design, Store(tmp_path / "shared")).cells(design)
    needed = {cell.hash: trained_for(cell) for cell in cells}
    for cell in cells:
        run_of = needed[cell.hash]
        if run_of is not None:
            assert shared.finished.index(run_of.hash) <= shared.finished.index(cell.hash)
    assert sum(isinstance(cell, TrainCell) for cell in cells) == 3


def test_an_error_in_a_worker_is_told_and_the_rest_goes_on_later(tmp_path):
    raw = design_of(tmp_path)
    design = parse_design(raw, "study.yaml")
    store = Store(tmp_path / "out")
    cell = next(c for c in prepare_study(design).cells(design) if isinstance(c, TrainCell))
    store.claim(design, yaml.safe_dump(raw))
    with locked(store.run(cell)), pytest.raises(OutputError, match="another process is working in"):
        run(raw, store.directory, 2)
    finished = run(raw, store.directory, 2).finished
    assert len(finished) == len(prepare_study(design, store).cells(design))


SCRIPT = """
import sys, yaml
from pathlib import Path
sys.path.insert(0, {tests!r})
from study.test_workers import run
if __name__ == "__main__":
    run(yaml.safe_load(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), 2)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_cut_leaves_no_worker_behind_and_goes_on(how, tmp_path):
    raw = design_of(tmp_path, kimg=0.2)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "script.py").write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    words = [sys.executable, tmp_path / "script.py", tmp_path / "study.yaml", tmp_path / "cut"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cut").glob("runs/*/log.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(how)
    process.wait(240)
    time.sleep(2)  # workers notice that their parent is gone
    for directory in (tmp_path / "cut").glob("runs/*"):
        with locked(directory):
            pass
    ended = run(raw, tmp_path / "cut", 2)
    design = parse_design(raw, "study.yaml")
    assert len(pd.read_csv(tmp_path / "cut" / "f1.csv")) > 0
    assert len(ended.finished) == len(prepare_study(design, Store(tmp_path / "cut")).cells(design))

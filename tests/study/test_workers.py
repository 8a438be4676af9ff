import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import forked
from image_sets import blobs
from sonosynth.classify.networks import NETWORKS
from sonosynth.core.errors import OutputError
from sonosynth.core.files import locked
from sonosynth.study.cells import TrainCell, trained_for
from sonosynth.study.prepared import prepare_study
from sonosynth.study.run import run_design
from sonosynth.study.run_cell import do_cell
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from tiny_classifier import QUICK, TINY
from tiny_classifier import tiny_network as tiny_network

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
        "classifiers": QUICK | {"arms": ["real", "real+synthetic"]},
    }


def do_tiny(*arguments) -> float:
    """Do a cell in a process that may not know the network "tiny" yet."""
    NETWORKS.setdefault(TINY.name, TINY)
    return do_cell(*arguments)


def run(raw: dict, directory: Path, workers: int) -> Log:
    log = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, TINY.name, TINY)
        patch.setattr("sonosynth.study.run.do_cell", do_tiny)
        run_design(parse_design(raw, "study.yaml"), yaml.safe_dump(raw), Store(directory), log, "sonosynth", workers)
    return log


@pytest.fixture
def ready_workers(monkeypatch):
    """Workers that have everything imported when they begin, on one thread each like this process."""
    context = forked.context()
    monkeypatch.setattr("sonosynth.study.engines.local.multiprocessing.get_context", lambda method=None: context)


@pytest.mark.long
def test_workers_make_the_same_tables(tmp_path, ready_workers):
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


@pytest.mark.long
def test_an_error_in_a_worker_is_told_and_the_rest_goes_on_later(tmp_path, ready_workers):
    raw = design_of(tmp_path)
    design = parse_design(raw, "study.yaml")
    store = Store(tmp_path / "out")
    cell = next(c for c in prepare_study(design).cells(design) if isinstance(c, TrainCell))
    store.claim(design, yaml.safe_dump(raw))
    with locked(store.run(cell)), pytest.raises(OutputError, match="another process is working in"):
        run(raw, store.directory, 2)
    finished = run(raw, store.directory, 2).finished
    assert len(finished) == len(prepare_study(design, store).cells(design))


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_study_that_is_cut_leaves_no_worker_behind_and_goes_on(how, tmp_path):
    raw, cut = design_of(tmp_path, kimg=0.3), tmp_path / "cut"
    process = forked.begin(run, raw, cut, 2, errors=tmp_path / "errors")
    deadline = time.monotonic() + 120
    while not list(cut.glob("runs/*/recipe.yaml")):
        assert process.is_alive() and time.monotonic() < deadline, (tmp_path / "errors").read_text()
        time.sleep(0.05)
    os.kill(process.pid, how)
    process.join(240)
    assert process.exitcode
    time.sleep(2)  # workers notice that their parent is gone
    for directory in cut.glob("runs/*"):
        with locked(directory):
            pass
    ended = run(raw, cut, 1)
    design = parse_design(raw, "study.yaml")
    assert len(pd.read_csv(cut / "f1.csv")) > 0
    assert len(ended.finished) == len(prepare_study(design, Store(cut)).cells(design))


@pytest.mark.long
def test_a_study_starts_no_more_workers_than_have_room_and_says_so(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr("sonosynth.study.engines.memory.available_memory", lambda: 1 << 30)
    monkeypatch.setattr(Log, "note", lambda _, text: told.append(text))
    monkeypatch.setattr("sonosynth.study.engines.local.in_workers", lambda *_: pytest.fail("workers were started"))
    log = run(design_of(tmp_path), tmp_path / "out", 3)
    assert log.most == 1 and sum("1 worker of 3, for want of memory" in line for line in told) == 1

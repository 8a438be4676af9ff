"""Tiny runs and studies that trackers follow, killed and resumed."""

import json
from pathlib import Path

import pytest
import yaml

import tiny_classifier as classifier
from monitor import Told
from sonosynth.classify.networks import NETWORKS
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training import loop
from sonosynth.gan.training.loop import train_run
from sonosynth.study.run import run_design
from sonosynth.study.run_cell import do_cell
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from sonosynth.tracking.trackers import Trackers

TINY = {"channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
OF_THE_CLOCK = ("seconds", "img_per_s")


@pytest.fixture
def short_ticks(monkeypatch):
    """Have a log line every 0.02 kimg."""
    monkeypatch.setattr(loop, "TICK_KIMG", 0.02)


def tiny(name: str = "stylegan2-ada", **settings):
    return make_recipe(name, **(TINY | {"ada_kimg": 0.1} | settings))


def logged(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def points(entries: list[dict], *, but: tuple[str, ...] = ("kimg", "seconds")) -> dict[str, list[tuple[int, float]]]:
    """Return step and value of every number of log lines, by name."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name not in (*but, "event") and value is not None:
                found.setdefault(name, []).append((round(1000 * entry["kimg"]), value))
    return found


def kill_at_84(data, run: Path, track, *, first: bool = True) -> None:
    """Train to 0.12 kimg; the last state is of 0.04 when the process dies at 0.084. `first`: tracked from the start."""

    def die(done, total, latest):
        if round(done * 1000) == 84:
            raise MemoryError

    train_run(data, tiny(), run, kimg=0.04, conditional=True, track=tracked(track, run) if first else None)
    state = (run / "state.pt").read_bytes()
    with pytest.raises(MemoryError):
        train_run(data, tiny(), run, kimg=0.12, conditional=True, track=tracked(track, run), progress=die)
    assert (run / "state.pt").read_bytes() == state


def tracked(track, run: Path, **how) -> Trackers:
    return Trackers.of(track, run).telling(how.get("tell", pytest.fail))


def resume(data, run: Path, track, kimg: float = 0.12, **how) -> Path:
    return train_run(data, tiny(), run, kimg=kimg, conditional=True, track=tracked(track, run, **how))


def tiny_study(source: Path, out: Path, track=(), *, workers: int = 1, told: Told | None = None, **changes) -> Path:
    """Run a study of one generator, its scores and two classifiers per seed."""
    raw = {
        "name": "tiny study",
        "data": {"source": str(source), "size": 32},
        "split": {"sizes": [8], "draws": 1},
        "gans": [{"base": "stylegan2", **TINY}],
        "training": {"kimg": 0.012, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {"networks": ["tiny"], "arms": ["real", "real+synthetic"], "seeds": [0], "steps": 20},
    } | changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, classifier.TINY.name, classifier.TINY)
        patch.setattr("sonosynth.study.run.do_cell", do_tiny)
        design = parse_design(raw, "study.yaml")
        run_design(design, yaml.safe_dump(raw), Store(out), told or Told(), "sonosynth study run", workers, track)
    return out


def do_tiny(*arguments) -> float:
    """Do a cell in a process that may not know the network "tiny" yet."""
    NETWORKS.setdefault(classifier.TINY.name, classifier.TINY)
    return do_cell(*arguments)


def names_of(source: Path) -> list[bytes]:
    """Return what must stay here: the names of the files of the real images, and of their folder."""
    return [path.name.encode() for path in source.rglob("*.png")] + [source.name.encode()]


def assert_none_leaves(files: Path, source: Path) -> None:
    """Check that no file below `files` holds a name of the real images, in its content or path."""
    told = [path for path in files.rglob("*") if path.is_file()]
    assert told
    for path in told:
        for name in names_of(source):
            assert name not in path.read_bytes(), (path, name)
            assert name.decode() not in str(path.relative_to(files))

"""Studies on a Ray cluster of this machine."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from image_sets import blobs
from monitor import Told
from sonosynth.core.errors import StudyError
from sonosynth.study.engines.ray import RayEngine, bytes_of, timeouts_of
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design

TINY_GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
HOW = {"networks": ["resnet18"], "arms": ["real", "real+synthetic"], "seeds": [0], "steps": 20, "batch": 4}


def run(folder: Path, directory: Path, engine: RayEngine | None = None) -> Told:
    raw = {
        "name": "tiny",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"sizes": [8], "draws": 1},
        "gans": [TINY_GAN],
        "training": {"kimg": 0.012, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": HOW,
    }
    monitor = Told()
    design, text = parse_design(raw, "study.yaml"), yaml.safe_dump(raw)
    run_design(design, text, Store(directory), monitor, "sonosynth", engine=engine)
    return monitor


def test_sizes_and_timeouts_are_read_or_refused_in_one_line():
    assert bytes_of("8G") == 8 << 30 and bytes_of("100") == 100
    assert timeouts_of(["train=60"]) == {"train": 60.0}
    for wrong in ("8X", "", "G"):
        with pytest.raises(StudyError, match="--memory-per-task"):
            bytes_of(wrong)
    for wrong in ("train", "train=0", "cook=3"):
        with pytest.raises(StudyError, match="--timeout"):
            timeouts_of([wrong])


@pytest.mark.long
def test_tasks_of_ray_make_the_same_tables(tmp_path, monkeypatch):
    if find_spec("ray") is None:  # it must not be imported yet: it reads its settings just then
        pytest.skip("no Ray: pip install 'sonosynth[ray]'")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "240")
    blobs(30).save(tmp_path / "real")
    alone = run(tmp_path, tmp_path / "alone")
    on_ray = run(tmp_path, tmp_path / "ray", RayEngine(memory=1 << 20))
    assert sorted(on_ray.fresh) == sorted(alone.fresh) and len(alone.fresh) == 4
    for table in ("scores.csv", "f1.csv"):
        assert (tmp_path / "alone" / table).read_bytes() == (tmp_path / "ray" / table).read_bytes()

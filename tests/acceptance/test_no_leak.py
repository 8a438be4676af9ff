"""No test image reaches a generator, a filter, the choice of weights or a classifier: bit for bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from image_sets import blobs
from made_up_priors import made_up_prior
from monitor import Told
from sonosynth.core.files import read_json
from sonosynth.study.run import run_design
from sonosynth.study.store import Store
from sonosynth.study.study_file import parse_design
from tiny_classifier import tiny_network as tiny_network

GAN = {"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}
PRIOR = {"base": "fastgan+prior", "batch": 4, "perceptual": "l1"}
OF_THE_CLOCK = ("seconds", "img_per_s", "training_seconds")


def study(folder: Path, out: Path, test: Path) -> Path:
    raw = {
        "name": "poisoned",
        "data": {"source": str(folder / "real"), "size": 32},
        "split": {"test": str(test), "validation_fraction": 0.2, "sizes": [16]},
        "gans": [GAN, PRIOR | {"prior": str(folder / "prior")}, {"folder": str(folder / "made"), "name": "theirs"}],
        "training": {"kimg": 0.012, "mode": "conditional", "snapshot": "best"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": {
            "networks": ["tiny"],
            "arms": ["real+classical", "oversampled", "real+synthetic", "synthetic-only", "test-on-synthetic"],
            "filters": ["none", "confidence", "distance"],
            "seeds": [0],
            "steps": 20,
        },
    }
    run_design(parse_design(raw, "study.yaml"), yaml.safe_dump(raw), Store(out), Told(), "sonosynth study run")
    return out


def timeless(value: Any) -> Any:
    """Return `value` without what depends on the clock."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in OF_THE_CLOCK}
    return value


def files(out: Path) -> dict[str, Any]:
    """Return the content of every file that generators leave, and of what filters and training leave in cells."""
    found: dict[str, Any] = {}
    for part in ("data", "runs", *(f"galleries/{run.name}" for run in (out / "runs").iterdir())):
        for path in (out / part).rglob("*"):
            if path.name == "log.jsonl":
                lines = path.read_text(encoding="utf-8").splitlines()
                found[str(path.relative_to(out))] = [timeless(json.loads(line)) for line in lines]
            elif path.is_file():
                found[str(path.relative_to(out))] = path.read_bytes()
    for kind in ("train", "filter"):
        found |= {path.name: timeless(read_json(path)) for path in (out / "cells").glob(f"{kind}-*.json")}
    return found


def classifiers(out: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the results of all classifiers by arm, GAN and filter."""
    cells = [read_json(path) for path in (out / "cells").glob("classify-*.json")]
    return {tuple(cell["result"][factor] for factor in ("arm", "gan", "filter")): cell["result"] for cell in cells}


@pytest.fixture
def both(tmp_path) -> tuple[Path, Path]:
    """Two studies: the test images of the second are inverted, so that each looks like the other class, and marked.

    Whoever looks at them would learn the opposite, choose the weights that know least, and keep other images.
    """
    blobs(40).save(tmp_path / "real")
    replace(blobs(60, seed=5), synthetic=True).save(tmp_path / "made")
    made_up_prior(tmp_path / "prior", blobs(8, seed=11))
    test = blobs(8, seed=9)
    test.save(tmp_path / "test")
    pixels = 255 - test.images
    pixels[:, :12, :12] = np.where(test.labels == 0, 255, 0)[:, None, None]
    replace(test, images=pixels).save(tmp_path / "poisoned")
    return study(tmp_path, tmp_path / "clean", tmp_path / "test"), study(
        tmp_path, tmp_path / "out", tmp_path / "poisoned"
    )


def test_a_marker_on_the_test_images_changes_predictions_and_nothing_before_them(both):
    clean, poisoned = both
    before, after = files(clean), files(poisoned)
    assert {"generator.safetensors", "best.safetensors"} <= {Path(name).name for name in before}
    assert sum(name.endswith("transfer.json") for name in before) == 1
    assert sum(name.startswith("filter-") for name in before) == 6
    assert any(0 < before[name]["result"]["acceptance"] < 1 for name in before if name.startswith("filter-"))
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == []
    first, second = classifiers(clean), classifiers(poisoned)
    assert first.keys() == second.keys() and len(first) == 2 + 3 * 5
    for key, result in first.items():
        for kept in ("weights_digest", "step", "n_train", "n_synthetic", "n_validation"):
            assert result[kept] == second[key][kept], (key, kept)
        seen = result["probabilities"] != second[key]["probabilities"]
        assert seen == (key[0] != "test-on-synthetic"), key  # or the marker would be too faint to prove anything

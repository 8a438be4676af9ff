"""Images, designs and a web server that many tests share."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from bad_server import server as server
from sonosynth.data.imageset import ImageSet

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt; a shell's background job would ignore it
# The networks of tests are tiny, and pytest-xdist runs one process a core: threads would wait for each other.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of pytest-xdist's processes and those that tests start, BLAS included


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep features that commands compute out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SONOSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real images, for tests marked `real_images`."""
    folder = os.environ.get("SONOSYNTH_DATA")
    if not folder:
        pytest.skip("SONOSYNTH_DATA is not set")
    return Path(folder)


def blobs(per_class: int, size: int = 32, classes: tuple[str, ...] = ("dark", "light"), seed: int = 0) -> ImageSet:
    """Return noise images whose mean depends on the class, so that anything can learn to tell them apart."""
    rng = np.random.default_rng(seed)
    n = per_class * len(classes)
    labels = np.arange(n) % len(classes)
    level = 60 + 120 * labels / max(1, len(classes) - 1)
    images = (rng.normal(0, 25, (n, size, size)) + level[:, None, None]).clip(0, 255).astype(np.uint8)
    return ImageSet(images, labels, classes, np.arange(n), tuple(f"image-{i}" for i in range(n)))


@pytest.fixture
def small_set() -> ImageSet:
    """Twenty images of two classes, 32 pixels."""
    return blobs(10)


def leave_out_drawing(patch: pytest.MonkeyPatch) -> None:
    """Leave out the slow end of the report's figures: they are composed, but not written in three formats."""
    from sonosynth.report.drawing import Picture
    from sonosynth.report.study import classifier_figures, figures

    for module in (figures, classifier_figures):
        patch.setattr(module, "finish", lambda figure, name, alt, *_, **__: Picture(name, alt, "data:image/png,"))


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the slow end of the report's figures."""
    leave_out_drawing(monkeypatch)

"""Fixtures that tests of several rooms share. What they build on lies in tests/helpers."""

import os
import signal
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_limits

from bad_server import server as server
from drawing import leave_out_drawing
from image_sets import blobs
from sonosynth.data.imageset import ImageSet

signal.signal(signal.SIGINT, signal.default_int_handler)  # tests interrupt; a shell's background job would ignore it
# The networks of tests are tiny, and pytest-xdist runs one process a core: threads would wait for each other.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of pytest-xdist's processes and those that tests start, BLAS included


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole commands as long."""
    for item in items:
        if "acceptance" in item.path.parts:
            item.add_marker("long")


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


@pytest.fixture
def small_set() -> ImageSet:
    """Twenty images of two classes, 32 pixels."""
    return blobs(10)


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the slow end of the report's figures."""
    leave_out_drawing(monkeypatch)

"""One small release, made once, that tests of this folder read or copy."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from made_up_runs import RELEASE, TRAIN, made_up_run
from sonosynth.data.imageset import ImageSet
from sonosynth.release.release import Release, release


@dataclass(frozen=True)
class Made:
    """The release, and the run that it is from."""

    run: Path
    folder: Path
    release: Release

    @property
    def images(self) -> ImageSet:
        return ImageSet.load(self.folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """A release of 24 images of two classes and two clips; for reading only."""
    there = tmp_path_factory.mktemp("release")
    run = made_up_run(there / "run", TRAIN)
    return Made(run, there / "sample", release(run, there / "sample", 24, clip_frames=4, **RELEASE))


@pytest.fixture
def copied(made, tmp_path) -> Path:
    """A copy of that release, to spoil."""
    return Path(shutil.copytree(made.folder, tmp_path / "sample"))

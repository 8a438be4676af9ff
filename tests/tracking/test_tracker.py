"""What holds of every tracker: it never stops a training, changes nothing, and shows every log line once."""

import subprocess
import sys

import pytest

from sonosynth.cli.options import TrackerName, chosen_trackers
from sonosynth.core.errors import TrackingError
from sonosynth.gan.train import train, train_runs
from sonosynth.tracking import trackers
from sonosynth.tracking.tracker import Grid, LogLine, Tracker
from sonosynth.tracking.trackers import Trackers
from tracked_runs import TINY, kill_at_84, logged, points, resume, tiny
from tracked_runs import short_ticks as short_ticks

pytestmark = pytest.mark.usefixtures("short_ticks")


class Remembers(Tracker):
    """Goes on, like a server that lives longer than a run: keeps what each run of an id was told."""

    name, label, goes_on = "csv", "the memory", True
    told: dict[str, list] = {}  # noqa: RUF012
    lives = 10**9  # calls of `show` until it dies

    @classmethod
    def check(cls) -> None:
        pass

    def is_there(self) -> bool:
        return self.run.id in self.told

    def begin(self, seconds, saved):
        lines = [item for item in self.told.setdefault(self.run.id, []) if isinstance(item, LogLine)]
        return lines[-1].step if lines else -1

    def show(self, items):
        type(self).lives -= 1
        if self.lives < 0:
            raise ConnectionError("gone\nfor good at http://me:secret@there/")
        self.told[self.run.id] += items

    def close(self, done):
        pass


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setattr(Remembers, "told", {})
    monkeypatch.setattr(Remembers, "lives", 10**9)
    monkeypatch.setattr(trackers, "_class_of", lambda name: Remembers)
    return Remembers


@pytest.mark.long
def test_a_tracker_that_goes_on_is_told_saved_lines_alone(small_set, tmp_path, memory):
    run = tmp_path / "run"
    kill_at_84(small_set, run, ["csv"])
    (told,) = memory.told.values()
    assert [item.step for item in told if isinstance(item, LogLine)] == [20, 40]
    resume(small_set, run, ["csv"])
    lines = [item for item in told if isinstance(item, LogLine)]
    assert [(line.step, line.seconds) for line in lines] == [
        (round(1000 * e["kimg"]), e["seconds"]) for e in logged(run)
    ]
    assert points([{"kimg": line.step / 1000, **line.values} for line in lines]) == points(logged(run))
    grids = {item.path for item in told if isinstance(item, Grid)}
    assert grids == set((run / "samples").glob("*.png"))


@pytest.mark.long
def test_a_tracker_that_dies_costs_one_warning_and_no_training(small_set, tmp_path, memory):
    warnings: list[str] = []
    train_runs(small_set, tiny(), tmp_path / "alone", kimg=0.08, mode="per_class")
    memory.lives = 1
    track = Trackers.of("csv", tmp_path / "run").telling(warnings.append)
    train_runs(small_set, tiny(), tmp_path / "run", kimg=0.08, mode="per_class", track=track)
    (warning,) = warnings
    assert warning.startswith("the memory failed (gone for good at http://there/); the work goes on without it")
    for name in small_set.classes:
        ours, alone = (tmp_path / folder / name / "generator.safetensors" for folder in ("run", "alone"))
        assert ours.read_bytes() == alone.read_bytes()


@pytest.mark.long
def test_a_finished_run_is_shown_by_the_same_call_with_a_tracker(small_set, tmp_path, memory):
    run = resume(small_set, tmp_path / "run", [], kimg=0.04)
    assert not memory.told
    resume(small_set, run, ["csv"], kimg=0.04)
    resume(small_set, run, ["csv"], kimg=0.04)
    (told,) = memory.told.values()
    assert [item.step for item in told if isinstance(item, LogLine)] == [20, 40]


def test_names_are_checked_before_anything_is_written(small_set, tmp_path):
    with pytest.raises(TrackingError, match=r"no tracker 'mlfow' \(did you mean 'mlflow'\?\)"):
        train(small_set, "stylegan2", tmp_path / "run", kimg=0.004, settings=TINY, track=["csv", "mlfow"])
    assert Trackers.of("mlflow", tmp_path).names == ("mlflow",)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "package", "remedy"),
    [
        ("tensorboard", "torch.utils.tensorboard", "pip install tensorboard"),
        ("mlflow", "mlflow", "pip install 'sonosynth[mlflow]'"),
        ("wandb", "wandb", "pip install 'sonosynth[wandb]'"),
    ],
)
def test_without_its_package_one_line_says_what_to_do(name, package, remedy, small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TrackingError) as refusal:
        train(small_set, "stylegan2", tmp_path / "run", kimg=0.004, settings=TINY, track=[name])
    assert remedy in str(refusal.value) and "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_no_client_is_imported_unless_it_is_asked_for():
    clients = {"tensorboard", "mlflow", "wandb", "lightning_fabric"}
    code = f"import sys, sonosynth.study.run; print({clients} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_command_line_takes_every_tracker_and_none():
    assert [name.value for name in TrackerName] == [*trackers.TRACKERS, "none"]
    assert chosen_trackers([TrackerName.CSV, TrackerName.MLFLOW]) == ["csv", "mlflow"]
    assert chosen_trackers([TrackerName.NONE]) == []

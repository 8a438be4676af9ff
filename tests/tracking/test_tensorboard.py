"""TensorBoard event files, read back and compared with the log they mirror."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sonosynth.gan.train import train_runs
from sonosynth.gan.training.loop import train_run
from spoiled_steps import spoil_once
from tracked_runs import kill_at_84, logged, points, resume, tiny, tracked
from tracked_runs import short_ticks as short_ticks

pytestmark = pytest.mark.usefixtures("short_ticks")
TRACK = ["tensorboard"]


def shown(run: Path) -> EventAccumulator:
    (file,) = (run / "tensorboard").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    return EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def assert_mirrors(run: Path, entries: list[dict]) -> None:
    """Check that every number of the log lines `entries` of `run` is one point, and that there are no others."""
    events = shown(run)
    wanted = {f"{name.split('_')[0]}/{name}": values for name, values in points(entries).items()}
    assert set(events.Tags()["scalars"]) == set(wanted)
    for tag, of_log in wanted.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in of_log], tag


def assert_shows_grids(run: Path) -> None:
    images = shown(run).Images("samples")
    grids = sorted((run / "samples").glob("*.png"))
    assert [image.step for image in images] == [round(1000 * float(path.stem.split("-")[1])) for path in grids]
    for image, path in zip(images, grids, strict=True):
        there = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)).convert("L"))
        assert np.array_equal(there, np.asarray(Image.open(path)))


@pytest.mark.long
def test_every_log_line_and_grid_is_shown(small_set, tmp_path):
    run = train_run(
        small_set,
        tiny(),
        tmp_path / "run",
        kimg=0.1,
        conditional=True,
        distance=lambda images: float(images.mean()),
        track=tracked(TRACK, tmp_path / "run"),
    )
    assert_mirrors(run, logged(run))
    assert_shows_grids(run)
    wanted = {"loss/loss_g", "loss/loss_d", "sign/sign_real", "augment/augment_p", "kid/kid_train", "img/img_per_s"}
    wanted |= {"gradient/gradient_norm_generator", "gradient/gradient_norm_discriminator"}
    assert wanted <= set(shown(run).Tags()["scalars"])
    times = [event.wall_time for event in shown(run).Scalars("loss/loss_g")]
    seconds = [entry["seconds"] for entry in logged(run)]
    assert np.diff(times) == pytest.approx(np.diff(seconds), abs=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("first", [True, False])
def test_a_killed_and_resumed_run_shows_every_point_once(first, small_set, tmp_path):
    run = tmp_path / "run"
    kill_at_84(small_set, run, TRACK, first=first)
    assert [event.step for event in shown(run).Scalars("loss/loss_g")] == [20, 40, 60, 80]
    resume(small_set, run, TRACK)
    assert [entry["kimg"] for entry in logged(run)] == [0.02, 0.04, 0.06, 0.08, 0.1, 0.12]
    assert_mirrors(run, logged(run))
    assert_shows_grids(run)


@pytest.mark.long
def test_finished_run_keeps_its_event_file(small_set, tmp_path):
    run = resume(small_set, tmp_path / "run", TRACK, kimg=0.02)
    before = [(path, path.read_bytes()) for path in (run / "tensorboard").iterdir()]
    resume(small_set, run, TRACK, kimg=0.02)
    assert [(path, path.read_bytes()) for path in (run / "tensorboard").iterdir()] == before


@pytest.mark.long
def test_steps_that_were_rolled_back_are_no_points(small_set, tmp_path, monkeypatch):
    spoil_once(monkeypatch)
    run = resume(small_set, tmp_path / "run", TRACK, kimg=0.08)
    undone = logged(run)[1]
    assert "rolled back" in undone["event"]
    assert_mirrors(run, [entry for entry in logged(run) if entry is not undone and entry != undone])
    assert_shows_grids(run)
    (event,) = shown(run).Tensors("event/text_summary")
    assert (event.step, event.tensor_proto.string_val[0].decode()) == (20, undone["event"])


@pytest.mark.long
def test_every_class_has_a_run_of_its_own(small_set, tmp_path):
    track = tracked(TRACK, tmp_path / "run")
    train_runs(small_set, tiny(), tmp_path / "run", kimg=0.04, mode="per_class", track=track)
    for name in small_set.classes:
        assert_mirrors(tmp_path / "run" / name, logged(tmp_path / "run" / name))

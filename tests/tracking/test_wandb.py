"""Weights & Biases in its offline mode, read back from the files that its client writes."""

import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from image_sets import blobs
from sonosynth.core.errors import TrackingError
from sonosynth.gan.train import train
from tracked_runs import TINY, assert_none_leaves, kill_at_84, logged, names_of, points, resume, tiny_study
from tracked_runs import short_ticks as short_ticks

wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'sonosynth[wandb]'")
pytestmark = [pytest.mark.usefixtures("short_ticks", "own_settings"), pytest.mark.long]
TRACK = ["wandb"]
BLOCK, HEADER = 32768, 7  # of the log format of LevelDB, in which the client writes
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4
PATIENCE = 60.0  # seconds


@pytest.fixture
def own_settings(monkeypatch, tmp_path_factory):
    """Keep the settings of whoever runs the tests out, and their home clean."""
    for name in [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_ERROR_REPORTING"]:
        monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


def records(folder: Path) -> list:
    """Return the records of an offline run; the client's own process writes the last a moment after the run's end."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = list(records_now(folder))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.1)
    raise AssertionError(f"{folder} has no end")


def records_now(folder: Path):
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("run-*.wandb")
    data, at, parts = file.read_bytes(), HEADER, []
    assert data[:4] in (b"", b":W&B")
    while at + HEADER <= len(data):
        if (left := BLOCK - at % BLOCK) < HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        assert kind in (WHOLE, FIRST, MIDDLE, LAST)
        if at + HEADER + length > len(data):
            return  # it is being written
        parts.append(data[at + HEADER : at + HEADER + length])
        at += HEADER + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def history(folder: Path) -> list[dict]:
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            rows.append({name: json.loads(value) for name, value in items.items()})
    return rows


def summary(folder: Path) -> dict:
    found = {}
    for record in records(folder):
        if record.WhichOneof("record_type") == "summary":
            found |= {item.key or "/".join(item.nested_key): item.value_json for item in record.summary.update}
    return {name: json.loads(value) for name, value in found.items() if not name.startswith("_")}


def run_record(folder: Path):
    return next(record.run for record in records(folder) if record.WhichOneof("record_type") == "run")


def assert_mirrors(folder: Path, directory: Path) -> None:
    """Check that every log line is one row, and every sample grid one file, unchanged and marked as synthetic."""
    rows = history(folder)
    lines = [{name: x for name, x in row.items() if not name.startswith(("_", "samples"))} for row in rows]
    lines = [line for line in lines if line]
    assert points(lines, but=()) == points(logged(directory), but=())
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})
    grids = {round(1000 * float(path.stem.split("-")[1])): path for path in (directory / "samples").iterdir()}
    shown = {row["_step"]: row["samples/path"] for row in rows if "samples/path" in row}
    assert set(shown) == set(grids)
    for step, path in shown.items():
        assert (folder / "files" / path).read_bytes() == grids[step].read_bytes()
        assert "synthetic" in Image.open(folder / "files" / path).info["Source"]
    assert len(list((folder / "files" / "media").rglob("*.png"))) == len(grids)


def test_a_killed_and_resumed_run_shows_every_log_line_once(small_set, tmp_path):
    run = tmp_path / "run"
    kill_at_84(small_set, run, TRACK)
    (before,) = (run / "wandb").glob("offline-run-*")
    assert [row["_step"] for row in history(before) if "loss_g" in row] == [20, 40, 60, 80]
    resume(small_set, run, TRACK)
    (folder,) = (run / "wandb").glob("offline-run-*")
    assert folder.name.rpartition("-")[2] == before.name.rpartition("-")[2]
    assert_mirrors(folder, run)
    kept = len(records(folder))
    resume(small_set, run, TRACK)  # has nothing to do
    assert [len(records(path)) for path in (run / "wandb").glob("offline-run-*")] == [kept] and folder.is_dir()


def test_what_would_leave_has_no_real_image_no_file_name_and_no_machine(tmp_path):
    source, out = tmp_path / "clinic seventeen" / "mueller", tmp_path / "run"
    blobs(10).save(source)
    code = (
        "import sys, sonosynth as ss; from sonosynth.gan.training import loop; loop.TICK_KIMG = 0.02;"
        f"how = {TINY};"
        "ss.train(sys.argv[1], 'stylegan2', sys.argv[2], kimg=0.04, settings=how, conditional=True, track=['wandb']);"
        "print('printed')"
    )
    done = subprocess.run([sys.executable, "-c", code, source, out], check=True, capture_output=True, text=True)
    assert done.stdout == "printed\n" and "wandb" not in done.stderr
    (folder,) = (out / "wandb").glob("offline-run-*")
    (sent,) = folder.glob("*.wandb")
    assert_mirrors(folder, out)
    content = sent.read_bytes() + "".join(map(str, (folder / "files").rglob("*"))).encode()
    for name in ("printed", "seventeen", "loop.TICK_KIMG", sys.executable):
        assert name.encode() not in content, name
    kinds = {record.WhichOneof("record_type") for record in records(folder)}
    assert not run_record(folder).host and not kinds & {"environment", "output", "output_raw", "stats"}
    assert not {path.name for path in (folder / "files").iterdir()} - {"media"}
    assert_none_leaves(folder / "files", source)
    config = {item.key: json.loads(item.value_json) for item in run_record(folder).config.update}
    wanted = {"size": 32, "n": 20, "classes": "dark, light", "counts": "10, 10", "recipe.batch": 4}
    assert wanted.items() <= config.items()
    assert (run_record(folder).display_name, run_record(folder).project) == ("stylegan2, n=20, seed 0", "sonosynth")
    core = (folder / "logs" / "debug-core.log").read_text()
    assert '"disable-analytics":true' in core


def test_a_server_that_cannot_be_reached_is_told_before_anything_is_written(small_set, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(TrackingError, match="has no API key to log in with; run 'wandb login'"):
        train(small_set, "stylegan2", tmp_path / "run", kimg=0.004, settings=TINY, track=TRACK)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"Weights & Biases cannot be reached .*set WANDB_MODE=offline"):
        train(small_set, "stylegan2", tmp_path / "run", kimg=0.004, settings=TINY, track=TRACK)
    assert not list(tmp_path.iterdir())


def test_a_study_is_a_run_per_generator_scorecard_and_classifier(tmp_path):
    source, out = tmp_path / "patients" / "clinic", tmp_path / "study"
    blobs(30).save(source)
    for workers in (2, 1):  # the second time there is nothing to do
        tiny_study(source, out, TRACK, workers=workers)
    folders = list((out / "wandb").glob("offline-run-*"))
    found = {run_record(folder).display_name: folder for folder in folders}
    assert len(folders) == len(found) == 4
    assert_mirrors(found.pop("stylegan2, n=8, draw 0, seed 0"), *(out / "runs").iterdir())
    kinds = [re.match(r"score|classify real\+synthetic|classify real,", name)[0] for name in sorted(found)]
    assert kinds == ["classify real+synthetic", "classify real,", "score"]
    for folder in found.values():
        assert summary(folder) and not history(folder)
        assert run_record(folder).project == "tiny study"
        names = [path for path in (*folder.glob("*.wandb"), *(folder / "files").rglob("*")) if path.is_file()]
        assert not [name for name in names_of(source) for path in names if name in path.read_bytes()]

"""MLflow, against a real server with an SQLite store, and with a store of its own in the run directory."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from image_sets import blobs
from monitor import Told
from sonosynth.core.errors import TrackingError
from sonosynth.data.imageset import ImageSet
from sonosynth.gan.train import train
from sonosynth.gan.training import loop
from tracked_runs import TINY, assert_none_leaves, kill_at_84, logged, names_of, points, resume, tiny_study
from tracked_runs import short_ticks as short_ticks

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'sonosynth[mlflow]'")
pytestmark = [pytest.mark.usefixtures("short_ticks"), pytest.mark.long]
TRACK = ["mlflow"]
START_SECONDS = 240.0  # a server imports much; on a busy machine that takes minutes


@dataclass
class Server:
    """A tracking server of this machine that keeps runs and images in `folder`."""

    folder: Path
    port: int = 0
    process: subprocess.Popen | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        told = (self.folder / "server.log").open("ab")
        # Its jobs are of no use here, and are seven processes more.
        quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            command, env=quiet, cwd=self.folder, stdout=told, stderr=told, start_new_session=True
        )
        end = time.monotonic() + START_SECONDS
        try:
            while not self.answers():
                assert self.process.poll() is None and time.monotonic() < end, "the server did not start"
                time.sleep(0.2)
        except BaseException:
            print((self.folder / "server.log").read_text()[-2000:])
            self.stop()
            raise

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)  # of its own group: it has children
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running, monkeypatch, request) -> Server:
    """The server, with an experiment for this test alone."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", running.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    return running


def runs_of(uri: str, experiment: str) -> list:
    client = mlflow.MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)


def assert_mirrors(uri: str, run, directory: Path) -> None:
    """Check that every number of the log is one point of `run`, and every sample grid one of its images."""
    client = mlflow.MlflowClient(uri)
    wanted = points(logged(directory), but=())
    assert set(run.data.metrics) == set(wanted)
    for name, of_log in wanted.items():
        found = client.get_metric_history(run.info.run_id, name)
        assert sorted((point.step, point.value) for point in found) == of_log, name
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]
    grids = {round(1000 * float(path.stem.split("-")[1])): path for path in (directory / "samples").iterdir()}
    assert sorted(int(re.findall(r"step.(\d+)", path)[0]) for path in images) == sorted(grids)
    for path in images:
        there = Image.open(client.download_artifacts(run.info.run_id, path))
        assert np.array_equal(there, Image.open(grids[int(re.findall(r"step.(\d+)", path)[0])]))


def test_a_killed_and_resumed_run_goes_on_in_the_same_run(server, small_set, tmp_path, request):
    kill_at_84(small_set, tmp_path / "run", TRACK)
    (before,) = runs_of(server.uri, request.node.name)
    assert before.info.status == "KILLED"
    assert before.data.metrics["kimg"] == 0.04  # the state that was saved
    resume(small_set, tmp_path / "run", TRACK)
    (run,) = runs_of(server.uri, request.node.name)
    assert run.info.run_id == before.info.run_id and run.info.status == "FINISHED"
    assert run.info.run_name == "stylegan2-ada, n=20, seed 0"
    assert_mirrors(server.uri, run, tmp_path / "run")
    wanted = {"size": "32", "n": "20", "classes": "dark, light", "counts": "10, 10", "recipe.batch": "4"}
    assert wanted.items() <= run.data.params.items()
    resume(small_set, tmp_path / "run", TRACK)  # has nothing to do
    assert_mirrors(server.uri, *runs_of(server.uri, request.node.name), tmp_path / "run")


def test_a_run_begun_again_is_another_run(server, small_set, tmp_path, request):
    run = resume(small_set, tmp_path / "run", TRACK, kimg=0.04)
    (run / "state.pt").unlink()  # as its error message advises
    resume(small_set, run, TRACK, kimg=0.04)
    again, before = runs_of(server.uri, request.node.name)
    assert again.info.run_id != before.info.run_id
    assert_mirrors(server.uri, again, run)


@pytest.fixture
def mortal(tmp_path_factory):
    """A server that a test may stop and start."""
    server = Server(tmp_path_factory.mktemp("mortal"))
    yield server
    server.stop()


def test_a_server_that_dies_costs_a_warning_and_is_told_the_rest_later(mortal, small_set, tmp_path, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    mortal.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mortal.uri)
    save = loop.RunWriter.state

    def save_then_die(self, *state):
        save(self, *state)
        mortal.stop()

    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop.RunWriter, "state", save_then_die)
        run = resume(small_set, tmp_path / "run", TRACK, kimg=0.06, tell=warnings.append)
    (warning,) = warnings
    assert warning.startswith("MLflow failed (") and "the work goes on without it" in warning
    alone = resume(small_set, tmp_path / "alone", [], kimg=0.06)
    assert (run / "generator.safetensors").read_bytes() == (alone / "generator.safetensors").read_bytes()
    with pytest.raises(
        TrackingError, match=r"^MLflow cannot be reached \(.*; start its server, correct MLFLOW_TRACKING"
    ):
        train(small_set, "stylegan2", tmp_path / "other", kimg=0.004, settings=TINY, track=TRACK)
    assert not (tmp_path / "other").exists()
    mortal.start()
    resume(small_set, run, TRACK, kimg=0.06)
    assert_mirrors(mortal.uri, *runs_of(mortal.uri, "sonosynth"), run)


def test_without_a_server_the_store_is_in_out_and_holds_no_real_image(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    source, out = tmp_path / "patient müller" / "clinic", tmp_path / "a 100% run ü"
    blobs(10).save(source)
    train(ImageSet.load(source), "stylegan2", out, kimg=0.04, settings=TINY, conditional=False, track=TRACK)
    uri = f"sqlite:///{out / 'mlflow' / 'mlflow.db'}"
    runs = {run.info.run_name: run for run in runs_of(uri, "sonosynth")}
    assert set(runs) == {f"stylegan2, n=10, seed 0, {name}" for name in ("dark", "light")}
    for name in ("dark", "light"):
        assert_mirrors(uri, runs[f"stylegan2, n=10, seed 0, {name}"], out / name)
    assert_none_leaves(out / "mlflow", source)
    assert b"ller" not in (out / "mlflow" / "mlflow.db").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, source.parent.name]


def test_mlflow_reports_nothing_to_its_makers(tmp_path):
    """In a process of its own, as MLflow never reports from tests and CI."""
    code = (
        "import sys; from sonosynth.tracking.trackers import Trackers; Trackers.of('mlflow', sys.argv[1]).check();"
        "from mlflow.telemetry.client import get_telemetry_client; print(get_telemetry_client())"
    )
    of_ci = ("CI", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    clean = {name: value for name, value in os.environ.items() if name not in of_ci}
    command = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"


def test_a_study_is_a_run_per_generator_scorecard_and_classifier(server, tmp_path, request):
    source, out = tmp_path / "patients" / "clinic", tmp_path / "study"
    blobs(30).save(source)
    tiny_study(source, out)  # what has its results is shown all the same
    told = Told()
    more = {"networks": ["tiny"], "arms": ["real", "real+synthetic"], "seeds": [0, 1], "steps": 20}
    for _ in range(2):
        tiny_study(source, out, TRACK, told=told, classifiers=more)
    assert told.fresh == ["classify", "classify"] and not [note for note in told.notes if "MLflow" in note]
    runs = runs_of(server.uri, request.node.name)
    by_kind = {kind: [run for run in runs if run.data.tags["sonosynth.kind"] == kind] for kind in ("train", "score")}
    (trained,), (scored,) = by_kind.values()
    assert trained.info.run_name == "stylegan2, n=8, draw 0, seed 0"
    assert_mirrors(server.uri, trained, *(out / "runs").iterdir())
    table = pd.read_csv(out / "scores.csv").dropna(subset="value")
    keys = ["metric", "features", "reference", "class"]
    wanted = {"/".join(row[keys]): row["value"] for _, row in table.iterrows()}
    assert scored.data.metrics == pytest.approx(wanted)
    classified = {run.info.run_name: run.data.metrics for run in runs if run not in (trained, scored)}
    f1 = pd.read_csv(out / "f1.csv")
    assert len(classified) == 4 == len(runs) - 2
    for arm, of_gan in (("real", ""), ("real+synthetic", ", stylegan2")):
        for seed in (0, 1):
            (found,) = (
                metrics
                for name, metrics in classified.items()
                if name.startswith(f"classify {arm}, tiny{of_gan}, n=8") and f", seed {seed}" in name
            )
            rows = f1[(f1["arm"] == arm) & (f1["seed"] == seed)].dropna(subset="value")
            assert found == pytest.approx(dict(zip(rows["metric"], rows["value"], strict=True)))
    told_server = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert not [name for name in names_of(source) if name in told_server]

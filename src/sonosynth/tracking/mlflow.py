"""MLflow, by its own client: a server that ``MLFLOW_TRACKING_URI`` names, or an SQLite store in ``OUT/mlflow``."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from sonosynth.core.errors import TrackingError
from sonosynth.core.files import locked
from sonosynth.tracking.tracker import Grid, LogLine, TrackedRun, Tracker, reason

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A server that is gone is given up within a minute, not within many.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Of the environment, where the user has not set them."""

_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # which pages MLflow shows: not those of chat bots
_ID, _KIND = "sonosynth.id", "sonosynth.kind"  # tags
_GRIDS = "synthetic samples"
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # that MLflow takes at once


class MLflow(Tracker):
    """A run of MLflow, which one that is continued goes on with. Steps are real images shown.

    MLflow can take nothing back, so it gets a log line once that line is part of a saved state. Times count training
    alone, from the start of the run. What happened is the tag ``event.STEP``.
    """

    name, label, goes_on = "mlflow", "MLflow", True

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self._id = ""
        self._start = 0  # milliseconds
        self._grids: set[int] = set()  # steps of those that are there

    @classmethod
    def check(cls) -> None:
        """Raise TrackingError unless MLflow is installed and its server answers."""
        is_set, client_of = _import()
        if not is_set():
            return
        try:
            client_of(None).search_experiments(max_results=1)
        except Exception as error:  # of every kind
            raise TrackingError(
                f"MLflow cannot be reached ({reason(error)}); start its server, correct MLFLOW_TRACKING_URI, or leave "
                "--track mlflow out"
            ) from error

    def is_there(self) -> bool:
        """Return whether MLflow has a run of this name."""
        client, experiment = self._connect()
        return self.run.id in _known(client, experiment)

    def begin(self, seconds: float, saved: int) -> int:
        """Go on with the run of MLflow, or begin one."""
        client, _ = self._connect()
        found, last = self._find(), -1
        if found is not None:
            last = round(1000 * found.data.metrics.get("kimg", -0.001))
            if last > saved:
                self.run.forget()
        if found is None or last > saved:
            self._create(seconds)
            return -1
        self._id, self._start = found.info.run_id, found.info.start_time
        client.update_run(self._id, status="RUNNING")
        names = [file.path for file in client.list_artifacts(self._id, "images")]
        self._grids = {int(step) for name in names for step in re.findall(r"[+%]step[+%](\d+)[+%]", name)}
        return last

    def show(self, items: Sequence[LogLine | Grid]) -> None:
        """Send `items`; numbers of many lines in few requests, those of one line in one."""
        from mlflow.entities import Metric

        client, _ = self._connect()
        metrics: list[Metric] = []
        for item in items:
            at = self._start + round(1000 * item.seconds)
            if isinstance(item, Grid):
                if item.step not in self._grids:
                    with Image.open(item.path) as picture:
                        client.log_image(self._id, picture, key=_GRIDS, step=item.step, timestamp=at, synchronous=True)
                continue
            if item.event is not None:
                client.set_tag(self._id, f"event.{item.step}", item.event)
            values = _named(item.values)
            if values and item.seconds:
                values |= {"kimg": item.step / 1000, "seconds": item.seconds}
            if len(metrics) + len(values) > _MOST_METRICS:
                client.log_batch(self._id, metrics)
                metrics = []
            metrics += [Metric(name, value, at, item.step) for name, value in values.items()]
        for begin in range(0, len(metrics), _MOST_METRICS):
            client.log_batch(self._id, metrics[begin : begin + _MOST_METRICS])

    def close(self, done: bool) -> None:
        """Tell MLflow that the run has finished, or that it was interrupted."""
        client, _ = self._connect()
        client.set_terminated(self._id, "FINISHED" if done else "KILLED")

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Show one set of metrics; a run of this name that is there is deleted, which MLflow can undo."""
        client, _ = self._connect()
        if (found := self._find()) is not None:
            client.delete_run(found.info.run_id)
        self._create(0.0)
        self.show([LogLine(0, 0.0, metrics)])
        self.close(True)

    def _connect(self) -> tuple[Any, str]:
        is_set, _ = _import()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.run.project
        if is_set():
            from mlflow.tracking import get_tracking_uri

            return _connection(get_tracking_uri(), name, None)
        return _connection(f"sqlite:///{(self.run.out / 'mlflow' / 'mlflow.db').absolute()}", name, self.run.out)

    def _find(self) -> Any:
        client, experiment = self._connect()
        found = client.search_runs([experiment], f"tags.`{_ID}` = '{self.run.id}'", max_results=1)
        return found[0] if found else None

    def _create(self, seconds: float) -> None:
        from mlflow.entities import Param

        client, experiment = self._connect()
        self._start, self._grids = round(1000 * (time.time() - seconds)), set()
        tags = {_ID: self.run.id, _KIND: self.run.kind}
        made = client.create_run(experiment, start_time=self._start, tags=tags, run_name=self.run.name)
        self._id = made.info.run_id
        params = [Param(name, str(value)) for name, value in self.run.params.items() if value is not None]
        for begin in range(0, len(params), _MOST_PARAMS):
            client.log_batch(self._id, params=params[begin : begin + _MOST_PARAMS])


def _import() -> tuple[Any, Any]:
    """Return what says whether the user has named a server, and the class of clients. Raises TrackingError."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.tracking import is_tracking_uri_set
    except ImportError as error:
        raise TrackingError(
            f"MLflow cannot be used ({error}); run \"pip install 'sonosynth[mlflow]'\", or leave --track mlflow out"
        ) from error
    logging.getLogger("alembic").setLevel(logging.WARNING)  # tells of every table of a new store
    return is_tracking_uri_set, MlflowClient


@cache
def _connection(uri: str, name: str, out: Path | None) -> tuple[Any, str]:
    """Return a client for `uri` and the number of the experiment `name`; of several processes one makes a store."""
    _, client_of = _import()
    with nullcontext() if out is None else locked(out / "mlflow", wait=True):
        client = client_of(uri)
        if (found := client.get_experiment_by_name(name)) is not None:
            return client, found.experiment_id
        artifacts = None if out is None else (out / "mlflow" / "artifacts").absolute().as_uri()
        return client, client.create_experiment(name, artifact_location=artifacts, tags=_TAGS)


@cache
def _known(client: Any, experiment: str) -> set[str]:
    """Return the names of the runs that an experiment has at the first call."""
    names, token = set[str](), None
    while True:
        page = client.search_runs([experiment], f"tags.`{_ID}` LIKE '%'", page_token=token)
        names |= {run.data.tags[_ID] for run in page}
        token = page.token
        if not token:
            return names


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """Return `values` under names that MLflow takes, which are told apart."""
    named: dict[str, float] = {}
    for name, value in values.items():
        plain = re.sub(r"[^\w./: -]", "_", name)[:240]
        while plain in named:
            plain += "_"
        named[plain] = value
    return named

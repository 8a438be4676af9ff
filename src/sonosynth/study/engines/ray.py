"""Cells of a study as tasks of a Ray cluster, which needs no file system that all nodes see.

The images go once into Ray's object store. A task works in a folder of its node and returns the files of its result as
bytes, which the process that runs the study writes into the study directory; nobody else writes there. Runs that later
cells need travel as bytes too, or are read from the study directory where all nodes see it. Cells travel as JSON.
"""

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sonosynth.core import errors
from sonosynth.core.errors import StudyError
from sonosynth.core.files import atomic_file, user_cache
from sonosynth.gan.checkpoint import STATE
from sonosynth.study.cells import CELL_KINDS, AnyCell, TrainCell, cell_from, needed_by
from sonosynth.study.engines.engine import Agenda, Watch, Work
from sonosynth.study.prepared import StudyData
from sonosynth.study.store import Store

INSTALL = "the engine 'ray' needs Ray: pip install 'sonosynth[ray]'"
RETRIES = 3  # of a task whose worker or node is lost, and of a cell that takes longer than its timeout
POLL_SECONDS = 0.3
STOP_SECONDS = 60.0  # in which states are saved after Ctrl-C
# A node that is cut off is noticed within 3 * (3 + 5) s. By default it takes longer than two minutes.
HEALTH = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 3000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 3,
}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def bytes_of(text: str) -> int:
    """Return the bytes in a size such as ``8G``. Raises StudyError."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or unit not in _UNITS:
        raise StudyError(f"--memory-per-task: '{text}' is no size; give bytes, or a number with K, M or G, such as 8G")
    return int(number) * _UNITS[unit]


def timeouts_of(texts: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each kind of cell in words such as ``train=3600``. Raises StudyError."""
    found = {}
    for text in texts:
        kind, _, seconds = text.partition("=")
        if kind not in CELL_KINDS or not seconds.isdecimal() or not int(seconds):
            raise StudyError(f"--timeout: '{text}' is not KIND=SECONDS with one of the kinds {', '.join(CELL_KINDS)}")
        found[kind] = float(seconds)
    return found


@dataclass(frozen=True)
class RayEngine:
    """Cells as tasks of a Ray cluster.

    Attributes:
        address: of the head of a cluster, ``HOST:PORT``. A cluster of this machine alone is started if not given.
        cpus: cores, and threads, of a cell.
        gpus: GPUs of a cell, or a part of one; one where the cluster has any, if not given.
        memory: bytes of main memory of a cell; measured on a few images, for every kind of cell, if not given.
        shared: whether all nodes see the study directory at the same path, and read the runs that they need there.
        timeouts: seconds by kind of cell, after which the cell is begun anew.
        object_store: bytes of the object store of a cluster that is started here; Ray's choice if not given.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float | None = None
    memory: int | None = None
    shared: bool = False
    timeouts: Mapping[str, float] = field(default_factory=dict)
    object_store: int | None = None

    tracks_runs = False

    def check(self) -> None:
        """Raise StudyError unless Ray is installed."""
        if find_spec("ray") is None:  # it is imported later, as it reads its settings from the environment just then
            raise StudyError(INSTALL)

    def begin(self, store: Store) -> None:
        """Stop nothing: Ray ends the tasks of a process that is gone."""

    def finished(self, cells: Sequence[AnyCell], work: Work, watch: Watch) -> Generator[tuple[AnyCell, float]]:
        """Do `cells` on the cluster and yield each when its files are in the study directory.

        Raises:
            StudyError: there is no such cluster, or a worker was lost again and again.
            SonosynthError: as a cell raised it.
        """
        if not cells:
            return
        with self._connected():
            import ray

            tasks = _Tasks(self, cells, work, watch)
            try:
                yield from tasks.finished()
            except ray.exceptions.ObjectStoreFullError as error:
                raise StudyError(
                    "the object store of Ray is full; start the nodes with more --object-store-memory, or give runs a "
                    "shared path with --shared, and run the same command again"
                ) from error
            finally:
                tasks.stop()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        started: dict[str, Any] = {}
        if self.address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            started = {
                "num_cpus": os.cpu_count(),
                "object_store_memory": self.object_store,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "_system_config": HEALTH,
            }
        import ray

        try:
            ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR", **started)
        except (ConnectionError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
            raise StudyError(
                f"no Ray cluster at {self.address or 'this machine'} ({str(error).splitlines()[0]}); start it, and "
                "give --address HOST:PORT of its head and the token of the cluster (RAY_AUTH_MODE, RAY_AUTH_TOKEN)"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


class _Tasks:
    """The tasks of one study."""

    def __init__(self, engine: RayEngine, cells: Sequence[AnyCell], work: Work, watch: Watch):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.engine, self.work, self.watch, self.ray = engine, work, watch, ray
        self.agenda = Agenda(cells)
        self._users = Counter(needed.hash for cell in cells for needed in needed_by(cell))
        self._packs: dict[str, Any] = {}
        self._running: dict[Any, AnyCell] = {}
        self._began: dict[str, float] = {}  # seen here, by the clock of this process
        self._timed_out: Counter[str] = Counter()
        self._started: set[str] = set()
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(_Board)
        self.board = board.remote()
        self._data = ray.put(replace(work.data, audit={}))
        resources = ray.cluster_resources()
        self._gpus = engine.gpus if engine.gpus is not None else float(resources.get("GPU", 0) >= 1)
        self._memory = self._needed_memory(cells)
        self._at_once = 2 * max(1, int(resources.get("CPU", 1)) // engine.cpus)
        self._task = ray.remote(max_retries=RETRIES, retry_exceptions=False)(_do_task)

    def _needed_memory(self, cells: Sequence[AnyCell]) -> dict[str, int]:
        from sonosynth.study.engines.memory import needed_memory
        from sonosynth.study.run_cell import kind_of_work

        first = {kind_of_work(cell): cell for cell in reversed(cells)}
        if self.engine.memory is not None:
            return dict.fromkeys(first, self.engine.memory)
        found = {kind: needed_memory(cell, self.work.data) for kind, cell in first.items()}
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        most = max(int(node.get("memory", 0)) for node in nodes)
        for kind, needed in found.items():
            if needed > most:
                raise StudyError(
                    f"to {kind} takes up to about {needed / (1 << 30):.1f} GiB, and the largest node offers "
                    f"{most / (1 << 30):.1f} GiB; add a larger node, or give --memory-per-task"
                )
        return found

    def finished(self) -> Generator[tuple[AnyCell, float]]:
        """Submit what may begin, and yield what has finished."""
        while self.agenda:
            while len(self._running) < self._at_once and (cell := self.agenda.next()) is not None:
                self._submit(cell)
            done, _ = self.ray.wait(list(self._running), num_returns=len(self._running), timeout=POLL_SECONDS)
            self._pass_on_messages()
            for task in done:
                cell = self._running.pop(task)
                try:
                    returned = self.ray.get(task)
                except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.NodeDiedError) as error:
                    raise StudyError(
                        f"{cell.label()}: its worker was lost {RETRIES + 1} times, perhaps for want of memory; "
                        "the same command goes on, with more --memory-per-task"
                    ) from error
                if "error" in returned:
                    raise getattr(errors, returned["error"])(f"{cell.label()}: {returned['message']}")
                for text in returned["notes"]:
                    self.watch.note(text)
                self._start(cell)
                _unpack(returned["files"], self.work.store.directory)
                self._forget(cell)
                yield cell, returned["seconds"]
            self._end_what_hangs()

    def _submit(self, cell: AnyCell) -> None:
        from sonosynth.study.run_cell import kind_of_work

        store = self.work.store
        packs = []
        for needed in needed_by(cell):
            shared = self.engine.shared and isinstance(needed, TrainCell)
            if needed.hash not in self._packs:
                self._packs[needed.hash] = self.ray.put({} if shared else _pack(store, needed))
            packs.append(self._packs[needed.hash])
        task = self._task.options(
            name=cell.label(),
            num_cpus=self.engine.cpus,
            num_gpus=self._gpus,
            memory=self._memory[kind_of_work(cell)],
        ).remote(
            json.dumps(cell.settings()),
            self._data,
            self.board,
            self.engine.cpus,
            str(store.directory.absolute()),
            self.engine.shared,
            version("sonosynth"),
            *packs,
        )
        self._running[task] = cell

    def _forget(self, cell: AnyCell) -> None:
        self.agenda.finish(cell)
        self._began.pop(cell.hash, None)
        for needed in needed_by(cell):
            self._users[needed.hash] -= 1
            if not self._users[needed.hash]:
                self._packs.pop(needed.hash, None)

    def _start(self, cell: AnyCell) -> None:
        if cell.hash not in self._started:
            self._started.add(cell.hash)
            self.watch.start(cell)

    def _pass_on_messages(self) -> None:
        under_way = {cell.hash: cell for cell in self._running.values()}
        for key, (done, total, text) in self.ray.get(self.board.take.remote()).items():
            if key in under_way:
                self._began.setdefault(key, time.monotonic())
                self._start(under_way[key])
                self.watch.progress(under_way[key], done, total, text)

    def _end_what_hangs(self) -> None:
        """Begin those cells anew that have taken longer than the timeout of their kind."""
        for task, cell in list(self._running.items()):
            most, began = self.engine.timeouts.get(cell.kind), self._began.get(cell.hash)
            if most is None or began is None or time.monotonic() - began <= most:
                continue
            self.ray.cancel(task, force=True)
            del self._running[task], self._began[cell.hash]
            self._timed_out[cell.hash] += 1
            if self._timed_out[cell.hash] > RETRIES:
                raise StudyError(
                    f"{cell.label()}: it took longer than {most:.0f} s in each of {RETRIES + 1} tries; give a longer "
                    f"--timeout {cell.kind}=SECONDS"
                )
            self.watch.note(f"{cell.label()} took longer than {most:.0f} s, and is begun anew")
            self._submit(cell)

    def stop(self) -> None:
        """End all tasks; a run in training saves its state on its node first."""
        for task in self._running:
            self.ray.cancel(task, force=False)
        left = list(self._running)
        if left:
            _, left = self.ray.wait(left, num_returns=len(left), timeout=STOP_SECONDS)
        for task in left:
            self.ray.cancel(task, force=True)


class _Board:
    """An actor on which tasks write how far they are."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[float, float, str]] = {}

    def tell(self, key: str, done: float, total: float, text: str) -> None:
        self._latest[key] = done, total, text

    def take(self) -> dict[str, tuple[float, float, str]]:
        latest, self._latest = self._latest, {}
        return latest


def _do_task(
    settings: str,
    data: StudyData,
    board: Any,
    threads: int,
    study: str,
    shared: bool,
    driver: str,
    *packs: dict[str, bytes],
) -> dict[str, Any]:
    """Do a cell in a folder of this node, and return the files of its result; or its error, if the user can mend it."""
    import torch
    from threadpoolctl import threadpool_limits

    from sonosynth.study.run_cell import do_cell

    if version("sonosynth") != driver:
        differs = f"this node has sonosynth {version('sonosynth')}, the study runs with {driver}; install the same"
        return {"error": "StudyError", "message": differs}
    torch.set_num_threads(threads)
    cell = cell_from(json.loads(settings))
    board.tell.remote(cell.hash, 0.0, 1.0, "")
    store = Store(_folder(study))
    notes: list[str] = []
    told = 0.0

    def progress(_: AnyCell, done: float, total: float, text: str) -> None:
        nonlocal told
        if time.monotonic() - told > POLL_SECONDS:
            board.tell.remote(cell.hash, float(done), float(total), text)
            told = time.monotonic()

    try:
        with threadpool_limits(threads):
            for needed, pack in zip(needed_by(cell), packs, strict=True):
                if shared and isinstance(needed, TrainCell):
                    _link(store.run(needed), Store(Path(study)).run(needed))
                else:
                    _unpack(pack, store.directory)
            seconds = do_cell(data, store, None, cell, progress, notes.append)
    except errors.SonosynthError as error:
        return {"error": type(error).__name__, "message": str(error)}
    files = _pack(store, cell)
    store.remove_result(cell)
    if isinstance(cell, TrainCell):
        shutil.rmtree(store.run(cell))
    return {"files": files, "seconds": seconds, "notes": notes}


def _folder(study: str) -> Path:
    """Return the folder of a study on this node: the same for every task, so that a state that was saved is found."""
    import ray

    at = f"{ray.util.get_node_ip_address()} {study}"
    return user_cache() / "ray" / hashlib.sha256(at.encode()).hexdigest()[:16]


def _link(link: Path, to: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=link.parent)) / "link"
    beside.symlink_to(to, target_is_directory=True)
    if not link.is_dir():
        beside.replace(link)
    shutil.rmtree(beside.parent)


def _pack(store: Store, cell: AnyCell) -> dict[str, bytes]:
    """Return the files that a finished cell left in `store`, its result last, by their names in the study directory."""
    folders = [store.gallery(cell), *([store.run(cell)] if isinstance(cell, TrainCell) else [])]
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [path for path in found if path.name != STATE and not path.name.startswith(".")]
    files = (*kept, store.result_file(cell))
    return {str(path.relative_to(store.directory)): path.read_bytes() for path in files}


def _unpack(files: Mapping[str, bytes], directory: Path) -> None:
    """Write `files` into `directory`, in their order; those that are there with the same content stay.

    Raises StudyError where a name leads out of `directory`.
    """
    for name, content in files.items():
        path = directory / name
        if not path.resolve().is_relative_to(directory.resolve()):
            raise StudyError(
                f"a task returned a file called '{name}', which would lie outside {directory}; it is refused"
            )
        if not path.is_file() or path.read_bytes() != content:
            with atomic_file(path) as beside:
                beside.write_bytes(content)

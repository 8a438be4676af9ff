"""Processes that have everything imported when they begin, for tests that need several."""

import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from unittest import mock

HEAVY = ["pytest", "torch._dynamo", "scipy.stats", "monai.networks.nets", "sklearn.metrics", "sonosynth.cli.main"]
HEAVY += ["sonosynth.study.run", "sonosynth.study.config", "sonosynth.report.study.page"]


def context() -> ForkServerContext:
    """Return what starts such processes, on one thread each."""
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(HEAVY)
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
        forkserver.ensure_running()
    return forked


def begin(work: Callable[..., None], *arguments: object, errors: Path) -> ForkServerProcess:
    """Start a process that does ``work(*arguments)``, with its standard error in the file `errors`."""
    process = context().Process(target=_work, args=(work, arguments, errors))
    process.start()
    return process


def _work(work: Callable[..., None], arguments: tuple[object, ...], errors: Path) -> None:
    with errors.open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    work(*arguments)

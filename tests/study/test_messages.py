"""What workers tell while they work, without any real work."""

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import pytest

import forked
from sonosynth.study.engines import local as workers
from sonosynth.study.engines.local import POLL_SECONDS, in_workers


@dataclass(frozen=True)
class Task:
    """Stands for a cell: what a worker calls."""

    hash: str
    work: Callable
    generation: None = None  # needs no run


def do(task: Task, tell, note) -> float:
    seconds = task.work(task, tell)
    note(f"{task.hash} is done")
    return seconds


def tells_after_its_end(task, tell):
    threading.Timer(POLL_SECONDS / 4, tell, (task, 1, 1, "late")).start()
    return 0.0


def takes_a_while(task, tell):
    for step in range(5):
        time.sleep(3 * POLL_SECONDS)
        tell(task, step, 5, "")
    return 0.0


@pytest.mark.long
def test_a_message_that_comes_after_the_result_is_not_passed_on_but_every_note_is():
    tasks = [Task("early", tells_after_its_end), Task("long", takes_a_while)]
    under_way, told, notes = set(), [], []

    def tell(task, done, total, text):
        assert task.hash in under_way
        told.append(task.hash)

    for task, _ in in_workers(tasks, do, lambda task: under_way.add(task.hash), tell, notes.append, 2):
        under_way.remove(task.hash)
        assert notes[-1] == f"{task.hash} is done"
    assert set(told) == {"long"} and not under_way and len(notes) == 2


def ends_at_once(task, tell):
    return 0.0


def tells_much(task, tell):
    while True:
        time.sleep(1.5 * POLL_SECONDS)
        tell(task, 0, 1, "x" * 2**20)  # more than a pipe holds


def leave_in_the_middle(outcome) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what it runs in the background
    tasks = [Task("talking", tells_much), Task("short", ends_at_once)]
    with closing(in_workers(tasks, do, lambda task: None, lambda *message: None, print, 2)) as finished:
        next(finished)
        time.sleep(20 * POLL_SECONDS)  # nobody reads meanwhile
    outcome.put("ended")


def outcome_of(work: Callable) -> object:
    """Return what `work`, in a process of its own, puts into the queue that it is given; it has to end by itself."""
    context = forked.context()
    outcome = context.Queue()
    process = context.Process(target=work, args=(outcome,))
    process.start()
    try:
        found = outcome.get(timeout=60)
        process.join(60)
        assert process.exitcode == 0
        return found
    finally:
        process.kill()


@pytest.mark.long
def test_workers_end_that_have_more_to_tell_than_anybody_will_read():
    assert outcome_of(leave_in_the_middle) == "ended"


def test_a_worker_that_is_ready_after_the_stop_begins_nothing():
    stop, work = threading.Event(), queue.SimpleQueue()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        workers._Worker(work, queue.SimpleQueue(), queue.SimpleQueue(), stop).do(Task("late", ends_at_once))


def interrupt_while_working(outcome) -> None:
    tasks = [Task("talking", tells_much), Task("short", ends_at_once)]
    with closing(in_workers(tasks, do, lambda task: None, lambda *message: None, print, 2)) as finished:
        next(finished)
        children = [process.pid for process in multiprocessing.active_children()]
        for child in children:
            os.kill(child, signal.SIGINT)
        time.sleep(4 * POLL_SECONDS)
        outcome.put([process.pid for process in multiprocessing.active_children()] == children)


@pytest.mark.long
def test_workers_hear_no_interrupt_but_that_of_the_study():
    assert outcome_of(interrupt_while_working) is True

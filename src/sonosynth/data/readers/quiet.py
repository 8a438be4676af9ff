"""Keeps libtiff, which Pillow does not silence, from writing to standard error: the user is told in one line."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STANDARD_ERROR = 2


class _Silence:
    """Points the file descriptor nowhere from when the first thread comes in until the last has gone out."""

    def __init__(self) -> None:
        self.lock, self.inside, self.kept = threading.Lock(), 0, -1

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            if self.inside == 1:
                self.kept = os.dup(_STANDARD_ERROR)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, _STANDARD_ERROR)
                os.close(nowhere)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0 and self.kept >= 0:
                os.dup2(self.kept, _STANDARD_ERROR)
                os.close(self.kept)
                self.kept = -1


_silence = _Silence()


@contextmanager
def quiet_decoder() -> Iterator[None]:
    """Drop what is written to file descriptor 2 inside; what other threads write there meanwhile is lost too."""
    with suppress(OSError):  # where there is no standard error, or no descriptor left, it is as loud as it is
        _silence.enter()
    try:
        yield
    finally:
        _silence.leave()

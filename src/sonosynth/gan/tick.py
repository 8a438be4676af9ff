"""What is known of a run between two log lines: statistics that stay on the device, and the time spent in steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sonosynth import processes

Entry = dict[str, float | str | None]
"""A log line."""


class Tick:
    """Collects statistics between two log lines without waiting for the device, and the time spent in steps alone."""

    def __init__(self, batch: int, seconds: float):
        self._batch, self._total = batch, seconds
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._images, self._started = 0, time.perf_counter()
        self._opening = seconds
        self.latest: Entry = {}

    @property
    def seconds(self) -> float:
        """Seconds spent in steps so far."""
        return self._total + time.perf_counter() - self._started

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the block out of `seconds`."""
        self._total = self.seconds
        try:
            yield
        finally:
            self._started = time.perf_counter()

    def add(self, statistics: dict[str, Tensor]) -> None:
        """Take in the statistics of one step."""
        self._images += self._batch
        for name, value in statistics.items():
            total, count = self._sums.get(name, (torch.zeros_like(value), 0))
            self._sums[name] = (total + value, count + 1)

    def close(self, kimg: float) -> Entry:
        """Return the log line: means since the last one, over all processes; waits for the device."""
        totals = [(total / count).float() for total, count in self._sums.values()]
        means = dict(zip(self._sums, processes.mean(torch.stack(totals)).tolist(), strict=True))
        seconds = self.seconds
        rate = self._images / (seconds - self._opening)
        self._sums, self._images, self._opening = {}, 0, seconds
        entry: Entry = {"kimg": round(kimg, 6), "seconds": seconds, "img_per_s": rate}
        entry |= dict.fromkeys(("r1", "augment_p", "kid_train", "event"))
        entry |= means
        self.latest = entry
        return entry

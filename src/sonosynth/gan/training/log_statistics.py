"""What is known of a run since its last regular log line: sums that stay on the device, and the time spent in steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sonosynth.core import distributed

GRADIENT_NORM = "gradient_norm_"  # begins the names of statistics of a single step, which are not averaged

Entry = dict[str, float | str | None]
"""A log line."""


class StatisticsCollector:
    """Collects statistics between regular log lines without waiting for the device, and the time spent in steps alone.

    The sums are part of a run's state: a resumed run logs the means that an uninterrupted one would have logged. The
    speed is that of the steps since the last line or the resume. `seconds` were spent in steps before.
    """

    def __init__(self, batch: int, seconds: float = 0.0):
        self._batch, self._total = batch, seconds
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._once: dict[str, Tensor] = {}
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
        self._once = {}
        for name, value in statistics.items():
            if name.startswith(GRADIENT_NORM):
                self._once[name] = value
            else:
                total, count = self._sums.get(name, (torch.zeros_like(value), 0))
                self._sums[name] = (total + value, count + 1)

    def close(self, kimg: float, *, regular: bool) -> Entry:
        """Return the log line at `kimg`: means since the last regular one, over all processes; waits for the device.

        After a `regular` line the next begins anew. The line at the end of a run is not regular where it falls within
        an interval: a longer run that goes on from there has the lines that it would have had without this one.
        """
        distributed.average_([*(total for total, _ in self._sums.values()), *self._once.values()])
        values = {name: total / count for name, (total, count) in self._sums.items()} | self._once
        means = dict(zip(values, torch.stack([value.float() for value in values.values()]).tolist(), strict=True))
        seconds = self.seconds
        rate = self._images / (seconds - self._opening)
        self._images, self._opening = 0, seconds
        if regular:
            self._sums = {}
        self.latest = {
            "kimg": round(kimg, 6),
            "seconds": seconds,
            "img_per_s": rate,
            "threads": torch.get_num_threads(),
        }
        self.latest |= dict.fromkeys(("r1", "augment_p", "kid_train", "event"))
        self.latest |= means
        return self.latest

    def state_dict(self) -> dict[str, Any]:
        """Return the sums since the last regular log line, and how many steps are in each."""
        return {name: (total.clone(), count) for name, (total, count) in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the sums that `state_dict` returned."""
        self._sums = {name: (total.clone(), int(count)) for name, (total, count) in state.items()}

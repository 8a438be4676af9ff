"""Following a run while it trains: its log and sample grids as TensorBoard event files."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sonosynth.core.errors import TrackingError
from sonosynth.core.files import remove_file
from sonosynth.gan.checkpoint import EVENTS, LOG, SAMPLES

Tracker = Callable[[Path], None]
"""Called with the run directory after every log line, once the line and any sample grid are on disk."""


class TensorBoard(AbstractContextManager["TensorBoard"]):
    """A `Tracker` that mirrors what a run has written to ``RUN/tensorboard``; ``tensorboard --logdir RUN`` shows it.

    Steps are real images shown. A number ``loss_g`` of the log becomes the scalar ``loss/loss_g``, grouped by its first
    word; sample grids become the image ``samples``; what happened, the text ``event``. Times count training alone.

    The files of the run are the only source. The first call for a run, or one whose log was cut back, replaces the
    event files by a new one that begins with the whole log, so a killed and resumed run shows every point once. A log
    line that does not advance stands for steps that were rolled back: of it only the event is shown.

    Raises:
        TrackingError: TensorBoard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrackingError(
                f"TensorBoard cannot be used ({error}); run 'pip install tensorboard', or train with --no-tensorboard"
            ) from error
        self._make_writer: Callable[..., Any] = SummaryWriter
        self._writer: Any = None
        self._run: Path | None = None
        self._shown: list[str] = []
        self._grids: set[Path] = set()
        self._step = 0
        self._began = self._time = 0.0  # of the first step and of the last log line

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()

    def __call__(self, run: Path) -> None:
        """Write what the log and the sample grids of `run` have that its event file lacks."""
        lines = (run / LOG).read_text(encoding="utf-8").splitlines()
        if run != self._run or lines[: len(self._shown)] != self._shown:
            self._begin(run, json.loads(lines[-1])["seconds"])
        for line in lines[len(self._shown) :]:
            self._show(json.loads(line))
        self._shown = lines
        self._show_grids(run / SAMPLES)
        self._writer.flush()

    def _begin(self, run: Path, seconds: float) -> None:
        self.close()
        for old in (run / EVENTS).glob("events.out.tfevents.*"):
            remove_file(old)
        # The purge is for a TensorBoard that is open now and has read the old file.
        self._writer = self._make_writer(str(run / EVENTS), purge_step=0)
        self._run, self._shown, self._grids, self._step = run, [], set(), 0
        self._began = time.time() - seconds

    def _show(self, entry: dict[str, Any]) -> None:
        step = round(1000 * entry.pop("kimg"))
        self._time = self._began + entry.pop("seconds")
        event = entry.pop("event")
        if event is not None:
            self._writer.add_text("event", event, step, self._time)
        if step > self._step:
            self._step = step
            for name, value in entry.items():
                if value is not None:
                    self._writer.add_scalar(f"{name.partition('_')[0]}/{name}", value, step, walltime=self._time)

    def _show_grids(self, samples: Path) -> None:
        """Show the grids up to the last log line; one beyond it may be of steps that are still to be taken again."""
        for path in sorted(samples.glob("*.png")):
            step = round(1000 * float(path.stem.removeprefix("kimg-")))
            if step <= self._step and path not in self._grids:
                self._grids.add(path)
                picture = np.asarray(Image.open(path))
                self._writer.add_image("samples", picture, step, walltime=self._time, dataformats="HW")

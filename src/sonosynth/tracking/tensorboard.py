"""TensorBoard: event files, which ``tensorboard --logdir`` shows while a run is training.

They are written by PyTorch's SummaryWriter. Fabric's TensorBoardLogger, which wraps it, would be worse: it takes no
time of a point, so that after a resume the whole log would be of one moment, and it expands ``$`` and ``~`` in the path
of a run.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sonosynth.core.errors import TrackingError
from sonosynth.core.files import remove_file
from sonosynth.tracking.tracker import Grid, LogLine, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Steps are real images shown, and times count training alone.

    A number ``loss_g`` of the log becomes the scalar ``loss/loss_g``, grouped by its first word; sample grids become
    the image ``samples``; what happened, the text ``event``.
    """

    name, label = "tensorboard", "TensorBoard"

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self._writer: Any = None
        self._began = self._time = 0.0  # of the first step and of the last log line

    @classmethod
    def check(cls) -> None:
        """Raise TrackingError unless TensorBoard is installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise TrackingError(
                f"TensorBoard cannot be used ({error}); run 'pip install tensorboard', or choose another --track, or "
                "none"
            ) from error

    def is_there(self) -> bool:
        """Return whether there is an event file."""
        return any(self.run.files.glob("events.out.tfevents.*"))

    def begin(self, seconds: float, saved: int) -> int:
        """Replace the event files by a new one."""
        from torch.utils.tensorboard import SummaryWriter

        for old in self.run.files.glob("events.out.tfevents.*"):
            remove_file(old)
        # The purge is for a TensorBoard that is open now and has read the old file.
        self._writer = SummaryWriter(str(self.run.files), purge_step=0)
        self._began = time.time() - seconds
        return -1

    def show(self, items: Sequence[LogLine | Grid]) -> None:
        """Write `items` to the event file."""
        for item in items:
            self._time = self._began + item.seconds if item.seconds else self._time
            if isinstance(item, Grid):
                picture = np.asarray(Image.open(item.path))
                self._writer.add_image("samples", picture, item.step, walltime=self._time, dataformats="HW")
                continue
            if item.event is not None:
                self._writer.add_text("event", item.event, item.step, self._time)
            for name, value in item.values.items():
                tag = name if "/" in name else f"{name.partition('_')[0]}/{name}"
                self._writer.add_scalar(tag, value, item.step, walltime=self._time)
        self._writer.flush()

    def close(self, done: bool) -> None:
        """Close the event file."""
        self._writer.close()

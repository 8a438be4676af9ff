"""Weights & Biases, by its own client: offline in ``OUT/wandb``, unless ``WANDB_MODE`` or ``WANDB_DIR`` is set.

Nothing but what a tracker is given leaves the process: no code, no command line, no output, no name of machine or user,
no system metrics, no reports of errors.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sonosynth.core.errors import TrackingError
from sonosynth.tracking.tracker import Grid, LogLine, TrackedRun, Tracker, reason

_OFFLINE = ("offline", "dryrun")


class WandB(Tracker):
    """A run of Weights & Biases. Steps are real images shown.

    Offline, a run that is continued replaces what is there: the client cannot go on with it. Online it goes on, and as
    nothing can be taken back, a log line is sent once it is part of a saved state.
    """

    name, label = "wandb", "Weights & Biases"

    def __init__(self, run: TrackedRun):
        super().__init__(run)
        self.goes_on = _mode() not in _OFFLINE
        self._folder = Path(os.environ.get("WANDB_DIR") or run.out)
        self._last = -1
        self._live: Any = None

    @classmethod
    def check(cls) -> None:
        """Raise TrackingError unless the client is installed and, online, the server answers and knows the user."""
        wandb = _import()
        if _mode() != "online":
            return
        advice = "run 'wandb login', correct WANDB_BASE_URL, set WANDB_MODE=offline, or leave --track wandb out"
        try:
            known = wandb.login(prompt=False, verify=True)
        except Exception as error:  # of every kind
            raise TrackingError(f"Weights & Biases cannot be reached ({reason(error)}); {advice}") from error
        if not known:
            raise TrackingError(f"Weights & Biases has no API key to log in with; {advice}")

    def _local(self) -> list[Path]:
        return sorted((self._folder / "wandb").glob(f"*run-*-{self.run.id}"))

    def is_there(self) -> bool:
        """Return whether files of the run lie here."""
        return bool(self._local())

    def begin(self, seconds: float, saved: int) -> int:
        """Replace the files of an offline run by new ones; go on with the run where it is online."""
        wandb = _import()
        if not self.goes_on:
            for old in self._local():
                shutil.rmtree(old)
        self._init(wandb)
        if self.goes_on and self._live.resumed:
            self._last = self._live.step - 1
            if self._last > saved:
                self._live.finish()
                self.run.forget()
                self._last = -1
                self._init(wandb)
        return self._last

    def _init(self, wandb: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._live = wandb.init(
            id=self.run.id,
            name=self.run.name,
            job_type=self.run.kind,
            config={name: value for name, value in self.run.params.items() if value is not None},
            project=None if os.environ.get("WANDB_PROJECT") else self.run.project,
            dir=self._folder,
            mode=_mode(),
            resume="allow" if self.goes_on else None,
            reinit="create_new",  # a run of the user's own goes on
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                disable_job_creation=True,
                host="",
                save_code=False,
                silent=True,
                symlink=False,
                use_dot_wandb=False,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def show(self, items: Sequence[LogLine | Grid]) -> None:
        """Log `items`, those at or before the last step that is there left out."""
        wandb = _import()
        for item in items:
            if item.step <= self._last:
                continue
            if isinstance(item, Grid):
                shown: dict[str, Any] = {"samples": wandb.Image(str(item.path), caption="synthetic")}
            else:
                shown = {"kimg": item.step / 1000, "seconds": item.seconds} if item.values else {}
                shown |= item.values
                shown |= {} if item.event is None else {"event": item.event}
            self._live.log(shown, step=item.step)

    def close(self, done: bool) -> None:
        """End the run, which closes its files."""
        self._live.finish(exit_code=0 if done else 1)

    def summarise(self, metrics: Mapping[str, float]) -> None:
        """Show one set of metrics as the summary of the run."""
        self.begin(0.0, 0)
        self._live.summary.update(dict(metrics))
        self.close(True)


def _mode() -> str:
    return os.environ.get("WANDB_MODE") or "offline"


def _import() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError as error:
        raise TrackingError(
            f"Weights & Biases cannot be used ({error}); run \"pip install 'sonosynth[wandb]'\", or leave --track "
            "wandb out"
        ) from error
    return wandb

"""Progress on anything longer than a moment, on standard error so that output can be piped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def new_progress() -> Progress:
    """Return a progress display with time left; it shows nothing where standard error is not a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[..., None]]:
    """Show one bar while the block runs, and yield what moves it: called with how much is done, how much there is to do
    (None while unknown), and a text to show behind the bar.
    """
    with new_progress() as progress:
        task = progress.add_task(description, total=None, text="")

        def tell(done: float, total: float | None, text: str = "") -> None:
            progress.update(task, completed=done, total=total, text=text)

        yield tell

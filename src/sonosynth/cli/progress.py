"""Progress on anything longer than a moment, on standard error so that output can be piped."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

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


@contextmanager
def later_bar(description: str) -> Iterator[Callable[..., None]]:
    """Yield what moves a bar as `progress_bar` does; the bar appears when it is called first, after what is told."""
    with ExitStack() as stack:
        bar: Callable[..., None] | None = None

        def tell(done: float, total: float | None, text: str = "") -> None:
            nonlocal bar
            bar = bar or stack.enter_context(progress_bar(description))
            bar(done, total, text)

        yield tell


@contextmanager
def training_bar() -> Iterator[Callable[[float, float, Mapping[str, Any]], None]]:
    """Yield what `train` takes as `progress`: a bar with images shown, speed, augmentation and distance."""
    with later_bar("training") as bar:

        def progress(done: float, total: float, latest: Mapping[str, Any]) -> None:
            shown = {"img/s": "img_per_s", "p": "augment_p", "distance": "kid_train"}
            values = [f"{label} {latest[name]:.3g}" for label, name in shown.items() if latest.get(name) is not None]
            bar(done, total, "  ".join([f"{done:.2f} of {total:g} kimg", *values]))

        yield progress

"""What a study tells whom it is run for, kept to be looked at."""


class Told:
    """A monitor: the `notes`, and the kinds of cells that were worked on and not found finished (`fresh`), in order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.fresh: list[str] = []

    def note(self, text) -> None:
        self.notes.append(text)

    def start(self, cell, number, total) -> None:
        pass

    def progress(self, cell, done, total, text) -> None:
        pass

    def finish(self, cell, seconds) -> None:
        if seconds is not None:
            self.fresh.append(cell.kind)

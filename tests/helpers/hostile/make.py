"""The corpus of bad input: ``python tests/helpers/hostile/make.py DIR`` makes it, the same each time, and lists it.

Nothing of it is kept in the repository. Each case has a folder of its own; the tables of cases say what is wrong with
it and what must become of it (`case.Case`): images.py, manifests.py, names.py, and readers.py for formats whose reader
may not be there.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile import images, manifests, names, readers
from hostile.case import Case

CASES: tuple[Case, ...] = (*images.CASES, *manifests.CASES, *names.CASES, *readers.CASES)


def make(case: Case, folder: Path) -> Path:
    """Make `case` in `folder`, which must not be there, and return its SOURCE."""
    folder.mkdir(parents=True)
    return case.build(folder) or folder


def main(folder: Path) -> None:
    for case in CASES:
        make(case, folder / case.name)
        print(f"{case.name:24} {case.what}; {_outcome(case)}")
    print(f"{len(CASES)} cases in {folder}")


def _outcome(case: Case) -> str:
    if case.either:
        return f"is read, or gives a line with {case.stops!r}"
    if case.stops is None:
        return "is read" + (f", and told: {case.tells!r}" if case.tells else "")
    return f"a line with {case.stops!r}" + ("; --skip-unreadable counts it" if case.skipped else "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

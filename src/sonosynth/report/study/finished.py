"""What a finished study is known by, so that the same command answers at once while nothing has changed.

To find that a finished study has nothing to do, a run reads and hashes all images, divides them anew, reads all results
and draws the page. So a run that ends well leaves ``finished.json``: digests of the study file, of this package, of the
source and of the files of the study. Those of files are not made of their content but of what the file system says of
them: size, time of the last change of the content, and time of the last change of what is known of the file (ctime).

What that may conclude: a file of which all three are as they were holds what it held when it was read and hashed. Tools
that keep or restore the first two (``touch -r``, ``cp -p``, ``rsync -t``, a backup) change the third, which nobody can
set. What is left is a change behind the file system's back, with the clock of the machine turned back, or twice within
one tick of its clock; against the last, nothing is recorded while a file of the source is younger than two seconds. On
Windows the third time is that of creation: there, a file of equal size whose time was set back is not noticed.

What it may not conclude: that anything differs. Folders that were copied have other times. Then, and wherever something
cannot be read, everything is checked by content, as in the first run.

Recipes, networks and metrics of other packages may change without a trace in these files. Where such a package is
installed, nothing is recorded or believed.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import yaml

from sonosynth.core.errors import SonosynthError, StudyError
from sonosynth.core.files import write_json
from sonosynth.core.strict_yaml import parse_yaml
from sonosynth.data.prepared_folder import digest_of
from sonosynth.data.scan import read_source
from sonosynth.priors.prior import PREFIX
from sonosynth.study import files
from sonosynth.study.config import StudyDesign
from sonosynth.study.results import StudyStatus
from sonosynth.study.study_file import expand, read_study, read_test_set, recorded_design

RECORD = "finished.json"
_REPORT = "report.html"
_FOLDERS = ("audit", "cells", "data", "figures", "galleries", "test")  # not what unfinished cells alone need
_SETTLED = 2_000_000_000  # nanoseconds: the coarsest clock of a file system in use, that of FAT


class FinishedStudy(files.FileModel):
    """What is kept of a study whose cells are all finished, and whose page is drawn."""

    study: str  # of the text of the study file, and of whether known images were left out
    program: str  # of this package
    sources: str  # of all that the images and groups are read from
    files: str  # of the study directory
    notes: tuple[str, ...]  # what was told of the images
    cells: dict[str, int]  # how many there are of each kind

    @property
    def status(self) -> StudyStatus:
        """How far the study is: every cell is done."""
        return StudyStatus({kind: (n, n) for kind, n in self.cells.items()}, None)


@dataclass(frozen=True)
class Inputs:
    """What decides a study, as it stands now."""

    study: str
    program: str
    sources: str
    newest: int = field(compare=False)  # nanoseconds: when a file of the sources changed last
    taken: int = field(compare=False)  # when this was looked at


def find_finished(
    study: Path, out: Path | None = None, exclude_known: bool = False
) -> tuple[FinishedStudy, Path] | None:
    """Return what is kept of the study in the file `study`, and its page, if it is finished and nothing has changed.

    None otherwise, and where anything cannot be read: whoever runs the study then is told what and where.
    """
    try:
        directory = _directory(study, out)
        if _is_extended() or not (directory / RECORD).is_file():
            return None
        kept: FinishedStudy = files.validated(FinishedStudy, files.read_object(directory / RECORD), directory / RECORD)
        if (kept.study, kept.program) != (_study(study, exclude_known), _program()):
            return None
        if kept.files != _files(directory):
            return None
        origin = directory / files.PROVENANCE
        design = recorded_design(files.read_mapping(origin, "settings")["settings"], str(origin))
        return (kept, directory / _REPORT) if kept.sources == _sources(design)[0] else None
    except (SonosynthError, OSError, ValueError, yaml.YAMLError):
        return None


def look_at(study: Path, exclude_known: bool = False) -> Inputs | None:
    """Return what decides the study in the file `study`; None where its source cannot be read, or not be relied on.

    Raises StudyError like `read_study`.
    """
    design, taken = read_study(study, exclude_known)[0], time.time_ns()
    if _is_extended():
        return None
    try:
        sources, newest = _sources(design)
        return Inputs(_study(study, exclude_known), _program(), sources, newest, taken)
    except (SonosynthError, OSError):  # the run tells it, or goes on without the source
        return None


def remember(before: Inputs | None, study: Path, exclude_known: bool, directory: Path, notes: Iterable[str]) -> None:
    """Keep that the study in `directory` is finished, unless what decides it has changed since `before` it ran."""
    if before is None or before.newest > before.taken - _SETTLED:
        return
    try:
        now = look_at(study, exclude_known)
    except StudyError:  # the study file was edited or removed meanwhile
        return
    if now != before:
        return
    plan = files.read_mapping(directory / files.PLAN, "cells")["cells"]
    kept = FinishedStudy(
        study=before.study,
        program=before.program,
        sources=before.sources,
        files=_files(directory),
        notes=tuple(notes),
        cells=Counter(name.partition("-")[0] for name in plan),
    )
    write_json(directory / RECORD, kept.model_dump())


def _directory(study: Path, out: Path | None) -> Path:
    if out is not None:
        return out
    raw = parse_yaml(study.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise StudyError(f"{study} has no name")
    return files.study_directory(raw["name"], out)


def _is_extended() -> bool:
    """Return whether another package adds recipes, networks or metrics."""
    return any(group.startswith("sonosynth.") for group in entry_points().groups)


def _study(study: Path, exclude_known: bool) -> str:
    return hashlib.sha256(study.read_bytes() + bytes([exclude_known])).hexdigest()


def _program() -> str:
    """Return a digest of the version and the files of this package, its priors among them."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256(version("sonosynth").encode())
    _add(digest, root, (path for path in _below(root) if path.suffix != ".pyc"))
    return digest.hexdigest()


def _files(directory: Path) -> str:
    """Return a digest of the files of a study, but for what its runs alone need."""
    digest = hashlib.sha256()
    there = [path for path in directory.iterdir() if path.suffix != ".tmp" and path.name not in (RECORD, ".lock")]
    _add(digest, directory, (path for path in there if path.is_file()))
    for name in _FOLDERS:
        _add(digest, directory, _below(directory / name))
    return digest.hexdigest()


def _sources(design: StudyDesign) -> tuple[str, int]:
    """Return a digest of all that `design` reads, as its readers see it, and when one of these files changed last.

    Raises SonosynthError: a source cannot be read.
    """
    newest = 0

    def known_by(path: Path) -> bytes:
        nonlocal newest
        stamp, changed = _stamp(path)
        newest = max(newest, changed)
        return stamp

    data, test = design.data, design.split.test
    sources = [read_source(expand(data.source), data.options)]
    sources += [] if test is None else [read_test_set(test, design)]
    sources += [read_source(expand(gan.folder)) for gan in design.gans if gan.folder]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(repr((str(source.root.absolute()), digest_of(source, known_by, masks=True))).encode())
    beside = [expand(data.groups_table)] if data.groups_table else []
    beside += [path for gan in design.gans for path in _prior_files(gan.recipe)]
    for path in beside:
        digest.update(repr(str(path.absolute())).encode() + known_by(path))
    return digest.hexdigest(), newest


def _prior_files(recipe: Any) -> list[Path]:
    """Return the files of the prior of a recipe, or of its recorded values, where it is a folder of the user's own."""
    prior = recipe.get("prior") if isinstance(recipe, dict) else getattr(recipe, "prior", None)
    folder = Path(str(prior or "").removeprefix(PREFIX) or os.devnull)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files in `folder` and below it, in a fixed order; none if it is not there."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _add(digest: Any, root: Path, paths: Iterable[Path]) -> None:
    for path in sorted(paths):
        digest.update(repr((path.relative_to(root).as_posix(), _stamp(path)[0])).encode())


def _stamp(path: Path) -> tuple[bytes, int]:
    """Return what the file system says of the file that `path` leads to, and when it changed last, in nanoseconds."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return b"missing", 0
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}".encode(), changed

"""Fetching a public data set: download, verify, unpack, and make it a SOURCE, in one atomic step."""

import glob
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonosynth.core.archives import unpack
from sonosynth.core.download import RemoteFile, RetryPolicy, download
from sonosynth.core.errors import FetchError, OutputError, SonosynthError
from sonosynth.core.files import atomic_directory, check_output, locked, read_json, write_json
from sonosynth.core.types import StageProgress
from sonosynth.data.scan import read_source
from sonosynth.datasets.catalogue import PublicDataset, public_dataset

RECORD = "source.json"


@dataclass(frozen=True)
class FetchedDataset:
    """What `fetch` leaves behind.

    Attributes:
        source: the SOURCE that other commands take.
        record: the content of ``source.json``.
        new: whether it was fetched now.
    """

    source: Path
    record: Mapping[str, Any]
    new: bool


def fetch(
    dataset: str | PublicDataset,
    out: str | Path,
    retry: RetryPolicy | None = None,
    progress: StageProgress | None = None,
) -> FetchedDataset:
    """Bring a public data set to the folder `out`, which appears only when all of it is verified and unpacked.

    What is downloaded waits in ``OUT.download`` beside it, where a broken download is continued by the same call and
    where a person may put a file that the server does not give to programs. ``source.json`` records addresses,
    licence, what it says of trained weights, citation, the SHA-256 of each download and the size of each unpacked
    file, and no time, so that equal fetches give equal folders. Where `out` holds the set already, its files are looked
    for and nothing is downloaded.

    Example: ``fetch("BUS-BRA", "bus-bra").source`` is what `load` and `audit` take.

    Args:
        dataset: a name of `list_datasets`, or an entry of the catalogue.
        out: a folder that is empty or not there, or that an earlier call made.
        retry: how long to wait for the server, and how often to try.
        progress: called with the bytes done, the bytes in all (None while unknown) and what is being done, for one file
            after another.

    Raises:
        FetchError: the name is unknown, or the download fails or is not what was published; it says how to go on.
        ArchiveError: an archive is damaged or not safe.
        OutputError: `out` holds something else, was changed since, or cannot be written.
    """
    entry = public_dataset(dataset) if isinstance(dataset, str) else dataset
    out = Path(os.path.realpath(out))  # Path.resolve raises where a link leads to itself
    if (out / RECORD).is_file():
        return _done_before(entry, out)
    check_output(out, directory=True)
    waiting = out.with_name(f"{out.name}.download")
    with locked(waiting):
        if (out / RECORD).is_file():  # by another process, a moment ago
            return _done_before(entry, out)
        for left in out.parent.glob(f".{glob.escape(out.name)}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)  # by a killed call; it does no harm where it cannot be removed
        paths = []
        for file in entry.files:
            try:
                paths.append(download(file, waiting, retry, progress))
            except FetchError as error:
                raise FetchError(f"{error}; {_by_hand(entry, file, waiting)}") from error
        with atomic_directory(out) as beside:
            sizes: dict[str, int] = {}
            for file, path in zip(entry.files, paths, strict=True):
                sizes |= _placed(entry, file, path, beside, progress)
            try:
                _make_source(entry, beside)
            except SonosynthError as error:
                raise FetchError(
                    f"{error}; what was downloaded is in {waiting}: unpack it by hand and list the images in a "
                    "manifest.csv (path,label,group)"
                ) from error
            record = _record(entry, paths, sizes)
            write_json(beside / RECORD, record)
    shutil.rmtree(waiting, ignore_errors=True)  # what is left over does no harm: the set is complete
    return FetchedDataset(out / entry.source, record, True)


def _by_hand(entry: PublicDataset, file: RemoteFile, waiting: Path) -> str:
    return (
        f"run the same command again to go on, or download it by hand from {entry.page}, save it as "
        f"{waiting / file.name} and run the same command again"
    )


def _placed(
    entry: PublicDataset, file: RemoteFile, path: Path, beside: Path, progress: StageProgress | None
) -> dict[str, int]:
    """Unpack or copy one file into the new folder; return the sizes of what is there now, by path."""
    if not file.archive:
        shutil.copyfile(path, beside / file.name)
        return {file.name: path.stat().st_size}

    def unpacking(done: int, total: int) -> None:
        if progress:
            progress(done, total, f"unpacking {file.name}")

    try:
        return unpack(path, beside, progress=unpacking)
    except FetchError as error:
        # Kept, it would fail again and again: a page that asks to log in, say, instead of the archive.
        path.unlink()
        raise type(error)(f"{error}; the download is removed: {_by_hand(entry, file, path.parent)}") from error


def _make_source(entry: PublicDataset, folder: Path) -> None:
    """Write the manifest if there is one to write, and make sure that all is laid out as the entry says."""
    if entry.write_manifest is not None:
        entry.write_manifest(folder)
    place = folder / entry.source
    if not place.exists():
        raise FetchError(f"{entry.name}: no {entry.source} in what was downloaded; this version of it is not known")
    if place.is_dir():
        found = read_source(place)
        if found.classes != tuple(sorted(entry.classes)):
            raise FetchError(
                f"{entry.name}: classes {', '.join(found.classes)} where {', '.join(entry.classes)} are documented; "
                "this version of it is not known"
            )


def _record(entry: PublicDataset, paths: list[Path], sizes: Mapping[str, int]) -> dict[str, Any]:
    import pooch

    stated = ("name", "licence", "weights", "citation", "doi", "data_doi", "page", "source", "layout")
    files = [
        {
            "url": file.url,
            "name": file.name,
            "size": path.stat().st_size,
            "published_checksum": file.checksum,
            "sha256": pooch.file_hash(str(path)),
        }
        for file, path in zip(entry.files, paths, strict=True)
    ]
    return {name: getattr(entry, name) for name in stated} | {"downloads": files, "files": dict(sizes)}


def _done_before(entry: PublicDataset, out: Path) -> FetchedDataset:
    try:
        record = read_json(out / RECORD)
        name, files = record["name"], dict(record["files"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{out / RECORD} is damaged ({error}); choose another --out or remove {out}") from error
    if name != entry.name:
        raise OutputError(f"{out} holds {name}, not {entry.name}; choose another --out or remove it first")
    for path, size in files.items():
        if not (out / path).is_file() or (out / path).stat().st_size != size:
            raise OutputError(
                f"{out}: {path} was changed or removed after it was fetched; remove {out} to fetch it again, or choose "
                "another --out"
            )
    return FetchedDataset(out / entry.source, record, False)

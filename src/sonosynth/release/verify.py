"""Whether a release is what its own records say: files, marks, counts, cards and signature."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import yaml
from PIL import Image
from pydantic import ValidationError

from sonosynth.core.errors import ManifestError, ReleaseError
from sonosynth.core.files import read_json, unreadable_reason
from sonosynth.core.text import counted, one_line
from sonosynth.core.types import Progress
from sonosynth.data.imageset import DIGITAL_SOURCE_TYPE, MANIFEST, SYNTHETIC_NOTICE, XMP_KEY, read_manifest
from sonosynth.data.readers.dicom.header import SYNTHETIC_DATA
from sonosynth.release.dicom import frames_of
from sonosynth.release.record import (
    CHECKLIST,
    CROISSANT,
    DICOM,
    METADATA,
    README,
    RECORD,
    SEVEN_CS,
    SIGNATURES,
    SUMS,
    Record,
)
from sonosynth.release.signature import signature_problem

_SUM = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_LINK = re.compile(r"\]\(([^)\s:#]+)\)")
_LARGEST = 1 << 31  # bytes of a file


@dataclass(frozen=True)
class Verification:
    """What was looked at, and what is wrong.

    Attributes:
        files: how many files were checked against ``SHA256SUMS``.
        problems: lines that say what is wrong, of which file; empty for a release that is whole.
        notes: what was not checked, and why.
    """

    files: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(
    folder: str | Path, *, signed_by: str | Path | None = None, progress: Progress | None = None
) -> Verification:
    """Check the release in `folder`: every file against ``SHA256SUMS``, marks, counts, cards, and the signature.

    Args:
        folder: what `release` wrote.
        signed_by: a public key of OpenSSH or minisign; whose the signature has to be.
        progress: called with the number of files done and of all files.

    Example: ``verify("release").problems`` is empty.

    Raises:
        ReleaseError: there is no release in `folder`, or `signed_by` is no public key.
    """
    folder = Path(folder)
    sums = folder / SUMS
    if not sums.is_file():
        raise ReleaseError(f"{folder} is no release: it has no {SUMS}; make one with 'sonosynth release'")
    listed, problems = _listed(sums)
    problems += _unlisted(folder, set(listed))
    for done, (name, digest) in enumerate(listed.items(), start=1):
        problems += _file_problems(folder, name, digest)
        if progress:
            progress(done, len(listed))
    problems += _record_problems(folder, set(listed))
    notes = []
    if signed_by is not None:
        problems += filter(None, [signature_problem(sums, Path(signed_by))])
    elif any((folder / name).is_file() for name in SIGNATURES):
        notes.append("there is a signature, which was not checked: give the public key of its owner (--signed-by)")
    else:
        notes.append("there is no signature: the checksums tell of damage, not of forgery")
    return Verification(len(listed), tuple(dict.fromkeys(map(one_line, problems))), tuple(notes))


def _listed(sums: Path) -> tuple[dict[str, str], list[str]]:
    """Return the checksums by file, and what is wrong with the list."""
    try:
        lines = sums.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return {}, [f"{SUMS} is no text"]
    listed, problems = {}, []
    for number, line in enumerate(lines, start=1):
        found = _SUM.fullmatch(line)
        parts = found[2].split("/") if found else []
        if not found or ".." in parts or "" in parts or "\\" in found[2]:
            problems.append(f"{SUMS}, line {number}: not a checksum and the name of a file in the release")
        else:
            listed[found[2]] = found[1]
    return listed, problems or ([] if listed else [f"{SUMS} is empty"])


def _unlisted(folder: Path, listed: set[str]) -> Iterator[str]:
    there = {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    }
    for name in sorted(there - listed - {SUMS, *SIGNATURES}):
        yield f"{name}: not in {SUMS}; it is no part of the release"


def _file_problems(folder: Path, name: str, digest: str) -> Iterator[str]:
    path = folder / name
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        yield f"{name}: a link, which no release has"
        return
    try:
        if reason := unreadable_reason(path, _LARGEST):
            yield f"{name}: {reason}"
            return
        content = path.read_bytes()
    except FileNotFoundError:
        yield f"{name}: missing"
        return
    if hashlib.sha256(content).hexdigest() != digest:
        yield f"{name}: changed since the release was made (SHA-256)"


def _record_problems(folder: Path, listed: set[str]) -> Iterator[str]:
    """Yield what is wrong with the record, and with what it tells of."""
    for name in (RECORD, README, SEVEN_CS, CHECKLIST, CROISSANT, MANIFEST, METADATA):
        if name not in listed:
            yield f"{name}: not in {SUMS}; every release has it"
    try:
        record = Record.model_validate(read_json(folder / RECORD))
    except (OSError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        yield f"{RECORD}: no record of a release ({what})"
        return
    yield from _card_problems(folder, record)
    try:
        table = read_manifest(folder)
    except (ManifestError, OSError, ValueError) as error:
        yield f"{MANIFEST}: {error}"
        return
    counts = {name: table["label"].count(name) for name in record.classes}
    if counts != record.classes or len(table["path"]) != record.n:
        yield f"{MANIFEST}: {counted(len(table['path']), 'image')} ({counts}), and {RECORD} says {record.classes}"
    if set(table["synthetic"]) != {"1"}:
        yield f"{MANIFEST}: images that are not marked as synthetic"
    images = {name for name in listed if name.endswith(".png") and name.split("/")[0] in record.folders.values()}
    if images != set(table["path"]):
        yield f"{MANIFEST}: names other images than {SUMS}"
    for name in table["path"]:
        yield from _png_problems(folder, name, record)
    yield from _dicom_problems(folder, listed, table["path"], record)
    for name, digest in record.weights.items():
        if record.weights_included and not (folder / name).is_file():
            yield f"{name}: missing, and {RECORD} says that it is included"
        elif record.weights_included and hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            yield f"{name}: not the weights that {RECORD} names"


def _card_problems(folder: Path, record: Record) -> Iterator[str]:
    try:
        text = (folder / README).read_text(encoding="utf-8")
        _, header, body = re.split(r"^---\n", text, maxsplit=2, flags=re.MULTILINE)
        fields = yaml.safe_load(header)
        if (
            not isinstance(fields, dict)
            or fields.get("pretty_name") != record.name
            or "synthetic" not in fields["tags"]
        ):
            yield f"{README}: its header is not that of this release"
        for name in _LINK.findall(body):
            if not (folder / name).is_file():
                yield f"{README}: leads to {name}, which is not there"
        if record.privacy.against and not record.privacy.accepted:
            yield f"{RECORD}: the privacy gate refuses these images, and no reason to accept that is given"
        if record.privacy.accepted and record.privacy.accepted not in body:
            yield f"{README}: does not tell that the privacy gate refused the release"
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        yield f"{README}: no card of a release ({error})"
    try:
        described = read_json(folder / CROISSANT)
        if described["name"] != record.name:
            yield f"{CROISSANT}: describes another release"
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield f"{CROISSANT}: no description of a release ({error})"


def _png_problems(folder: Path, name: str, record: Record) -> Iterator[str]:
    try:
        with Image.open(folder / name, formats=("PNG",)) as picture:
            picture.load()
            marks = getattr(picture, "text", {})
            if picture.size != (record.width, record.height) or picture.mode != "L":
                yield f"{name}: {picture.size[0]} × {picture.size[1]}, mode {picture.mode}, not as {RECORD} says"
    except (OSError, SyntaxError, ValueError) as error:
        yield f"{name}: no PNG ({error})"
        return
    if marks.get("Source") != SYNTHETIC_NOTICE:
        yield f"{name}: not marked as synthetic in its text"
    if DIGITAL_SOURCE_TYPE not in marks.get(XMP_KEY, ""):
        yield f"{name}: no digital source type in its XMP"


def _dicom_problems(folder: Path, listed: set[str], images: list[str], record: Record) -> Iterator[str]:
    files = sorted(name for name in listed if name.split("/")[0] == DICOM)
    if len(files) != record.dicom + record.clips:
        yield f"{DICOM}: {counted(len(files), 'file')}, and {RECORD} says {record.dicom + record.clips}"
    pictures = {f"{DICOM}/{name.removesuffix('.png')}.dcm": name for name in images}
    seen: set[str] = set()
    for name in files:
        try:
            data = pydicom.dcmread(folder / name)
            frames = list(frames_of(data))
            marks = data[SYNTHETIC_DATA].value, data.QualityControlSubject, data.ImageType[0]
            synthetic = marks == ("YES", "YES", "DERIVED") and str(data.PatientID).startswith("SYNTHETIC-")
            uid = str(data.SOPInstanceUID)
        except Exception as error:  # of damaged files pydicom raises many kinds
            yield f"{name}: no DICOM file of a release ({type(error).__name__})"
            continue
        if not synthetic:
            yield f"{name}: not marked as synthetic"
        if uid in seen:
            yield f"{name}: has the UID of another file"
        seen.add(uid)
        if name in pictures and not _same_pixels(folder / pictures[name], frames[0]):
            yield f"{name}: other pixels than {pictures[name]}"


def _same_pixels(png: Path, pixels: bytes) -> bool:
    try:
        with Image.open(png) as picture:
            return np.asarray(picture).tobytes() == pixels
    except (OSError, SyntaxError, ValueError):
        return True  # told of the PNG itself

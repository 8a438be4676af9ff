"""Folders of prepared images: written once with a record of how, and known again when they are asked for anew."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import PIL

from sonosynth.core.errors import OutputError, SourceError
from sonosynth.core.files import atomic_directory, check_output, read_json, write_json
from sonosynth.core.types import Progress
from sonosynth.data.groups import with_groups
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load
from sonosynth.data.prepare import prepare_images
from sonosynth.data.readers.registry import data_files, find_reader
from sonosynth.data.resize import Fit
from sonosynth.data.scan import read_source
from sonosynth.data.source import ReadOptions, Source

PREPARE = "prepare.json"


@dataclass(frozen=True)
class Prepared:
    """What `prepare` returns.

    Attributes:
        images: what stands in the folder.
        notes: lines to tell the user.
        written: False if the folder held the same images already.
    """

    images: ImageSet
    notes: list[str]
    written: bool


def prepare(
    source: str | Path,
    out: str | Path,
    size: int = 128,
    *,
    fit: Fit = "stretch",
    groups: str | Path | None = None,
    drop_conflicts: bool = False,
    mask_overlays: bool = False,
    skip_unreadable: bool = False,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Bring all images of a source to one size and grey, and write them with a manifest that records how.

    The folder `out` gets one folder per class of PNG files, ``manifest.csv`` (columns: see `prepare_images`) and
    ``prepare.json``, in one atomic step. The same call again reads what it wrote before.

    Example:
        >>> import sonosynth as ss
        >>> ss.prepare("my-images", "prepared", size=128, fit="pad").images.class_counts
        {'benign': 437, 'malignant': 210, 'normal': 133}

    Args:
        source: a folder with one folder per class, a manifest.csv, an .npz file, or an image set.
        out: folder to write; empty, not there yet, or written by the same call before.
        size: height and width in pixels, 8 to 2048.
        fit: how images become square: "stretch", "crop", "pad" or "mask"; see `prepare_images`.
        groups: a table ``path,group`` of the images that belong together, as `audit` writes it (``groups.csv``).
        drop_conflicts: with `groups`: leave copies with different labels out.
        mask_overlays: fill burned-in words and calipers from their surroundings first.
        skip_unreadable: leave files that cannot be decoded out, and count them.
        options: what the files do not say themselves, such as the columns of a table.
        progress: called with the number of images done and of all images.

    Raises:
        SourceError: the source or the table of groups cannot be used, or a file cannot be decoded.
        ClassError: a class has no image that can be used.
        OutputError: `out` holds something else, was changed since, or cannot be written.
    """
    options = options or ReadOptions()
    found, told = read_source(Path(source), options), list[str]()
    if groups is not None:
        found, told = with_groups(found, Path(groups), drop_conflicts, skip_unreadable)
    elif drop_conflicts:
        raise SourceError("--drop-conflicts needs --groups: run 'sonosynth data audit' and give its groups.csv")
    arguments = {
        "command": "prepare",
        "source": source_fingerprint(found, masks=fit == "mask"),
        "size": size,
        "fit": fit,
        "skip_unreadable": skip_unreadable,
    }
    given = {"mask_overlays": mask_overlays or None, "bits": options.bits, "axis": options.axis}
    arguments |= {name: value for name, value in given.items() if value is not None}

    def build() -> tuple[ImageSet, list[str]]:
        images, notes = prepare_images(found, size, fit, skip_unreadable, None, progress, mask_overlays)
        return images, [*told, *notes]

    return Prepared(*save_once(Path(out), arguments, build))


def source_fingerprint(source: Source, masks: bool = False) -> str:
    """Return a SHA-256 over the labels, groups, names, columns and file contents of `source`, its `masks` if asked."""

    @cache  # a file with many frames is hashed once
    def content(path: Path) -> bytes:
        # A broken link, a file too large to be an image, or one that cannot be opened is reported when it is decoded.
        with suppress(OSError, SourceError):
            if path.is_file():
                reader = find_reader(path, source.options)
                if reader is None or reader.max_bytes is None or path.stat().st_size <= reader.max_bytes:
                    with path.open("rb") as file:
                        return hashlib.file_digest(file, "sha256").digest()
        return b""

    return digest_of(source, content, masks)


def digest_of(source: Source, known_by: Callable[[Path], bytes], masks: bool = False) -> str:
    """Return a SHA-256 over the labels, groups, names and columns of `source`, and what each file is `known_by`."""
    digest = hashlib.sha256(b"synthetic" if source.synthetic else b"")
    beside = cache(lambda path: sorted(data_files([path])))
    for item in source.items:
        path = item.path.relative_to(source.root).as_posix()
        digest.update(repr((path, item.label, item.group, item.id, sorted(item.extra.items()))).encode())
        for file in (item.path, *beside(item.path), *(item.masks if masks else ())):
            digest.update(known_by(file))
    return digest.hexdigest()


def save_once(
    out: Path,
    arguments: Mapping[str, object],
    build: Callable[[], tuple[ImageSet, list[str]]],
    save_more: Callable[[Path, ImageSet], None] | None = None,
) -> tuple[ImageSet, list[str], bool]:
    """Write the image set that `build` makes to `out` with ``prepare.json``, in one atomic step, unless it is there.

    `arguments` are all that decides the result, as JSON values. `save_more` writes what else belongs in the folder.
    Returns the image set, the lines of `build` to tell the user, and whether it was written now. Raises OutputError if
    `out` holds something else, was changed since, or cannot be written.
    """
    if (out / PREPARE).is_file():
        return *_done_before(out, arguments), False
    check_output(out, directory=True)
    data, notes = build()
    record = {"arguments": dict(arguments), "content": _content(data), "notes": notes, "pillow": PIL.__version__}
    try:
        with atomic_directory(out) as beside:
            data.save(beside)
            if save_more:
                save_more(beside, data)
            write_json(beside / PREPARE, record)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror or error}); choose another --out") from error
    return data, notes, True


def _done_before(out: Path, arguments: Mapping[str, object]) -> tuple[ImageSet, list[str]]:
    try:
        record = read_json(out / PREPARE)
        before, content, notes = record["arguments"], record["content"], list(record["notes"])
        other = [name for name in {**before, **arguments} if before.get(name) != arguments.get(name)]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{out / PREPARE} is damaged ({error}); choose another --out or remove {out}") from error
    if other:
        changes = [f"{name} {before.get(name)}, not {arguments.get(name)}" for name in other if name != "source"]
        what = ", ".join(changes) or "another content of the source"
        raise OutputError(f"{out} was made with other arguments ({what}); choose another --out or remove it first")
    data = load(out)
    if _content(data) != content:
        raise OutputError(f"{out} was changed after it was made; choose another --out or remove it first")
    return data, notes


def _content(data: ImageSet) -> str:
    # As ImageSet.load numbers the classes: those present, sorted.
    return data.with_classes(sorted(name for name, count in data.class_counts.items() if count)).fingerprint()

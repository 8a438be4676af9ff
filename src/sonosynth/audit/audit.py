"""Looking a source through before anything is trained on it: copies, conflicting labels, shortcuts, quality."""

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sonosynth.audit.duplicates import Duplicate, Signature, find_duplicates, signature
from sonosynth.audit.findings import FILE_SIZE, AuditSummary, Findings, write_tables
from sonosynth.audit.quality import Quality, knn_outlier_scores, measure_quality
from sonosynth.audit.shortcuts import Association, ShortcutClassifier, associations, shortcut_classifier
from sonosynth.core.errors import OutputError, SonosynthError
from sonosynth.core.files import atomic_directory, check_output, read_json, write_json, write_text
from sonosynth.core.text import agreeing, counted
from sonosynth.core.types import Array, StageProgress
from sonosynth.data.encoding import encodings
from sonosynth.data.groups import cluster_numbers
from sonosynth.data.overlays import Overlays, find_overlays
from sonosynth.data.prepare import group_numbers
from sonosynth.data.prepared_folder import source_fingerprint
from sonosynth.data.readers.base import COLOUR, DecodedImage, Encoding
from sonosynth.data.resize import resize_longest_side
from sonosynth.data.scan import SourceReport, decode_all, read_source
from sonosynth.data.source import ReadOptions, Source, SourceItem, some_of

PAGE = "audit.html"
AUDIT = "audit.json"
_THREADS = min(4, os.cpu_count() or 1)
_THUMB = 200  # pixels of the longest side of the pictures that are kept to be shown
_FEATURES = "efficientnet-lite0"
_FEATURE_PX = 128
_NAMED = 3  # names in a note
_FEW = 10  # groups of a class below which a study cannot say much


def audit(
    source: str | Path,
    out: str | Path | None = None,
    *,
    sizes: Sequence[int] = (),
    skip_unreadable: bool = False,
    options: ReadOptions | None = None,
    progress: StageProgress | None = None,
) -> AuditSummary:
    """Look for what spoils a study: duplicates, conflicting labels, shortcuts, bad images.

    With `out`, a folder with ``audit.html``, ``duplicates.csv`` and ``groups.csv`` (which `prepare` and studies take)
    is written at once. It is never overwritten, as ``groups.csv`` may be edited. Where it holds the same audit already,
    that is read, and nothing is looked at again.

    Example: ``print(audit("my-images", "audit"))``.

    Args:
        source: what `load` takes: a folder, a table or a file of arrays.
        out: folder to write, outside the images.
        sizes: data-set sizes of a planned study, to compare the classes with; at least 4 images each.
        skip_unreadable: leave files that cannot be decoded out, and count them.
        options: what the files of `source` do not say themselves.
        progress: called with how much is done, how much there is to do, and what is being done.

    Raises:
        SourceError: `source` has no labelled images, or a file cannot be decoded and is not to be skipped.
        OutputError: `out` lies inside the images, holds something else, or cannot be written.
    """
    source, options = Path(source), options or ReadOptions()
    if any(size < 4 for size in sizes):
        raise SonosynthError(f"sizes: {min(sizes)} images make no data set; use 4 or more")
    images = read_source(source, options)
    command = f"sonosynth data prepare {shlex.quote(str(source))}{options.as_flags()} --out DIR --size 128"
    skip = " --skip-unreadable" if skip_unreadable else ""
    if out is None:
        return find_problems(images, skip_unreadable, sizes, progress).summary(command + skip)
    out = Path(out)
    # A table or a file of arrays says itself what its images are, so what else lies beside it does not matter.
    real_out = Path(os.path.realpath(out))  # it may be a link to itself
    if source.is_dir() and real_out.is_relative_to(images.root.resolve()):
        raise OutputError(f"--out {out} lies inside the images; choose a folder outside {images.root}")
    given = {"bits": options.bits, "axis": options.axis}
    arguments = {
        "source": source_fingerprint(images),
        "sizes": list(sizes),
        "skip_unreadable": skip_unreadable,
        **{name: value for name, value in given.items() if value is not None},
    }
    if (out / AUDIT).is_file():
        return _read_summary(out, arguments)
    check_output(out, directory=True)
    # By name: the room that draws pages stands below this one (docs/architecture.md).
    audit_page = import_module("sonosynth.report.audit_page").audit_page
    findings = find_problems(images, skip_unreadable, sizes, progress)
    drop = " --drop-conflicts" if findings.conflicts else ""
    summary = findings.summary(f"{command} --groups {shlex.quote(str(out / 'groups.csv'))}{drop}{skip}")
    with atomic_directory(out) as beside:
        write_tables(findings, beside)
        write_text(beside / PAGE, audit_page(findings, summary.next))
        write_json(beside / AUDIT, {"arguments": arguments, "found": summary.model_dump()})
    return summary


def _read_summary(out: Path, arguments: Mapping[str, Any]) -> AuditSummary:
    """Return the summary in `out`. Raises OutputError where it is damaged, or of other images or settings."""
    try:
        record = read_json(out / AUDIT)
        before, summary = record["arguments"], AuditSummary(**record["found"], new=False)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{out / AUDIT} is damaged ({error}); choose another --out or remove {out}") from error
    if before != arguments:
        other = " and ".join(name for name in arguments if before.get(name) != arguments[name])
        how = f"made with other arguments ({other}); choose another --out or remove it first"
        raise OutputError(f"{out} holds an audit {how}")
    return summary


def find_problems(
    source: Source, skip_unreadable: bool = False, sizes: Sequence[int] = (), progress: StageProgress | None = None
) -> Findings:
    """Look for duplicates, conflicting labels, shortcuts and bad images among all images of `source`.

    With `skip_unreadable` files that cannot be decoded are left out and counted; `sizes` are those of a planned study.
    """
    tell = progress or (lambda done, total, stage: None)

    def work(item: SourceItem, picture: DecodedImage) -> tuple[Any, ...]:
        grey = picture.grey
        overlays = find_overlays(grey)
        small = resize_longest_side(grey, _THUMB)
        square = np.asarray(Image.fromarray(grey).resize((_FEATURE_PX, _FEATURE_PX), Image.Resampling.BICUBIC))
        return signature(grey, overlays.mask(grey.shape)), overlays, measure_quality(grey), small, square

    report, values = decode_all(source, work, skip_unreadable, lambda done, total: tell(done, total, "looking"))
    signatures, overlays, quality, pictures, squares = zip(*values, strict=True)
    exact = [Duplicate(cluster[0], copy, "exact", 1.0) for cluster in report.duplicates for copy in sorted(cluster)[1:]]
    known = {(pair.a, pair.b) for pair in exact}
    similar = [pair for pair in find_duplicates(signatures, progress, _THREADS) if (pair.a, pair.b) not in known]
    duplicates = sorted([*exact, *similar], key=lambda pair: (pair.a, pair.b))
    _, first, own = np.unique(group_numbers(report), return_index=True, return_inverse=True)
    groups = cluster_numbers(len(own), [*enumerate(first[own]), *((pair.a, pair.b) for pair in duplicates)])
    labels = np.array([source.classes.index(image.item.label) for image in report.images])
    stored = encodings([image.item for image in report.images], source.options)
    found, forest = _shortcuts(report, overlays, quality, stored, labels, groups)
    outlier_scores = np.zeros(0)
    if len(np.unique(groups)) >= 10:
        from sonosynth.features.extract import load_features  # imports torch

        features = load_features(_FEATURES)
        embedded = features(np.stack(squares), progress=lambda done, total: tell(done, total, "embedding"))
        outlier_scores = knn_outlier_scores(embedded, groups)
    notes = _notes(report, groups, labels, sizes)
    return Findings(
        report, duplicates, groups, overlays, quality, stored, outlier_scores, found, forest, pictures, notes
    )


def shared_frames(first: Source, second: Source, progress: StageProgress | None = None) -> list[tuple[str, str]]:
    """Return the ids of images of `first` and `second` that show one frame: leakage if one of them tests the other."""
    tell = progress or (lambda done, total, stage: None)

    def seen(item: SourceItem, picture: DecodedImage) -> tuple[str, Signature]:
        return item.id, signature(picture.grey, find_overlays(picture.grey).mask(picture.grey.shape))

    ids, signatures = [], []
    for source in (first, second):
        _, values = decode_all(source, seen, progress=lambda done, total: tell(done, total, "looking"))
        ids += [id_ for id_, _ in values]
        signatures += [one for _, one in values]
    between = len(first.items)
    pairs = find_duplicates(signatures, progress, _THREADS)
    return [(ids[pair.a], ids[pair.b]) for pair in pairs if pair.a < between <= pair.b]


def _shortcuts(
    report: SourceReport,
    overlays: Sequence[Overlays],
    quality: Sequence[Quality],
    stored: Sequence[Encoding | None],
    labels: Array,
    groups: Array,
) -> tuple[list[Association], ShortcutClassifier | None]:
    drawn = {
        "burned-in words": np.array([bool(o.words) for o in overlays]),
        "calipers": np.array([bool(o.calipers) for o in overlays]),
        "colour overlay": np.array([COLOUR in (image.note or "") for image in report.images]),
        "empty border": np.array([max(o.border) > 0 for o in overlays]),
    }
    frame = {
        "aspect ratio (width/height)": np.array([q.aspect for q in quality]),
        "width, pixels": np.array([float(q.width) for q in quality]),
        "height, pixels": np.array([float(q.height) for q in quality]),
    }
    storage = {
        "file format": np.array([e.format if e else "" for e in stored]),
        "compression": np.array([("lossy" if e.lossy else "lossless") if e else "" for e in stored]),
        "bit depth": np.array([f"{e.bits} bits per channel" if e and e.bits else "" for e in stored]),
        "JPEG quality": np.array([float(e.quality) if e and e.quality else np.nan for e in stored]),
    }
    if len(set(zip(storage["file format"], storage["compression"], strict=True))) == len(set(storage["file format"])):
        del storage["compression"]  # the format says it all
    if len(np.unique(storage["JPEG quality"])) < 2:
        del storage["JPEG quality"]  # NaN counts as one value
    looks = {
        "mean grey level": np.array([q.mean for q in quality]),
        "contrast, grey levels": np.array([q.contrast for q in quality]),
        "sharpness": np.array([q.sharpness for q in quality]),
        "share of black pixels": np.array([q.black for q in quality]),
        FILE_SIZE: np.array([e.bytes_per_pixel if e and e.bytes_per_pixel else np.nan for e in stored]),
    }
    found = associations(drawn | frame | storage | looks, labels, groups, report.source.classes)
    numbers = {
        "number of words": np.array([float(len(o.words)) for o in overlays]),
        "number of calipers": np.array([float(len(o.calipers)) for o in overlays]),
        **{f"border {i}": np.array([float(o.border[i]) for o in overlays]) for i in range(4)},
    }
    return found, shortcut_classifier(drawn | frame | storage | numbers, labels, groups)


def _notes(report: SourceReport, groups: Array, labels: Array, sizes: Sequence[int]) -> list[str]:
    # Exact copies are duplicates like others here, and their conflicts stand with the others.
    notes = [note for note in report.notes() if not note.startswith(("exact copies", "copies with different labels"))]
    names: dict[int, list[str]] = {}
    for image, number in zip(report.images, groups.tolist(), strict=True):
        if image.item.group and image.item.group not in names.setdefault(number, []):
            names[number].append(image.item.group)
    joined = [" + ".join(several) for several in names.values() if len(several) > 1]
    if joined:
        more = " (groups.csv has all)" if len(joined) > _NAMED else ""
        notes.append(f"the source's own groups that show one frame, and are joined: {some_of(joined, _NAMED)}{more}")
    classes, n = report.source.classes, len(labels)
    for i, name in enumerate(classes):
        if (count := len(np.unique(groups[labels == i]))) < _FEW:
            of_class = f"class '{name}' has {counted(count, 'group')}"
            notes.append(f"{of_class}: hardly enough for a test set and training images")
    for size in sizes:
        if size > n:
            notes.append(f"size {size} is more than the {counted(n, 'image')} there {agreeing(n, 'is', 'are')}")
            continue
        drawn = {name: int((labels == i).sum()) * size / n for i, name in enumerate(classes)}
        if short := [f"{name} {count:.1f}" for name, count in drawn.items() if count < 5]:
            notes.append(f"size {size} holds fewer than 5 images of a class: {', '.join(short)}")
    return notes

"""Looking a source through before anything is trained on it: copies, conflicting labels, shortcuts, quality.

The result says which images belong together. `groups.csv` carries that to `data prepare --groups` and to studies.
"""

import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.audit.duplicates import Duplicate, View, find_duplicates, view
from sonosynth.audit.quality import Quality, measure_quality, outlyingness, unusual
from sonosynth.audit.shortcuts import STRONG, Association, ShortcutClassifier, associations, shortcut_classifier
from sonosynth.core.errors import OutputError
from sonosynth.core.files import atomic_file, read_json
from sonosynth.core.text import agreeing, counted
from sonosynth.core.types import Array, StageProgress
from sonosynth.data.encoding import Encoding, encodings
from sonosynth.data.groups import cluster_numbers, group_members, table_path, write_groups
from sonosynth.data.overlays import Overlays, find_overlays
from sonosynth.data.prepare import group_numbers
from sonosynth.data.readers.images import COLOUR, DecodedImage, resize_longest_side
from sonosynth.data.scan import SourceReport, decode_all
from sonosynth.data.source import Source, SourceItem, some_of

AUDIT = "audit.json"
_THUMB = 200  # pixels of the longest side of the pictures that are kept to be shown
_FEATURES = "efficientnet-lite0"
_FEATURE_PX = 128
_FAR = 1.6  # times the ordinary distance to its neighbours makes an outlier
STORAGE = ("file format", "compression", "bit depth", "JPEG quality")
"""Properties of files that say nothing of tissue."""
FILE_SIZE = "file size, bytes per pixel"
_SURE = 0.05  # p-value, after correction
_NAMED = 3  # names in a note
_FEW = 10  # groups of a class below which a study cannot say much


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found in a source; entries of lists belong to ``report.images``, in its order.

    Attributes:
        report: the source as `scan` reports it.
        duplicates: pairs that show one frame, exact copies among them.
        groups: int64 ``[N]``: images that belong together, by the source's own groups or as duplicates.
        overlays: words, calipers and borders.
        quality: numbers of each image.
        encodings: how the file of each image stores it; None where a prepared set does not say it.
        outlying: float ``[N]``: distance to the nearest images of other groups, 1 is ordinary; empty if not measured.
        associations: what goes with the class, the surest first.
        shortcut: what a classifier makes of overlays, frames and storage alone; None if there are too few images.
        pictures: uint8 thumbnails of different shapes.
        notes: lines to tell the user.
    """

    report: SourceReport
    duplicates: tuple[Duplicate, ...]
    groups: Array
    overlays: tuple[Overlays, ...]
    quality: tuple[Quality, ...]
    encodings: tuple[Encoding | None, ...]
    outlying: Array
    associations: tuple[Association, ...]
    shortcut: ShortcutClassifier | None
    pictures: tuple[Array, ...]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> Array:
        """Int64 ``[N]``, counting ``report.source.classes``."""
        classes = self.report.source.classes
        return np.array([classes.index(image.item.label) for image in self.report.images], dtype=np.int64)

    @property
    def clusters(self) -> list[list[int]]:
        """Images that duplicates join, two or more together, the largest first."""
        numbers = cluster_numbers(len(self.report.images), ((pair.a, pair.b) for pair in self.duplicates))
        several = [members.tolist() for members in group_members(numbers) if len(members) > 1]
        return sorted(several, key=lambda members: (-len(members), members))

    @property
    def known(self) -> list[list[int]]:
        """Those of `clusters` that the source keeps together by itself: one patient, neighbouring frames of a clip."""
        own = [image.item.group for image in self.report.images]
        return [members for members in self.clusters if own[members[0]] and len({own[i] for i in members}) == 1]

    @property
    def conflicts(self) -> list[list[int]]:
        """Those of `clusters` whose images carry different labels."""
        labels = self.labels
        return [members for members in self.clusters if len(set(labels[members])) > 1]

    @property
    def outliers(self) -> list[int]:
        """Images far from all images of other groups, the farthest first."""
        far = np.flatnonzero(self.outlying > _FAR) if len(self.outlying) else np.zeros(0, int)
        return sorted(far.tolist(), key=lambda i: -self.outlying[i])

    @property
    def storage(self) -> list[str]:
        """Sentences on how the storage of the files differs between the classes; none where it does not.

        File size depends on what an image shows, so it counts only where it tells the classes apart by itself.
        """
        found = {row.name: row for row in self.associations if row.p < _SURE}
        told = [found[name].sentence() for name in STORAGE if name in found]
        size = found.get(FILE_SIZE)
        return told or ([size.sentence()] if size and size.effect >= STRONG else [])

    def oddities(self) -> dict[str, list[int]]:
        """Return images by what is odd about them: shape, saturation, blur, empty rows."""
        aspect = np.log([q.aspect for q in self.quality])
        blur = -np.log([max(q.sharpness, 1e-6) for q in self.quality])
        found = {
            "of an unusual shape": unusual(np.abs(aspect - np.median(aspect))),
            "with more than 2 % of white pixels": np.array([q.saturated > 0.02 for q in self.quality]),
            "blurred": unusual(blur, 4),
            "nearly without contrast": np.array([q.contrast < 4 for q in self.quality]),
            "with rows of a single grey level inside": np.array([q.constant_rows > 0.01 for q in self.quality]),
            "with empty borders": np.array([max(o.border) > 0 for o in self.overlays]),
        }
        # What most images have is their kind, not an oddity.
        return {name: np.flatnonzero(mask).tolist() for name, mask in found.items() if 0 < mask.mean() <= 0.5}


def audit(
    source: Source,
    skip_unreadable: bool = False,
    sizes: Sequence[int] = (),
    progress: StageProgress | None = None,
) -> Audit:
    """Look through all images of `source`.

    Args:
        source: what `read_source` found.
        skip_unreadable: leave files that cannot be decoded out, and count them.
        sizes: data-set sizes of a planned study, to compare the classes with.
        progress: called with how much is done, how much there is to do, and what is being done.

    Raises:
        UnreadableImageError: a file cannot be decoded and is not to be skipped.
        SourceError: no file is left.
    """
    tell = progress or (lambda done, total, stage: None)

    def work(item: SourceItem, picture: DecodedImage) -> tuple[Any, ...]:
        grey = picture.grey
        overlays = find_overlays(grey)
        small = resize_longest_side(grey, _THUMB)
        square = np.asarray(_square(grey))
        return view(grey, overlays.mask(grey.shape)), overlays, measure_quality(grey), small, square

    report, values = decode_all(source, work, skip_unreadable, lambda done, total: tell(done, total, "looking"))
    views, overlays, quality, pictures, squares = (list(part) for part in zip(*values, strict=True))
    exact = [Duplicate(cluster[0], copy, "exact", 1.0) for cluster in report.duplicates for copy in sorted(cluster)[1:]]
    known = {(pair.a, pair.b) for pair in exact}
    similar = [pair for pair in find_duplicates(views, progress, _threads()) if (pair.a, pair.b) not in known]
    duplicates = tuple(sorted([*exact, *similar], key=lambda pair: (pair.a, pair.b)))
    own = group_numbers(report)
    of_one_group = [(first, other) for first, *others in group_members(own) for other in others]
    groups = cluster_numbers(len(own), [*of_one_group, *((pair.a, pair.b) for pair in duplicates)])
    labels = np.array([source.classes.index(image.item.label) for image in report.images])
    stored = encodings([image.item for image in report.images], source.options)
    found, forest = _shortcuts(report, overlays, quality, stored, labels, groups)
    outlying = _outlying(np.stack(squares), groups, tell)
    return Audit(
        report,
        duplicates,
        groups,
        tuple(overlays),
        tuple(quality),
        tuple(stored),
        outlying,
        tuple(found),
        forest,
        tuple(pictures),
        tuple(_notes(report, groups, labels, sizes)),
    )


def shared_frames(first: Source, second: Source, progress: StageProgress | None = None) -> list[tuple[str, str]]:
    """Return the ids of images of `first` and `second` that show one frame: leakage if one of them tests the other.

    Raises:
        UnreadableImageError: a file cannot be decoded.
    """
    tell = progress or (lambda done, total, stage: None)

    def seen(item: SourceItem, picture: DecodedImage) -> tuple[str, View]:
        return item.id, view(picture.grey, find_overlays(picture.grey).mask(picture.grey.shape))

    ids, views = [], []
    for source in (first, second):
        _, values = decode_all(source, seen, progress=lambda done, total: tell(done, total, "looking"))
        ids += [id_ for id_, _ in values]
        views += [one for _, one in values]
    between = len(first.items)
    pairs = find_duplicates(views, progress, _threads())
    return [(ids[pair.a], ids[pair.b]) for pair in pairs if pair.a < between <= pair.b]


def _threads() -> int:
    return min(4, os.cpu_count() or 1)


def _square(grey: Array) -> Any:
    from PIL import Image

    return Image.fromarray(grey).resize((_FEATURE_PX, _FEATURE_PX), Image.Resampling.BICUBIC)


def _outlying(squares: Array, groups: Array, tell: StageProgress) -> Array:
    from sonosynth.features.extract import load_features

    if len(np.unique(groups)) < 10:
        return np.zeros(0)
    features = load_features(_FEATURES)(squares, progress=lambda done, total: tell(done, total, "embedding"))
    return outlyingness(features, groups)


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
    classes = report.source.classes
    counts = {name: len(np.unique(groups[labels == i])) for i, name in enumerate(classes)}
    notes += [
        f"class '{name}' has {counted(count, 'group')}: hardly enough for a test set and training images"
        for name, count in counts.items()
        if count < _FEW
    ]
    images = Counter(labels.tolist())
    for size in sizes:
        if size > len(labels):
            there = f"{counted(len(labels), 'image')} there {agreeing(len(labels), 'is', 'are')}"
            notes.append(f"size {size} is more than the {there}")
            continue
        short = [f"{c} {images[i] * size / len(labels):.1f}" for i, c in enumerate(classes)
                 if images[i] * size / len(labels) < 5]  # fmt: skip
        if short:
            notes.append(f"size {size} holds fewer than 5 images of a class: {', '.join(short)}")
    return notes


def already_audited(out: Path, arguments: Mapping[str, Any]) -> bool:
    """Return whether `out` holds the audit that `arguments` ask for.

    Raises:
        OutputError: it holds one of other images or settings, which is not overwritten: groups.csv may be edited.
    """
    if not (out / AUDIT).is_file():
        return False
    try:
        before = read_json(out / AUDIT)["arguments"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(f"{out / AUDIT} is damaged ({error}); choose another --out or remove {out}") from error
    if before != arguments:
        other = " and ".join(name for name in arguments if before.get(name) != arguments[name])
        made = f"{out} holds an audit made with other arguments ({other})"
        raise OutputError(f"{made}; choose another --out or remove it first")
    return True


def write_tables(found: Audit, out: Path) -> None:
    """Write ``duplicates.csv`` and ``groups.csv`` to the folder `out`; each file is replaced at once."""
    items = [image.item for image in found.report.images]
    root = found.report.source.root
    conflicted = {i for members in found.conflicts for i in members}
    write_groups(out / "groups.csv", root, items, found.groups, [i in conflicted for i in range(len(items))])
    with atomic_file(out / "duplicates.csv") as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path_a", "path_b", "kind", "similarity", "labels"))
        for pair in found.duplicates:
            a, b = items[pair.a], items[pair.b]
            labels = a.label if a.label == b.label else f"{a.label}|{b.label}"
            table.writerow((table_path(a, root), table_path(b, root), pair.kind, f"{pair.similarity:.4f}", labels))

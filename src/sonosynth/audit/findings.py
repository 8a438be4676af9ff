"""What an audit found: in memory, as a summary that is kept, and as tables that other commands take."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from sonosynth.audit.duplicates import Duplicate
from sonosynth.audit.quality import Quality, robust_outliers
from sonosynth.audit.shortcuts import STRONG, Association, ShortcutClassifier
from sonosynth.core.files import atomic_file
from sonosynth.core.text import counted, one_line
from sonosynth.core.types import Array
from sonosynth.data.groups import cluster_numbers, group_members, table_path, write_groups
from sonosynth.data.overlays import Overlays
from sonosynth.data.readers.base import Encoding
from sonosynth.data.scan import SourceReport

STORAGE = ("file format", "compression", "bit depth", "JPEG quality")  # properties of files that say nothing of tissue
FILE_SIZE = "file size, bytes per pixel"
_OUTLIER_SCORE = 1.6  # times the ordinary distance to its neighbours makes an outlier
_SIGNIFICANT = 0.05  # p-value, after correction


@dataclass(frozen=True, eq=False)
class Findings:
    """What an audit found in a source. Lists have one entry per image, in the order of ``report.images``."""

    report: SourceReport  # the source as `scan` reports it
    duplicates: Sequence[Duplicate]  # pairs that show one frame, exact copies among them
    groups: Array  # int64 [N]: images that belong together, by the source's own groups or as duplicates
    overlays: Sequence[Overlays]  # words, calipers and borders
    quality: Sequence[Quality]  # numbers of each image
    # how the file of each image stores it; None where a prepared set does not say it
    encodings: Sequence[Encoding | None]
    # float [N]: distance to the nearest images of other groups, 1 is ordinary; empty if not measured
    outlier_scores: Array
    associations: Sequence[Association]  # what goes with the class, the surest first
    # what a classifier makes of overlays, frames and storage alone; None if there are too few images
    shortcut: ShortcutClassifier | None
    pictures: Sequence[Array]  # uint8 thumbnails of different shapes
    notes: Sequence[str] = ()  # lines to tell the user

    @property
    def labels(self) -> Array:
        """Int64 ``[N]``, counting ``report.source.classes``."""
        classes = self.report.source.classes
        return np.array([classes.index(image.item.label) for image in self.report.images], dtype=np.int64)

    @property
    def clusters(self) -> list[list[int]]:
        """Images that duplicates join, two or more together, the largest first."""
        numbers = cluster_numbers(len(self.report.images), [(pair.a, pair.b) for pair in self.duplicates])
        several = [cluster.tolist() for cluster in group_members(numbers) if len(cluster) > 1]
        return sorted(several, key=lambda cluster: (-len(cluster), cluster))

    @property
    def already_grouped(self) -> list[list[int]]:
        """Those of `clusters` that the source keeps together by itself: one patient, neighbouring frames of a clip."""
        own = [image.item.group for image in self.report.images]
        return [found for found in self.clusters if own[found[0]] and len({own[i] for i in found}) == 1]

    @property
    def conflicts(self) -> list[list[int]]:
        """Those of `clusters` whose images carry different labels."""
        labels = self.labels
        return [found for found in self.clusters if len(set(labels[found])) > 1]

    @property
    def outliers(self) -> list[int]:
        """Images far from all images of other groups, the farthest first."""
        far = np.flatnonzero(self.outlier_scores > _OUTLIER_SCORE) if len(self.outlier_scores) else np.zeros(0, int)
        return sorted(far.tolist(), key=lambda i: -self.outlier_scores[i])

    @property
    def storage_differences(self) -> list[str]:
        """Sentences on how the storage of the files differs between the classes; none where it does not.

        File size depends on what an image shows, so it counts only where it tells the classes apart by itself.
        """
        found = {row.name: row for row in self.associations if row.p < _SIGNIFICANT}
        told = [found[name].sentence() for name in STORAGE if name in found]
        size = found.get(FILE_SIZE)
        return told or ([size.sentence()] if size and size.effect >= STRONG else [])

    def quality_problems(self) -> dict[str, list[int]]:
        """Return the images with an unusual shape, saturation, blur, contrast, empty rows or borders, by problem."""
        aspect = np.log([q.aspect for q in self.quality])
        blur = -np.log([max(q.sharpness, 1e-6) for q in self.quality])
        found = {
            "of an unusual shape": robust_outliers(np.abs(aspect - np.median(aspect))),
            "with more than 2 % of white pixels": np.array([q.saturated > 0.02 for q in self.quality]),
            "blurred": robust_outliers(blur, 4),
            "nearly without contrast": np.array([q.contrast < 4 for q in self.quality]),
            "with rows of a single grey level inside": np.array([q.constant_rows > 0.01 for q in self.quality]),
            "with empty borders": np.array([max(o.border) > 0 for o in self.overlays]),
        }
        # What most images have is their kind, not an oddity.
        return {name: np.flatnonzero(mask).tolist() for name, mask in found.items() if 0 < mask.mean() <= 0.5}

    def summary(self, next_command: str = "") -> "AuditSummary":
        """Return the summary, with images by class and name."""
        names = [f"{image.item.label}/{image.item.id}" for image in self.report.images]
        shortcut = self.shortcut
        return AuditSummary(
            images=len(names),
            groups=len(set(self.groups.tolist())),
            clusters=[[names[i] for i in cluster] for cluster in self.clusters],
            known=len(self.already_grouped),
            conflicts=[[names[i] for i in cluster] for cluster in self.conflicts],
            associations=[
                {"name": a.name, "values": dict(a.values), "effect": a.effect, "p": a.p, "n": a.n}
                for a in self.associations
            ],
            storage=self.storage_differences,
            shortcut_f1=shortcut and {"value": shortcut.f1, "chance": shortcut.chance, "high": shortcut.chance_high},
            oddities={problem: [names[i] for i in images] for problem, images in self.quality_problems().items()},
            outliers=[names[i] for i in self.outliers],
            notes=list(self.notes),
            next=next_command,
        )


class AuditSummary(BaseModel):
    """What an audit found, in short. Printed, it is one finding per line; ``model_dump()`` gives JSON values."""

    images: int  # number of images
    groups: int  # number of groups of images that belong together
    clusters: list[list[str]]  # images (class/name) that show one frame, the largest cluster first
    known: int  # how many of `clusters` the source keeps within one of its own groups
    conflicts: list[list[str]]  # those of `clusters` whose images carry different labels
    # properties of images tested against the class, the smallest p first: name, values by class, effect (Cramér's V, or
    # epsilon squared of Kruskal and Wallis), p after Holm, n
    associations: list[dict[str, Any]]
    # sentences on how the storage of files differs between the classes
    storage: list[str] = []  # an audit of an older version has none
    # macro-F1 of a classifier that sees overlays, frames and storage alone; its mean with shuffled labels (chance), and
    # the 95th percentile of those (high). None where the groups are too few
    shortcut_f1: dict[str, float] | None
    oddities: dict[str, list[str]]  # images with an unusual shape, saturation, blur and so on, by problem
    outliers: list[str]  # images far from all images of other groups, the farthest first
    notes: list[str]  # further lines to tell the user
    next: str = ""  # the command that prepares the source without what was found
    new: bool = Field(default=True, exclude=True)  # whether the audit was made now, and not read from where it was kept

    def __str__(self) -> str:
        in_clusters = sum(map(len, self.clusters))
        known = f", {self.known} of them within one group of the source" if self.known else ""
        lines = [
            f"images      {self.images} in {counted(self.groups, 'group')}",
            f"duplicates  {counted(len(self.clusters), 'cluster')} of {counted(in_clusters, 'image')}{known}",
            f"conflicts   {counted(len(self.conflicts), 'cluster')} with two labels",
        ]
        if shortcut := self.shortcut_f1:
            above = shortcut["value"] > shortcut["high"]
            lines.append(
                f"shortcuts   macro-F1 {shortcut['value']:.2f} from overlays, frames and storage alone (chance "
                f"{shortcut['chance']:.2f}, at most {shortcut['high']:.2f} in 19 of 20)"
                f"{': the classes can be told apart without looking at tissue' if above else ''}"
            )
        lines += [f"shortcuts   {line}" for line in self.storage]
        lines += [f"quality     {len(images)} {problem}" for problem, images in self.oddities.items()]
        lines += [f"note        {note}" for note in self.notes]
        lines += [f"next: {self.next}"] if self.next else []
        return "\n".join(map(one_line, lines))


def write_tables(findings: Findings, out: Path) -> None:
    """Write ``duplicates.csv`` and ``groups.csv`` to the folder `out`; each file is replaced at once."""
    items = [image.item for image in findings.report.images]
    root = findings.report.source.root
    conflicted = {i for cluster in findings.conflicts for i in cluster}
    write_groups(out / "groups.csv", root, items, findings.groups, [i in conflicted for i in range(len(items))])
    with atomic_file(out / "duplicates.csv") as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path_a", "path_b", "kind", "similarity", "labels"))
        for pair in findings.duplicates:
            a, b = items[pair.a], items[pair.b]
            labels = a.label if a.label == b.label else f"{a.label}|{b.label}"
            table.writerow((table_path(a, root), table_path(b, root), pair.kind, f"{pair.similarity:.4f}", labels))

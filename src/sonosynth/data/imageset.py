"""The one value that travels through the whole house: a labelled set of greyscale images of one size."""

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, PngImagePlugin

from sonosynth.core.errors import ClassError, ManifestError, MixedSizesError, UnreadableImageError
from sonosynth.core.file_names import folder_names, portable_key, safe_name
from sonosynth.core.files import atomic_directory
from sonosynth.core.text import did_you_mean

MANIFEST = "manifest.csv"
_OWN_COLUMNS = ("path", "label", "group", "id", "synthetic")
_PREPARE_IT = "run 'sonosynth data prepare' on it"
SYNTHETIC_NOTICE = "synthetic ultrasound image made by sonosynth; not a patient's"
"""What is written into files of synthetic images."""
XMP_KEY = "XML:com.adobe.xmp"  # of the iTXt chunk that holds XMP in a PNG (XMP specification part 3, section 1.1.5)
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The IPTC term for media that a trained model made."""
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A labelled set of B-mode images, real or synthetic. Immutable.

    Attributes:
        images: uint8 ``[N, H, W]``, 0 (black) to 255 (white).
        labels: int64 ``[N]``, indices into `classes`.
        classes: names of the classes; a class may be empty in a subset.
        groups: int64 ``[N]``; images of one patient, or of one duplicate cluster, share a number.
        ids: ``N`` distinct names.
        synthetic: whether the images were generated.
        extra: further manifest columns, each with ``N`` strings; kept through subsets and on disk.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    groups: np.ndarray
    ids: tuple[str, ...]
    synthetic: bool = False
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.dtype != np.uint8 or self.images.ndim != 3:
            raise ValueError(f"images must be uint8 [N, H, W], not {self.images.dtype} {list(self.images.shape)}")
        columns: dict[str, Sized] = {"labels": self.labels, "groups": self.groups, "ids": self.ids, **self.extra}
        for name, column in columns.items():
            if len(column) != n:
                raise ValueError(f"{name} has {len(column)} entries for {n} images")
        if len(set(self.ids)) != n:
            raise ValueError("ids must be distinct")
        if n and not (self.labels.min() >= 0 and self.labels.max() < len(self.classes)):
            raise ValueError("labels must be indices into classes")
        for name in ("images", "labels", "groups"):
            array = np.ascontiguousarray(getattr(self, name)).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of images of each class, in the order of `classes`."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    @property
    def group_counts(self) -> dict[str, int]:
        """Number of groups that have images of each class."""
        return {name: len(np.unique(self.groups[self.labels == label])) for label, name in enumerate(self.classes)}

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSet":
        """Return the images at `indices`, in that order; classes keep their numbers."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            groups=self.groups[index],
            ids=tuple(self.ids[i] for i in index),
            extra={name: tuple(column[i] for i in index) for name, column in self.extra.items()},
        )

    def class_index(self, name: str) -> int:
        """Return the number of class `name`. Raises ClassError if there is none of that name."""
        if name not in self.classes:
            raise ClassError(f"no class '{name}'{did_you_mean(name, self.classes)}; known: {', '.join(self.classes)}")
        return self.classes.index(name)

    def of_class(self, name: str) -> "ImageSet":
        """Return the images of class `name`; classes keep their numbers. Raises ClassError."""
        return self.subset(np.flatnonzero(self.labels == self.class_index(name)))

    def with_classes(self, names: Sequence[str]) -> "ImageSet":
        """Return the images of the classes `names`, numbered in that order. Raises ClassError for an unknown name."""
        numbers = np.full(len(self.classes), -1, dtype=np.int64)
        for new, name in enumerate(names):
            numbers[self.class_index(name)] = new
        chosen = self.subset(np.flatnonzero(numbers[self.labels] >= 0))
        return replace(chosen, labels=numbers[chosen.labels], classes=tuple(names))

    @property
    def simulated(self) -> bool:
        """Whether every image is a phantom, by the column ``origin``."""
        return set(self.extra.get("origin", ())) == {"phantom"}

    def resized(self, size: int | tuple[int, int]) -> "ImageSet":
        """Return the set at `size`, a side or (height, width), by Pillow's antialiased (area-scaled) bicubic filter."""
        height, width = (size, size) if isinstance(size, int) else size
        if self.size == (height, width):
            return self
        pictures = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in self.images]
        images = np.stack([np.asarray(p) for p in pictures]) if pictures else np.empty((0, height, width), "uint8")
        return replace(self, images=images)

    def fingerprint(self) -> str:
        """Return a SHA-256 over pixels, labels, groups and classes, the same wherever and whenever it is computed."""
        digest = hashlib.sha256(repr((self.images.shape, self.classes, self.synthetic)).encode())
        for array in (self.images, self.labels.astype("<i8"), self.groups.astype("<i8")):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, directory: str | Path) -> None:
        """Write one folder per class of PNG files and `manifest.csv`, atomically; synthetic images say so in the PNG.

        Raises:
            OutputError: `directory` exists and is not empty.
        """
        with atomic_directory(Path(directory)) as beside:
            paths = self.file_names()
            marks = synthetic_png_info() if self.synthetic else None
            for image, path in zip(self.images, paths, strict=True):
                (beside / path).parent.mkdir(exist_ok=True)
                Image.fromarray(image).save(beside / path, pnginfo=marks)
            columns = {
                "path": paths,
                "label": [self.classes[label] for label in self.labels],
                "group": self.groups.tolist(),
                "id": self.ids,
                "synthetic": [int(self.synthetic)] * len(self),
                **self.extra,
            }
            with (beside / MANIFEST).open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(_Rows(file))
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))

    def file_names(self) -> list[str]:
        """Return where `save` writes each image, relative to its directory, with forward slashes."""
        folders = folder_names(self.classes, reserved=(MANIFEST, "prepare.json"))
        used: set[str] = set()
        names = []
        for identity, label in zip(self.ids, self.labels, strict=True):
            stem = name = f"{folders[self.classes[label]]}/{safe_name(identity)}"
            while portable_key(name) in used:
                name = f"{stem}~{len(used)}"
            used.add(portable_key(name))
            names.append(f"{name}.png")
        return names

    @staticmethod
    def load(directory: str | Path) -> "ImageSet":
        """Read what `save` wrote. Classes are the labels present, sorted by name.

        Raises:
            ManifestError: the manifest is missing or is not one that `save` wrote.
            MixedSizesError: the images are not of one size.
            UnreadableImageError: an image is missing or damaged.
        """
        directory = Path(directory)
        table = read_manifest(directory)
        classes = tuple(sorted(set(table["label"])))
        pictures = [_read_png(directory / path) for path in table["path"]]
        if len({picture.shape for picture in pictures}) > 1:
            raise MixedSizesError(f"{directory}: images of several sizes; run 'sonosynth data prepare' on it first")
        return ImageSet(
            images=np.stack(pictures),
            labels=np.array([classes.index(label) for label in table["label"]], dtype=np.int64),
            classes=classes,
            groups=np.array(table["group"], dtype=np.int64),
            ids=tuple(table["id"]),
            synthetic=table["synthetic"][0] == "1",
            extra={name: tuple(column) for name, column in table.items() if name not in _OWN_COLUMNS},
        )

    @staticmethod
    def concatenate(sets: "Iterable[ImageSet]") -> "ImageSet":
        """Join sets of one size and one tuple of classes; groups are renumbered so that no two sets share one.

        The result counts as synthetic only if every part is. Extra columns that not all parts have are dropped.
        """
        parts = list(sets)
        if len({(part.size, part.classes) for part in parts}) != 1:
            raise ValueError("only sets of one size and with the same classes can be joined")
        groups, offset = [], 0
        for part in parts:
            known, numbers = np.unique(part.groups, return_inverse=True)
            groups.append(numbers + offset)
            offset += len(known)
        shared = set.intersection(*(set(part.extra) for part in parts))
        return ImageSet(
            images=np.concatenate([part.images for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            classes=parts[0].classes,
            groups=np.concatenate(groups).astype(np.int64),
            ids=tuple(f"{i}-{identity}" for i, part in enumerate(parts) for identity in part.ids),
            synthetic=all(part.synthetic for part in parts),
            extra={name: tuple(v for part in parts for v in part.extra[name]) for name in sorted(shared)},
        )


def synthetic_png_info() -> PngImagePlugin.PngInfo:
    """Return what a PNG of synthetic images says of itself: a text called "Source", and the IPTC digital source type.

    The latter stands in XMP, where viewers and registries look for it.
    """
    marks = PngImagePlugin.PngInfo()
    marks.add_text("Source", SYNTHETIC_NOTICE)
    marks.add_itxt(XMP_KEY, _XMP)
    return marks


class _Rows:
    """A file for csv to write to: rows end in a line feed, yet cells with a carriage return are quoted too."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def read_manifest(directory: Path, name: str = MANIFEST) -> dict[str, list[str]]:
    """Return the columns of the manifest of an image set that `ImageSet.save` wrote, as text. Raises ManifestError."""
    path = directory / name
    if not path.is_file():
        raise ManifestError(
            f"{directory} is not an image set: it has no {name}; make one with 'sonosynth data prepare'"
        )
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = list(csv.reader(file)) or [[]]
    missing = [name for name in _OWN_COLUMNS if name not in names]
    if missing or not rows or any(len(row) != len(names) for row in rows):
        what = f"lacks the column '{missing[0]}'" if missing else "has no rows, or rows of different lengths"
        raise ManifestError(f"{path} {what}; it is not a prepared image set: {_PREPARE_IT}")
    table = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if not all(re.fullmatch(r"-?\d+", group) for group in table["group"]):
        raise ManifestError(f"{path}: groups must be whole numbers in a prepared image set; {_PREPARE_IT}")
    if len(set(table["synthetic"])) > 1:
        raise ManifestError(
            f"{path}: some images are marked as synthetic and some are not; keep them in separate folders"
        )
    return table


def _read_png(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file, Image.open(file) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableImageError(f"{path}: cannot be read as an image ({error}); restore or remove it") from error

"""What may be compared in a scorecard: sets of real and synthetic images, brought to one size and the same classes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.text import agreeing, counted
from sonosynth.data.encoding import encodings_from_columns
from sonosynth.data.imageset import ImageSet
from sonosynth.data.readers.base import Encoding
from sonosynth.data.split import check_disjoint, check_real, shared_images
from sonosynth.metrics.scores import ALL, HELD_OUT, SYNTHETIC, TRAIN

_ROLES = {TRAIN: "training", HELD_OUT: "held-out", SYNTHETIC: "synthetic"}
_SURE = 0.01  # p-value below which the compression of two sets counts as different
_QUALITY_STEP = 10  # between median JPEG qualities


def common_classes(
    train: ImageSet, synthetic: ImageSet, held_out: ImageSet | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the classes, in the order of `train`, with images in every set, and notes on what that leaves out.

    Rows of class ``all`` are over the common classes only; without any, over all images.
    """
    named = {"the real images": train, "the synthetic images": synthetic}
    if held_out is not None:
        named["the held-out images"] = held_out
    counts = {name: {c: n for c, n in part.class_counts.items() if n} for name, part in named.items()}
    common = tuple(c for c in train.classes if all(c in present for present in counts.values()))
    if not common:
        return (), ("the sets have no class in common: all images are compared, whatever their class",)
    notes = []
    for name, present in counts.items():
        if others := sorted(present.keys() - common):
            left = ", ".join(f"{c} ({counted(present[c], 'image')})" for c in others)
            notes.append(f"{name} have classes that not all sets have, left out: {left}")
    shares, texts = {}, {}
    for name, present in counts.items():
        of_classes = np.array([present[c] for c in common])
        shares[name] = share = of_classes / of_classes.sum()
        texts[name] = ", ".join(f"{c} {100 * one:.0f} %" for c, one in zip(common, share, strict=True))
    for name, share in shares.items():
        if np.abs(share - shares["the real images"]).max() > 0.05:
            notes.append(
                f"class proportions of {name} ({texts[name]}) are not those of the real images "
                f"({texts['the real images']}): rows of class '{ALL}' contain that difference"
            )
    return common, tuple(notes)


def check_roles(train: ImageSet, held_out: ImageSet | None, allow_shared: bool = False) -> str:
    """Return a line that tells of held-out images that are also in `train`, empty if there are none."""
    check_class_names(train.classes)
    check_real(train, "real images")
    if held_out is None:
        return ""
    check_real(held_out, "held-out images")
    if allow_shared:
        shared = len(shared_images(train, held_out))
        of_all = counted(len(held_out), "held-out image")
        also = agreeing(shared, "is also a training image", "are also training images")
        return f"{shared} of {of_all} {also}" if shared else ""
    remedy = (
        "a distance to images that the generator saw says nothing about new ones: remove them from one set, or allow "
        "them with --allow-shared"
    )
    check_disjoint(train, held_out, ("training images", "held-out images"), remedy)
    return ""


def check_class_names(classes: Sequence[str]) -> None:
    """Raise ClassError if a class is called as the rows over all classes are."""
    if ALL in classes:
        raise ClassError(f"a class is called '{ALL}', which names the rows over all classes; rename it")


def one_size(sets: Mapping[str, ImageSet]) -> tuple[dict[str, ImageSet], list[str]]:
    """Return the sets at the size of the training images, and notes on those that had another."""
    size = sets[TRAIN].size
    notes = [
        f"the {name} images, {part.size[0]} × {part.size[1]} pixels (height × width), are resized to "
        f"{size[0]} × {size[1]} as the training images are, and lose or invent detail"
        for name, part in sets.items()
        if part.size != size
    ]
    return {name: part.resized(size) for name, part in sets.items()}, notes


def exact_copies(sets: Mapping[str, ImageSet]) -> list[str]:
    """Return lines that tell how many synthetic images repeat others of them, or are real ones, pixel for pixel."""
    synthetic, told = sets[SYNTHETIC], []
    distinct = len({image.tobytes() for image in synthetic.images})
    if distinct < len(synthetic):
        told.append(
            f"of {counted(len(synthetic), 'synthetic image')}, {distinct} are distinct; others repeat them exactly"
        )
    for name in (TRAIN, HELD_OUT):
        copies = len(shared_images(sets[name], synthetic)) if name in sets else 0
        if copies:
            itself = copies == len(synthetic) == len(sets[name])
            whole = ": this is the distance of a set to itself" if itself else ""
            of_all = counted(len(synthetic), "synthetic image")
            are = agreeing(copies, "is an exact copy of a", "are exact copies of")
            noun = agreeing(copies, "image", "images")
            told.append(f"{copies} of {of_all} {are} {_ROLES[name]} {noun}{whole}")
    return told


def compression_note(sets: Mapping[str, ImageSet]) -> str:
    """Return a line that tells where sets differ in lossy compression, empty where they do not or nothing is known.

    Sets differ where the shares of images with lossy compression differ by more than 5 points and Fisher's exact test
    gives p < 0.01 (or all of one set and none of the other are compressed), or where the median JPEG qualities differ
    by 10 or more with p < 0.01 (Mann and Whitney). Images that sonosynth generated are not compared: they are never
    compressed with loss, whatever the generator was trained on.
    """
    stored = {role: [e for e in encodings_from_columns(part.extra, part.ids) if e] for role, part in sets.items()}
    if sets[SYNTHETIC].synthetic and not any(encoding.lossy for encoding in stored[SYNTHETIC]):
        del stored[SYNTHETIC]
    stored = {role: found for role, found in stored.items() if found}
    if not any(_differ(a, b) for a, b in combinations(stored.values(), 2)):
        return ""
    formats = {encoding.format for found in stored.values() for encoding in found if encoding.lossy}
    kind = "JPEG" if all(re.search("JPEG(?! 2000|-LS)", name) for name in formats) else "lossy compression"
    parts = []
    for role, found in stored.items():
        qualities = [encoding.quality for encoding in found if encoding.quality]
        quality = f" (quality about {np.median(qualities):.0f})" if qualities else ""
        share = np.mean([encoding.lossy for encoding in found])
        parts.append(f"{100 * share:.0f} % of the {_ROLES[role]} images{quality}")
    return f"the sets differ in compression: {kind} in {', '.join(parts)}; its marks move every distance"


def _differ(a: Sequence[Encoding], b: Sequence[Encoding]) -> bool:
    lossy, sizes = np.array([sum(e.lossy for e in found) for found in (a, b)]), np.array([len(a), len(b)])
    shares = lossy / sizes
    if abs(shares[0] - shares[1]) > 0.05:
        from scipy.stats import fisher_exact  # slow to import, and seldom needed

        if set(shares) == {0, 1} or fisher_exact([lossy, sizes - lossy]).pvalue < _SURE:
            return True
    qualities = [[e.quality for e in found if e.quality] for found in (a, b)]
    if not all(qualities) or abs(np.median(qualities[0]) - np.median(qualities[1])) < _QUALITY_STEP:
        return False
    from scipy.stats import mannwhitneyu

    return bool(mannwhitneyu(*qualities).pvalue < _SURE)


def of_classes(part: ImageSet, classes: Sequence[str]) -> ImageSet:
    """Return the images of `classes`; without any, all of them as one class."""
    if classes:
        return part.with_classes(classes)
    return replace(part, classes=(ALL,), labels=np.zeros(len(part), dtype=np.int64))

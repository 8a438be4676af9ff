"""From a folder, a table or a file of images to an `ImageSet` in memory, in one call."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sonosynth.core.errors import MixedSizesError
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepare import encoding_columns, prepare_images, to_image_set, user_columns
from sonosynth.data.resize import Fit
from sonosynth.data.scan import decode_all, read_source
from sonosynth.data.source import ReadOptions, Source


def load(
    source: str | Path,
    size: int | None = None,
    *,
    fit: Fit = "stretch",
    classes: Sequence[str] | None = None,
    mask_overlays: bool = False,
    skip_unreadable: bool = False,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """Return the images of any source, grey and of one size, with their classes and groups.

    Nothing is written. Each image carries the record of its preparation in ``ImageSet.extra``, as `prepare_images`
    says. What there is to know of a source (files left out, copies, conversions), `scan` tells.

    Example:
        >>> import sonosynth as ss
        >>> data = ss.load("my-images", size=64)
        >>> data.images.shape, data.class_counts
        ((780, 64, 64), {'benign': 437, 'malignant': 210, 'normal': 133})

    Args:
        source: a folder with one folder per class, a manifest.csv, an .npz file, or what `prepare` wrote.
        size: height and width in pixels, 8 to 2048; None: that of the images, which must be one.
        fit: how images become square: "stretch", "crop", "pad" or "mask"; see `prepare_images`.
        classes: the classes to take, in this order; all of them, sorted, if not given. Needs `size`.
        mask_overlays: fill burned-in words and calipers from their surroundings first. Needs `size`.
        skip_unreadable: leave files that cannot be decoded out.
        options: what the files do not say themselves, such as the columns of a table.
        progress: called with the number of images done and of all images.

    Raises:
        SourceError: there is no such source, or it holds no labelled images; as `UnreadableImageError`, a file cannot
            be decoded; as `MixedSizesError`, no `size` is given and the images are of several.
        ClassError: `classes` names an unknown class, or a class has no readable image.
    """
    found = read_source(Path(source), options)
    if size is None:
        if classes is not None or mask_overlays:
            raise ValueError("classes and mask_overlays need a size")
        return _at_own_size(Path(source), found, skip_unreadable, progress)
    return prepare_images(found, size, fit, skip_unreadable, classes, progress, mask_overlays)[0]


def load_together(sources: Sequence[str | Path]) -> list[ImageSet]:
    """Return each of `sources` at its own size; 16-bit values that state no depth are scaled alike in all of them.

    Raises as `load` does.
    """
    paths = [Path(source) for source in sources]
    found = [read_source(path) for path in paths]
    together = tuple(item for source in found for item in source.items)
    return [_at_own_size(path, replace(one, depth_from=together)) for path, one in zip(paths, found, strict=True)]


def _at_own_size(
    path: Path, source: Source, skip_unreadable: bool = False, progress: Progress | None = None
) -> ImageSet:
    report, images = decode_all(source, lambda item, image: image.grey, skip_unreadable, progress)
    if len(report.sizes) > 1:
        other = next(i for i, image in enumerate(images) if image.shape != images[0].shape)
        (a, b), (first, second) = (images[0].shape, images[other].shape), (report.images[0], report.images[other])
        raise MixedSizesError(
            f"{path}: '{first.item.id}' is {a[1]} × {a[0]} and '{second.item.id}' is {b[1]} × {b[0]} "
            f"({len(report.sizes)} sizes in all); run 'sonosynth data prepare' on it first"
        )
    columns = user_columns(report)
    return to_image_set(report, np.stack(images), columns | encoding_columns(report, columns))

"""Simulated breast B-mode images: a data set that needs no download, no patient and no licence.

An image is made in three steps: its parameters are drawn (`phantom_parameters`), tissue is drawn from them
(`phantom_tissue`), and sound is sent through the tissue, detected and shown (`phantom_acoustics`).

The images look like ultrasound of the breast and are not a model of any scanner; nothing clinical follows from them.
"""

from collections.abc import Callable, Sequence

import numpy as np

from sonosynth.data.imageset import ImageSet
from sonosynth.data.phantom_acoustics import contact_loss, display, insonify
from sonosynth.data.phantom_parameters import Breast, Scan, draw, draw_lesion
from sonosynth.data.phantom_tissue import Array, crop, draw_tissue, insert_lesion, make_grid, shrink
from sonosynth.engine import numpy_generator
from sonosynth.errors import ClassError, SonosynthError, nearest

CLASSES = ("benign", "malignant", "normal")
MIN_SIZE, MAX_SIZE = 16, 1024


def phantom(
    per_class: int,
    size: int = 128,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Return simulated breast ultrasound, `per_class` images of each class at ``size × size``.

    Image `i` of a class depends on `seed`, the class, `i` and `size` alone: a larger set begins with the smaller one.
    Every image is a group of its own.

    Args:
        per_class: images of each class, 1 or more.
        size: width and height in pixels, 16 to 1024.
        seed: seed of all random draws.
        classes: which of `CLASSES`, each at most once; labels count in this order.
        progress: called with the number of images done and of all images.

    Raises:
        ClassError: a class is unknown or named twice, or none is named.
        SonosynthError: `per_class` is below 1, or `size` is outside 16 to 1024.
    """
    names = tuple(classes)
    _check(per_class, size, names)
    labels = np.repeat(np.arange(len(names), dtype=np.int64), per_class)
    images: list[Array] = []
    for name in names:
        for i in range(per_class):
            images.append(simulate(name, i, size, seed)[0])
            if progress:
                progress(len(images), len(labels))
    return ImageSet(
        images=np.stack(images),
        labels=labels,
        classes=names,
        groups=np.arange(len(labels), dtype=np.int64),
        ids=tuple(f"{name}-{i:04d}" for name in names for i in range(1, per_class + 1)),
        extra={"origin": ("phantom",) * len(labels)},
    )


def _check(per_class: int, size: int, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise ClassError(f"classes: {list(names)} must name at least one class, each once; known: {', '.join(CLASSES)}")
    for name in names:
        if name not in CLASSES:
            raise ClassError(f"classes: no phantom class '{name}'{nearest(name, CLASSES)}; known: {', '.join(CLASSES)}")
    if per_class < 1:
        raise SonosynthError(f"per_class: {per_class} images a class make no set; use 1 or more")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SonosynthError(f"size: phantoms of {size} px cannot be simulated; use {MIN_SIZE} to {MAX_SIZE}")


def simulate(name: str, index: int, size: int, seed: int) -> tuple[Array, Array]:
    """Return image `index` of class `name`, uint8 ``[size, size]``, and its lesion mask, bool (empty for "normal").

    Parameters, anatomy and scatterers have draws of their own, so that one picture at two sizes shows one breast.
    """

    def rng(purpose: str) -> np.random.Generator:
        return numpy_generator(seed, "phantom", name, index, purpose)

    parameters = rng("parameters")
    scan = draw(parameters, Scan)
    breast = draw(parameters, Breast)
    grid = make_grid(scan, size)
    tissue = draw_tissue(rng("anatomy"), grid, breast)
    mask = np.zeros((size, size), dtype=bool)
    if name != "normal":
        lesion = draw_lesion(parameters, name, scan, breast)
        tissue, inside = insert_lesion(rng("lesion"), grid, tissue, lesion)
        mask = shrink(crop(inside, grid.margin)) > 0.5
    envelope = insonify(rng("speckle"), grid, tissue, scan, contact_loss(rng("contact"), grid, scan))
    return display(crop(envelope, grid.margin), scan), mask

"""Simulated breast B-mode images: a data set that needs no download, no patient and no licence.

An image is made in three steps: its parameters are drawn (`parameters`, and `settings` where users fix them), tissue is
drawn from them (`tissue`, on a `grid`), and ultrasound is sent through it, detected and shown (`acoustics`).

The images look like ultrasound of the breast and are not a model of any scanner; nothing clinical follows from them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import Image
from threadpoolctl import threadpool_limits

from sonosynth.core.errors import ClassError, SonosynthError
from sonosynth.core.seeds import numpy_generator
from sonosynth.core.text import unknown_name
from sonosynth.core.types import Array, Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.prepared_folder import save_once
from sonosynth.phantoms.acoustics import contact_loss, display, simulate_envelope
from sonosynth.phantoms.birads import apply_descriptors, describe_lesion, fit
from sonosynth.phantoms.grid import crop, make_grid, shrink
from sonosynth.phantoms.parameters import Breast, Scan, draw_lesion, draw_parameters
from sonosynth.phantoms.settings import Settings, Value, check_settings, draw_setting, set_scan, settings_record
from sonosynth.phantoms.tissue import draw_tissue, insert_lesion

CLASSES = ("benign", "malignant", "normal")
MIN_SIZE, MAX_SIZE = 16, 1024
_WORTH_PROCESSES = 2**20  # pixels to simulate: less takes no longer than the start of processes, a second


def phantom(
    per_class: int,
    size: int = 128,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    progress: Progress | None = None,
    settings: Mapping[str, Value] | None = None,
    workers: int = 1,
) -> ImageSet:
    """Return simulated breast ultrasound, `per_class` images of each class at ``size × size``.

    Image `i` of a class depends on `seed`, the class, `i`, `size` and `settings` alone: a larger set begins with the
    smaller one. Settings change what they name and leave all other draws as they are: the same breast, seen otherwise.
    Every image is a group of its own. What it was made with is kept in extra columns, by the names of the settings.

    Args:
        per_class: images of each class, 1 or more.
        size: width and height in pixels, 16 to 1024.
        seed: seed of all random draws.
        classes: which of `CLASSES`, each at most once; labels count in this order.
        progress: called with the number of images done and of all images.
        settings: parameters to fix, by name: a number, a range (low, high) or "low..high" to draw uniformly from, or
            a word of BI-RADS; ``docs/explanation/phantoms.md`` lists them.
        workers: processes; the images do not depend on how many.

    Raises:
        ClassError: a class is unknown or named twice, or none is named.
        PhantomError: a setting is unknown or cannot have that value.
        SonosynthError: `per_class` or `workers` is below 1, or `size` is outside 16 to 1024.
    """
    return phantom_with_masks(per_class, size, seed, classes, progress, settings, workers)[0]


def phantom_with_masks(
    per_class: int,
    size: int = 128,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    progress: Progress | None = None,
    settings: Mapping[str, Value] | None = None,
    workers: int = 1,
) -> tuple[ImageSet, np.ndarray]:
    """Return what `phantom` returns, and the masses in the images: bool ``[N, size, size]``, empty where there is none.

    Arguments and errors are those of `phantom`.
    """
    names = tuple(classes)
    if not names or len(set(names)) != len(names):
        raise ClassError(f"classes: {list(names)} must name at least one class, each once; known: {', '.join(CLASSES)}")
    for name in names:
        if name not in CLASSES:
            raise ClassError(f"classes: {unknown_name('phantom class', name, CLASSES)}")
    if per_class < 1:
        raise SonosynthError(f"per_class: {per_class} images per class make no set; use 1 or more")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SonosynthError(f"size: phantoms of {size} px cannot be simulated; use {MIN_SIZE} to {MAX_SIZE}")
    if workers < 1:
        raise SonosynthError(f"workers: {workers} processes do nothing; use 1 or more")
    fixed = check_settings(settings or {}, has_masses=names != ("normal",))
    jobs = [(name, i) for name in names for i in range(per_class)]
    made = []
    # The matrix products are small: a library that spreads each over all cores makes them wait for each other.
    with threadpool_limits(1, "blas"), joblib.parallel_config("loky", inner_max_num_threads=1):
        simulated = joblib.Parallel(workers, return_as="generator")(
            joblib.delayed(_simulate)(name, i, size, seed, fixed) for name, i in jobs
        )
        for one in simulated:
            made.append(one)
            if progress:
                progress(len(made), len(jobs))
    images, masks, values = zip(*made, strict=True)
    data = ImageSet(
        images=np.stack(images),
        labels=np.repeat(np.arange(len(names), dtype=np.int64), per_class),
        classes=names,
        groups=np.arange(len(jobs), dtype=np.int64),
        ids=tuple(f"{name}-{i + 1:04d}" for name, i in jobs),
        extra={"origin": ("phantom",) * len(jobs)} | {key: tuple(one[key] for one in values) for key in values[0]},
    )
    return data, np.stack(masks)


def write_phantoms(
    out: str | Path,
    per_class: int,
    size: int = 128,
    seed: int = 0,
    settings: Mapping[str, Value] | None = None,
    masks: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[ImageSet, bool]:
    """Write `phantom` images of all classes to the folder `out` in one atomic step, unless they are there already.

    Args:
        out: a folder that is empty or not there, or one that an equal call wrote.
        per_class: as for `phantom`, and so are `size`, `seed`, `settings` and `progress`.
        size: width and height in pixels.
        seed: seed of all random draws.
        settings: parameters to fix, by name.
        masks: also write the masks that are not empty, 0 and 255, beside the images as BUSI names them:
            ``NAME_mask.png`` for ``NAME.png``. The manifest does not list them.
        workers: processes; None: one per core, or one where starting them takes longer than the simulation.
        progress: called with the number of images done and of all images.

    Returns:
        The images, and whether they were written now.

    Raises:
        OutputError: `out` holds something else, was changed since, or cannot be written; others as for `phantom`.
    """
    given = dict(settings or {})
    arguments: dict[str, Any] = {"command": "phantom", "per_class": per_class, "size": size, "seed": seed}
    arguments |= {"settings": check_settings(given).as_json()} if given else {}
    arguments |= {"masks": True} if masks else {}
    few = len(CLASSES) * per_class * size**2 < _WORTH_PROCESSES
    processes = workers or (1 if few else joblib.cpu_count())
    outlines: list[np.ndarray] = []

    def build() -> tuple[ImageSet, list[str]]:
        data, outlines[:] = phantom_with_masks(
            per_class, size, seed, progress=progress, settings=given, workers=processes
        )
        return data, []

    def save_masks(folder: Path, data: ImageSet) -> None:
        for path, mask in zip(data.file_names(), outlines, strict=True):
            if mask.any():
                Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{path.removesuffix('.png')}_mask.png")

    data, _, new = save_once(Path(out), arguments, build, save_masks if masks else None)
    return data, new


def simulate(
    name: str, index: int, size: int, seed: int, settings: Mapping[str, Value] | None = None
) -> tuple[Array, Array]:
    """Return image `index` of class `name`, uint8 ``[size, size]``, and its lesion mask, bool (empty for "normal").

    Raises PhantomError for a setting that is unknown or cannot have that value.
    """
    return _simulate(name, index, size, seed, check_settings(settings or {}, has_masses=name != "normal"))[:2]


def _simulate(name: str, index: int, size: int, seed: int, settings: Settings) -> tuple[Array, Array, dict[str, str]]:
    """Return an image, its mask, and what it was made with.

    Parameters, anatomy, scatterers and each setting have draws of their own, so that one picture at two sizes, or with
    two values of a setting, shows one breast.
    """

    def rng(purpose: str) -> np.random.Generator:
        return numpy_generator(seed, "phantom", name, index, purpose)

    def setting_rng(key: str) -> np.random.Generator:
        return rng(f"setting {key}")

    parameters = rng("parameters")
    drawn = draw_parameters(parameters, Scan)
    breast = draw_parameters(parameters, Breast)
    scan = set_scan(setting_rng, drawn, settings)
    grid = make_grid(scan, size, drawn)
    tissue = draw_tissue(rng("anatomy"), grid, breast)
    attenuation = float(crop(tissue.attenuation, grid.margin).mean())
    wanted, density = (draw_setting(setting_rng, settings, key) for key in ("attenuation", "scatterer_density"))
    if wanted is not None:
        tissue, attenuation = replace(tissue, attenuation_scale=wanted / attenuation), wanted
    if density is not None:
        tissue = replace(tissue, scatterer_density=density)
    mask, words = np.zeros((size, size), dtype=bool), {}
    if name != "normal":
        lesion = draw_lesion(parameters, name, drawn, breast)
        lesion = fit(apply_descriptors(setting_rng, lesion, breast, settings.words), scan, breast)
        words = describe_lesion(lesion, breast)
        tissue, inside = insert_lesion(rng("lesion"), grid, tissue, lesion)
        mask = shrink(crop(inside, grid.margin)) > 0.5
    envelope = simulate_envelope(rng("speckle"), grid, tissue, scan, contact_loss(rng("contact"), grid, scan))
    values = settings_record(scan, attenuation, math.inf if density is None else density, words)
    return display(crop(envelope, grid.margin), scan), mask, values

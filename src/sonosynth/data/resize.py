"""From a picture of any shape to a square one: stretched, padded or cropped, in a single resampling."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from sonosynth.core.types import Array
from sonosynth.data.imageset import ImageSet
from sonosynth.data.masks import MOST_LEVELS
from sonosynth.data.readers.images import decode_image_file

Fit = Literal["stretch", "pad", "crop", "mask"]
# The filter of ImageSet.resized. Pillow widens it by the reduction factor, so it averages and does not alias; its
# overshoot beside calipers and specular edges is smaller than that of Lanczos.
_FILTER = Image.Resampling.BICUBIC
_AROUND = 1.5  # side of the square around a mask, in sides of its bounding box

Square = tuple[int, int, int]
"""Left, top and side of a square, in pixels of the original."""


@dataclass(frozen=True)
class Geometry:
    """Which part of an original lies where in a prepared image.

    The original pixel coordinate `x` lies at ``offset_x + (x - left) * scale_x``, and `y` likewise.
    """

    left: int
    top: int
    width: int
    height: int
    scale_x: float
    scale_y: float
    offset_x: int
    offset_y: int


def lesion_crop(masks: Sequence[Path], shape: tuple[int, int]) -> Square | None:
    """Return the square around all that `masks` mark in a picture of `shape` ``(H, W)``; None where nothing is marked.

    Its side is one and a half times the longer side of the bounding box, at most the shorter side of the picture;
    it is moved into the picture where it would stand out. Masks of another size are read in proportion. Raises
    UnreadableImageError if one cannot be decoded.
    """
    height, width = shape
    corners = []
    for path in masks:
        grey = decode_image_file(path).grey
        # Some write 0 and 1, numbers of lesions, or colours whose grey is dark; JPEG and resampling blur the rest.
        few = len(np.unique(grey)) <= MOST_LEVELS
        marked = grey > (0 if few else grey.max() / 2)
        rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
        if len(rows):
            x, y = width / marked.shape[1], height / marked.shape[0]
            corners.append((columns[0] * x, rows[0] * y, (columns[-1] + 1) * x, (rows[-1] + 1) * y))
    if not corners:
        return None
    left, top = np.min(corners, axis=0)[:2]
    right, bottom = np.max(corners, axis=0)[2:]
    side = min(round(_AROUND * max(right - left, bottom - top)), height, width)
    x = int(np.clip(round((left + right - side) / 2), 0, width - side))
    y = int(np.clip(round((top + bottom - side) / 2), 0, height - side))
    return x, y, int(side)


def resize_to_square(grey: Array, size: int, fit: Fit, square: Square | None = None) -> tuple[Array, Geometry]:
    """Return uint8 ``[H, W]`` brought to uint8 ``[size, size]`` with Pillow's antialiased bicubic filter, and how.

    Padding mirrors the picture at its left, right and lower edge, repeatedly where the picture is narrower than the
    padding; none is put above, so that row 0 is the skin in every prepared image. "crop" and "mask" cut `square` out,
    the one in the middle if none is given.
    """
    height, width = grey.shape
    if fit in ("crop", "mask"):
        side = min(height, width)
        left, top, side = square or ((width - side) // 2, (height - side) // 2, side)
        cut = grey[top : top + side, left : left + side]
    else:
        left, top, cut = 0, 0, grey
    longest = max(cut.shape)
    if fit == "pad":
        new_height, new_width = (max(1, round(length * size / longest)) for length in cut.shape)
    else:
        new_height = new_width = size
    image = np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((new_width, new_height), _FILTER))
    beside, below = size - new_width, size - new_height
    # "symmetric" repeats the edge row, so it is defined even for a picture one pixel wide.
    image = np.pad(image, ((0, below), (beside // 2, beside - beside // 2)), mode="symmetric")
    scale_x, scale_y = new_width / cut.shape[1], new_height / cut.shape[0]
    return image, Geometry(left, top, cut.shape[1], cut.shape[0], scale_x, scale_y, beside // 2, 0)


def resize_longest_side(grey: Array, side: int) -> Array:
    """Return uint8 `grey` ``[H, W]`` enlarged or reduced so that its longest side is `side`."""
    import cv2

    factor = side / max(grey.shape)
    height, width = (max(1, round(length * factor)) for length in grey.shape)
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, (width, height), interpolation=how))


_COLUMNS = ("crop_width", "crop_height", "scale_x", "scale_y", "offset_x", "offset_y")


@dataclass(frozen=True)
class OriginalArea:
    """The part of a prepared image that shows the original (or what was cut out of it), and the original's shape."""

    left: int
    top: int
    width: int
    height: int
    original_width: int
    original_height: int


def original_areas(data: ImageSet) -> list[OriginalArea | None]:
    """Return the part of each image of `data` that shows its original; None for all where that is not recorded."""
    unknown: list[OriginalArea | None] = [None] * len(data)
    if not set(_COLUMNS) <= data.extra.keys():
        return unknown
    areas: list[OriginalArea | None] = []
    for row in zip(*(data.extra[name] for name in _COLUMNS), strict=True):
        try:
            width, height, scale_x, scale_y, left, top = (float(text) for text in row)
        except ValueError:
            return unknown  # columns of the user's own that happen to be called so
        shown = round(width * scale_x), round(height * scale_y)
        areas.append(OriginalArea(round(left), round(top), *shown, round(width), round(height)))
    return areas


def common_original_area(data: ImageSet) -> OriginalArea | None:
    """Return the frame that all images of `data` share, or None if their originals differ in shape or are unknown."""
    if not len(data) or any(len(set(data.extra.get(name, ()))) != 1 for name in _COLUMNS):
        return None
    return original_areas(data)[0]


def crop_to_original(data: ImageSet, frame: OriginalArea) -> ImageSet:
    """Return `data` with all images cut to `frame` and brought back to the shape of the originals.

    Padding is cut off; stretching is undone by shrinking one side with Pillow's antialiased bicubic filter. A part that
    was cropped away stays away.
    """
    part = data.images[:, frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
    shrink = min(frame.width / frame.original_width, frame.height / frame.original_height)
    size = (max(1, round(frame.original_width * shrink)), max(1, round(frame.original_height * shrink)))
    near = abs(size[0] - frame.width) <= 1 and abs(size[1] - frame.height) <= 1
    cut = replace(data, images=part)
    return cut if near else cut.resized(size[::-1])

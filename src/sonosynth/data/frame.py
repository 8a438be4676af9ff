"""Undoing `prepare` on generated images: where the original lies in a prepared one, and of what shape it was."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sonosynth.data.imageset import ImageSet

_COLUMNS = ("crop_width", "crop_height", "scale_x", "scale_y", "offset_x", "offset_y")


@dataclass(frozen=True)
class Frame:
    """The part of a prepared image that shows the original, and the original's shape; all in pixels.

    Attributes:
        left: first column of the part.
        top: first row.
        width: columns of the part.
        height: rows.
        original_width: width of the original, or of what was cut out of it.
        original_height: its height.
    """

    left: int
    top: int
    width: int
    height: int
    original_width: int
    original_height: int


def common_frame(data: ImageSet) -> Frame | None:
    """Return the frame that all images of `data` share, or None if their originals differ in shape or are unknown."""
    if not len(data) or not set(_COLUMNS) <= data.extra.keys():
        return None
    rows = set(zip(*(data.extra[name] for name in _COLUMNS), strict=True))
    if len(rows) > 1:
        return None
    try:
        width, height, scale_x, scale_y, left, top = (float(text) for text in rows.pop())
    except ValueError:
        return None  # columns of the user's own that happen to be called so
    return Frame(round(left), round(top), round(width * scale_x), round(height * scale_y), round(width), round(height))


def restored(data: ImageSet, frame: Frame) -> ImageSet:
    """Return `data` with all images cut to `frame` and brought back to the shape of the originals.

    Padding is cut off; stretching is undone by shrinking one side with Pillow's antialiased bicubic filter. A part that
    was cropped away stays away.
    """
    part = data.images[:, frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]
    shrink = min(frame.width / frame.original_width, frame.height / frame.original_height)
    size = (max(1, round(frame.original_width * shrink)), max(1, round(frame.original_height * shrink)))
    if abs(size[0] - frame.width) <= 1 and abs(size[1] - frame.height) <= 1:
        return replace(data, images=part)
    pictures = [Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BICUBIC) for image in part]
    return replace(data, images=np.stack([np.asarray(picture) for picture in pictures]))

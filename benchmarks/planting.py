"""Ways in which one frame comes to lie in a data set twice, to plant them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]


def resized(grey: Array, width: int, height: int) -> Array:
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC))


def crop(grey: Array, rng: np.random.Generator) -> Array:
    """Keep 70 % of both sides, anywhere."""
    height, width = (round(0.7 * side) for side in grey.shape)
    top, left = (rng.integers(0, full - part + 1) for full, part in zip(grey.shape, (height, width), strict=True))
    return grey[top : top + height, left : left + width].copy()


def zoom(grey: Array, rng: np.random.Generator) -> Array:
    """Crop, and bring what is left to the size of the original."""
    return resized(crop(grey, rng), *grey.shape[::-1])


def gain(grey: Array, rng: np.random.Generator) -> Array:
    return np.asarray(np.clip(grey * rng.choice([0.85, 1.15]), 0, 255), dtype=np.uint8)


def jpeg(grey: Array, rng: np.random.Generator) -> Array:
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=50)
    return np.asarray(Image.open(stream))


def flip(grey: Array, rng: np.random.Generator) -> Array:
    return np.ascontiguousarray(grey[:, ::-1])


def calipers(grey: Array, rng: np.random.Generator) -> Array:
    """Draw two crosses and a dotted line between them."""
    picture = Image.fromarray(grey)
    pen = ImageDraw.Draw(picture)
    height, width = grey.shape
    (x0, x1), (y0, y1) = rng.uniform(0.2, 0.8, 2) * width, rng.uniform(0.2, 0.8, 2) * height
    arm = max(3, width // 50)
    for x, y in ((x0, y0), (x1, y1)):
        pen.line((x - arm, y, x + arm, y), fill=255)
        pen.line((x, y - arm, x, y + arm), fill=255)
    for t in np.linspace(0, 1, 24):
        pen.point((x0 + t * (x1 - x0), y0 + t * (y1 - y0)), fill=255)
    return np.asarray(picture)


def words(grey: Array, text: str, place: tuple[float, float]) -> Array:
    picture = Image.fromarray(grey)
    at = (place[0] * grey.shape[1], place[1] * grey.shape[0])
    ImageDraw.Draw(picture).text(at, text, fill=255, font=ImageFont.load_default(max(9, grey.shape[1] // 16)))
    return np.asarray(picture)


def text(grey: Array, rng: np.random.Generator) -> Array:
    return words(grey, "RT AXILLA", (rng.uniform(0, 0.5), rng.uniform(0, 0.9)))


def both(grey: Array, rng: np.random.Generator) -> Array:
    """Crop, flip, change the gain and compress."""
    return jpeg(gain(flip(crop(grey, rng), rng), rng), rng)


PLANTED: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "crop": crop,
    "zoom": zoom,
    "gain": gain,
    "jpeg": jpeg,
    "flip": flip,
    "calipers": calipers,
    "text": text,
    "all": both,
}

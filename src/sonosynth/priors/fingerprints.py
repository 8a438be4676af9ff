"""Perceptual hashes: whether two sets hold the same pictures, known without the pixels of one of them.

The hash of a picture is the signs of its lowest frequencies (as in Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010): of the discrete cosine transform of 64 × 64 pixels, the 16 × 16 coefficients of
largest scale without the mean, 255 bits.
"""

import numpy as np
from PIL import Image

from sonosynth.core.types import Array
from sonosynth.data.imageset import ImageSet
from sonosynth.data.resize import original_areas

MOST_BITS = 64
"""Hashes that differ in at most so many of 255 bits are of one picture.

Of 150 images of BUS-BRA that were resized, stored as JPEG of quality 30, changed in gain or gamma, or cut by 2 % at
each edge, none differed in more than 57; of the images of BUSI and of other patients of BUS-BRA, none in fewer than 79.
Cut by 5 % at each edge, half of them are found.
"""
HASH_BYTES = 32
_SIDE, _LOWEST = 64, 16


def fingerprints(data: ImageSet) -> Array:
    """Return the hashes of the pictures in `data`, uint8 ``[2 N, 32]``: of each as a whole, and of its middle square.

    The middle square is what `prepare` with ``fit="crop"`` keeps. A picture that was stretched is hashed as it is,
    since the hash stretches it too; padding is left out.
    """
    return _hashes([*_pictures(data), *_pictures(data, middle=True)])


def known_images(data: ImageSet, known: Array) -> Array:
    """Return which images of `data`, or their mirror images, are among the pictures of `known`, bool ``[N]``.

    `known` is what `fingerprints` returned.
    """
    pictures, of_known = _pictures(data), _signs(known).T
    found = np.zeros(len(data), bool)
    for hashes in (_hashes(pictures), _hashes([picture[:, ::-1] for picture in pictures])):
        # Of vectors of ± 1, the product is the number of equal bits less that of unequal ones.
        alike = _signs(hashes) @ of_known
        found |= ((8 * HASH_BYTES - alike) / 2 <= MOST_BITS).any(axis=1)
    return found


def _pictures(data: ImageSet, middle: bool = False) -> list[Array]:
    """Return the images of `data` without padding, uint8 ``[H, W]`` each; with `middle`, the square in the middle."""
    pictures = []
    for image, area in zip(data.images, original_areas(data), strict=True):
        shown = image if area is None else image[area.top :, area.left :][: area.height, : area.width]
        if middle:
            height, width = shown.shape if area is None else (area.original_height, area.original_width)
            side = min(height, width)
            rows, columns = round(side / height * shown.shape[0]), round(side / width * shown.shape[1])
            top, left = (shown.shape[0] - rows) // 2, (shown.shape[1] - columns) // 2
            shown = shown[top : top + rows, left : left + columns]
        pictures.append(shown)
    return pictures


def _hashes(pictures: list[Array]) -> Array:
    from scipy.fft import dctn

    small = np.zeros((len(pictures), _SIDE, _SIDE), np.float32)
    for i, picture in enumerate(pictures):
        resized = Image.fromarray(np.ascontiguousarray(picture)).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        small[i] = np.asarray(resized)
    lowest = dctn(small, axes=(1, 2))[:, :_LOWEST, :_LOWEST].reshape(len(pictures), _LOWEST**2)
    lowest[:, 0] = 0  # the mean, which is positive in all
    return np.packbits(lowest > 0, axis=1)


def _signs(hashes: Array) -> Array:
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1

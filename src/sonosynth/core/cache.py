"""Arrays computed from images, cached in a directory under a hash of the pixels and of what computed them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.core.errors import FeatureError
from sonosynth.core.files import atomic_file


def cache_file(cache: Path, name: str, maker: tuple[object, ...], pixels: np.ndarray) -> Path:
    """Return the file in the directory `cache` for what `maker`, in its version, makes of `pixels`."""
    digest = hashlib.sha256(repr((*maker, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return cache / f"{name}-{digest.hexdigest()}.npy"


def cached_array(path: Path | None, shape: tuple[int, int], dtype: Any, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array of `shape` and `dtype` in the file at `path`, or what `make` makes, which is then kept there.

    Args:
        path: a file of `cache_file`; None to keep nothing.
        shape: of the array.
        dtype: of the array.
        make: what makes it if it is not there.

    Raises:
        FeatureError: the file is damaged or holds something else.
    """
    if path is None:
        return make()
    if path.is_file():
        return _read(path, shape, dtype)
    made = make()
    with atomic_file(path) as beside, beside.open("wb") as file:
        np.save(file, made, allow_pickle=False)
    return made


def _read(path: Path, shape: tuple[int, int], dtype: Any) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FeatureError(f"{path}: cached values cannot be read ({error}); remove the file") from error
    if found.shape != shape or found.dtype != dtype:
        raise FeatureError(f"{path}: cached values are {found.dtype} {found.shape}, not {shape}; remove the file")
    return np.asarray(found)

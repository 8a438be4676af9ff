"""Arrays computed from images, cached in a directory under a hash of the pixels and of what computed them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sonosynth.core.errors import FeatureError
from sonosynth.core.files import atomic_file
from sonosynth.core.types import Array


def cache_file(cache: Path, name: str, maker: tuple[object, ...], pixels: Array) -> Path:
    """Return the file in the directory `cache` for what `maker`, in its version, computes from `pixels`."""
    digest = hashlib.sha256(repr((*maker, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return cache / f"{name}-{digest.hexdigest()}.npy"


def cached_array(path: Path | None, shape: tuple[int, int], dtype: Any, compute: Callable[[], Array]) -> Array:
    """Return the array in the file at `path`; where there is none, what `compute` returns, which is then written there.

    Without a path nothing is kept. Raises FeatureError: the file is damaged or holds something else.
    """
    if path is None:
        return compute()
    if path.is_file():
        try:
            found: Array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FeatureError(f"{path}: cached values cannot be read ({error}); remove the file") from error
        if found.shape != shape or found.dtype != dtype:
            raise FeatureError(f"{path}: cached values are {found.dtype} {found.shape}, not {shape}; remove the file")
        return found
    computed = compute()
    with atomic_file(path) as beside, beside.open("wb") as file:
        np.save(file, computed, allow_pickle=False)
    return computed

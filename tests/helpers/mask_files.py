"""Pictures of speckle and masks of lesions, as files."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 20)  # width, height


def speckle(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)).save(path)
    return path


def mask(path: Path, high: int = 255, size: tuple[int, int] = SIZE, mode: str = "L") -> Path:
    """Write a box of grey level `high` on black; 0 makes an empty mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.zeros(size[::-1], np.uint8)
    grey[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = high
    Image.fromarray(grey).convert(mode).save(path)
    return path

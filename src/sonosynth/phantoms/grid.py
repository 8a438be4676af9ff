"""The sampled field of view, twice as fine as the image, and smooth random fields on it.

Smooth fields have their draws in mm, so that one breast can be drawn at any image size.
"""

from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np

from sonosynth.core.types import Array
from sonosynth.phantoms.parameters import Scan

_OVERSAMPLING = 2


@dataclass(frozen=True)
class Grid:
    """The simulated field: depth `z` ``[n, 1]`` and lateral position `x` ``[1, n]`` in mm, `margin` samples too wide.

    `extent_z` and `extent_x` are the ranges in mm that smooth fields are drawn over, the same at every size. A grid may
    reach beyond them: fields are mirrored there.
    """

    z: Array
    x: Array
    margin: int
    extent_z: tuple[float, float]
    extent_x: tuple[float, float]
    bases: dict[tuple[str, float], Array] = field(default_factory=dict, repr=False)

    def basis(self, axis: Literal["z", "x"], cell: float) -> Array:
        """Return the B-splines ``[n, knots]`` for smooth fields with knots `cell` mm apart, made once."""
        if (axis, cell) not in self.bases:
            positions, extent = (self.z, self.extent_z) if axis == "z" else (self.x, self.extent_x)
            self.bases[axis, cell] = _spline_basis(positions.ravel(), extent, cell)
        return self.bases[axis, cell]

    @property
    def steps(self) -> tuple[float, float]:
        """Sample spacing in mm, axial and lateral."""
        return float(self.z[1, 0] - self.z[0, 0]), float(self.x[0, 1] - self.x[0, 0])


def make_grid(scan: Scan, size: int, drawn: Scan | None = None) -> Grid:
    """Return the sampling grid for an image of `size` px, wider by a sixteenth of it on every side.

    Smooth fields are drawn over what `drawn` sees, or else `scan`: one breast at several depths.
    """
    drawn = drawn or scan
    margin = _OVERSAMPLING * size // 16
    share = (np.arange(-margin, _OVERSAMPLING * size + margin, dtype=np.float32) + 0.5) / (_OVERSAMPLING * size)
    return Grid(
        z=share[:, None] * np.float32(scan.depth_mm),
        x=(share[None, :] - 0.5) * np.float32(scan.width_mm),
        margin=margin,
        extent_z=(-drawn.depth_mm / 15, drawn.depth_mm * 16 / 15),
        extent_x=(-drawn.width_mm * 17 / 30, drawn.width_mm * 17 / 30),
    )


def crop(field: Array, margin: int) -> Array:
    """Return the map without the `margin` samples of the grid that lie outside the image on every side."""
    return field[margin:-margin, margin:-margin]


def shrink(field: Array) -> Array:
    """Return a cropped map ``[2n, 2n]`` averaged down to the pixels of the image, ``[n, n]``."""
    n = len(field) // _OVERSAMPLING
    return cast(Array, field.reshape(n, _OVERSAMPLING, n, _OVERSAMPLING).mean((1, 3)))


def smooth_noise(rng: np.random.Generator, grid: Grid, cell_z: float, cell_x: float) -> Array:
    """Return Gaussian noise of unit variance ``[n, n]``, smooth on the scale of the cells in mm: B-spline surfaces.

    The draws depend on the extent of the grid in mm and not on the number of samples.
    """
    along_z, along_x = grid.basis("z", cell_z), grid.basis("x", cell_x)
    control = rng.standard_normal((along_z.shape[1], along_x.shape[1]), dtype=np.float32)
    return along_z @ control @ along_x.T


def smooth_curve(rng: np.random.Generator, grid: Grid, cell_x: float) -> Array:
    """Return a smooth Gaussian curve of unit variance along x, ``[1, n]``."""
    along_x = grid.basis("x", cell_x)
    return rng.standard_normal((1, along_x.shape[1]), dtype=np.float32) @ along_x.T


def _spline_basis(positions: Array, extent: tuple[float, float], cell: float) -> Array:
    """Cubic B-splines ``[n, knots]`` at knots `cell` mm apart over `extent`, scaled to unit variance for unit noise.

    Positions outside `extent` are mirrored into it.
    """
    offset, span = positions - extent[0], extent[1] - extent[0]
    if offset[0] < 0 or offset[-1] > span:
        offset = np.abs((offset + span) % (2 * span) - span)
    knot, part = np.divmod(offset / cell, 1)
    weights = np.stack(
        [(1 - part) ** 3, 4 - 6 * part**2 + 3 * part**3, 4 - 6 * (1 - part) ** 2 + 3 * (1 - part) ** 3, part**3], axis=1
    )
    basis = np.zeros((len(positions), int(span / cell) + 4), dtype=np.float32)
    columns = knot.astype(np.int64)[:, None] + np.arange(4)
    basis[np.arange(len(positions))[:, None], columns] = weights / np.sqrt((weights**2).sum(1, keepdims=True))
    return basis


def db_to_amplitude(db: Array | float) -> Array:
    """Return the linear amplitude, float32, of a level in dB."""
    return cast(Array, np.exp(np.asarray(db, dtype=np.float32) * np.float32(np.log(10) / 20)))

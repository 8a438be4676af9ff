"""Maps of simulated tissue: layers of the breast, and a mass in them.

Backscatter, attenuation and specular (coherent) reflection are drawn on a grid twice as fine as the image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from sonosynth.core.types import Array
from sonosynth.phantoms.grid import Grid, db_to_amplitude, smooth_curve, smooth_noise
from sonosynth.phantoms.parameters import Breast, Lesion

_FLUID_DB = -50.0


@dataclass(frozen=True)
class Tissue:
    """Maps over the grid: backscatter in dB, attenuation in dB/cm/MHz, specular reflection (linear amplitude).

    Attributes:
        attenuation_scale: factor on `attenuation` that the gain of the scanner knows nothing of.
        scatterer_density: scatterers in a resolution cell at the focus; infinite for fully developed speckle.
    """

    echo_db: Array
    attenuation: Array
    specular: Array
    attenuation_scale: float = 1.0
    scatterer_density: float = math.inf


# ---- anatomy ----


def _smooth_step(distance: Array, softness: float) -> Array:
    """Rise from 0 to 1 around zero, over about `softness` mm either side."""
    return 0.5 + 0.5 * np.tanh(distance / np.float32(softness))


def _interfaces(field: Array, grid: Grid, width_mm: Array | float) -> Array:
    """Thin sheets along the zero level of `field`, 0 to 1; steep ones fade, as they reflect away from the probe."""
    step_z, step_x = grid.steps
    slope_z, slope_x = np.gradient(field, step_z, step_x)
    slope = slope_z**2 + slope_x**2 + np.float32(1e-6)
    width = np.maximum(width_mm, 0.6 * step_z).astype(np.float32)
    return cast(Array, np.exp(-(field**2) / (slope * width**2)) * slope_z**2 / slope)


def draw_tissue(rng: np.random.Generator, grid: Grid, breast: Breast) -> Tissue:
    """Draw skin, subcutaneous fat, fibroglandular tissue, retromammary fat, pectoral muscle and chest wall."""
    wave = breast.wave_mm * (smooth_noise(rng, grid, 9, 14) + 0.25 * smooth_noise(rng, grid, 3, 5))
    # As the layers see it, depth is flat under the transducer, wavy and tilted further down.
    depth = grid.z + (wave + breast.tilt * grid.x) * _smooth_step(grid.z - 4, 3)
    along = _warp_along(depth, grid)
    edges = np.cumsum([breast.skin_mm, breast.fat_mm, breast.gland_mm, breast.retromammary_mm, breast.muscle_mm])
    wander = [0.1, 0.8, 1.2, 0.4, 0.6]
    tops = [float(edge) + rough * smooth_curve(rng, grid, 6) for edge, rough in zip(edges, wander, strict=True)]
    below_skin, below_fat, below_gland, in_muscle, in_chest = (
        _smooth_step(depth - top, soft) for top, soft in zip(tops, [0.15, 0.8, 0.8, 0.4, 1.5], strict=True)
    )
    lobules = along(smooth_noise(rng, grid, breast.lobule_mm, 2.2 * breast.lobule_mm))
    ducts = along(smooth_noise(rng, grid, 0.8, 1.6))
    fraction = _smooth_step(lobules + 0.6 * ducts + breast.density, 0.35)  # fat lobules and ducts are holes in it
    gland = fraction * below_fat * (1 - below_gland)
    grains = [along(smooth_noise(rng, grid, *cell)) for cell in ((0.7, 1.6), (2.5, 5), (0.45, 2.5))]
    texture = grains[0] + grains[1] + grains[2]
    muscle_grain = along(smooth_noise(rng, grid, 0.6, 6))

    echo = breast.fat_db * (1 - gland) + breast.texture_db * texture * (0.35 + 0.65 * gland)
    echo = _blend(echo, breast.muscle_db + 3 * muscle_grain, in_muscle)
    echo = _blend(echo, breast.chest_db + 2 * texture, in_chest)
    echo = _blend(breast.skin_db + 2 * texture, echo, below_skin)
    attenuation = 0.5 + (breast.gland_attenuation - 0.5) * gland
    attenuation = _blend(attenuation, 0.8, in_muscle)
    attenuation = attenuation * (1 + 0.25 * along(smooth_noise(rng, grid, 4, 3)))

    septa = _septa(rng, grid, breast, along) * below_skin * (1 - in_muscle)
    striae = _interfaces(along(smooth_noise(rng, grid, 0.8, 9)), grid, 0.12)
    striae = striae * db_to_amplitude(breast.striae_db - 8 + 5 * along(smooth_noise(rng, grid, 1, 4)))
    fascia = sum(
        db_to_amplitude(strength + 8 * smooth_curve(rng, grid, 3)) * np.exp(-(((depth - top) / 0.18) ** 2))
        for top, strength in zip((tops[0], tops[3], tops[4]), (6, 4, 4), strict=True)
    )
    membrane = db_to_amplitude(9) * np.exp(-(((grid.z - 0.3) / 0.2) ** 2))
    specular = septa + striae * in_muscle * (1 - 0.7 * in_chest) + fascia + membrane
    in_body = _smooth_step(grid.z, 0.1)
    return Tissue(echo - 80 * (1 - in_body), attenuation, specular * in_body)


def _blend(below: Array, above: Array | float, weight: Array) -> Array:
    return below + (above - below) * weight


def _warp_along(depth: Array, grid: Grid) -> Callable[[Array], Array]:
    """Return a function that bends a map along the layers: row lookups at the layer depth, linear in between."""
    position = (depth - grid.z[0, 0]) / np.float32(grid.steps[0])
    row = np.clip(position.astype(np.int64), 0, len(grid.z) - 2)
    part = np.clip(position - row, 0, 1).astype(np.float32)
    place = row * grid.x.size + np.arange(grid.x.size)
    place_below = place + grid.x.size

    def bend(field: Array) -> Array:
        above, below = field.take(place, mode="clip"), field.take(place_below, mode="clip")
        return cast(Array, above + (below - above) * part)

    return bend


def _septa(rng: np.random.Generator, grid: Grid, breast: Breast, along: Callable[[Array], Array]) -> Array:
    """Cooper's ligaments and the septa of fat lobules: bright curved sheets that come and go."""
    total: Array | np.float32 = np.float32(0)
    for cell_z, cell_x, width, offset in [(2.4, 10, 0.13, 0), (1.5, 7, 0.1, -2), (0.9, 4, 0.1, -5)]:
        fading = along(smooth_noise(rng, grid, 1.2 * cell_z, 0.5 * cell_x) + 0.35 * smooth_noise(rng, grid, 0.5, 0.8))
        width_mm = width * db_to_amplitude(2.5 * fading)
        sheets = _interfaces(along(smooth_noise(rng, grid, cell_z, cell_x)), grid, width_mm)
        total = total + sheets * db_to_amplitude(breast.septa_db - 8 + offset + 7 * fading)
    return cast(Array, total)


# ---- lesion ----


def insert_lesion(rng: np.random.Generator, grid: Grid, tissue: Tissue, lesion: Lesion) -> tuple[Tissue, Array]:
    """Return the tissue with the mass in it, and the share of the mass at every grid point, 0 to 1."""
    rough = smooth_noise(rng, grid, 1.1, 1.4) + smooth_noise(rng, grid, 2.5, 3)
    outside = _outline_distance(rng, grid, lesion) + lesion.roughness_mm * rough
    inside = 1 - _smooth_step(outside, lesion.margin_mm)
    halo = np.exp(-((np.maximum(outside, 0) / lesion.halo_mm) ** 2)) * (1 - inside)
    halo = halo * (1 + 0.5 * smooth_noise(rng, grid, 1.2, 1.2))
    grain = smooth_noise(rng, grid, 0.9, 1.2) + 0.7 * smooth_noise(rng, grid, 2.5, 2.5)
    mass = lesion.level_db + lesion.texture_db * grain
    echo = _blend(tissue.echo_db + lesion.halo_db * halo, mass, inside)
    attenuation = _blend(tissue.attenuation, lesion.attenuation, inside)
    lateral = np.abs(grid.x - lesion.x_mm) / (lesion.width_mm / 2)
    tangent = np.exp(-(((lateral - 1) / 0.1) ** 2)) * np.exp(-((outside / 0.8) ** 2))
    capsule = np.exp(-((outside / 0.15) ** 2)) * np.exp(-((lateral / 0.75) ** 4))
    specular = tissue.specular * (1 - inside) + db_to_amplitude(lesion.capsule_db) * capsule
    specular = specular + _calcifications(rng, grid, lesion)
    if lesion.cystic:  # a few chambers of the mass are fluid
        cell = 0.3 * np.sqrt(lesion.width_mm * lesion.height_mm)
        field = smooth_noise(rng, grid, cell, cell)
        level = np.quantile(field[inside >= inside.max() / 2], 1 - lesion.cystic)
        echo = _blend(echo, _FLUID_DB, _smooth_step(field - np.float32(level), 0.1) * inside)
    attenuation = attenuation + lesion.edge_shadow * tangent
    return replace(tissue, echo_db=echo, attenuation=attenuation, specular=specular), inside


def _outline_distance(rng: np.random.Generator, grid: Grid, lesion: Lesion) -> Array:
    """Distance from the outline of the mass in mm, negative inside; approximate away from it."""
    x, z = grid.x - lesion.x_mm, grid.z - lesion.z_mm
    cos, sin = np.cos(lesion.angle), np.sin(lesion.angle)
    u, v = (x * cos + z * sin) / (lesion.width_mm / 2), (z * cos - x * sin) / (lesion.height_mm / 2)
    angle, radius = np.arctan2(v, u), np.hypot(u, v)
    turn = np.linspace(-np.pi, np.pi, 721)
    outline = np.interp(angle, turn, _outline(rng, turn, lesion))
    return cast(Array, ((radius - outline) * np.sqrt(lesion.width_mm * lesion.height_mm) / 2).astype(np.float32))


def _outline(rng: np.random.Generator, turn: Array, lesion: Lesion) -> Array:
    """Relative radius over the angle: one, low Fourier terms (lobulation), spikes (spiculation) and bumps."""
    outline = np.ones_like(turn)
    for order in range(2, 8):
        outline += lesion.lobulation * rng.normal() * np.cos(order * turn + rng.uniform(0, 2 * np.pi)) * 2 / order
    for _ in range(lesion.spikes):
        away = np.angle(np.exp(1j * (turn - rng.uniform(-np.pi, np.pi))))
        height, width = rng.uniform(0.2, 1), rng.uniform(0.04, 0.16)
        outline += lesion.spike_height * height * np.exp(-np.abs(away) / (lesion.spike_width * width))
    if lesion.bumps:
        outline += lesion.bump_height * np.abs(np.sin(0.5 * lesion.bumps * turn + rng.uniform(0, np.pi)))
    return np.maximum(outline, 0.3)


def _calcifications(rng: np.random.Generator, grid: Grid, lesion: Lesion) -> Array:
    """Micro-calcifications: bright points smaller than the resolution cell, clustered in the mass."""
    points = np.zeros((grid.z.size, grid.x.size), dtype=np.float32)
    axes = (grid.z[:, 0], grid.x[0])
    spread = 0.22 * np.array([lesion.height_mm, lesion.width_mm])
    places = rng.normal((lesion.z_mm, lesion.x_mm), spread, (lesion.calcifications, 2))
    for (z, x), level in zip(places, rng.uniform(8, 20, lesion.calcifications), strict=True):
        rows, columns = (
            slice(*np.searchsorted(axis, (at - 1.5, at + 1.5))) for axis, at in zip(axes, (z, x), strict=True)
        )
        squared = (grid.z[rows] - z) ** 2 + (grid.x[:, columns] - x) ** 2
        points[rows, columns] += db_to_amplitude(level) * np.exp(-squared / np.float32(0.14**2))
    return points

"""Simulated breast B-mode images: a data set that needs no download, no patient and no licence.

Tissue is drawn as maps of backscatter, attenuation and coherent (specular) reflection on a grid twice as fine as the
image. Complex Gaussian scatterers are convolved with a point spread function whose lateral width follows the focus
(linear convolution model of Bamber and Dickinson, Phys. Med. Biol. 25:463, 1980), attenuated on the way, compensated
imperfectly, detected and log-compressed. The modulated pulse is simulated at baseband (as IQ data), where its envelope
and so the speckle are the same as at radio frequency, from far fewer samples. Lesions follow the BI-RADS
descriptors of benign and malignant masses (shape, orientation, margin, echo pattern, posterior features).

The images look like ultrasound of the breast and are not a model of any scanner; nothing clinical follows from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter1d

from sonosynth.data.imageset import ImageSet
from sonosynth.engine import numpy_generator
from sonosynth.errors import ClassError, SonosynthError, nearest

CLASSES = ("benign", "malignant", "normal")
MIN_SIZE, MAX_SIZE = 16, 1024
_OVERSAMPLING = 2
_PENUMBRA_STEP = 0.6  # mm of depth between two softenings of the shadows
_HEADROOM_DB = 22  # white lies this far above glandular tissue at a gain of 0 dB
_ROUGHNESS = 0.5  # share of a sheet that scatters instead of reflecting

Array = np.ndarray
Parameters = TypeVar("Parameters", "Scan", "Breast")


def _between(low: float, high: float) -> Any:
    """A parameter that is drawn uniformly from `low` to `high`, whole numbers inclusive of both."""
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Scan:
    """How the picture is taken and shown: transducer, beamformer, time-gain compensation (TGC) and display."""

    frequency_mhz: float = _between(7, 13)
    cycles: float = _between(2, 3.5)
    depth_mm: float = _between(26, 46)
    width_mm: float = _between(34, 48)
    focus: float = _between(0.3, 0.6)  # share of the depth
    f_number: float = _between(2, 3.4)
    looks: int = _between(2, 4)  # compounded frames, each with speckle of its own
    smoothing_mm: float = _between(0.06, 0.13)  # axial, on grey levels
    tgc_error_db: float = _between(6, 28)  # missing at the bottom
    tgc_wave_db: float = _between(0, 3)
    noise_db: float = _between(-51, -38)
    contact_db: float = _between(0.4, 8)  # streaks of poor contact
    dynamic_range_db: float = _between(48, 62)
    gain_db: float = _between(-3, 9)


@dataclass(frozen=True)
class Breast:
    """Layers from the skin down and what they are made of; levels in dB relative to glandular tissue."""

    skin_mm: float = _between(0.9, 2)
    fat_mm: float = _between(2, 11)
    gland_mm: float = _between(6, 18)
    retromammary_mm: float = _between(1, 5)
    muscle_mm: float = _between(5, 11)
    wave_mm: float = _between(0.3, 1.4)
    tilt: float = _between(-0.12, 0.12)
    density: float = _between(-0.7, 1.3)  # from almost entirely fat to extremely dense
    lobule_mm: float = _between(1.6, 3.6)
    skin_db: float = _between(-9, 1)
    fat_db: float = _between(-14, -7)
    muscle_db: float = _between(-13, -6)
    chest_db: float = _between(-28, -12)
    texture_db: float = _between(1.5, 3.8)
    septa_db: float = _between(8, 15.5)
    striae_db: float = _between(4, 13)
    gland_attenuation: float = _between(0.65, 1.1)  # dB/cm/MHz


@dataclass(frozen=True)
class Lesion:
    """One mass: place and size in mm, outline as Fourier terms and spikes, levels in dB, attenuation in dB/cm/MHz."""

    x_mm: float
    z_mm: float
    width_mm: float
    height_mm: float
    angle: float
    lobulation: float
    roughness_mm: float
    spikes: int
    spike_height: float
    margin_mm: float
    level_db: float
    texture_db: float
    attenuation: float
    edge_shadow: float
    capsule_db: float
    halo_db: float
    halo_mm: float
    calcifications: int


@dataclass(frozen=True)
class Grid:
    """The simulated field: depth `z` ``[n, 1]`` and lateral position `x` ``[1, n]`` in mm, `margin` samples too wide.

    `extent_z` and `extent_x` are the ranges in mm that smooth fields are drawn over, the same at every size.
    """

    z: Array
    x: Array
    margin: int
    extent_z: tuple[float, float]
    extent_x: tuple[float, float]

    @property
    def steps(self) -> tuple[float, float]:
        """Sample spacing in mm, axial and lateral."""
        return float(self.z[1, 0] - self.z[0, 0]), float(self.x[0, 1] - self.x[0, 0])


@dataclass(frozen=True)
class Tissue:
    """Maps over the grid: backscatter in dB, attenuation in dB/cm/MHz, coherent reflection (linear amplitude)."""

    echo_db: Array
    attenuation: Array
    coherent: Array


def phantom(per_class: int, size: int = 128, seed: int = 0, classes: Sequence[str] = CLASSES) -> ImageSet:
    """Return simulated breast ultrasound, `per_class` images of each class at ``size × size``.

    Image `i` of a class depends on `seed`, the class, `i` and `size` alone: a larger set begins with the smaller one.
    Every image is a group of its own.

    Raises:
        ClassError: a class is unknown or named twice, or none is named.
        SonosynthError: `per_class` is below 1, or `size` is outside 16 to 1024.
    """
    names = tuple(classes)
    _check(per_class, size, names)
    labels = np.repeat(np.arange(len(names), dtype=np.int64), per_class)
    images = [simulate(name, i, size, seed)[0] for name in names for i in range(per_class)]
    return ImageSet(
        images=np.stack(images),
        labels=labels,
        classes=names,
        groups=np.arange(len(labels), dtype=np.int64),
        ids=tuple(f"{name}-{i:04d}" for name in names for i in range(1, per_class + 1)),
        extra={"origin": ("phantom",) * len(labels)},
    )


def _check(per_class: int, size: int, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise ClassError(f"classes: {list(names)} must name at least one class, each once; known: {', '.join(CLASSES)}")
    for name in names:
        if name not in CLASSES:
            raise ClassError(f"classes: no phantom class '{name}'{nearest(name, CLASSES)}; known: {', '.join(CLASSES)}")
    if per_class < 1:
        raise SonosynthError(f"per_class: {per_class} images a class make no set; use 1 or more")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise SonosynthError(f"size: phantoms of {size} px cannot be simulated; use {MIN_SIZE} to {MAX_SIZE}")


def simulate(name: str, index: int, size: int, seed: int) -> tuple[Array, Array]:
    """Return image `index` of class `name`, uint8 ``[size, size]``, and its lesion mask, bool (empty for "normal").

    Parameters, anatomy and scatterers have draws of their own, so that one picture at two sizes shows one breast.
    """

    def rng(purpose: str) -> np.random.Generator:
        return numpy_generator(seed, "phantom", name, index, purpose)

    parameters = rng("parameters")
    scan = draw(parameters, Scan)
    breast = draw(parameters, Breast)
    grid = make_grid(scan, size)
    tissue = draw_tissue(rng("anatomy"), grid, breast)
    mask = np.zeros((size, size), dtype=bool)
    if name != "normal":
        lesion = draw_lesion(parameters, name, scan, breast)
        tissue, inside = insert_lesion(rng("lesion"), grid, tissue, lesion)
        mask = _shrink(_crop(inside, grid.margin)) > 0.5
    envelope = insonify(rng("speckle"), grid, tissue, scan, _contact_loss(rng("contact"), grid, scan))
    return _display(_crop(envelope, grid.margin), scan), mask


# ---- parameters ----


def draw(rng: np.random.Generator, kind: type[Parameters]) -> Parameters:
    """Draw a `Scan` or a `Breast`, every parameter uniformly from the range of its field."""
    values: dict[str, float] = {}
    for parameter in fields(kind):
        low, high = parameter.metadata["range"]
        values[parameter.name] = int(rng.integers(low, high + 1)) if parameter.type is int else rng.uniform(low, high)
    return kind(**cast(dict[str, Any], values))


def draw_lesion(rng: np.random.Generator, name: str, scan: Scan, breast: Breast) -> Lesion:
    """Draw a mass of class `name` ("benign" or "malignant").

    Outline, orientation and echo pattern are each those of the other class in one mass of seven, so classes overlap.
    """
    typical = rng.random(3) > 1 / 7
    benign = name == "benign"
    shape = _benign_shape if benign == typical[0] else _malignant_shape
    return Lesion(
        **_place(rng, scan, breast, benign == typical[1]),
        **shape(rng),
        **(_benign_echo if benign == typical[2] else _malignant_echo)(rng),
    )


def _place(rng: np.random.Generator, scan: Scan, breast: Breast, wide: bool) -> dict[str, Any]:
    area = rng.lognormal(np.log(10.5), 0.35) ** 2
    aspect = rng.uniform(1.15, 2.2) if wide else rng.uniform(0.65, 1.25)
    height = min(float(np.sqrt(area / aspect)), 0.45 * scan.depth_mm)
    width = min(height * aspect, 0.55 * scan.width_mm)
    top = breast.skin_mm + 0.6 * height + 1
    bottom = max(top + 1, min(breast.skin_mm + breast.fat_mm + breast.gland_mm, 0.62 * scan.depth_mm))
    reach = max(0.5 * scan.width_mm - 0.6 * width, 1)
    return {
        "x_mm": rng.uniform(-reach, reach),
        "z_mm": rng.uniform(top, bottom),
        "width_mm": width,
        "height_mm": height,
    }


def _benign_shape(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "angle": rng.normal(0, 0.15),
        "lobulation": rng.uniform(0.01, 0.06),
        "roughness_mm": rng.uniform(0, 0.15),
        "spikes": 0,
        "spike_height": 0.0,
        "margin_mm": rng.uniform(0.1, 0.3),
        "halo_db": 0.0,
        "halo_mm": 1.0,
        "capsule_db": rng.uniform(0, 12) if rng.random() < 0.5 else -40.0,
    }


def _malignant_shape(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "angle": rng.normal(0, 0.35),
        "lobulation": rng.uniform(0.05, 0.13),
        "roughness_mm": rng.uniform(0.3, 1.0),
        "spikes": int(rng.integers(6, 22)),
        "spike_height": rng.uniform(0.05, 0.35),
        "margin_mm": rng.uniform(0.2, 0.9),
        "halo_db": rng.uniform(1, 8),
        "halo_mm": rng.uniform(0.8, 2.5),
        "capsule_db": -40.0,
    }


def _benign_echo(rng: np.random.Generator) -> dict[str, Any]:
    kind = rng.choice(["cyst", "solid", "lipoma"], p=[0.35, 0.53, 0.12])
    level, attenuation = {
        "cyst": (rng.uniform(-60, -34), rng.uniform(0.02, 0.2)),
        "solid": (rng.uniform(-23, -12), rng.uniform(0.3, 0.6)),
        "lipoma": (rng.uniform(-8, -1), rng.uniform(0.5, 0.7)),
    }[kind]
    return {
        "level_db": level,
        "attenuation": attenuation,
        "texture_db": rng.uniform(0.3, 1.5),
        "edge_shadow": rng.uniform(0, 3),
        "calcifications": 0,
    }


def _malignant_echo(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "level_db": rng.uniform(-28, -16),
        "attenuation": rng.uniform(0.8, 1.5),
        "texture_db": rng.uniform(2, 5),
        "edge_shadow": 0.0,
        "calcifications": int(rng.integers(3, 14)) if rng.random() < 0.35 else 0,
    }


# ---- anatomy ----


def make_grid(scan: Scan, size: int) -> Grid:
    """Return the sampling grid for an image of `size` px, wider by a sixteenth of it on every side."""
    margin = _OVERSAMPLING * size // 16
    share = (np.arange(-margin, _OVERSAMPLING * size + margin, dtype=np.float32) + 0.5) / (_OVERSAMPLING * size)
    return Grid(
        z=share[:, None] * np.float32(scan.depth_mm),
        x=(share[None, :] - 0.5) * np.float32(scan.width_mm),
        margin=margin,
        extent_z=(-scan.depth_mm / 15, scan.depth_mm * 16 / 15),
        extent_x=(-scan.width_mm * 17 / 30, scan.width_mm * 17 / 30),
    )


def smooth_noise(rng: np.random.Generator, grid: Grid, cell_z: float, cell_x: float) -> Array:
    """Return Gaussian noise of unit variance ``[n, n]``, smooth on the scale of the cells in mm: B-spline surfaces.

    The draws depend on the extent of the grid in mm and not on the number of samples.
    """
    along_z, along_x = (
        _spline_basis(grid.z.ravel(), grid.extent_z, cell_z),
        _spline_basis(grid.x.ravel(), grid.extent_x, cell_x),
    )
    control = rng.standard_normal((along_z.shape[1], along_x.shape[1]), dtype=np.float32)
    return cast(Array, along_z @ control @ along_x.T)


def smooth_curve(rng: np.random.Generator, grid: Grid, cell_x: float) -> Array:
    """Return a smooth Gaussian curve of unit variance along x, ``[1, n]``."""
    along_x = _spline_basis(grid.x.ravel(), grid.extent_x, cell_x)
    return cast(Array, rng.standard_normal((1, along_x.shape[1]), dtype=np.float32) @ along_x.T)


def _spline_basis(positions: Array, extent: tuple[float, float], cell: float) -> Array:
    """Cubic B-splines ``[n, knots]`` at knots `cell` mm apart over `extent`, scaled to unit variance for unit noise."""
    knot, part = np.divmod((positions - extent[0]) / cell, 1)
    weights = np.stack(
        [(1 - part) ** 3, 4 - 6 * part**2 + 3 * part**3, 4 - 6 * (1 - part) ** 2 + 3 * (1 - part) ** 3, part**3], axis=1
    )
    basis = np.zeros((len(positions), int((extent[1] - extent[0]) / cell) + 4), dtype=np.float32)
    columns = knot.astype(np.int64)[:, None] + np.arange(4)
    basis[np.arange(len(positions))[:, None], columns] = weights / np.sqrt((weights**2).sum(1, keepdims=True))
    return basis


def _step(distance: Array, softness: float) -> Array:
    """Rise from 0 to 1 around zero, over about `softness` mm either side."""
    return cast(Array, 0.5 + 0.5 * np.tanh(distance / np.float32(softness)))


def _sheets(field: Array, grid: Grid, width_mm: Array | float) -> Array:
    """Thin sheets along the zero level of `field`, 0 to 1; steep ones fade, as they reflect away from the probe."""
    step_z, step_x = grid.steps
    slope_z, slope_x = np.gradient(field, step_z, step_x)
    slope = slope_z**2 + slope_x**2 + np.float32(1e-6)
    width = np.maximum(width_mm, 0.6 * step_z).astype(np.float32)
    return cast(Array, np.exp(-(field**2) / (slope * width**2)) * slope_z**2 / slope)


def _level(db: Array | float) -> Array:
    """Amplitude of a level in dB."""
    return cast(Array, np.exp(np.asarray(db, dtype=np.float32) * np.float32(np.log(10) / 20)))


def draw_tissue(rng: np.random.Generator, grid: Grid, breast: Breast) -> Tissue:
    """Draw skin, subcutaneous fat, fibroglandular tissue, retromammary fat, pectoral muscle and chest wall."""
    depth = _layer_depth(rng, grid, breast)
    along = _follow(depth, grid)
    edges = np.cumsum([breast.skin_mm, breast.fat_mm, breast.gland_mm, breast.retromammary_mm, breast.muscle_mm])
    wander = [0.1, 0.8, 1.2, 0.4, 0.6]
    tops = [float(edge) + rough * smooth_curve(rng, grid, 6) for edge, rough in zip(edges, wander, strict=True)]
    below_skin, below_fat, below_gland, in_muscle, in_chest = (
        _step(depth - top, soft) for top, soft in zip(tops, [0.15, 0.8, 0.8, 0.4, 1.5], strict=True)
    )
    gland = _gland_fraction(rng, grid, breast, along) * below_fat * (1 - below_gland)
    texture = (
        along(smooth_noise(rng, grid, 0.7, 1.6))
        + along(smooth_noise(rng, grid, 2.5, 5))
        + along(smooth_noise(rng, grid, 0.45, 2.5))
    )
    muscle_grain = along(smooth_noise(rng, grid, 0.6, 6))

    echo = breast.fat_db * (1 - gland) + breast.texture_db * texture * (0.35 + 0.65 * gland)
    echo = _blend(echo, breast.muscle_db + 3 * muscle_grain, in_muscle)
    echo = _blend(echo, breast.chest_db + 2 * texture, in_chest)
    echo = _blend(breast.skin_db + 2 * texture, echo, below_skin)
    attenuation = 0.5 + (breast.gland_attenuation - 0.5) * gland
    attenuation = _blend(attenuation, 0.8, in_muscle)
    attenuation = attenuation * (1 + 0.25 * along(smooth_noise(rng, grid, 4, 3)))

    septa = _septa(rng, grid, breast, along) * below_skin * (1 - in_muscle)
    striae = _sheets(along(smooth_noise(rng, grid, 0.8, 9)), grid, 0.12)
    striae = striae * _level(breast.striae_db - 8 + 5 * along(smooth_noise(rng, grid, 1, 4)))
    fascia = sum(
        _level(strength + 8 * smooth_curve(rng, grid, 3)) * np.exp(-(((depth - top) / 0.18) ** 2))
        for top, strength in zip((tops[0], tops[3], tops[4]), (6, 4, 4), strict=True)
    )
    membrane = _level(9) * np.exp(-(((grid.z - 0.3) / 0.2) ** 2))
    coherent = septa + striae * in_muscle * (1 - 0.7 * in_chest) + fascia + membrane
    in_body = _step(grid.z, 0.1)
    return Tissue(echo - 80 * (1 - in_body), attenuation, coherent * in_body)


def _blend(below: Array, above: Array | float, weight: Array) -> Array:
    return cast(Array, below + (above - below) * weight)


def _layer_depth(rng: np.random.Generator, grid: Grid, breast: Breast) -> Array:
    """Depth as the layers see it: flat under the transducer, wavy and tilted further down."""
    wave = breast.wave_mm * (smooth_noise(rng, grid, 9, 14) + 0.25 * smooth_noise(rng, grid, 3, 5))
    return cast(Array, grid.z + (wave + breast.tilt * grid.x) * _step(grid.z - 4, 3))


def _follow(depth: Array, grid: Grid) -> Callable[[Array], Array]:
    """Return a function that bends a map along the layers: row lookups at the layer depth, linear in between."""
    position = (depth - grid.z[0, 0]) / np.float32(grid.steps[0])
    row = np.clip(position.astype(np.int64), 0, len(grid.z) - 2)
    part = np.clip(position - row, 0, 1).astype(np.float32)
    place = row * grid.x.size + np.arange(grid.x.size)

    def bend(field: Array) -> Array:
        above, below = field.take(place), field.take(place + grid.x.size)
        return cast(Array, above + (below - above) * part)

    return bend


def _gland_fraction(rng: np.random.Generator, grid: Grid, breast: Breast, along: Callable[[Array], Array]) -> Array:
    """Share of fibroglandular tissue, 0 to 1: fat lobules and ducts are holes in it."""
    lobules = along(smooth_noise(rng, grid, breast.lobule_mm, 2.2 * breast.lobule_mm))
    ducts = along(smooth_noise(rng, grid, 0.8, 1.6))
    return _step(lobules + 0.6 * ducts + breast.density, 0.35)


def _septa(rng: np.random.Generator, grid: Grid, breast: Breast, along: Callable[[Array], Array]) -> Array:
    """Cooper's ligaments and the septa of fat lobules: bright curved sheets that come and go."""
    total = np.float32(0)
    for cell_z, cell_x, width, offset in [(2.4, 10, 0.13, 0), (1.5, 7, 0.1, -2), (0.9, 4, 0.1, -5)]:
        fading = along(smooth_noise(rng, grid, 1.2 * cell_z, 0.5 * cell_x) + 0.35 * smooth_noise(rng, grid, 0.5, 0.8))
        sheets = _sheets(along(smooth_noise(rng, grid, cell_z, cell_x)), grid, width * _level(2.5 * fading))
        total = total + sheets * _level(breast.septa_db - 8 + offset + 7 * fading)
    return cast(Array, total)


# ---- lesion ----


def insert_lesion(rng: np.random.Generator, grid: Grid, tissue: Tissue, lesion: Lesion) -> tuple[Tissue, Array]:
    """Return the tissue with the mass in it, and the share of the mass at every grid point, 0 to 1."""
    rough = smooth_noise(rng, grid, 1.1, 1.4) + smooth_noise(rng, grid, 2.5, 3)
    outside = _outline_distance(rng, grid, lesion) + lesion.roughness_mm * rough
    inside = 1 - _step(outside, lesion.margin_mm)
    halo = np.exp(-((np.maximum(outside, 0) / lesion.halo_mm) ** 2)) * (1 - inside)
    halo = halo * (1 + 0.5 * smooth_noise(rng, grid, 1.2, 1.2))
    grain = smooth_noise(rng, grid, 0.9, 1.2) + 0.7 * smooth_noise(rng, grid, 2.5, 2.5)
    echo = _blend(tissue.echo_db + lesion.halo_db * halo, lesion.level_db + lesion.texture_db * grain, inside)
    attenuation = _blend(tissue.attenuation, lesion.attenuation, inside)
    lateral = np.abs(grid.x - lesion.x_mm) / (lesion.width_mm / 2)
    tangent = np.exp(-(((lateral - 1) / 0.1) ** 2)) * np.exp(-((outside / 0.8) ** 2))
    capsule = np.exp(-((outside / 0.15) ** 2)) * np.exp(-((lateral / 0.75) ** 4))
    coherent = tissue.coherent * (1 - inside) + _level(lesion.capsule_db) * capsule
    coherent = coherent + _calcifications(rng, grid, lesion)
    return Tissue(echo, attenuation + lesion.edge_shadow * tangent, coherent), inside


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
    """Relative radius over the angle: one, low Fourier terms (lobulation) and narrow spikes (spiculation)."""
    outline = np.ones_like(turn)
    for order in range(2, 8):
        outline += lesion.lobulation * rng.normal() * np.cos(order * turn + rng.uniform(0, 2 * np.pi)) * 2 / order
    for _ in range(lesion.spikes):
        away = np.angle(np.exp(1j * (turn - rng.uniform(-np.pi, np.pi))))
        outline += lesion.spike_height * rng.uniform(0.2, 1) * np.exp(-np.abs(away) / rng.uniform(0.04, 0.16))
    return cast(Array, np.maximum(outline, 0.3))


def _calcifications(rng: np.random.Generator, grid: Grid, lesion: Lesion) -> Array:
    """Micro-calcifications: bright points smaller than the resolution cell, clustered in the mass."""
    points = np.zeros((grid.z.size, grid.x.size), dtype=np.float32)
    spread = 0.22 * np.array([lesion.height_mm, lesion.width_mm])
    places = rng.normal((lesion.z_mm, lesion.x_mm), spread, (lesion.calcifications, 2))
    for (z, x), level in zip(places, rng.uniform(8, 20, lesion.calcifications), strict=True):
        points += _level(level) * np.exp(-((grid.z - z) ** 2 + (grid.x - x) ** 2) / np.float32(0.14**2))
    return points


# ---- acoustics ----


def insonify(rng: np.random.Generator, grid: Grid, tissue: Tissue, scan: Scan, contact_db: Array) -> Array:
    """Return the detected envelope (linear, glandular tissue about 1), compounded over `scan.looks` looks."""
    axial, lateral = _transfer(grid, scan)
    # A sheet of unit amplitude should stay at its level, and so should speckle: the first needs a kernel of unit
    # sum, the second one of unit energy. The kernel has unit sum; scatterers are scaled up to make good for it.
    energy = (np.abs(axial) ** 2).mean() * (np.abs(lateral) ** 2).mean(1, keepdims=True)
    loss = _path_loss(grid, tissue, scan) + contact_db
    rough = np.sqrt(_level(2 * tissue.echo_db) + (_ROUGHNESS * tissue.coherent) ** 2)
    amplitude = (rough * _level(loss) / np.sqrt(2 * energy)).astype(np.float32)
    coherent = (1 - _ROUGHNESS) * tissue.coherent * _level(loss)
    noise = _level(scan.noise_db + 8 * grid.z / np.float32(scan.depth_mm))
    total = np.zeros(tissue.echo_db.shape, dtype=np.float32)
    for _ in range(scan.looks):
        field = _complex_normal(rng, total.shape)
        field *= amplitude
        field += coherent
        spectrum = scipy.fft.fft(field, axis=0, overwrite_x=True) * axial
        field = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)
        spectrum = scipy.fft.fft(field, axis=1, overwrite_x=True) * lateral
        field = scipy.fft.ifft(spectrum, axis=1, overwrite_x=True)
        total += np.abs(field + noise * _complex_normal(rng, total.shape))
    return total / np.float32(scan.looks)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]


def _transfer(grid: Grid, scan: Scan) -> tuple[Array, Array]:
    """Axial ``[n, 1]`` and, for every depth, lateral ``[n, n]`` transfer functions of the Gaussian pulse and beam.

    Pulse length: `cycles` wavelengths, two-way. Beam width (FWHM): wavelength times f-number at the focus, growing
    as for a Gaussian beam away from it; a fiftieth of the beam spreads five times as wide (side lobes, clutter).
    """
    wavelength = 1.54 / scan.frequency_mhz
    step_z, step_x = grid.steps
    to_sigma = 1 / 2.355
    sigma_z = to_sigma * scan.cycles * wavelength / 2
    reach = 14 * wavelength * scan.f_number**2
    sigma_x = to_sigma * wavelength * scan.f_number * np.sqrt(1 + ((grid.z - scan.focus * scan.depth_mm) / reach) ** 2)
    f_z = scipy.fft.fftfreq(grid.z.size, step_z).astype(np.float32)[:, None]
    f_x = scipy.fft.fftfreq(grid.x.size, step_x).astype(np.float32)[None, :]
    axial = np.exp(-2 * (np.pi * sigma_z * f_z) ** 2)
    main = (-2 * (np.pi * sigma_x * f_x) ** 2).astype(np.float32)
    return axial.astype(np.float32), cast(Array, 0.98 * np.exp(main) + 0.02 * np.exp(25 * main))


def _path_loss(grid: Grid, tissue: Tissue, scan: Scan) -> Array:
    """Two-way attenuation above each point less the gain that compensates for it, in dB: shadows and enhancement.

    The aperture sees around an obstacle, so the edges of its shadow soften on the way down.
    """
    step_z, step_x = grid.steps
    in_body = (grid.z > 0) * tissue.attenuation
    spent = in_body * np.float32(0.2 * step_z * scan.frequency_mhz)
    mean = np.cumsum(spent.mean(1, keepdims=True), axis=0)
    rows = max(1, round(_PENUMBRA_STEP / step_z))
    carried = np.zeros(grid.x.size, dtype=np.float32)
    for top in range(0, len(spent), rows):
        spent[top : top + rows] = carried + np.cumsum(spent[top : top + rows], axis=0)
        carried = gaussian_filter1d(spent[min(top + rows, len(spent)) - 1], 0.35 / step_x, truncate=2.5)
    relative = np.maximum(grid.z, 0) / np.float32(scan.depth_mm)
    wave = scan.tgc_wave_db * np.sin(2 * np.pi * 1.5 * relative)
    return cast(Array, (mean - spent - scan.tgc_error_db * relative**1.5 + wave).astype(np.float32))


def _contact_loss(rng: np.random.Generator, grid: Grid, scan: Scan) -> Array:
    """Poor skin contact and ligaments on the way: streaks of loss in dB that grow with depth, ``[n, n]``."""
    streaks = np.minimum(smooth_curve(rng, grid, 2.5) * 0.6 + smooth_curve(rng, grid, 7), 0.6) - 0.6
    sides = (np.abs(grid.x) / grid.x.max()) ** 4
    onset = np.clip(grid.z / np.float32(0.6 * scan.depth_mm), 0, 1) ** 0.7
    return cast(Array, scan.contact_db * (streaks - 0.4 * sides) * onset)


# ---- display ----


def _display(envelope: Array, scan: Scan) -> Array:
    """Log-compress to grey levels and average down to the image grid."""
    level_db = 20 * np.log10(envelope + np.float32(1e-6)) + np.float32(scan.gain_db - _HEADROOM_DB)
    grey = np.clip(1 + level_db / np.float32(scan.dynamic_range_db), 0, 1) * 255
    step_z, step_x = scan.depth_mm / len(grey), scan.width_mm / len(grey)
    grey = gaussian_filter1d(grey, scan.smoothing_mm / step_z, axis=0, truncate=3)
    grey = gaussian_filter1d(grey, 0.5 * scan.smoothing_mm / step_x, axis=1, truncate=3)
    return cast(Array, np.rint(_shrink(grey)).astype(np.uint8))


def _crop(field: Array, margin: int) -> Array:
    return field[margin:-margin, margin:-margin]


def _shrink(field: Array) -> Array:
    n = len(field) // _OVERSAMPLING
    return cast(Array, field.reshape(n, _OVERSAMPLING, n, _OVERSAMPLING).mean((1, 3)))

"""What differs from one simulated breast image to the next: scanner settings, breast and mass, drawn at random.

Masses differ by class as the BI-RADS descriptors of benign and malignant ones do; `birads` names them.
"""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

import numpy as np

Parameters = TypeVar("Parameters", "Scan", "Breast")


def _between(low: float, high: float, limits: tuple[float, float] | None = None) -> Any:
    """A parameter that is drawn uniformly from `low` to `high`, whole numbers inclusive of both.

    Users may set it within `limits`; without them it is not theirs to set.
    """
    return field(metadata={"range": (low, high), "limits": limits})


@dataclass(frozen=True)
class Scan:
    """How the picture is taken and shown: transducer, beamformer, time-gain compensation (TGC) and display."""

    frequency_mhz: float = _between(7, 13, (2, 25))
    cycles: float = _between(2, 3.5, (1, 10))  # two-way pulse, FWHM
    depth_mm: float = _between(26, 46, (15, 80))
    width_mm: float = _between(34, 48, (15, 80))
    focus: float = _between(0.3, 0.6, (0.05, 1))  # share of the depth
    f_number: float = _between(2, 3.4, (0.8, 8))
    looks: int = _between(2, 4, (1, 16))  # compounded frames, each with speckle of its own
    smoothing_mm: float = _between(0.06, 0.13, (0.01, 0.5))  # axial, on grey levels
    tgc_error_db: float = _between(6, 28, (-30, 60))  # missing at the bottom
    tgc_wave_db: float = _between(0, 3, (0, 20))
    noise_db: float = _between(-51, -38, (-120, -10))
    contact_db: float = _between(0.4, 8, (0, 30))  # streaks of poor contact
    dynamic_range_db: float = _between(48, 62, (20, 120))
    gain_db: float = _between(-3, 9, (-40, 40))


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
    margin_mm: float
    level_db: float
    texture_db: float
    attenuation: float
    edge_shadow: float = 0.0
    capsule_db: float = -40.0
    halo_db: float = 0.0
    halo_mm: float = 1.0
    calcifications: int = 0
    spikes: int = 0
    spike_height: float = 0.0
    spike_width: float = 1.0  # relative
    bumps: int = 0  # small undulations around the outline
    bump_height: float = 0.0
    cystic: float = 0.0  # share of the mass that is fluid


def draw_parameters(rng: np.random.Generator, kind: type[Parameters]) -> Parameters:
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
        "margin_mm": rng.uniform(0.1, 0.3),
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
    }


def _malignant_echo(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "level_db": rng.uniform(-28, -16),
        "attenuation": rng.uniform(0.8, 1.5),
        "texture_db": rng.uniform(2, 5),
        "calcifications": int(rng.integers(3, 14)) if rng.random() < 0.35 else 0,
    }

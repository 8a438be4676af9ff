"""Masses in the words of BI-RADS: how a simulated one is described, and how one is drawn to a description.

The words are those for masses in the ultrasound lexicon (American College of Radiology, ACR BI-RADS Atlas, 5th edition,
2013). What separates two words is stated here in the parameters of the simulation; a radiologist may draw the line
elsewhere.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from sonosynth.phantoms.parameters import Breast, Lesion, Scan

DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "shape": ("round", "oval", "irregular"),
    "orientation": ("parallel", "not parallel"),
    "margin": ("circumscribed", "indistinct", "angular", "microlobulated", "spiculated"),
    "echo_pattern": ("anechoic", "hypoechoic", "isoechoic", "hyperechoic", "complex"),
    "posterior_features": ("none", "enhancement", "shadowing"),
}
"""The descriptors of a mass, and the words for each."""

_ROUND = 1.18  # a round mass is at most so much longer than it is short
_IRREGULAR = 0.06  # lobulation above this
_SPIKE = 0.2  # relative height of a spike that shows as one
_SPICULES = 10  # as many spikes or more are spicules, fewer are angles
_SOFT_MM = 0.5
_ROUGH_MM = 0.25
_ANECHOIC_DB = -32.0
_LIKE_FAT_DB = 3.0
_LIKE_TISSUE = 0.15  # dB/cm/MHz


def describe_lesion(lesion: Lesion, breast: Breast) -> dict[str, str]:
    """Return the word of each of `DESCRIPTORS` that fits `lesion` in `breast`.

    Echo patterns are relative to subcutaneous fat, posterior features to the attenuation of the tissue around.
    """
    excess = lesion.attenuation - _surrounding(breast)
    is_round = 1 / _ROUND <= lesion.width_mm / lesion.height_mm <= _ROUND
    is_wide = (lesion.width_mm > lesion.height_mm) == (np.cos(2 * lesion.angle) > 0)  # tilted as it is
    return {
        "shape": "irregular" if lesion.lobulation > _IRREGULAR else "round" if is_round else "oval",
        "orientation": "parallel" if is_wide else "not parallel",
        "margin": _margin(lesion),
        "echo_pattern": _echo_pattern(lesion, breast),
        "posterior_features": "none" if abs(excess) <= _LIKE_TISSUE else "shadowing" if excess > 0 else "enhancement",
    }


def _margin(lesion: Lesion) -> str:
    if lesion.spikes and lesion.spike_height >= _SPIKE:
        return "spiculated" if lesion.spikes >= _SPICULES else "angular"
    if lesion.margin_mm >= _SOFT_MM:
        return "indistinct"
    return "microlobulated" if lesion.roughness_mm >= _ROUGH_MM or lesion.bumps else "circumscribed"


def _echo_pattern(lesion: Lesion, breast: Breast) -> str:
    if lesion.cystic:
        return "complex"
    if lesion.level_db <= _ANECHOIC_DB:
        return "anechoic"
    above_fat = lesion.level_db - breast.fat_db
    if abs(above_fat) <= _LIKE_FAT_DB:
        return "isoechoic"
    return "hyperechoic" if above_fat > 0 else "hypoechoic"


def _surrounding(breast: Breast) -> float:
    """Attenuation halfway between that of fat and that of glandular tissue, in dB/cm/MHz."""
    return (0.5 + breast.gland_attenuation) / 2


def apply_descriptors(
    rng: Callable[[str], np.random.Generator], lesion: Lesion, breast: Breast, wanted: Mapping[str, str]
) -> Lesion:
    """Return `lesion` with what `wanted` asks for, a word for some of `DESCRIPTORS`; the rest stays as it was drawn.

    `describe_lesion` gives the wanted words back. `rng` gives a generator for each descriptor, so that no draw depends
    on what else is wanted.
    """
    if wanted.keys() & {"shape", "orientation"}:
        lesion = _reshape(rng("shape"), lesion, breast, wanted)
    if "margin" in wanted:
        lesion = _redraw_margin(rng("margin"), lesion, wanted["margin"])
    if "echo_pattern" in wanted:
        lesion = _redraw_echo(rng("echo_pattern"), lesion, breast, wanted["echo_pattern"])
    if "posterior_features" in wanted:
        around, random = _surrounding(breast), rng("posterior_features")
        attenuation = {
            "none": around,
            "enhancement": random.uniform(0.02, 0.12),
            "shadowing": around + random.uniform(0.6, 1.2),
        }
        lesion = replace(lesion, attenuation=attenuation[wanted["posterior_features"]])
    return lesion


def _reshape(random: np.random.Generator, lesion: Lesion, breast: Breast, wanted: Mapping[str, str]) -> Lesion:
    """Change the outline at equal area; the angle is held small enough for the longer side to stay the longer one."""
    words = {**describe_lesion(lesion, breast), **wanted}
    shape, wide = words["shape"], words["orientation"] == "parallel"
    longer = {"round": (1.03, 1.12), "oval": (1.3, 2.0), "irregular": (1.3, 1.8)}[shape]
    lobulation = {"round": (0.0, 0.015), "oval": (0.01, 0.04), "irregular": (0.08, 0.14)}[shape]
    ratio, lobes = random.uniform(*longer), random.uniform(*lobulation)
    side = np.sqrt(lesion.width_mm * lesion.height_mm)
    width, height = (side * np.sqrt(ratio), side / np.sqrt(ratio))[:: 1 if wide else -1]
    return replace(
        lesion,
        width_mm=float(width),
        height_mm=float(height),
        angle=float(np.clip(lesion.angle, -0.3, 0.3)),
        lobulation=lobes if "shape" in wanted else lesion.lobulation,
    )


def _redraw_margin(rng: np.random.Generator, lesion: Lesion, word: str) -> Lesion:
    sharp, sides = rng.uniform(0.1, 0.25), rng.uniform(0, 1)
    plain = replace(lesion, margin_mm=sharp, roughness_mm=0.1 * sides, spikes=0, bumps=0, halo_db=0.0, capsule_db=-40.0)
    if word == "circumscribed":
        return replace(plain, capsule_db=lesion.capsule_db)
    if word == "indistinct":
        return replace(plain, margin_mm=0.8 + 0.6 * sides, roughness_mm=0.5, halo_db=2 + 2 * sides)
    if word == "angular":
        return replace(plain, spikes=int(rng.integers(4, 8)), spike_height=0.3 + 0.15 * sides, spike_width=2.0)
    if word == "microlobulated":
        return replace(plain, bumps=int(rng.integers(10, 19)), bump_height=0.1 + 0.08 * sides, roughness_mm=0.15)
    spikes, height = int(rng.integers(12, 22)), 0.4 + 0.3 * sides
    return replace(
        plain, spikes=spikes, spike_height=height, spike_width=0.6, margin_mm=0.3, halo_db=3 + 4 * sides, halo_mm=1.5
    )


def _redraw_echo(rng: np.random.Generator, lesion: Lesion, breast: Breast, word: str) -> Lesion:
    share, grain = rng.uniform(0, 1), rng.uniform(0.3, 1)
    if word == "anechoic":
        return replace(lesion, level_db=-60 + 20 * share, texture_db=grain, cystic=0.0, calcifications=0)
    above_fat = {
        "hypoechoic": -13 + 7 * share,
        "isoechoic": -1.5 + 3 * share,
        "hyperechoic": 7 + 5 * share,
        "complex": -10 + 5 * share,
    }[word]
    cystic = 0.35 + 0.3 * share if word == "complex" else 0.0
    return replace(lesion, level_db=breast.fat_db + above_fat, cystic=cystic)


def fit(lesion: Lesion, scan: Scan, breast: Breast) -> Lesion:
    """Return `lesion` made small enough for the picture, beneath the skin and away from the edges, where it is not."""
    factor = min(1.0, 0.45 * scan.depth_mm / lesion.height_mm, 0.55 * scan.width_mm / lesion.width_mm)
    width, height = factor * lesion.width_mm, factor * lesion.height_mm
    top = breast.skin_mm + 0.6 * height + 1
    reach = max(0.5 * scan.width_mm - 0.6 * width, 1)
    return replace(
        lesion,
        width_mm=width,
        height_mm=height,
        x_mm=float(np.clip(lesion.x_mm, -reach, reach)),
        z_mm=float(np.clip(lesion.z_mm, top, max(top + 1, 0.62 * scan.depth_mm))),
    )

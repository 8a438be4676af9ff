"""What users may fix about simulated images: names, limits, and values as they are written."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from sonosynth.core.errors import PhantomError
from sonosynth.core.text import did_you_mean, unknown_name
from sonosynth.phantoms.birads import DESCRIPTORS
from sonosynth.phantoms.parameters import Scan

BANDWIDTH_CYCLES = 4 * math.log(2) / math.pi
"""Fractional bandwidth (-6 dB) times cycles (FWHM) of a Gaussian pulse."""

_SCAN = {parameter.name: parameter.metadata["limits"] for parameter in fields(Scan)}
_WHOLE = {parameter.name for parameter in fields(Scan) if parameter.type is int}
LIMITS: dict[str, tuple[float, float]] = {
    **_SCAN,
    "bandwidth": (0.09, 0.88),
    "attenuation": (0.0, 3.0),
    "scatterer_density": (0.1, 1000.0),
}
"""The parameters with a number for a value, and the range that each may be set in."""

SETTINGS = (*LIMITS, *DESCRIPTORS)

Value = float | str | Sequence[float]


@dataclass(frozen=True)
class Settings:
    """What is fixed: `ranges` of numbers, both ends equal where there is one value, and `words` for descriptors."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**{name: list(ends) for name, ends in self.ranges.items()}, **self.words}


def parse_settings(words: Sequence[str]) -> dict[str, str]:
    """Return the settings in words NAME=VALUE. Raises PhantomError: a word has no ``=``, or a name is given twice."""
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise PhantomError(f"--set {word}: give it as NAME=VALUE, for example --set frequency_mhz=9")
        if name in given:
            raise PhantomError(f"--set {word}: {name} is set to {given[name]} before; set it once")
        given[name] = value
    return given


def check_settings(given: Mapping[str, Value], has_masses: bool = True) -> Settings:
    """Return what `given` fixes.

    Args:
        given: a number, a word such as "9", "7..13" or "oval", or a pair (low, high), by name.
        has_masses: whether any of the images has a mass.

    Raises:
        PhantomError: a name or a word is unknown, a value is no number or outside its limits, `cycles` and `bandwidth`
            are both given, or a mass is described where there is none.
    """
    for name in given:
        if name not in SETTINGS:
            raise PhantomError(f"settings: {unknown_name('phantom parameter', name, SETTINGS)}")
    if "cycles" in given and "bandwidth" in given:
        raise PhantomError(
            f"settings: cycles and bandwidth are one thing (bandwidth is {BANDWIDTH_CYCLES:.3f} / cycles); "
            "set one of them"
        )
    described = [name for name in given if name in DESCRIPTORS]
    if described and not has_masses:
        raise PhantomError(f"settings: {described[0]} describes a mass, and normal images have none; leave it out")
    return Settings(
        {name: _range(name, value) for name, value in given.items() if name in LIMITS},
        {name: _word(name, given[name]) for name in described},
    )


def _word(name: str, value: Value) -> str:
    known = DESCRIPTORS[name]
    word = value.strip().lower().replace("_", " ") if isinstance(value, str) else ""
    if word not in known:
        near = did_you_mean(word, known)
        raise PhantomError(f"settings: {name} cannot be '{value}'{near}; known: {', '.join(known)}")
    return word


def _range(name: str, value: Value) -> tuple[float, float]:
    least, most = LIMITS[name]
    parts: Sequence[Any] = value.split("..") if isinstance(value, str) else np.atleast_1d(value).tolist()
    try:
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(map(math.isfinite, numbers)):
        raise PhantomError(
            f"settings: {name} cannot be '{value}'; give a number from {least:g} to {most:g}, or a range such as "
            f"{least:g}..{most:g}"
        )
    low, high = numbers[0], numbers[-1]
    if not least <= low <= high <= most:
        what = "runs backwards" if low > high else f"is outside {least:g} to {most:g}"
        raise PhantomError(f"settings: {name} {value} {what}; choose within {least:g} to {most:g}, the smaller first")
    if name in _WHOLE and not (low.is_integer() and high.is_integer()):
        raise PhantomError(f"settings: {name} {value} is not a whole number; choose one from {least:g} to {most:g}")
    return low, high


def draw_setting(rng: Callable[[str], np.random.Generator], settings: Settings, name: str) -> float | None:
    """Return a number drawn uniformly from the range that `settings` has for `name`, or None if it has none."""
    if name not in settings.ranges:
        return None
    low, high = settings.ranges[name]
    return int(rng(name).integers(int(low), int(high) + 1)) if name in _WHOLE else float(rng(name).uniform(low, high))


def set_scan(rng: Callable[[str], np.random.Generator], scan: Scan, settings: Settings) -> Scan:
    """Return `scan` with the values that `settings` fixes in place of the drawn ones."""
    values = {name: draw_setting(rng, settings, name) for name in _SCAN}
    bandwidth = draw_setting(rng, settings, "bandwidth")
    if bandwidth is not None:
        values["cycles"] = BANDWIDTH_CYCLES / bandwidth
    changes: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    return replace(scan, **changes)


def settings_record(
    scan: Scan, attenuation: float, scatterer_density: float, words: Mapping[str, str]
) -> dict[str, str]:
    """Return what an image was made with, as text, by name of setting; no words for an image without a mass."""
    numbers = asdict(scan) | {
        "bandwidth": BANDWIDTH_CYCLES / scan.cycles,
        "attenuation": attenuation,
        "scatterer_density": scatterer_density,
    }
    return {name: f"{numbers[name]:.6g}" for name in LIMITS} | {name: words.get(name, "") for name in DESCRIPTORS}

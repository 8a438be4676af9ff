"""The B-mode area of a DICOM frame, as the header marks it.

Sequence of Ultrasound Regions (0018,6011), PS3.3 C.8.5.5: spatial format 1 (two-dimensional), data type 1 (tissue).
"""

import math
from dataclasses import dataclass

from pydicom.dataset import Dataset

_TISSUE, _TWO_DIMENSIONAL, _CENTIMETRES = 1, 1, 3
_ALIKE = 0.02  # of a side: the two halves of a screen may differ by a pixel or two


@dataclass(frozen=True)
class Region:
    """The B-mode area of a frame in stored pixels, and the size of a pixel in millimetres where the header gives it."""

    left: int
    top: int
    width: int
    height: int
    spacing_x: float | None = None
    spacing_y: float | None = None


def region_of(data: Dataset) -> Region:
    """Return the largest region of two-dimensional tissue that the header of `data` marks, else the whole frame.

    The first of several of one size. Both corners belong to a region; what lies outside the frame is cut off. Spacing
    is known where the unit is 3 (centimetres).
    """
    return _largest(marked_regions(data)) or Region(0, 0, int(data.Columns), int(data.Rows))


def marked_regions(data: Dataset) -> list[Region]:
    """Return the regions of two-dimensional tissue inside the frame, in the order of the header of `data`."""
    found = []
    for item in data.get("SequenceOfUltrasoundRegions") or ():
        if (item.get("RegionSpatialFormat"), item.get("RegionDataType")) != (_TWO_DIMENSIONAL, _TISSUE):
            continue
        corners = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if any(corner is None for corner in corners):
            continue
        left, top, right, bottom = (int(corner) for corner in corners)
        right, bottom = min(right, int(data.Columns) - 1), min(bottom, int(data.Rows) - 1)
        if 0 <= left < right and 0 <= top < bottom:
            size = right - left + 1, bottom - top + 1
            found.append(Region(left, top, *size, _spacing(item, "X"), _spacing(item, "Y")))
    return found


def region_note(found: list[Region]) -> str:
    """Return what was cut out of a frame with the regions `found`, and which of several of one size (dual screen)."""
    taken = _largest(found)
    if taken is None:
        return "whole frame: the header marks no B-mode region"
    others = {
        (other.left, other.top): other
        for other in found
        if (other.left, other.top) != (taken.left, taken.top)
        and math.isclose(other.width, taken.width, rel_tol=_ALIKE)
        and math.isclose(other.height, taken.height, rel_tol=_ALIKE)
    }.values()
    if not others:
        return "cut to the B-mode region of the header"
    places = {
        "left": all(taken.left + taken.width <= other.left for other in others),
        "right": all(taken.left >= other.left + other.width for other in others),
        "upper": all(taken.top + taken.height <= other.top for other in others),
        "lower": all(taken.top >= other.top + other.height for other in others),
    }
    place = next((name for name, holds in places.items() if holds), "first")
    return f"cut to the {place} one of {len(others) + 1} B-mode regions of about the same size in the header"


def _largest(regions: list[Region]) -> Region | None:
    return max(regions, key=lambda region: region.width * region.height, default=None)


def _spacing(item: Dataset, axis: str) -> float | None:
    delta = item.get(f"PhysicalDelta{axis}")
    if item.get(f"PhysicalUnits{axis}Direction") != _CENTIMETRES or delta is None:
        return None
    millimetres = abs(float(delta)) * 10
    return millimetres if millimetres > 0 and math.isfinite(millimetres) else None

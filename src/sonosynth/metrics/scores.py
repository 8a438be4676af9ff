"""Rows of the scorecard, and the file that keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sonosynth.core.errors import SourceError
from sonosynth.core.files import read_json, write_json

AT_BASELINE = "_at_baseline_n"
"""Ends the name of a metric whose value is recomputed at the size of its real baseline."""
PIXELS = "pixels"
"""Stands for the feature network in rows of metrics that need none."""
_OLD_NAMES = {
    "floor": "real_baseline",
    "floor_n": "real_baseline_n",
    "gaussian_kernel_distance": "cmmd",
    "gaussian_kernel_distance_at_floor_n": "cmmd_at_baseline_n",
}


@dataclass(frozen=True)
class Score:
    """One value of one metric.

    Attributes:
        metric: a key of `families.BETTER`, or one with ``_at_baseline_n`` behind it: the mean value at the size of the
            baseline, to compare with `real_baseline`.
        features: name of the feature network, or ``pixels``.
        reference: ``train`` or ``held-out``: the real images compared with. Metrics of memorisation compare with both
            and stand under ``train``.
        class_: ``all`` or a class; ``class`` on disk.
        value: the value; None where it cannot be had, and `note` says why.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
        real_baseline: the same metric of two disjoint sets of real images; None where there are too few.
        real_baseline_n: images in each of these sets.
        n_real: real images behind `value`.
        n_synthetic: synthetic images behind `value`.
        note: what to know of this value; often empty.
    """

    metric: str
    features: str
    reference: str
    class_: str
    value: float | None
    low: float | None
    high: float | None
    real_baseline: float | None
    real_baseline_n: int | None
    n_real: int
    n_synthetic: int
    note: str = ""


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write `scores` as a JSON list of objects, atomically."""
    write_json(path, [as_json(score) for score in scores])


def read_scores(path: Path) -> list[Score]:
    """Return what `write_scores` wrote.

    Raises:
        SourceError: the file is missing or is not a list of scores.
    """
    try:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise TypeError("not a list")
        return [Score(**{_attribute(key): value for key, value in current_names(row).items()}) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} is not a score file ({error}); make one with 'sonosynth score --out'") from error


def current_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a scorecard as this version writes it, from one that this or an earlier version wrote."""
    named = {_OLD_NAMES.get(key, key): value for key, value in row.items()}
    metric = named.get("metric")
    if isinstance(metric, str):
        named["metric"] = _OLD_NAMES.get(metric, metric.replace("_at_floor_n", AT_BASELINE))
    return named


def as_json(score: Score) -> dict[str, Any]:
    """Return `score` with the keys it has on disk."""
    return {("class" if key == "class_" else key): value for key, value in asdict(score).items()}


def _attribute(key: str) -> str:
    if key not in {"class", *(f.name for f in fields(Score))} - {"class_"}:
        raise ValueError(f"unknown key '{key}'")
    return "class_" if key == "class" else key

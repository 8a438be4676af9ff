"""Rows of a scorecard, and the file that keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sonosynth.core.errors import SourceError
from sonosynth.core.files import read_json

ALL = "all"  # the class of rows over all images
TRAIN, HELD_OUT, SYNTHETIC = "train", "held-out", "synthetic"
"""The sets of images, in their order."""
PIXELS = "pixels"  # stands for the feature network in rows of metrics that need none
AT_BASELINE = "_at_baseline_n"  # ends the name of a metric whose value is recomputed at the size of its real baseline
_OLD_NAMES = {
    "floor": "real_baseline",
    "floor_n": "real_baseline_n",
    "gaussian_kernel_distance": "cmmd",
    "gaussian_kernel_distance_at_floor_n": "cmmd_at_baseline_n",
}


class Score(BaseModel):
    """One value of one metric: a row of a scorecard, of ``scores.json`` and of a study's ``scores.csv``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    # name of a registered metric (see `list_metrics`), or one with _at_baseline_n behind it: the mean value at the size
    # of the real baseline, to compare with `real_baseline`
    metric: str
    features: str  # name of the feature network, or pixels
    # train or held-out: the real images compared with. Metrics of memorisation compare with both and stand under train
    reference: str
    class_: str = Field(alias="class")  # all or a class; class on disk and in tables
    value: float | None  # the value; None where it cannot be had, and `note` says why
    low: float | None  # lower end of the 95 % interval; None where there is none
    high: float | None  # upper end
    real_baseline: float | None  # the same metric between real images of one size; None where there are too few
    real_baseline_n: int | None  # images in each of these sets
    n_real: int  # real images behind `value`
    n_synthetic: int  # synthetic images behind `value`
    note: str = ""  # what to know of this value; often empty


_ROWS = TypeAdapter(list[Score])


def read_scores(path: Path) -> list[Score]:
    """Return what `Scorecard.to_json` wrote, also in earlier versions of sonosynth."""
    try:
        rows = read_json(path)
        if not isinstance(rows, list):
            raise TypeError("not a list")
        return _ROWS.validate_python([current_names(row) for row in rows])
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        why = str(error)
    raise SourceError(f"{path} is not a score file ({why}); make one with 'sonosynth score --out'")


def current_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a scorecard as this version writes it, from one that this or an earlier version wrote."""
    named = {_OLD_NAMES.get(key, key): value for key, value in row.items()}
    metric = named.get("metric")
    if isinstance(metric, str):
        named["metric"] = _OLD_NAMES.get(metric, metric.replace("_at_floor_n", AT_BASELINE))
    return named

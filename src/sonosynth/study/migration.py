"""Studies of earlier versions: under which names their results are read today.

What was renamed or moved since the first version stands here and nowhere else. Names that are not listed are unchanged.
"""

from collections.abc import Mapping
from typing import Any

RENAMED_METRICS: dict[str, str] = {}
"""Metrics in score rows, old name to new; a suffix such as that of a value at the size of the baseline is kept."""

RENAMED_SUFFIXES: dict[str, str] = {}
"""Endings of metric names, old to new."""

RENAMED_COLUMNS: dict[str, str] = {}
"""Keys of score rows in JSON files and columns of ``scores.csv``, old name to new."""


def current_score(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a score row with the metric and the columns under the names of today."""
    found = {RENAMED_COLUMNS.get(name, name): value for name, value in row.items()}
    metric = str(found["metric"])
    for old, new in RENAMED_SUFFIXES.items():
        if metric.endswith(old):
            metric = metric.removesuffix(old) + new
    for old, new in RENAMED_METRICS.items():
        if metric.startswith(old):
            metric = new + metric.removeprefix(old)
    return found | {"metric": metric}

"""Which limitations a record has, and what its study file asks for that is not finished."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import FRECHET

FEW_SHOT_KIMG = 300  # of published few-shot results at 256 x 256 pixels


@dataclass(frozen=True)
class Limitations:
    """What the numbers of a record cannot carry. The sentences stand in the report's template of this name.

    Attributes:
        one_generator_seed: each generator was trained with one and the same seed.
        short_training: generators were shown fewer images than those of published few-shot results.
        groups: whose word the groups are: of an audit or a table, of nobody, or of the source; None of phantoms.
        feature_distances: there are distances in the features of a network.
        copies_unknown: images were scored, but not for copies of training images.
        comparisons: of arms with and without synthetic images.
    """

    one_generator_seed: bool
    short_training: bool
    groups: Literal["audit or table", "nobody", "source"] | None
    feature_distances: bool
    copies_unknown: bool
    comparisons: int


def limitations(record: StudyRecord, comparisons: int) -> Limitations:
    """Return the limitations of a record with so many `comparisons` of arms with and without synthetic images."""
    metrics = {s.metric for s in record.scores}
    kimg = [t.kimg for t in record.training if t.kimg is not None]
    ungrouped = len(np.unique(record.data.groups)) == len(record.data) or "source_group" not in record.data.extra
    groups: Literal["audit or table", "nobody", "source"] | None = "nobody" if ungrouped else "source"
    if record.simulated:
        groups = None
    elif record.design.data.grouped:
        groups = "audit or table"
    return Limitations(
        one_generator_seed=len({t.seed for t in record.trained}) == 1,
        short_training=bool(kimg) and max(kimg) < FEW_SHOT_KIMG,
        groups=groups,
        feature_distances=any(metric.startswith(FRECHET) for metric in metrics),
        copies_unknown=bool(record.scores)
        and not any("cop" in s.metric or "member" in s.metric for s in record.scores),
        comparisons=comparisons,
    )


def unfinished(record: StudyRecord) -> list[str]:
    """Return what the study file asks for and no finished cell holds, one phrase each."""
    sizes, plan = sorted({s.size for s in record.subsets}), record.design.classifiers
    scored = {(s.gan, s.size) for s in record.scores}
    classified = {(r.network, r.arm, r.size) for r in (*record.classifiers, *record.on_synthetic)}
    arms = [arm for arm in plan.arms if record.design.gans or "synthetic" not in arm]
    return [
        f"scores of {gan.name} at size {size}"
        for gan in record.design.gans
        for size in sizes
        if (gan.name, size) not in scored
    ] + [
        f"{network}, arm {arm}, at size {size}"
        for network in plan.networks
        for arm in arms
        for size in sizes
        if (network, arm, size) not in classified
    ]

"""Which limitations a record has, and what its study file plans that is not finished."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sonosynth.analysis.record import StudyRecord
from sonosynth.analysis.tables import FRECHET

FEW_SHOT_KIMG = 300  # of published few-shot results at 256 x 256 pixels


Groups = Literal["audit or table", "nobody", "source"]


@dataclass(frozen=True)
class Limitations:
    """What the numbers of a record cannot carry. The sentences stand in the report's template of this name."""

    one_generator_seed: bool  # each generator was trained with one and the same seed
    short_training: bool  # generators were shown fewer images than those of published few-shot results
    # whose word the groups are: of an audit or a table, of nobody, or of the source; None of phantoms
    groups: Groups | None
    feature_distances: bool  # there are distances in the features of a network
    copies_unknown: bool  # images were scored, but not for copies of training images
    comparisons: int  # of arms with and without synthetic images


def limitations(record: StudyRecord, comparisons: int) -> Limitations:
    """Return the limitations of a record with so many `comparisons` of arms with and without synthetic images."""
    metrics = {s.metric for s in record.scores}
    kimg = [t.kimg for t in record.training if t.kimg is not None]
    ungrouped = len(np.unique(record.data.groups)) == len(record.data) or "source_group" not in record.data.extra
    groups: Groups | None = "nobody" if ungrouped else "source"
    if record.simulated:
        groups = None
    elif record.design.data.grouped:
        groups = "audit or table"
    return Limitations(
        one_generator_seed=len({t.seed for t in record.trained}) == 1,
        short_training=bool(kimg) and max(kimg) < FEW_SHOT_KIMG,
        groups=groups,
        feature_distances=any(metric.startswith(FRECHET) for metric in metrics),
        copies_unknown=bool(metrics) and not any("cop" in metric or "member" in metric for metric in metrics),
        comparisons=comparisons,
    )


def unfinished(record: StudyRecord) -> list[str]:
    """Return what the study file plans and no finished cell holds, one phrase each."""
    plan, gans = record.design.classifiers, record.design.gans
    scored = {(s.gan, s.size) for s in record.scores}
    classified = {(r.network, r.arm, r.size) for r in (*record.classifiers, *record.on_synthetic)}
    arms = [arm for arm in plan.arms if gans or "synthetic" not in arm]
    scores, runs = itertools.product(gans, record.sizes), itertools.product(plan.networks, arms, record.sizes)
    return [
        *(f"scores of {gan.name} at size {size}" for gan, size in scores if (gan.name, size) not in scored),
        *(
            f"{network}, arm {arm}, at size {size}"
            for network, arm, size in runs
            if (network, arm, size) not in classified
        ),
    ]

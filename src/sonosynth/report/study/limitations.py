"""What a record lacks and what its numbers cannot carry, as sentences."""

import numpy as np

from sonosynth.analysis.record import StudyRecord, few_draws
from sonosynth.analysis.tables import FRECHET
from sonosynth.core.text import span


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


def limitations(record: StudyRecord, n_comparisons: int) -> list[str]:
    """Return what the numbers cannot carry, as sentences; only what applies to this record."""
    found = []
    if record.simulated:
        found.append(
            "All images are simulated phantoms. Nothing here says anything about patients, scanners or disease."
        )
    few, unit = not record.is_tested, record.unit
    if few:
        where, these = ("", "splits") if unit == "split" else (" of the training subsets a size", "subsets")
        found.append(f"{few_draws(record, where)}: a description of these {these}, not a test of a hypothesis.")
    elif record.untested_sizes:
        found.append(
            f"Fewer than three {unit}s have finished at size {record.untested_sizes}: a description, not a test of a "
            "hypothesis."
        )
    if len({t.seed for t in record.trained}) == 1:
        found.append("Each generator was trained with one seed: how much its training runs differ was not measured.")
    kimg = [t.kimg for t in record.training if t.kimg is not None]
    if kimg and max(kimg) < 300:
        found.append(
            f"Generators were trained for {span(kimg)} thousand images shown to the discriminator (kimg). Published "
            "few-shot results use about 300 kimg at 256 × 256 pixels; longer training could change every comparison."
        )
    n, n_groups = len(record.data), len(np.unique(record.data.groups))
    if record.design.data.grouped and not record.simulated:
        found.append(
            "Groups are those of an audit or of a table: copies of one frame stand on one side, but other frames of "
            "the same lesion or patient leak where nobody named them."
        )
    elif not record.simulated and (n_groups == n or "source_group" not in record.data.extra):
        found.append(
            "The source names no patients, and only exact copies were joined to groups: images of one patient, or "
            "near-duplicates, may stand in training and test, and the scores of classifiers may then be too good."
        )
    elif not record.simulated:
        found.append("Groups are only as good as the source: images of one patient in two groups would leak.")
    if any(s.metric.startswith(FRECHET) for s in record.scores):
        found.append(
            "A small distance in the features of a network, all the more of one trained on photographs, is not "
            "diagnostic realism, and no reader has judged these images."
        )
    if record.scores and not any("cop" in s.metric or "member" in s.metric for s in record.scores):
        found.append("Whether generators copied training images was not measured.")
    if n_comparisons > 1:
        found.append(
            f"{n_comparisons} comparisons of arms with and without synthetic images stand side by side; intervals are "
            "not corrected for their number, and p-values only over sizes and generators of the same two arms."
        )
    if record.classifiers:
        found.append(_unit(record, few))
    return found


def _unit(record: StudyRecord, few: bool) -> str:
    """Return what intervals speak of, and what they leave out."""
    if record.splits is not None and few:
        return "With fewer than three finished splits there are neither intervals nor p-values."
    if record.splits is not None:
        return (
            "Splits of one data set overlap; the correction by the ratio of test to training images is approximate "
            "(Nadeau and Bengio 2003). Intervals and p-values aim at splits of other samples of such images. Seeds are "
            "averaged in a split; their noise enters through the splits, but for what one seed does alike in all of "
            "them."
        )
    if few:
        covers = (
            f"With fewer than three draws the intervals cover other {record.beside_draws}, for these training subsets "
            "alone."
        )
        if not record.trained:
            return covers
        return (
            f"{covers} How far one run of a generator lies from the next is left out where it has one seed, and "
            "understated where it has several, as their classifiers count as independent."
        )
    return (
        "Draws of one pool overlap, the more the larger the subset: intervals and p-values speak of other draws of "
        "this pool. Seeds are averaged in a draw; their noise enters through the draws, but for what one seed does "
        "alike in all of them."
    )

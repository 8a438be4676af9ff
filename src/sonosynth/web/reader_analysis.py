"""From the answers of readers to numbers: could they tell real from synthetic, and do they agree?"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonosynth.core.errors import ReaderStudyError
from sonosynth.core.files import atomic_file, write_text
from sonosynth.core.text import counted, joined
from sonosynth.metrics.intervals.subsampling import clopper_pearson
from sonosynth.statistics.agreement import cohen_kappa, fleiss_kappa
from sonosynth.statistics.readers import (
    ReaderEstimate,
    auc_scores,
    reader_average,
    reader_difference,
    share_scores,
    success_matrix,
    u_statistic_average,
)
from sonosynth.statistics.scores import LEVEL
from sonosynth.web.answers import Answer
from sonosynth.web.reader_study import CALLED_SYNTHETIC, ReaderStudy

MARGIN = 0.1
"""An AUC within 0.5 plus or minus this counts as one of guessing (ours)."""
ACCURACY_MARGIN = 0.1
"""Shares of right diagnoses on synthetic and on real images that differ by less count as equal (ours)."""
_CHANCE = 0.5

Share = tuple[float, float, float]
"""A share with its exact 95 % interval (Clopper and Pearson)."""


@dataclass(frozen=True)
class ReaderResult:
    """What one reader did. Synthetic images are the positive ones."""

    reader: str
    n: int  # images rated
    sensitivity: Share  # synthetic images called synthetic
    specificity: Share  # real images called real
    auc: float  # of the confidence scale
    agreement: float | None  # weighted kappa of repeated images; None without any, or where all ratings are one
    median_seconds: float | None  # per image
    quality: tuple[float, float] | None  # mean for real and for synthetic images
    accuracy: tuple[float, float] | None  # share of right classes of real and of synthetic images


@dataclass(frozen=True)
class Average:
    """A score averaged over readers, by both methods; intervals hold for other readers and other images."""

    obuchowski_rockette: ReaderEstimate
    gallas: ReaderEstimate | None  # of AUCs alone


@dataclass(frozen=True)
class ReaderAnalysis:
    """What a reader study found."""

    readers: tuple[ReaderResult, ...]  # those who finished
    n_real: int
    n_synthetic: int
    auc: Average | None  # None with one reader
    sensitivity: Average | None
    specificity: Average | None
    distinguishable_p: float | None  # two-sided, of an average AUC of 0.5
    equivalence_p: float | None  # of an average AUC within 0.5 +- margin; below 0.05 it is
    margin: float
    fleiss: float | None  # of "real" or "synthetic", over all readers
    cohen: tuple[tuple[str, str, float | None], ...]  # weighted, of the confidence scale, for pairs of readers
    accuracy_difference: ReaderEstimate | None  # right classes of synthetic minus of real images
    accuracy_equivalence_p: float | None
    accuracy_margin: float
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        if self.auc is None:
            return "One reader says nothing of others: no verdict."
        found = self.auc.obuchowski_rockette
        interval = f"average AUC {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
        assert self.distinguishable_p is not None and self.equivalence_p is not None
        if self.equivalence_p < 1 - LEVEL:
            return f"Readers could not tell the images apart, within {self.margin:g} of guessing: {interval}."
        if self.distinguishable_p < 1 - LEVEL and found.value > _CHANCE:
            return f"Readers told synthetic from real images: {interval}."
        if self.distinguishable_p < 1 - LEVEL:
            return f"Readers took synthetic images for real ones more often than real ones: {interval}."
        return f"Open: neither a difference nor its absence is shown, {interval}. More readers or images would tell."


def analyse_readers(
    study: ReaderStudy,
    answers: Sequence[Answer],
    *,
    margin: float = MARGIN,
    accuracy_margin: float = ACCURACY_MARGIN,
) -> ReaderAnalysis:
    """Return what the answers of the readers who finished say. The first showing of a repeated image counts.

    Raises ReaderStudyError if nobody has finished, or a margin is not between 0 and 0.5.
    """
    for name, value in (("--margin", margin), ("--accuracy-margin", accuracy_margin)):
        if not 0 < value < 0.5:
            raise ReaderStudyError(f"{name} {value:g}: it must be above 0 and below 0.5")
    by_reader: dict[str, list[Answer]] = {}
    for answer in answers:
        by_reader.setdefault(answer.reader, []).append(answer)
    finished = {name: mine for name, mine in by_reader.items() if len(mine) == len(study.order(name))}
    if not finished:
        raise ReaderStudyError(
            f"no reader has finished ({counted(len(by_reader), 'has', 'have')} begun); wait for the answers"
        )
    notes = list(study.notes)
    begun = sorted(set(by_reader) - set(finished))
    if begun:
        notes.append(f"{joined(begun)} did not finish and {'is' if len(begun) == 1 else 'are'} left out")
    items = study.rated
    synthetic = np.array([study.items[i].synthetic for i in items])
    first: dict[str, dict[int, Answer]] = {}
    for name, mine in finished.items():
        first[name] = {}
        for answer in mine:
            first[name].setdefault(answer.item, answer)
    ratings = np.array([[first[name][i].rating for i in items] for name in finished])
    called = ratings >= CALLED_SYNTHETIC
    aucs = success_matrix(ratings[:, ~synthetic], ratings[:, synthetic]).mean(axis=(1, 2))
    right = None
    if "class" in study.questions:
        labels = np.array([study.items[i].label for i in items])
        right = np.array([[first[name][i].label for i in items] for name in finished]) == labels
    results = tuple(
        _reader(name, mine, first[name], study, float(aucs[k]), None if right is None else right[k])
        for k, (name, mine) in enumerate(finished.items())
    )
    several = len(finished) > 1
    auc = sensitivity = specificity = difference = None
    if several:
        pairs = ratings[:, ~synthetic], ratings[:, synthetic]
        auc = Average(reader_average(auc_scores([pairs])), u_statistic_average(success_matrix(*pairs)))
        sensitivity = Average(reader_average(share_scores([called[:, synthetic]])), None)
        specificity = Average(reader_average(share_scores([~called[:, ~synthetic]])), None)
        if right is not None:
            difference = reader_difference(share_scores([right[:, ~synthetic], right[:, synthetic]], same_cases=False))
    if auc and auc.obuchowski_rockette.standard_error == 0:
        notes.append("readers and images show no spread at all, so that intervals have no width and mean nothing")
    names = list(finished)
    return ReaderAnalysis(
        readers=results,
        n_real=int((~synthetic).sum()),
        n_synthetic=int(synthetic.sum()),
        auc=auc,
        sensitivity=sensitivity,
        specificity=specificity,
        distinguishable_p=auc.obuchowski_rockette.p_value(_CHANCE) if auc else None,
        equivalence_p=auc.obuchowski_rockette.equivalence_p_value(_CHANCE, margin) if auc else None,
        margin=margin,
        fleiss=fleiss_kappa(called) if several else None,
        cohen=tuple(
            (names[a], names[b], cohen_kappa(ratings[a], ratings[b], weighted=True))
            for a in range(len(names))
            for b in range(a + 1, len(names))
        ),
        accuracy_difference=difference,
        accuracy_equivalence_p=difference.equivalence_p_value(0.0, accuracy_margin) if difference else None,
        accuracy_margin=accuracy_margin,
        notes=tuple(notes),
    )


def _reader(
    name: str,
    mine: Sequence[Answer],
    first: dict[int, Answer],
    study: ReaderStudy,
    auc: float,
    right: np.ndarray | None,
) -> ReaderResult:
    synthetic = np.array([study.items[i].synthetic for i in study.rated])
    called = np.array([first[i].rating >= CALLED_SYNTHETIC for i in study.rated])
    again = [answer for answer in mine if first[answer.item] is not answer]
    times = [a.viewing_ms if a.viewing_ms is not None else a.elapsed_ms for a in mine]
    known = [t / 1000 for t in times if t is not None]
    quality = None
    if "quality" in study.questions:
        grades = np.array([first[i].quality for i in study.rated], dtype=float)
        quality = float(grades[~synthetic].mean()), float(grades[synthetic].mean())
    return ReaderResult(
        reader=name,
        n=len(first),
        sensitivity=_share(int(called[synthetic].sum()), int(synthetic.sum())),
        specificity=_share(int((~called[~synthetic]).sum()), int((~synthetic).sum())),
        auc=auc,
        agreement=(
            cohen_kappa(
                np.array([first[a.item].rating for a in again]), np.array([a.rating for a in again]), weighted=True
            )
            if again
            else None
        ),
        median_seconds=float(np.median(known)) if known else None,
        quality=quality,
        accuracy=None if right is None else (float(right[~synthetic].mean()), float(right[synthetic].mean())),
    )


def _share(k: int, n: int) -> Share:
    return k / n, *clopper_pearson(k, n)


def write_answers_csv(path: Path, study: ReaderStudy, answers: Sequence[Answer]) -> None:
    """Write a row per answer, with what the image was."""
    columns = (
        "reader,position,image,source,class,synthetic,repeated,rating,quality,class_given,birads,viewing_ms,elapsed_ms"
    )
    with atomic_file(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns.split(","))
        seen: set[tuple[str, int]] = set()
        for a in answers:
            item, repeated = study.items[a.item], (a.reader, a.item) in seen
            seen.add((a.reader, a.item))
            truth = item.name, item.source, item.label, int(item.synthetic), int(repeated)
            given = a.rating, a.quality, a.label, a.birads, a.viewing_ms, a.elapsed_ms
            table.writerow(["" if v is None else v for v in (a.reader, a.position, *truth, *given)])


def write_imrmc(path: Path, study: ReaderStudy, answers: Sequence[Answer]) -> None:
    """Write the input of iMRMC: a line per truth (reader -1), then a line per first rating; one modality.

    Gallas, iMRMC (github.com/DIDSR/iMRMC): after a header and ``BEGIN DATA:`` stand reader, case, modality and score.
    """
    lines = [
        f"Reader study of sonosynth, images {study.images_sha256}",
        "truth 1: synthetic; score: 1 surely real to 6 surely synthetic",
        "BEGIN DATA:",
    ]
    lines += [f"-1,{study.items[i].name},0,{int(study.items[i].synthetic)}" for i in study.rated]
    seen: set[tuple[str, int]] = set()
    for a in answers:
        if (a.reader, a.item) not in seen:
            lines.append(f"{a.reader},{study.items[a.item].name},synthetic,{a.rating}")
            seen.add((a.reader, a.item))
    write_text(path, "\n".join(lines) + "\n")

"""What synthetic images are worth: every metric with its interval, its real baseline and the sizes behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sonosynth.core.errors import ClassError
from sonosynth.core.text import agreeing, counted
from sonosynth.core.types import Progress
from sonosynth.data.imageset import ImageSet
from sonosynth.features.extract import embed
from sonosynth.features.registry import feature_network
from sonosynth.metrics.comparison import Comparison, Draw, comparisons
from sonosynth.metrics.families import (
    BETTER,
    ONLY_TO_TRAIN,
    PARTS,
    Family,
    Part,
    Values,
    feature_families,
    missing,
    realism_family,
)
from sonosynth.metrics.intervals.subsampling import Interval
from sonosynth.metrics.memorisation.near_copies import NearCopies, near_copies
from sonosynth.metrics.memorisation.rows import Measured, memorisation, near_copy_rows
from sonosynth.metrics.scores import AT_BASELINE, HELD_OUT, PIXELS, SYNTHETIC, TRAIN, Score
from sonosynth.metrics.sets import (
    check_roles,
    common_classes,
    compression_note,
    exact_copies,
    of_classes,
    one_size,
    size_text,
)
from sonosynth.metrics.threads import a_core_each
from sonosynth.metrics.ultrasound.realism import UNITS, realism_values
from sonosynth.metrics.ultrasound.speckle import MIN_SIZE, Realism, realism_measures

_COMPRESSION = "the sets differ in compression"  # at every row; the whole line stands among the notes


@dataclass(frozen=True, eq=False)
class Scorecard:
    """All that was measured on three sets of images.

    Attributes:
        scores: the rows.
        notes: what to tell whoever reads them.
        sets: the images by role (``train``, ``held-out`` if there are any, ``synthetic``), of one size and with the
            classes that all have.
        features: by network, float32 ``[N, D]`` of all images, in the order of `sets`.
        copies: the search for near-copies; None where it was not asked for.
        realism: measures of all images, in the order of `sets`; None where they were not asked for, or of images that
            are too small.
    """

    scores: list[Score]
    notes: tuple[str, ...]
    sets: Mapping[str, ImageSet]
    features: Mapping[str, np.ndarray]
    copies: NearCopies | None
    realism: Realism | None

    @property
    def places(self) -> dict[str, slice]:
        """Where the images of each set are among all."""
        ends = np.cumsum([len(part) for part in self.sets.values()]).tolist()
        return {role: slice(end - len(part), end) for (role, part), end in zip(self.sets.items(), ends, strict=True)}


def score(
    train: ImageSet,
    synthetic: ImageSet,
    held_out: ImageSet | None = None,
    features: Sequence[str] = ("inception",),
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress | None = None,
    parts: Sequence[Part] = PARTS,
    allow_shared: bool = False,
) -> Scorecard:
    """Measure `synthetic` against `train` and against `held_out`, over all classes and for each.

    A real baseline is the mean of a metric over two disjoint sets of m real images each that share no group, over
    `BASELINE_DRAWS` random halvings of all real images (`train` and `held_out` together), m = min(n_real, n_synthetic,
    half of all real images as far as whole groups allow); it is None below `MIN_BASELINE`. ``_at_baseline_n`` rows hold
    the mean over m synthetic and m reference images, over as many draws. Classes with fewer than `MIN_CLASS` images in
    either set have no rows of their own. Values at different n_real or n_synthetic must not be compared.

    Images of another size are brought to that of `train` with an antialiased filter, which a note tells. Sets that
    differ in lossy compression are told too, and every row says so (`sets.compression_note`).

    Args:
        train: the images that the generator saw.
        synthetic: the generator's images.
        held_out: real images that the generator did not see.
        features: names of feature networks.
        seed: of the random subsamples and halvings.
        cache: directory in which features, measures of speckle and nearest images are kept; see `embed`.
        progress: called with images embedded so far and in all.
        parts: what to measure, of `PARTS`.
        allow_shared: score even if held-out images are also in `train`, and mark every value with it.

    Raises:
        ClassError: fewer than two images in a set, or a class called as the rows over all classes are.
        LeakageError: real images marked as synthetic, or held-out images that are also in `train`.
        FeatureError: an unknown feature network, weights missing or damaged, or features that are not finite.
    """
    given = {TRAIN: train, HELD_OUT: held_out, SYNTHETIC: synthetic}
    mark = check_roles(train, held_out, allow_shared)
    classes, notes = common_classes(train, synthetic, held_out)
    sets, resized = one_size({name: part for name, part in given.items() if part is not None})
    aligned = {name: of_classes(part, classes) for name, part in sets.items()}
    for name, part in aligned.items():
        if len(part) < 2:
            raise ClassError(
                f"the {name} set has {counted(len(part), 'image')} to compare; a distance needs at least 2"
            )
    for name in features:
        feature_network(name)
    counter = _Counter(progress, len(features) * sum(map(len, aligned.values())))
    found = comparisons(aligned, classes)
    draws = [comparison.baseline_draws(seed) for comparison in found]
    scores, embedded = [], {}
    for name in features:
        embedded[name] = np.concatenate([embed(part, name, cache, counter.of(len(part))) for part in aligned.values()])
        joint = embedded[name].astype(np.float64)
        families = feature_families(joint, found[0].groups, parts, seed)
        scores += _rows(families, name, found, draws, seed)
        if "memorisation" in parts:
            scores += _remembered(name, joint, aligned, found, seed)
    copies = realism = None
    if "memorisation" in parts:
        copies, rows = _copies(aligned, found, cache)
        scores += rows
    if "realism" in parts:
        if min(train.size) >= MIN_SIZE:
            realism = Realism.joined([realism_measures(part.images, cache=cache) for part in aligned.values()])
            scores += _realism_rows(realism, found, seed)
        else:
            family = missing(UNITS, f"images of {size_text(train.size)} pixels are too small to measure speckle in")
            scores += _rows([family], PIXELS, found, draws, seed)
    compression = compression_note(aligned)
    marks = [*([mark] if mark else ()), *([_COMPRESSION] if compression else ())]
    if marks:
        scores = [row.model_copy(update={"note": "; ".join(filter(None, (row.note, *marks)))}) for row in scores]
    told = (*notes, *resized, *filter(None, (mark, compression)), *exact_copies(aligned))
    return Scorecard(_ordered(scores, [*features, PIXELS]), told, aligned, embedded, copies, realism)


def _rows(
    families: Sequence[Family], features: str, found: Sequence[Comparison], draws: Sequence[list[Draw]], seed: int
) -> list[Score]:
    with a_core_each() as pool:
        jobs = [
            (c, pool.submit(_values, family, c, seed), pool.submit(_baselines, family, of_c))
            for family in families
            for c, of_c in zip(found, draws, strict=True)
        ]
        return [
            row
            for c, values, baselines in jobs
            for row in _family_rows(features, c, *values.result(), baselines.result())
        ]


def _values(family: Family, c: Comparison, seed: int) -> tuple[Values, Mapping[str, Interval]]:
    measured = family.measure(c.reference_images, c.synthetic_images)
    known = {name: value for name, value in measured.values.items() if value is not None}
    return measured, family.intervals(c, c.seed(seed), known) if len(known) == len(measured.values) else {}


@dataclass(frozen=True)
class _Baselines:
    """Means over draws of `n` images a side, of real and of synthetic images against real ones; empty without draws."""

    n: int | None
    real: Mapping[str, float | None]
    synthetic: Mapping[str, float | None]


def _baselines(family: Family, draws: Sequence[Draw]) -> _Baselines:
    if not (family.baselines and draws):
        return _Baselines(None, {}, {})
    real = _means([family.measure(a, b).values for a, b, _, _ in draws])
    return _Baselines(len(draws[0][0]), real, _means([family.measure(a, b).values for _, _, a, b in draws]))


def _family_rows(
    features: str, c: Comparison, measured: Values, intervals: Mapping[str, Interval], baselines: _Baselines
) -> list[Score]:
    rows = []
    for metric, value in measured.values.items():
        if metric in ONLY_TO_TRAIN and c.reference != TRAIN:
            continue
        low, high = intervals.get(metric) or (None, None)
        baseline = baselines.real.get(metric)
        row = Score(
            metric=metric,
            features=features,
            reference=c.reference,
            class_=c.class_,
            value=value,
            low=low,
            high=high,
            real_baseline=baseline,
            real_baseline_n=None if baseline is None else baselines.n,
            n_real=len(c.reference_images),
            n_synthetic=len(c.synthetic_images),
            note=measured.notes.get(metric, ""),
        )
        rows.append(row)
        at_baseline = baselines.synthetic.get(metric)
        if baselines.n is not None and baseline is not None and at_baseline is not None:
            rows.append(_at_baseline(row, at_baseline, baselines.n, baselines.n))
    return rows


def _at_baseline(row: Score, value: float | None, n_real: int, n_synthetic: int) -> Score:
    changed = {"value": value, "low": None, "high": None, "n_real": n_real, "n_synthetic": n_synthetic, "note": ""}
    return row.model_copy(update={"metric": row.metric + AT_BASELINE, **changed})


def _means(draws: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each metric over `draws`; None where one of them has no value."""
    values = {name: [draw[name] for draw in draws] for name in (draws[0] if draws else ())}
    return {
        name: None if None in found else float(np.mean([value for value in found if value is not None]))
        for name, found in values.items()
    }


def _remembered(
    name: str, joint: np.ndarray, sets: Mapping[str, ImageSet], found: Sequence[Comparison], seed: int
) -> list[Score]:
    rows = []
    for train, synthetic, held_out, c in _roles(sets, found):
        unseen = (joint[held_out], c.groups[held_out]) if len(held_out) >= 2 else (None, None)
        measured = memorisation(
            joint[train],
            joint[synthetic],
            unseen[0],
            c.groups[train],
            c.groups[synthetic],
            unseen[1],
            seed=c.seed(seed),
        )
        rows += [row for one in measured for row in _measured_rows(one, name, c)]
    return rows


def _copies(
    sets: Mapping[str, ImageSet], found: Sequence[Comparison], cache: Path | None
) -> tuple[NearCopies, list[Score]]:
    train, synthetic, held_out = sets[TRAIN], sets[SYNTHETIC], sets.get(HELD_OUT)
    unseen = None if held_out is None else held_out.images
    copies = near_copies(train.images, synthetic.images, unseen, train.groups, cache)
    groups = (train.groups, synthetic.groups, None if held_out is None else held_out.groups)
    first_made = sum(map(len, sets.values())) - len(synthetic)
    rows = []
    for t, s, u, c in _roles(sets, found):
        for one in near_copy_rows(copies, *groups, t, s - first_made, u - len(train)):
            rows += _measured_rows(one, PIXELS, c)
    return copies, rows


def _roles(
    sets: Mapping[str, ImageSet], found: Sequence[Comparison]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Comparison]]:
    """Return the indices of training, synthetic and held-out images of every comparison with the training images."""
    n = len(sets[TRAIN])
    return [
        (c.reference_images, c.synthetic_images, c.real_images[c.real_images >= n], c)
        for c in found
        if c.reference == TRAIN
    ]


def _realism_rows(measures: Realism, found: Sequence[Comparison], seed: int) -> list[Score]:
    """Return the rows of realism: of images that have measures alone, with a note of how many have none."""
    kept = [c.of(measures.measured) for c in found]
    notes = {(c.reference, c.class_): _left_out(c, k) for c, k in zip(found, kept, strict=True)}
    family = realism_family(realism_values(measures))
    rows = _rows([family], PIXELS, kept, [c.baseline_draws(seed) for c in kept], seed)
    noted = [row.metric in UNITS and row.value is not None for row in rows]
    return [
        r.model_copy(update={"note": notes[r.reference, r.class_]}) if n else r
        for r, n in zip(rows, noted, strict=True)
    ]


def _left_out(c: Comparison, kept: Comparison) -> str:
    sides = (
        ("real", c.reference_images, kept.reference_images),
        ("synthetic", c.synthetic_images, kept.synthetic_images),
    )
    left = [(len(a) - len(b), counted(len(a), f"{kind} image")) for kind, a, b in sides if len(b) < len(a)]
    if not left:
        return ""
    have = agreeing(sum(n for n, _ in left), "has", "have")
    return f"{' and '.join(f'{n} of {of_all}' for n, of_all in left)} {have} no speckle that can be measured, left out"


def _measured_rows(one: Measured, features: str, c: Comparison) -> list[Score]:
    row = Score(
        metric=one.metric,
        features=features,
        reference=TRAIN,
        class_=c.class_,
        value=one.value,
        low=one.low,
        high=one.high,
        real_baseline=one.real_baseline,
        real_baseline_n=one.real_baseline_n,
        n_real=one.n_real,
        n_synthetic=one.n_synthetic,
        note=one.note,
    )
    if one.at_baseline_n is None or one.real_baseline_n is None:
        return [row]
    return [row, _at_baseline(row, one.at_baseline_n, one.n_train + one.real_baseline_n, one.real_baseline_n)]


def _ordered(scores: Sequence[Score], features: Sequence[str]) -> list[Score]:
    """Return the rows by features and, within them, in the order of the metrics."""
    order = {name: position for position, name in enumerate(BETTER)}
    return sorted(scores, key=lambda row: (features.index(row.features), order[row.metric.removesuffix(AT_BASELINE)]))


class _Counter:
    """Adds up the progress of several sets."""

    def __init__(self, progress: Progress | None, total: int):
        self._progress, self._total, self._before = progress, total, 0

    def of(self, n: int) -> Progress:
        before, self._before = self._before, self._before + n

        def step(done: int, _: int) -> None:
            if self._progress:
                self._progress(before + done, self._total)

        return step

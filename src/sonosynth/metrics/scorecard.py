"""The scorecard: what synthetic images are worth, every metric with its interval, its real baseline and the sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import chain, groupby, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sonosynth.core.device import provenance
from sonosynth.core.errors import ClassError, SonosynthError
from sonosynth.core.files import check_folder, write_json
from sonosynth.core.text import agreeing, counted, did_you_mean
from sonosynth.core.types import StageProgress
from sonosynth.data.imageset import ImageSet
from sonosynth.data.load import load_together
from sonosynth.features.extract import embed
from sonosynth.features.registry import feature_network, require_weights
from sonosynth.metrics.comparison import BaselineDraws, Comparison, Space, comparisons
from sonosynth.metrics.intervals.subsampling import t_interval
from sonosynth.metrics.memorisation.near_copies import NearCopies, search
from sonosynth.metrics.metric import PARTS, Found, Interval, Metric, Value, list_metrics
from sonosynth.metrics.scores import AT_BASELINE, HELD_OUT, PIXELS, SYNTHETIC, TRAIN, Score
from sonosynth.metrics.sets import check_roles, common_classes, compression_note, exact_copies, of_classes, one_size
from sonosynth.metrics.threads import single_threaded_blas
from sonosynth.metrics.ultrasound.measures import UltrasoundMeasures
from sonosynth.metrics.ultrasound.realism import measures_of

if TYPE_CHECKING:
    import pandas as pd

_COMPRESSION = "the sets differ in compression"  # at every row; the whole line stands among the notes
_ready: set[str] = set()  # networks whose weights are known to be here


@dataclass(frozen=True, eq=False)
class Scorecard:
    """All that was measured on two or three sets of images.

    Attributes:
        scores: the rows.
        notes: what to tell whoever reads them.
        sets: the images by role (``train``, ``held-out`` if there are any, ``synthetic``), of one size and with the
            classes that all have.
        features: by network, float32 ``[N, D]`` of all images, in the order of `sets`.
        near_copies: the search for near-copies; None where it was not asked for.
        ultrasound: measures of all images, in the order of `sets`; None where they were not asked for, or of images
            that are too small.
        seed: of the random draws.
        sources: the paths of the sets by role, as far as they were given as paths.
    """

    scores: list[Score]
    notes: tuple[str, ...]
    sets: Mapping[str, ImageSet]
    features: Mapping[str, np.ndarray]
    near_copies: NearCopies | None
    ultrasound: UltrasoundMeasures | None
    seed: int
    sources: Mapping[str, str]

    @property
    def slices(self) -> dict[str, slice]:
        """Where the images of each set are among all."""
        ends = np.cumsum([len(part) for part in self.sets.values()]).tolist()
        return {role: slice(end - len(part), end) for (role, part), end in zip(self.sets.items(), ends, strict=True)}

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a table, one column for each attribute of `Score` (``class`` for `class_`)."""
        import pandas as pd

        return pd.DataFrame([score.model_dump(by_alias=True) for score in self.scores])

    def to_json(self, path: str | Path) -> Path:
        """Write the rows to the file at `path`, from which `read_scores` reads them, and return it."""
        write_json(Path(path), [score.model_dump(by_alias=True) for score in self.scores])
        return Path(path)

    def to_html(self, path: str | Path, command: str = "") -> Path:
        """Write the score page, one self-contained file, to `path`, and return it; `command` is what made it."""
        page = import_module("sonosynth.report.scorecard.page")  # by name: `report` stands below this room
        written: Path = page.write_score_page(self, Path(path), command, provenance())
        return written


def score(
    train: ImageSet | str | Path,
    synthetic: ImageSet | str | Path,
    held_out: ImageSet | str | Path | None = None,
    features: Sequence[str] = ("inception",),
    seed: int = 0,
    cache: str | Path | None = None,
    progress: StageProgress | None = None,
    parts: Sequence[str] = tuple(PARTS),
    allow_shared: bool = False,
) -> Scorecard:
    """Measure `synthetic` against `train` and against `held_out`, over all classes and for each.

    A real baseline is the mean of a metric between m reference images and m other real images, over `BASELINE_DRAWS`
    draws of one image per group in the class proportions of the sets; m is the smallest of the groups of the reference,
    n_synthetic, and half the groups of all real images (`train` and `held_out` together). It is None for m below
    `MIN_BASELINE`. ``_at_baseline_n`` rows hold the mean between the same reference images and m synthetic ones, with
    the 95 % interval of the difference from the baseline around it. Classes with fewer than `MIN_CLASS` images in
    either set have no rows of their own. Values at different n_real or n_synthetic must not be compared.

    Every synthetic image is taken as a draw of its own, in whatever groups it came. Images of another size are brought
    to that of `train` with an antialiased filter, which a note tells. Sets that differ in lossy compression are told
    too, and every row says so (`sets.compression_note`).

    Args:
        train: the images that the generator saw: an image set, or where images lie, as for `load`.
        synthetic: the generator's images.
        held_out: real images that the generator did not see. Without them a generator that copies scores best.
        features: names of feature networks; see `list_features`.
        seed: of the random draws and halves.
        cache: directory in which features, measures of speckle and nearest images are kept, so that nothing is made
            twice.
        progress: called with what is done, what there is to do, and a text: bytes of weights, then images embedded.
        parts: what to measure: ``distances``, ``diversity``, ``memorisation``, ``realism``.
        allow_shared: score even if held-out images are also in `train`, and mark every value with it.

    Raises:
        SonosynthError: an unknown part.
        ClassError: fewer than two images in a set, or a class called as the rows over all classes are.
        LeakageError: real images marked as synthetic, or held-out images that are also in `train`.
        FeatureError: an unknown feature network, weights missing or damaged, or features that are not finite.
        OutputError: `cache` is no directory that can be written to.

    Example:
        >>> from sonosynth.phantoms.phantom import phantom
        >>> train, synthetic = phantom(30, 64, seed=1), phantom(30, 64, seed=2)
        >>> card = score(train, synthetic, features=["random-conv"], parts=["distances"])
        >>> card.to_frame().metric[0]
        'frechet_distance'
    """
    for name in parts:
        if name not in PARTS:
            near = did_you_mean(name, tuple(PARTS))
            raise SonosynthError(f"no part '{name}' of a scorecard{near}; known: {', '.join(PARTS)}")
    cache = None if cache is None else Path(cache)
    if cache is not None:
        check_folder(cache, "cache (--cache, or SONOSYNTH_CACHE)")
    for name in features:
        feature_network(name)
    needed = any(metric.space == "features" and metric.part in parts for metric in list_metrics())
    networks = tuple(dict.fromkeys(features)) if needed else ()
    sets, sources = _loaded({TRAIN: train, SYNTHETIC: synthetic, HELD_OUT: held_out})
    require_weights([name for name in networks if name not in _ready], progress)
    _ready.update(networks)
    shared = check_roles(sets[TRAIN], sets.get(HELD_OUT), allow_shared)
    classes, notes = common_classes(sets[TRAIN], sets[SYNTHETIC], sets.get(HELD_OUT))
    sets, resized = one_size(sets)
    sets = {role: of_classes(part, classes) for role, part in sets.items()}
    # Each synthetic image is a group of its own, also where equal files had been made one.
    sets[SYNTHETIC] = replace(sets[SYNTHETIC], groups=np.arange(len(sets[SYNTHETIC])))
    for role, part in sets.items():
        if len(part) < 2:
            have = counted(len(part), "image")
            raise ClassError(f"the {role} set has {have} to compare; a distance needs at least 2")
    embedded = _embedded(sets, networks, cache, progress)
    whole = ImageSet.concatenate(sets.values())  # groups are numbered anew: no two sets share one
    # One space at a time, as their matrices are large.
    spaces = (
        Space(name, found.astype(np.float64), whole.groups, sets, cache, whole.labels)
        for name, found in embedded.items()
    )
    pixels = Space(PIXELS, np.empty((len(whole), 0)), whole.groups, sets, cache, whole.labels)
    scores = []
    for space in chain(spaces, [pixels]):
        kind = "pixels" if space is pixels else "features"
        chosen = [metric for metric in list_metrics() if metric.part in parts and metric.space == kind]
        scores += measure(chosen, comparisons(space, classes, seed))
    compression = compression_note(sets)
    marks = [*filter(None, [shared]), *([_COMPRESSION] if compression else [])]
    if marks:
        scores = [row.model_copy(update={"note": "; ".join(filter(None, (row.note, *marks)))}) for row in scores]
    return Scorecard(
        scores=scores,
        notes=(*notes, *resized, *filter(None, (shared, compression)), *exact_copies(sets)),
        sets=sets,
        features=embedded,
        near_copies=pixels.shared(search) if "memorisation" in parts else None,
        ultrasound=pixels.shared(measures_of) if "realism" in parts else None,
        seed=seed,
        sources=sources,
    )


def _loaded(given: Mapping[str, ImageSet | str | Path | None]) -> tuple[dict[str, ImageSet], dict[str, str]]:
    """Return the image sets by role, synthetic last, and the paths of those that were read."""
    paths = {role: Path(part) for role, part in given.items() if isinstance(part, str | Path)}
    read = dict(zip(paths, load_together(list(paths.values())), strict=True)) if paths else {}
    sets = {role: part for role, part in given.items() if isinstance(part, ImageSet)} | read
    roles = [role for role in (TRAIN, HELD_OUT, SYNTHETIC) if role in sets]
    return {role: sets[role] for role in roles}, {role: str(paths[role]) for role in roles if role in paths}


def _embedded(
    sets: Mapping[str, ImageSet], networks: Sequence[str], cache: Path | None, progress: StageProgress | None
) -> dict[str, np.ndarray]:
    """Return the features of all images by each network."""
    total, before = len(networks) * sum(map(len, sets.values())), 0

    def tell(start: int, done: int, _: int) -> None:
        if progress:
            progress(start + done, total, "embedding")

    embedded: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    for name, part in product(networks, sets.values()):
        embedded[name].append(embed(part, name, cache, partial(tell, before)))
        before += len(part)
    return {name: np.concatenate(parts) for name, parts in embedded.items()}


def measure(metrics: Sequence[Metric], found: Sequence[Comparison]) -> list[Score]:
    """Return the rows of `metrics`, in their order, for each of the comparisons `found`, all of one space."""
    jobs = []
    for _, group in groupby(metrics, key=lambda metric: (metric.value, metric.interval)):
        together = list(group)  # share their functions
        first = together[0]
        for c in found:
            wanted = [metric for metric in together if metric.compares == "real" or c.reference == TRAIN]
            if wanted:
                if first.prepare:
                    first.prepare(c)
                jobs.append((first, wanted, *_usable(first, c)))
    with single_threaded_blas() as pool:
        rows = [row for of_job in pool.map(lambda job: _rows(*job), jobs) for row in of_job]
    order = {metric.name: position for position, metric in enumerate(metrics)}
    return sorted(rows, key=lambda row: order[row.metric.removesuffix(AT_BASELINE)])


def _usable(metric: Metric, c: Comparison) -> tuple[Comparison, str]:
    """Return the comparison of the images that `metric` can measure, and a note on the others."""
    if metric.usable is None:
        return c, ""
    kept = c.restricted(metric.usable[0](c))
    sides = (("real", c.real, kept.real), ("synthetic", c.synthetic, kept.synthetic))
    left = [(len(a) - len(b), counted(len(a), f"{kind} image")) for kind, a, b in sides if len(b) < len(a)]
    if not left:
        return kept, ""
    have = agreeing(sum(n for n, _ in left), "has", "have")
    return kept, f"{' and '.join(f'{n} of {of_all}' for n, of_all in left)} {have} no {metric.usable[1]}, left out"


def values_by_name(metric: Metric, found: Found) -> dict[str, Value]:
    """Return what the function of `metric` gave, by the names of all metrics that have this function."""
    by_name = found if isinstance(found, Mapping) else {metric.name: found}
    return {name: value if isinstance(value, Value) else Value(value) for name, value in by_name.items()}


@dataclass(frozen=True)
class _Baseline:
    """The real baseline of a metric, and what stands beside it."""

    value: float | None  # the mean between real images
    n: int  # images of each set
    synthetic: float | None = None  # the mean between real and synthetic images, in paired draws of this size
    interval: Interval = None  # of the difference of both, around `synthetic`


def _baselines(metric: Metric, c: Comparison) -> dict[str, _Baseline]:
    """Return by name the real baselines of `metric` and of those that share its functions."""
    if callable(metric.baseline):
        return {metric.name: _Baseline(*metric.baseline(c))}
    draws = c.baseline_draws(of_held_out=metric.compares == "both") if metric.baseline else None
    if draws is None:
        return {}
    known: dict[bytes, dict[str, Value]] = {}  # draws of all images that there are, are the same

    def values(drawn: Comparison) -> dict[str, Value]:
        key = np.concatenate([drawn.real, [-1], drawn.synthetic, [-1], drawn.held_out]).tobytes()
        if key not in known:
            known[key] = values_by_name(metric, metric.value(drawn))
        return known[key]

    chosen = draws.draws[: metric.most_draws]
    found = [[values(one) for one in (draw.real, draw.synthetic, *draw.redealt)] for draw in chosen]
    return {name: _baseline([[one[name].value for one in of] for of in found], draws) for name in found[0][0]}


def _baseline(found: Sequence[Sequence[float | None]], draws: BaselineDraws) -> _Baseline:
    """Return the baseline from the values of each draw: real, synthetic, and both of the sets dealt anew."""
    known = np.array([of for of in found if None not in of], dtype=np.float64)
    if len(known) < len(found):  # few images, of which no draw says more than another
        real = [of[0] for of in found if of[0] is not None]
        return _Baseline(float(np.mean(real)) if real else None, draws.m)
    real, synthetic = known[:, :2].mean(axis=0).tolist()
    variance = (known[:, 2] - known[:, 3]).var(ddof=1) * draws.share(len(known))
    interval = t_interval(synthetic, float(np.sqrt(variance)), len(known))
    return _Baseline(real, draws.m, synthetic, interval)


def _rows(first: Metric, wanted: Sequence[Metric], c: Comparison, left_out: str) -> list[Score]:
    """Return the rows of metrics that share the functions of `first`, also those at the size of their real baseline."""
    given = first.value(c)
    values, intervals = values_by_name(first, given), dict[str, Interval]()
    if first.interval and all(value.value is not None for value in values.values()):
        plain = {name: value.value for name, value in values.items()}
        made = first.interval(c, plain if isinstance(given, Mapping) else plain[first.name])
        intervals = dict(made) if isinstance(made, Mapping) else {first.name: made}
    baselines = _baselines(first, c)
    rows = []
    for metric in wanted:
        found, both = values[metric.name], metric.compares == "both"
        low, high = intervals.get(metric.name) or (None, None)
        baseline = (None if found.value is None else baselines.get(metric.name)) or _Baseline(None, 0)
        row = Score(
            metric=metric.name,
            features=c.space.name,
            reference=c.reference,
            class_=c.class_,
            value=found.value,
            low=low,
            high=high,
            real_baseline=baseline.value,
            real_baseline_n=None if baseline.value is None else baseline.n,
            n_real=len(c.real) + both * len(c.held_out) if found.n_real is None else found.n_real,
            n_synthetic=len(c.synthetic) if found.n_synthetic is None else found.n_synthetic,
            note=found.note or (left_out if found.value is not None else ""),
        )
        rows.append(row)
        if baseline.value is not None and baseline.synthetic is not None:
            low, high = baseline.interval or (None, None)
            smallest, largest = metric.range
            rows.append(
                row.model_copy(
                    update={
                        "metric": metric.name + AT_BASELINE,
                        "value": baseline.synthetic,
                        "low": low if low is None or smallest is None else max(low, smallest),
                        "high": high if high is None or largest is None else min(high, largest),
                        "n_real": baseline.n + both * len(c.real),
                        "n_synthetic": baseline.n,
                        "note": "",
                    }
                )
            )
    return rows

"""What a metric says of itself, and the registry of all metrics: built in, registered, and those of other packages.

A metric is one `Metric` in a file of its own. Tables, pages and the terminal take its name, direction, unit, words and
paper from there, so nothing else need know of it. docs/how-to/add-a-metric.md shows one from the beginning.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from sonosynth.core.errors import SonosynthError
from sonosynth.core.text import did_you_mean
from sonosynth.metrics.comparison import Comparison
from sonosynth.metrics.intervals.subsampling import Interval as Interval
from sonosynth.metrics.scores import AT_BASELINE, PIXELS, Score

Part = Literal["distances", "diversity", "memorisation", "realism"]
PARTS: Mapping[Part, str] = {
    "distances": "Distances",
    "diversity": "Fidelity and diversity",
    "memorisation": "Memorisation",
    "realism": "Ultrasound realism",
}
"""What a scorecard is made of, and the headings."""
Direction = Literal["smaller", "larger", "target"]
"""Which values are better; with ``target``, those of real images, or `Metric.null_value`."""
State = Literal["similar", "worse", "better", "unclear", "none"]
"""No difference from real images found; worse than real images; better than real images, which may be a bad sign; too
few images to say; nothing to compare."""

_BUILT_IN = (
    "distances.frechet",
    "distances.kernel",
    "distances.radiomics",
    "distances.likelihood",
    "diversity.precision_recall",
    "diversity.alpha_precision",
    "diversity.vendi",
    "memorisation.near_copies",
    "memorisation.distance_ratio",
    "memorisation.membership",
    "memorisation.data_copying",
    "ultrasound.realism",
)
"""Files of this folder, each with a tuple METRICS, in the order of the scorecard."""
_ENTRY_POINTS = "sonosynth.metrics"


@dataclass(frozen=True)
class Value:
    """A value with what to know of it."""

    value: float | None  # None where it cannot be had; `note` says why
    note: str = ""  # for the row; often empty
    n_real: int | None = None  # real images behind it, where not all of the comparison are
    n_synthetic: int | None = None  # synthetic images behind it, likewise


@dataclass(frozen=True)
class Interpretation:
    """What a score says."""

    state: State  # in a word
    text: str  # in a sentence without a full stop


Found = float | Value | Mapping[str, float | Value]
"""What `Metric.value` returns: for one metric, or by name for all that have the same function."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """One metric: what it is, how it is computed, and the words for it.

    Metrics with the same `value` and `interval` functions are computed together, and these return mappings by name.

    Attributes:
        name: in tables and files, such as ``kernel_distance``.
        part: of the scorecard.
        title: for people, such as ``Kernel distance``.
        about: what it is, in a sentence or two.
        direction: which values are better.
        value: from a `Comparison` to the value, or to values by name.
        interval: from a `Comparison` and the value to the 95 % interval; asked for only where there is a value. None:
            there is no interval.
        interval_method: how the interval is made, in words.
        reference: where the metric is defined: authors, venue, year.
        range: smallest and largest value possible; None without a bound.
        unit: empty for a pure number.
        space: whether it compares ``features``, once for each feature network, or ``pixels``.
        compares: the real images that synthetic ones are compared with: ``real``, training and held-out images in
            turn; ``train``, training images alone; ``both``, training images against held-out ones.
        baseline: whether it has a real baseline: the mean over random draws of the real images (with ``both``, of the
            held-out images). A function gives a baseline of the metric's own, with its number of images.
        most_draws: that the real baseline is the mean of, for a slow metric; None: as many as there are.
        prepare: work that uses all cores (networks, products of large matrices), done before the threads start.
        usable: bool ``[N]``, which images can be measured; others are left out, and a note says ``N of M images have
            no ...``. The second of the pair is what they lack.
        null_value: value where nothing is remembered; it is compared with that rather than with the real baseline.
        ratio: whether it is told and drawn in multiples of its real baseline.
        decimals: shown in tables; None: three significant digits.
        headline: whether the verdict on its part rests on it.
        report_decimals: shown in the report of a study; None: it has no column there.
        aliases: other titles by feature network, such as ``{"inception": "KID"}``.
        subject: what differs, in a sentence on a distance, such as ``speckle contrast``; empty for images as a whole.
        sentences: on values below the real baseline, and above it. ``{reference}``, ``{value}``, ``{baseline}``,
            ``{rest}`` (1 - value) and ``{baseline_rest}`` are filled in.
        interpret: what a row says, for a metric that is not told by comparison with its real baseline.
    """

    name: str
    part: Part
    title: str
    about: str
    direction: Direction
    value: Callable[[Comparison], Found]
    interval: Callable[[Comparison, Any], Interval | Mapping[str, Interval]] | None = None
    interval_method: str = ""
    reference: str = ""
    range: tuple[float | None, float | None] = (0.0, None)
    unit: str = ""
    space: Literal["features", "pixels"] = "features"
    compares: Literal["real", "train", "both"] = "real"
    baseline: bool | Callable[[Comparison], tuple[float | None, int]] = True
    most_draws: int | None = None
    prepare: Callable[[Comparison], object] | None = None
    usable: tuple[Callable[[Comparison], Any], str] | None = None
    null_value: float | None = None
    ratio: bool = False
    decimals: int | None = None
    headline: bool = False
    report_decimals: int | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
    sentences: tuple[str, str] = (
        "smaller to {reference} ({value}) than of other real images ({baseline})",
        "larger to {reference} ({value}) than of other real images ({baseline})",
    )
    interpret: Callable[[Score], Interpretation] | None = None

    def title_for(self, features: str) -> str:
        """Return the title in the features of a network: FID and KID are the names in Inception features alone."""
        return self.aliases.get(features, self.title)

    @property
    def bounded(self) -> bool:
        """Whether it is a share, from 0 to 1."""
        return self.range == (0.0, 1.0)


_registered: list[Metric] = []


def register_metric(metric: Metric) -> None:
    """Add `metric` to every scorecard of this process; it comes last in its part.

    Packages register theirs for all processes by an entry point of the group ``sonosynth.metrics`` that names a
    `Metric` or a sequence of them.

    Raises:
        SonosynthError: a metric of that name exists in the same space, or its part is unknown.

    Example:
        >>> from sonosynth.metrics.metric import Metric, register_metric
        >>> def brightness_gap(comparison):
        ...     real, synthetic = comparison.pixels
        ...     return abs(float(real.mean()) - float(synthetic.mean()))
        >>> register_metric(Metric(
        ...     name="brightness_gap", part="realism", title="Brightness gap", unit="grey levels",
        ...     about="Absolute difference of the mean grey levels.", direction="smaller",
        ...     value=brightness_gap, space="pixels", subject="the mean brightness"))
    """
    if metric.part not in PARTS:
        raise SonosynthError(f"metric '{metric.name}': no part '{metric.part}'; known: {', '.join(PARTS)}")
    if any((metric.name, metric.space) == (known.name, known.space) for known in list_metrics()):
        raise SonosynthError(f"a metric '{metric.name}' is registered already; choose another name")
    _registered.append(metric)


def list_metrics(part: Part | None = None) -> tuple[Metric, ...]:
    """Return all metrics, or those of one part, in the order of the scorecard.

    Raises:
        SonosynthError: an entry point of another package cannot be loaded or gives no metrics.
    """
    everything = (*_built_in(), *_plugins(), *_registered)
    return tuple(metric for name in PARTS for metric in everything if metric.part == name and part in (None, name))


def get_metric(name: str, features: str = "") -> Metric:
    """Return the metric of rows called `name`, also at the size of the baseline; of pixels if `features` is that."""
    name = name.removesuffix(AT_BASELINE)
    found = [metric for metric in list_metrics() if metric.name == name]
    if not found:
        known = [metric.name for metric in list_metrics()]
        raise SonosynthError(f"no metric '{name}'{did_you_mean(name, known)}; known: {', '.join(dict.fromkeys(known))}")
    return next((one for one in found if (one.space == "pixels") == (features == PIXELS)), found[0])


@cache
def _built_in() -> tuple[Metric, ...]:
    # Files are named rather than imported: they import this one.
    return tuple(one for name in _BUILT_IN for one in import_module(f"sonosynth.metrics.{name}").METRICS)


@cache
def _plugins() -> tuple[Metric, ...]:
    found: list[Metric] = []
    for entry in entry_points(group=_ENTRY_POINTS):
        try:
            given = entry.load()
        except Exception as error:
            raise SonosynthError(
                f"the metrics of entry point '{entry.name}' ({entry.value}) cannot be loaded ({error}); "
                "mend or remove that package"
            ) from error
        metrics = list(given) if isinstance(given, Iterable) else [given]
        if not all(isinstance(metric, Metric) for metric in metrics):
            raise SonosynthError(f"entry point '{entry.name}' ({entry.value}) gives no metric; mend that package")
        found += metrics
    return tuple(found)

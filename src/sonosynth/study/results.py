"""What finished cells leave behind: one model per kind, which writes the JSON file, reads it and gives table rows.

A result is also read back from the rows of the tables, so that a record of tables alone gives the same report. Of what
makes images or classifiers, nothing is imported here.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from sonosynth.core.errors import StudyError
from sonosynth.metrics.scores import Score
from sonosynth.study.files import AGAIN, FileModel, read_object, validated
from sonosynth.study.migration import current_result

if TYPE_CHECKING:
    from sonosynth.study.cells import AnyCell

SCORES_CSV = "scores.csv"
F1_CSV = "f1.csv"
PROTOCOLS_CSV = "protocols.csv"
FILTERS_CSV = "filters.csv"
GENERATORS_CSV = "generators.csv"
PREDICTIONS_CSV = "predictions.csv"
NOTES_CSV = "notes.csv"
_COLUMNS = {
    SCORES_CSV: "gan mode size draw seed features reference class metric value low high real_baseline real_baseline_n "
    "n_real n_synthetic note truncation",
    F1_CSV: "network arm gan mode gan_seed ratio size draw seed metric value n_train n_synthetic n_test fill filter "
    "filter_quantile truncation n_validation",
    PROTOCOLS_CSV: "protocol network arm size draw seed metric value n_train n_test ratio fill",
    FILTERS_CSV: "gan mode gan_seed truncation size draw filter filter_quantile class candidates accepted acceptance "
    "threshold features coverage_all coverage_accepted coverage_same_number lost_coverage",
    GENERATORS_CSV: "gan mode size draw seed kimg runs seconds training_seconds img_per_s parameters_generator "
    "parameters_discriminator gallery",
    PREDICTIONS_CSV: "protocol network arm gan mode gan_seed ratio size draw seed fill filter filter_quantile "
    "truncation n_train n_synthetic n_test n_validation tested_on seconds labels predicted confusion",
    NOTES_CSV: "about gan mode gan_seed truncation size draw text",
}
COLUMNS: Mapping[str, tuple[str, ...]] = {name: tuple(columns.split()) for name, columns in _COLUMNS.items()}
"""The columns of every table, in their order; a new one stands at the end."""

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass(frozen=True, order=True)
class Generator:
    """One family of synthetic images; `mode` is empty for images that were made elsewhere."""

    gan: str
    mode: str = ""
    truncation: float = 1.0

    def label(self, among: Iterable["Generator"]) -> str:
        """Return the name, with the mode where `among` holds the same GAN in another mode."""
        modes = {g.mode for g in among if g.gan == self.gan} - {self.mode}
        name = f"{self.gan} ({self.mode})" if modes else self.gan
        return name if self.truncation == 1 else f"{name}, ψ {self.truncation:g}"


class _OfGenerator(FileModel):
    """The training subset and the generator that a row is of; `mode` is None for images that were made elsewhere."""

    size: int
    replicate: int = Field(alias="draw")
    gan: str
    mode: str | None = None

    @property
    def generator(self) -> Generator:
        """The family of the images."""
        return _generator(self.gan, self.mode, getattr(self, "truncation", None))


def _generator(gan: str, mode: str | None, truncation: float | None) -> Generator:
    return Generator(gan, mode or "", 1.0 if truncation is None else truncation)


class NoteRow(_OfGenerator):
    """What to know of the scores of a generator's images (of their classes, number, copies), or of a filter of them."""

    about: Literal["scores", "filters"]
    seed: int | None = Field(None, alias="gan_seed")
    truncation: float | None = None
    text: str


class TrainResult(_OfGenerator):
    """One trained generator. `mode` and `seed` are None for images that were made elsewhere."""

    kind: ClassVar[str] = "train"
    seed: int | None = None
    kimg: float | None = None  # thousands of images shown to the discriminator
    runs: int | None = None  # generators that were trained: one, or one per class
    seconds: float | None = None  # of the whole cell; `training_seconds` leaves out compiling, snapshots and scoring
    training_seconds: float | None = None
    img_per_s: float | None = None  # images shown per second of training
    parameters_generator: int | None = None
    parameters_discriminator: int | None = None
    gallery: str | None = None  # folder of some synthetic images, relative to the study directory

    def rows(self) -> Rows:
        """Return the rows of this result by table."""
        return {GENERATORS_CSV: [self.model_dump(by_alias=True)]}


class ScoreRow(Score, _OfGenerator):
    """A row of a scorecard in a study: also whose images it is of."""

    model_config = ConfigDict(extra="ignore")

    seed: int | None = None
    truncation: float | None = None


class ScoreResult(_OfGenerator):
    """The scorecard of one generator's images; `notes` are what to know of it.

    Images that were made elsewhere have no train cell, so that their `gallery` is named here.
    """

    kind: ClassVar[str] = "score"
    seed: int | None = None
    truncation: float | None = None
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    gallery: str | None = None
    seconds: float | None = None

    def rows(self) -> Rows:
        """Return the rows of this result by table."""
        whose = self.model_dump(by_alias=True, include={"size", "replicate", "gan", "mode", "seed", "truncation"})
        notes = [whose | {"about": "scores", "gan_seed": self.seed, "text": text} for text in self.notes]
        shown = [] if self.gallery is None else [whose | {"gallery": self.gallery}]
        scores = [whose | score.model_dump(by_alias=True) for score in self.scores]
        return {SCORES_CSV: scores, NOTES_CSV: notes, GENERATORS_CSV: shown}


_BY_CLASS = {name: name for name in ("candidates", "accepted", "threshold")} | {"acceptance": "acceptance_by_class"}
"""The columns of ``filters.csv`` that differ between classes, with the fields of `FilterResult` that hold them."""


class FilterResult(_OfGenerator):
    """What one filter of synthetic images kept."""

    kind: ClassVar[str] = "filter"
    gan_seed: int | None = None
    truncation: float | None = None
    filter: str
    filter_quantile: float | None = None
    features: str | None = None  # network in whose features coverage was measured
    candidates: dict[str, int]  # images that were filtered, by class; `accepted` how many of them passed
    kept: dict[str, list[int]] = Field(default_factory=dict)  # which of them passed, by class; not in tables
    accepted: dict[str, int | None] = Field(default_factory=dict, exclude=True)
    acceptance: float  # share that passed, 0 to 1; `acceptance_by_class` of each class
    acceptance_by_class: dict[str, float | None]
    # the limit that was passed, by class; None where there was none to set
    threshold: dict[str, float | None] = Field(default_factory=dict)
    # share of training images with a synthetic one near them, of all candidates; `coverage_accepted` of those that
    # passed, `coverage_same_number` of as many that were not filtered; None where too few passed
    coverage_all: float | None = None
    coverage_accepted: float | None = None
    coverage_same_number: float | None = None
    lost_coverage: float | None = None  # `coverage_all` less `coverage_accepted`
    seconds: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _count(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and isinstance(raw.get("kept"), dict) and "accepted" not in raw:
            return raw | {"accepted": {name: len(index) for name, index in raw["kept"].items()}}
        return raw

    @property
    def level(self) -> str:
        """The filter in words, as among the factors of classifier runs."""
        return _filter_level(self.filter, self.filter_quantile)

    def rows(self) -> Rows:
        """Return the rows of this result by table: one for all classes, with the coverages, and one for each class."""
        named = {"size", "replicate", "gan", "mode", "gan_seed", "truncation", "filter", "filter_quantile"}
        where = self.model_dump(by_alias=True, include=named)
        whole = {"features", "acceptance", "coverage_all", "coverage_accepted", "coverage_same_number", "lost_coverage"}
        totals = {"candidates": sum(self.candidates.values()), "accepted": sum(n or 0 for n in self.accepted.values())}
        rows = [where | {"class": "all"} | totals | self.model_dump(include=whole)]
        for name, count in self.candidates.items():
            if count:
                own = {column: getattr(self, field).get(name) for column, field in _BY_CLASS.items()}
                rows.append(where | {"features": self.features, "class": name} | own)
        return {FILTERS_CSV: rows}

    @classmethod
    def from_rows(cls, rows: Sequence[Row]) -> Self:
        """Return the result whose `rows` these are; which images passed is not in the table."""
        whole, *of_class = sorted(rows, key=lambda row: row["class"] != "all")
        by_class = {field: {row["class"]: row[column] for row in of_class} for column, field in _BY_CLASS.items()}
        return cls.model_validate(whole | by_class)


class ClassifyResult(FileModel):
    """One trained classifier, and what it makes of the test images."""

    kind: ClassVar[str] = "classify"
    size: int
    replicate: int = Field(alias="draw")
    network: str
    arm: str
    gan: str | None = None
    mode: str | None = None
    gan_seed: int | None = None
    ratio: float | None = None  # added images per real one; None where nothing is added
    fill: str | None = None
    filter: str | None = None
    filter_quantile: float | None = None
    truncation: float | None = None
    seed: int  # of the classifier
    labels: tuple[int, ...] = ()  # int ``[n_test]``, classes of the images that tested it
    probabilities: tuple[tuple[float, ...], ...] = ()  # ``[n_test, C]``, with six decimals; not in tables
    predicted: tuple[int, ...] = Field((), exclude=True)  # int ``[n_test]``, the class of the highest probability
    confusion: tuple[tuple[int, ...], ...]  # int ``[C, C]``, rows true
    metrics: dict[str, float | None]  # scores by name; earlier versions stored fewer of them
    n_train: int  # real training images; `n_synthetic` synthetic ones; `n_validation` images that chose its weights
    n_synthetic: int
    n_test: int = 0
    n_validation: int = 0
    # "real" for the test set of the study, "synthetic" for synthetic images
    tested_on: Literal["real", "synthetic"] = "real"
    weights_digest: str | None = None
    step: int | None = None
    unfiltered: tuple[str, ...] = ()  # classes of which no image passed the filter
    notes: tuple[str, ...] = ()  # what was done where a filter left too few images
    seconds: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _predict(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "predicted" in raw or "probabilities" not in raw:
            return raw
        try:
            probabilities = np.asarray(raw["probabilities"], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"probabilities are no table of numbers: {error}") from error
        if probabilities.ndim != 2:
            raise ValueError("probabilities are not one row for every test image")
        return raw | {"predicted": probabilities.argmax(axis=1).tolist(), "n_test": len(probabilities)}

    @property
    def generator(self) -> Generator | None:
        """The family of its synthetic images; None without any."""
        return None if self.gan is None else _generator(self.gan, self.mode, self.truncation)

    @property
    def predictions(self) -> np.ndarray:
        """`predicted` as an array, int ``[n_test]``."""
        return np.asarray(self.predicted, dtype=np.int64)

    @property
    def factors(self) -> dict[str, str]:
        """How the run differs from others of its arm: a level for each of ``fill``, ``filter``, ``validation``."""
        levels = {} if self.fill is None else {"fill": self.fill}
        if self.filter is not None:
            levels["filter"] = _filter_level(self.filter, self.filter_quantile)
        if self.n_validation:
            levels["validation"] = "set aside"  # every repeated split has images of its own for that
        return levels

    def rows(self) -> Rows:
        """Return the rows of this result by table."""
        left_out = {"probabilities", "labels", "metrics", "confusion", "notes", "unfiltered"}
        protocol = "grouped" if self.kind == "classify" else "naive"
        row = self.model_dump(by_alias=True, exclude=left_out) | {"protocol": protocol}
        values = [row | {"metric": name, "value": value} for name, value in self.metrics.items()]
        lists = {
            "labels": _joined(self.labels) if self.tested_on == "synthetic" else None,
            "predicted": _joined(self.predicted),
            "confusion": _joined(itertools.chain(*self.confusion)),
        }
        found: Rows = {PREDICTIONS_CSV: [row | lists]}
        if self.kind == "classify":
            found[F1_CSV] = values
            found[NOTES_CSV] = [row | {"about": "filters", "text": text} for text in self.notes]
        if self.gan is None:
            found[PROTOCOLS_CSV] = values
        return found

    @classmethod
    def from_row(cls, row: Row, metrics: Mapping[str, float | None]) -> "ClassifyResult":
        """Return the result whose row of ``predictions.csv`` this is, with the `metrics` of its rows in ``f1.csv``."""
        confusion = np.array(_split(row["confusion"]))
        n_classes = round(len(confusion) ** 0.5)
        lists = {name: _split(row[name]) for name in ("labels", "predicted")}
        of_kind = NaiveResult if row["protocol"] == "naive" else ClassifyResult
        square = confusion.reshape(n_classes, n_classes).tolist()
        known = {name: value for name, value in row.items() if value is not None}
        return of_kind.model_validate(known | lists | {"confusion": square, "metrics": metrics})


class NaiveResult(ClassifyResult):
    """One classifier on the split that ignores groups."""

    kind: ClassVar[str] = "naive"


CellResult = TrainResult | ScoreResult | FilterResult | ClassifyResult
RESULTS: Mapping[str, type[CellResult]] = {
    of_kind.kind: of_kind for of_kind in (TrainResult, ScoreResult, FilterResult, ClassifyResult, NaiveResult)
}


def _filter_level(name: str, quantile: float | None) -> str:
    return name if quantile is None else f"{name} {quantile:g}"


def _joined(values: Iterable[int]) -> str:
    return " ".join(map(str, values))


def _split(text: str | None) -> list[int]:
    return [int(value) for value in str(text).split()] if text is not None else []


class ResultFile(FileModel):
    """The file of a finished cell."""

    result: dict[str, Any]  # the result
    cell: dict[str, Any]  # all that decides the result, as it is hashed; earlier versions stored less of it
    kind: str  # of the cell
    format: int = 1  # number of the way in which the work was done; see `cells.format_of`
    made_on: dict[str, Any] | None = None  # the machine that made it; None in files of earlier versions


def read_result(path: Path) -> tuple[ResultFile, CellResult]:
    """Read the file of a finished cell, also one of an earlier version. Raises StudyError if it is damaged."""
    content = read_object(path)
    if not isinstance(content, dict):
        raise StudyError(f"{path} is damaged (it is no object with 'result'); {AGAIN}")
    file: ResultFile = validated(ResultFile, current_result(content), path)
    if file.kind not in RESULTS:
        raise StudyError(f"{path}: unknown kind of cell '{file.kind}'; another version of sonosynth made it")
    return file, validated(RESULTS[file.kind], file.result, path)


def table_rows(results: Iterable[CellResult]) -> Rows:
    """Return the rows of all tables, in the order of `results`."""
    tables: Rows = {name: [] for name in COLUMNS}
    for result in results:
        for name, rows in result.rows().items():
            tables[name] += rows
    return tables


def results_of_tables(tables: Rows) -> Iterator[CellResult]:
    """Yield the results whose rows `tables` hold, but for those of scores: their rows stand for themselves."""
    for row in tables[GENERATORS_CSV]:
        yield TrainResult.model_validate(row)
    key = COLUMNS[FILTERS_CSV][: COLUMNS[FILTERS_CSV].index("class")]
    for _, rows in itertools.groupby(tables[FILTERS_CSV], lambda row: [row[name] for name in key]):
        yield FilterResult.from_rows(list(rows))
    key = tuple(name for name in COLUMNS[F1_CSV] if name not in ("metric", "value"))
    metrics: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for row in tables[F1_CSV]:
        metrics.setdefault(tuple(row[name] for name in key), {})[row["metric"]] = row["value"]
    for row in tables[PREDICTIONS_CSV]:
        of_row = {} if row["protocol"] == "naive" else metrics.get(tuple(row[name] for name in key), {})
        yield ClassifyResult.from_row(row, of_row)


@dataclass(frozen=True)
class StudyStatus:
    """How far a study is: of each kind of cell how many are done and planned, and the cell that comes next, if any."""

    counts: dict[str, tuple[int, int]]
    next_cell: "AnyCell | None"

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Return plain JSON values."""
        return {kind: {"done": done, "planned": n} for kind, (done, n) in self.counts.items()}

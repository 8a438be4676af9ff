"""What a study compares, as one validated value: a study file, section by section.

What is known of recipes, classifiers and metrics is looked up when a file is read for a run. A finished study is read
from its recorded settings (`study_file.recorded_design`), so that neither generators nor classifiers are imported for
its page.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sonosynth.core.text import agreeing, counted, did_you_mean
from sonosynth.data.readers.bit_depth import BIT_DEPTHS
from sonosynth.data.source import ReadOptions

if TYPE_CHECKING:
    from sonosynth.classify.arms import ClassBalance
    from sonosynth.classify.training import TrainingSettings
    from sonosynth.metrics.metric import Part
else:
    ClassBalance = Part = str

RECORDED = "recorded"
"""The context of validation where settings were checked by the version that ran the study."""
NO_FILTER = "none"


def _choices() -> ModuleType:
    from sonosynth.study import choices

    return choices


def _known(what: str, names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Return a check that a name, or each of several, is one of `names`; recorded settings are not checked."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if info.context != RECORDED:
            known = list(names())
            for name in [value] if isinstance(value, str) else value:
                if name not in known:
                    raise ValueError(f"no {what} '{name}'{did_you_mean(name, known)}; known: {', '.join(known)}")
        return value

    return AfterValidator(check)


def _filters() -> list[str]:
    return [NO_FILTER, *_choices().FILTERS]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands more than once; name each once")
    return values


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("use printable letters, without space at either end")
    return text


_T = TypeVar("_T")
_Distinct = AfterValidator(_distinct)
_Several = Annotated[tuple[_T, ...], Field(min_length=1), _Distinct]
_OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str | int | float) else value)  # no brackets
_Path = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """What all sections have: unknown keys are errors, and values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ColumnsSection(Section):
    """Which columns of the user's own table name the files, the classes and the groups (patients)."""

    path: str | None = None
    label: str | None = None
    group: str | None = None


class DataSection(Section):
    """Which images, and how they are prepared."""

    source: _Path
    columns: ColumnsSection = ColumnsSection()  # of a table whose columns are called otherwise
    force_dicom: bool = False  # DICOM files without preamble
    bits: int | None = Field(None, ge=BIT_DEPTHS[0], le=BIT_DEPTHS[-1])  # depth of 16-bit values whose files state none
    axis: Literal["x", "y", "z"] | None = None  # across which slices of volumes are taken; None: z
    size: Literal[32, 64, 128, 256, 512] = 64
    fit: Literal["stretch", "pad", "crop", "mask"] = "stretch"
    mask_overlays: bool = False
    groups: _Path = "source"  # of the source itself; "audit": duplicates too; else a groups.csv
    drop_conflicts: bool | None = None  # None: where groups are not the source's own
    classes: tuple[str, ...] | None = None  # None: all, sorted by name
    exclude_known: bool = False  # leave out images that a prior of the study was trained on

    @property
    def options(self) -> ReadOptions:
        """How `source` is read."""
        given = self.columns.model_dump()
        return ReadOptions(**given, force_dicom=self.force_dicom, bits=self.bits, axis=self.axis)

    @property
    def grouped(self) -> bool:
        """Whether more is known of the groups than the source says."""
        return self.groups != "source"

    @property
    def groups_table(self) -> str | None:
        """The user's own table of groups, if there is one."""
        return None if self.groups in ("source", "audit") else self.groups

    @property
    def drops_conflicts(self) -> bool | None:
        """Whether copies with different labels are left out; None: where the table of groups marks them."""
        return True if self.drop_conflicts is None and self.groups == "audit" else self.drop_conflicts

    @model_validator(mode="after")
    def _conflicts_are_known(self) -> "DataSection":
        if self.drop_conflicts and not self.grouped:
            raise ValueError("drop_conflicts needs groups: audit, or the groups.csv of an audit")
        return self


class SplitSection(Section):
    """How the images are divided; `sizes` are totals over the classes."""

    test_fraction: float | None = Field(None, gt=0, lt=1)
    test: _Path | None = None  # a source of the user's own instead of a fraction
    validation_fraction: float | None = Field(None, gt=0, lt=1)  # of what is left; no generator sees it
    sizes: _Several[int]
    draws: int = Field(1, ge=1)
    repeats: int | None = Field(None, ge=2)  # random splits, each with test images of its own and one draw
    seed: int = 0
    # Classifiers on a split that ignores groups, to compare: at all sizes, or these; None: where data.groups is set.
    naive: bool | _Several[int] | None = None

    @model_validator(mode="before")
    @classmethod
    def _quarter_by_default(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        given = [name for name in ("test_fraction", "test") if raw.get(name) is not None]
        if len(given) > 1:
            raise ValueError("give either test_fraction or test, not both")
        return raw if given else raw | {"test_fraction": 0.25}

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 4:
            raise ValueError("a size must be at least 4")
        return tuple(sorted(sizes))

    @model_validator(mode="after")
    def _consistent(self) -> "SplitSection":
        if self.repeats is not None:
            for name, given in (("test", self.test), ("naive", self.naive), ("draws", self.draws > 1)):
                if given:
                    reason = "every split has one draw" if name == "draws" else "needs one fixed test set"
                    raise ValueError(f"repeats and {name} exclude each other: {reason}; leave out one of the two")
        if self.test is not None and self.naive:
            raise ValueError(
                "test and naive exclude each other: a split without groups has test images of data.source; leave out "
                "one of the two"
            )
        for size in self.naive if isinstance(self.naive, tuple) else ():
            if size not in self.sizes:
                raise ValueError(f"naive names the size {size}, which is not among the sizes; take one of those")
        return self

    def tests_like(self, other: "SplitSection") -> bool:
        """Return whether both set the same images of one data set aside, however subsets are drawn from the rest."""
        names = ("test", "test_fraction", "validation_fraction", "seed")
        alike = all(getattr(self, name) == getattr(other, name) for name in names)
        return alike and (self.repeats is None) == (other.repeats is None)

    def naive_sizes(self, grouped: bool) -> tuple[int, ...]:
        """Return the sizes at which classifiers are also trained on a split that ignores groups.

        `grouped`: more is known of the groups than the source says.
        """
        if self.test_fraction is None or self.repeats is not None:
            return ()
        if isinstance(self.naive, tuple):
            return self.naive
        return self.sizes if (grouped if self.naive is None else self.naive) else ()


class GanEntry(Section):
    """One generator of the study: a recipe, or a folder of synthetic images made elsewhere."""

    name: Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
    base: str | None = None  # the recipe that the study file starts from
    recipe: Any = None  # a `Recipe`; in recorded settings its values by name
    settings: tuple[str, ...] = ()  # names of the recipe settings that the study file gives
    folder: _Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, raw: Any, info: ValidationInfo) -> Any:
        if info.context == RECORDED:
            return raw
        usage = ValueError("a GAN is a recipe's name, a 'base' with settings, or a 'folder' with a 'name'")
        if isinstance(raw, str):
            raw = {"base": raw}
        if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
            raise usage
        settings = dict(raw)
        if "folder" in settings:
            unknown = sorted(set(settings) - {"folder", "name"})
            if unknown or "name" not in settings:
                raise ValueError(f"a folder takes a name and nothing else{', not ' + unknown[0] if unknown else ''}")
            if settings["folder"] is None:
                raise ValueError("'folder' is empty; give the folder of synthetic images")
            return settings
        base = settings.pop("base", None)
        if not isinstance(base, str):
            raise usage
        recipe = _choices().make_recipe(base, **settings)
        return {"name": recipe.name, "base": base, "recipe": recipe, "settings": tuple(sorted(settings))}


class TrainingSection(Section):
    """How the generators are trained; what is not given is each recipe's own default."""

    kimg: float | None = Field(None, gt=0)
    mode: Literal["per_class", "conditional"] | None = None
    seeds: _Several[int] = (0,)
    snapshot: Literal["last", "best"] = "last"  # best: nearest to the training subset, by kernel distance
    patience_kimg: float | None = Field(None, ge=0.5)  # end a run that has come no nearer for so long
    truncation: Annotated[_Several[Annotated[float, Field(ge=0, le=1)]], _OneOrMore] = (1.0,)  # a factor


class ScoresSection(Section):
    """How the synthetic images are scored."""

    features: Annotated[_Several[str], _known("feature network", lambda: _choices().list_features())] = ("inception",)
    n_synthetic: int = Field(500, ge=20)
    parts: Annotated[_Several[Part], _known("part of a scorecard", lambda: _choices().PARTS)] = Field(
        default_factory=lambda: tuple(_choices().PARTS)
    )


class FilterEntry(Section):
    """Which synthetic images are added to real ones: a level of the factor ``classifiers.filters``.

    `candidates` images of every class are made per real image of the largest class, and the first that pass are used.
    """

    by: Annotated[str, _known("filter", _filters)]
    quantile: float = Field(default_factory=lambda: _choices().DEFAULT_QUANTILE, ge=0, lt=1)
    candidates: int = Field(5, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, raw: Any, info: ValidationInfo) -> Any:
        if info.context == RECORDED:
            return raw
        if isinstance(raw, str):
            raw = {"by": raw}
        if not isinstance(raw, dict) or not isinstance(raw.get("by"), str):
            raise ValueError(f"a filter is a name, or a 'by' with settings; known: {', '.join(_filters())}")
        for key in raw:
            if key not in cls.model_fields:
                raise ValueError(f"no setting '{key}' of a filter{did_you_mean(str(key), list(cls.model_fields))}")
        if raw["by"] == NO_FILTER and len(raw) > 1:
            raise ValueError(f"'{NO_FILTER}' takes no settings; write it alone")
        return raw


def _training_default(name: str) -> Callable[[], Any]:
    return lambda: getattr(_choices().DEFAULT_TRAINING, name)


class ClassifiersSection(Section):
    """Which classifiers are trained on what, and how; the same for every arm."""

    networks: Annotated[tuple[str, ...], _Distinct] = ("resnet18",)
    arms: Annotated[tuple[str, ...], _Distinct] = Field(default_factory=lambda: _choices().DEFAULT_ARMS)
    ratios: _Several[float] = (1.0,)
    fill: Annotated[_Several[ClassBalance], _OneOrMore, _known("class balance", lambda: _choices().CLASS_BALANCES)] = (
        Field(default_factory=lambda: _choices().CLASS_BALANCES[:1])
    )
    filters: Annotated[_Several[FilterEntry], _OneOrMore] = Field(default_factory=lambda: (FilterEntry(by=NO_FILTER),))
    seeds: _Several[int] = (0, 1)
    steps: int = Field(default_factory=_training_default("steps"), ge=20)
    batch: int = Field(default_factory=_training_default("batch"), ge=2)
    learning_rate: float | None = Field(None, gt=0)  # None: the network's own
    weight_decay: float = Field(default_factory=_training_default("weight_decay"), ge=0)
    schedule: Annotated[str, _known("schedule", lambda: _choices().SCHEDULES)] = Field(
        default_factory=_training_default("schedule")
    )
    balance: Annotated[str, _known("balance", lambda: _choices().BALANCES)] = Field(
        default_factory=_training_default("balance")
    )
    label_smoothing: float = Field(default_factory=_training_default("label_smoothing"), ge=0, lt=1)
    dropout: float = Field(default_factory=_training_default("dropout"), ge=0, lt=1)

    @property
    def trains(self) -> bool:
        """Whether any classifier is trained."""
        return bool(self.networks and self.arms)

    @property
    def training(self) -> "TrainingSettings":
        """How every classifier is trained."""
        from sonosynth.classify.training import TrainingSettings

        return TrainingSettings(**{field.name: getattr(self, field.name) for field in fields(TrainingSettings)})

    @field_validator("networks", "arms")
    @classmethod
    def _full_names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context == RECORDED:
            return names
        find = _choices().find_network if info.field_name == "networks" else _choices().find_arm
        return tuple(find(name).name for name in names)

    @field_validator("filters")
    @classmethod
    def _distinct_filters(cls, filters: tuple[FilterEntry, ...]) -> tuple[FilterEntry, ...]:
        _distinct(tuple((entry.by, entry.quantile) for entry in filters))
        return filters

    @field_validator("ratios")
    @classmethod
    def _positive(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if any(ratio <= 0 for ratio in ratios):
            raise ValueError("ratios of synthetic to real images must be above 0")
        return ratios

    @model_validator(mode="after")
    def _candidates_suffice(self) -> "ClassifiersSection":
        most = max(self.ratios)
        for entry in self.filters:
            if entry.by != NO_FILTER and entry.candidates <= most:
                raise ValueError(
                    f"the filter '{entry.by}' has {counted(entry.candidates, 'candidate')} per real image where "
                    f"{most:g} {agreeing(most, 'is', 'are')} to pass (ratios); raise its candidates above that"
                )
        return self


class StudyDesign(Section):
    """A whole study: data, split, generators, scores and classifiers."""

    name: str = Field(pattern=r"^[\w][\w .-]*$")
    data: DataSection
    split: SplitSection
    gans: tuple[GanEntry, ...] = ()
    training: TrainingSection = TrainingSection()
    scores: ScoresSection = Field(default_factory=ScoresSection)
    classifiers: ClassifiersSection = Field(default_factory=ClassifiersSection)

    @field_validator("gans")
    @classmethod
    def _distinct_names(cls, gans: tuple[GanEntry, ...]) -> tuple[GanEntry, ...]:
        names = [gan.name for gan in gans]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two GANs are called '{name}'; give one of them another 'name'")
        return gans

    def family(self, synthetic: bool) -> int:
        """Return how many comparisons of the same two arms Holm's method adjusts together: sizes and any generators.

        A generator counts once for each truncation, and only if the images of an arm are `synthetic`.
        """
        truncations = len(self.training.truncation)
        sources = sum(1 if gan.recipe is None else truncations for gan in self.gans) if synthetic else 1
        return len(self.split.sizes) * sources

    def setting_of(self, gan: GanEntry, name: Literal["kimg", "mode"]) -> Any:
        """Return the training length or mode of `gan`: its own setting, else the study's, else its recipe's default."""
        of_study = getattr(self.training, name)
        return getattr(gan.recipe, name) if name in gan.settings or of_study is None else of_study

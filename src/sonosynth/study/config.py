"""The study file: what is compared, as one validated value, section by section.

What is known of recipes, classifiers and metrics is looked up when a file is read for a run. A finished study is read
from its recorded settings (`recorded_design`), so that neither generators nor classifiers are imported for its page.
"""

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sonosynth.core.errors import SonosynthError, StudyError
from sonosynth.core.strict_yaml import DuplicateKeyError, parse_yaml
from sonosynth.core.text import agreeing, counted, did_you_mean
from sonosynth.data.readers.bit_depth import BIT_DEPTHS
from sonosynth.data.source import ReadOptions

if TYPE_CHECKING:
    from sonosynth.classify.arms import ClassBalance
    from sonosynth.classify.training import TrainingSettings
    from sonosynth.metrics.metric import Part
else:
    ClassBalance = Part = str

_RECORDED = "recorded"  # the context of validation where settings were checked by the version that ran the study


class Section(BaseModel):
    """What all sections have: unknown keys are errors, and values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value} stands more than once; name each once")
    return values


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("use printable letters, without space at either end")
    return text


def _check_known(what: str, names: tuple[str, ...], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} '{name}'{did_you_mean(name, known)}; known: {', '.join(known)}")


def _training_default(name: str) -> Any:
    from sonosynth.classify.training import DEFAULT_TRAINING

    return getattr(DEFAULT_TRAINING, name)


def _default_arms() -> tuple[str, ...]:
    from sonosynth.classify.arms import DEFAULT_ARMS

    return DEFAULT_ARMS


def _class_balances() -> "tuple[ClassBalance, ...]":
    from sonosynth.classify.arms import CLASS_BALANCES

    return CLASS_BALANCES


def _parts() -> "tuple[Part, ...]":
    from sonosynth.metrics.metric import PARTS

    return tuple(PARTS)


def _default_quantile() -> float:
    from sonosynth.classify.filters import DEFAULT_QUANTILE

    return DEFAULT_QUANTILE


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


_Distinct = AfterValidator(_distinct)
_OneOrMore = BeforeValidator(_listed)  # a single value may stand without brackets
_Seeds = Annotated[tuple[int, ...], Field(min_length=1), _Distinct]
_Path = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
_Psi = Annotated[float, Field(ge=0, le=1)]


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
    sizes: Annotated[tuple[int, ...], Field(min_length=1), _Distinct]
    draws: int = Field(1, ge=1)
    repeats: int | None = Field(None, ge=2)  # random splits, each with test images of its own and one draw
    seed: int = 0
    # Classifiers on a split that ignores groups, to compare: at all sizes, or these; None: where data.groups is set.
    naive: bool | Annotated[tuple[int, ...], Field(min_length=1), _Distinct] | None = None

    @model_validator(mode="before")
    @classmethod
    def _quarter_by_default(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        if raw.get("test") is not None and raw.get("test_fraction") is not None:
            raise ValueError("give either test_fraction or test, not both")
        given = raw.get("test") is not None or raw.get("test_fraction") is not None
        return raw if given else raw | {"test_fraction": 0.25}

    @field_validator("sizes")
    @classmethod
    def _ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 4:
            raise ValueError("a size must be at least 4")
        return tuple(sorted(sizes))

    @model_validator(mode="after")
    def _repeats_stand_alone(self) -> "SplitSection":
        if self.repeats is not None:
            for name, given in (("test", self.test), ("naive", self.naive), ("draws", self.draws > 1)):
                if given:
                    reason = "every split has one draw" if name == "draws" else "needs one fixed test set"
                    raise ValueError(f"repeats and {name} exclude each other: {reason}; leave out one of the two")
        return self

    @model_validator(mode="after")
    def _naive_divides_the_source(self) -> "SplitSection":
        if self.test is not None and self.naive:
            raise ValueError(
                "test and naive exclude each other: a split without groups has test images of data.source; leave out "
                "one of the two"
            )
        return self

    @model_validator(mode="after")
    def _naive_sizes_are_sizes(self) -> "SplitSection":
        for size in self.naive if isinstance(self.naive, tuple) else ():
            if size not in self.sizes:
                raise ValueError(f"naive names the size {size}, which is not among the sizes; take one of those")
        return self

    def tests_like(self, other: "SplitSection") -> bool:
        """Return whether both set the same images of one data set aside, however subsets are drawn from the rest."""
        fields = ("test", "test_fraction", "validation_fraction", "seed")
        alike = all(getattr(self, name) == getattr(other, name) for name in fields)
        return alike and (self.repeats is None) == (other.repeats is None)

    def naive_sizes(self, grouped: bool) -> tuple[int, ...]:
        """Return the sizes at which classifiers are also trained on a split that ignores groups.

        Args:
            grouped: whether more is known of the groups than the source says.
        """
        if self.test_fraction is None or self.repeats is not None:
            return ()
        if isinstance(self.naive, tuple):
            return self.naive
        return self.sizes if (grouped if self.naive is None else self.naive) else ()


class GanEntry(Section):
    """One generator of the study: a recipe, or a folder of synthetic images made elsewhere."""

    name: _Name
    base: str | None = None  # the recipe that the study file starts from
    recipe: Any = None  # a `Recipe`; in recorded settings its values by name
    settings: tuple[str, ...] = ()  # names of the recipe settings that the study file gives
    folder: _Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, raw: Any, info: ValidationInfo) -> Any:
        if info.context == _RECORDED:
            return raw
        from sonosynth.gan.registry import make_recipe

        if isinstance(raw, str):
            raw = {"base": raw}
        if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
            raise ValueError("a GAN is a recipe's name, a 'base' with settings, or a 'folder' with a 'name'")
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
            raise ValueError("a GAN is a recipe's name, a 'base' with settings, or a 'folder' with a 'name'")
        recipe = make_recipe(base, **settings)
        return {"name": recipe.name, "base": base, "recipe": recipe, "settings": tuple(sorted(settings))}


class TrainingSection(Section):
    """How the generators are trained; what is not given is each recipe's own default."""

    kimg: float | None = Field(None, gt=0)
    mode: Literal["per_class", "conditional"] | None = None
    seeds: _Seeds = (0,)
    snapshot: Literal["last", "best"] = "last"  # best: nearest to the training subset, by kernel distance
    patience_kimg: float | None = Field(None, ge=0.5)  # end a run that has come no nearer for so long
    truncation: Annotated[tuple[_Psi, ...], Field(min_length=1), _OneOrMore, _Distinct] = (1.0,)  # a factor


class ScoresSection(Section):
    """How the synthetic images are scored."""

    features: Annotated[tuple[str, ...], Field(min_length=1), _Distinct] = ("inception",)
    n_synthetic: int = Field(500, ge=20)
    parts: Annotated[tuple[Part, ...], Field(min_length=1), _Distinct] = Field(default_factory=_parts)

    @field_validator("features")
    @classmethod
    def _known_features(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context != _RECORDED:
            from sonosynth.features.registry import list_features

            _check_known("feature network", names, list(list_features()))
        return names

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context != _RECORDED:
            _check_known("part of a scorecard", names, list(_parts()))
        return names


NO_FILTER = "none"


class FilterEntry(Section):
    """Which synthetic images are added to real ones: a level of the factor ``classifiers.filters``.

    `candidates` a real image of the largest class are made of every class, and the first of them that pass are used.
    """

    by: str
    quantile: float = Field(default_factory=_default_quantile, ge=0, lt=1)
    candidates: int = Field(5, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, raw: Any, info: ValidationInfo) -> Any:
        if info.context == _RECORDED:
            return raw
        if isinstance(raw, str):
            raw = {"by": raw}
        if not isinstance(raw, dict) or not isinstance(raw.get("by"), str):
            raise ValueError(f"a filter is a name, or a 'by' with settings; known: {', '.join(_filter_names())}")
        for key in raw:
            if key not in cls.model_fields:
                raise ValueError(f"no setting '{key}' of a filter{did_you_mean(str(key), list(cls.model_fields))}")
        if raw["by"] == NO_FILTER and len(raw) > 1:
            raise ValueError(f"'{NO_FILTER}' takes no settings; write it alone")
        return raw

    @field_validator("by")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if info.context != _RECORDED:
            _check_known("filter", (name,), _filter_names())
        return name


def _filter_names() -> list[str]:
    from sonosynth.classify.filters import FILTERS

    return [NO_FILTER, *FILTERS]


def _unfiltered() -> tuple[FilterEntry, ...]:
    return (FilterEntry(by=NO_FILTER),)


_Positive = Annotated[float, Field(gt=0)]


class ClassifiersSection(Section):
    """Which classifiers are trained on what, and how; the same for every arm."""

    networks: Annotated[tuple[str, ...], _Distinct] = ("resnet18",)
    arms: Annotated[tuple[str, ...], _Distinct] = Field(default_factory=_default_arms)
    ratios: Annotated[tuple[float, ...], Field(min_length=1), _Distinct] = (1.0,)
    fill: Annotated[tuple[ClassBalance, ...], Field(min_length=1), _OneOrMore, _Distinct] = Field(
        default_factory=lambda: _class_balances()[:1]
    )
    filters: Annotated[tuple[FilterEntry, ...], Field(min_length=1), _OneOrMore, _Distinct] = Field(
        default_factory=_unfiltered
    )
    seeds: _Seeds = (0, 1)
    steps: int = Field(default_factory=lambda: _training_default("steps"), ge=20)
    batch: int = Field(default_factory=lambda: _training_default("batch"), ge=2)
    learning_rate: _Positive | None = None  # None: the network's own
    weight_decay: float = Field(default_factory=lambda: _training_default("weight_decay"), ge=0)
    schedule: str = Field(default_factory=lambda: _training_default("schedule"))
    balance: str = Field(default_factory=lambda: _training_default("balance"))
    label_smoothing: float = Field(default_factory=lambda: _training_default("label_smoothing"), ge=0, lt=1)
    dropout: float = Field(default_factory=lambda: _training_default("dropout"), ge=0, lt=1)

    @property
    def trains(self) -> bool:
        """Whether any classifier is trained."""
        return bool(self.networks and self.arms)

    @property
    def training(self) -> "TrainingSettings":
        """How every classifier is trained."""
        from sonosynth.classify.training import TrainingSettings

        return TrainingSettings(**{field.name: getattr(self, field.name) for field in fields(TrainingSettings)})

    @field_validator("fill")
    @classmethod
    def _known_balances(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context != _RECORDED:
            _check_known("class balance", names, list(_class_balances()))
        return names

    @field_validator("schedule", "balance")
    @classmethod
    def _known_training(cls, name: str, info: ValidationInfo) -> str:
        if info.context != _RECORDED:
            from sonosynth.classify.training import BALANCES, SCHEDULES

            field = str(info.field_name)
            _check_known(field, (name,), list(SCHEDULES if field == "schedule" else BALANCES))
        return name

    @field_validator("networks", "arms")
    @classmethod
    def _known_names(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.context == _RECORDED:
            return names
        from sonosynth.classify.arms import find_arm
        from sonosynth.classify.networks import find_network

        return tuple((find_network if info.field_name == "networks" else find_arm)(name).name for name in names)

    @field_validator("filters")
    @classmethod
    def _told_apart(cls, filters: tuple[FilterEntry, ...]) -> tuple[FilterEntry, ...]:
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
                    f"the filter '{entry.by}' judges {counted(entry.candidates, 'candidate')} a real image where "
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

    def kimg_of(self, gan: GanEntry) -> float:
        """Return the training length of `gan`: its own setting, else the study's, else the recipe's default."""
        assert gan.recipe is not None
        own = "kimg" in gan.settings or self.training.kimg is None
        return gan.recipe.kimg if own else float(self.training.kimg or 0)

    def mode_of(self, gan: GanEntry) -> str:
        """Return the mode of `gan`: its own setting, else the study's, else the recipe's default."""
        assert gan.recipe is not None
        own = "mode" in gan.settings or self.training.mode is None
        return gan.recipe.mode if own else str(self.training.mode)


def load_design(path: Path) -> StudyDesign:
    """Read a study file.

    Raises:
        StudyError: the file is missing, is not YAML, or has an unknown key, a key twice or a wrong value; the message
            names it.
    """
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study file") from error
    except DuplicateKeyError as error:
        raise StudyError(f"{path}, {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a date that no calendar has
        raise StudyError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse_design(raw, str(path))


def settings_text(design: StudyDesign) -> str:
    """Return all settings of `design`, defaults included, as YAML: what `recorded_design` reads."""
    return yaml.safe_dump(design.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recorded_design(settings: str, where: str) -> StudyDesign:
    """Return the design of a study that has run, from its `settings_text`; `where` is named in errors.

    Names are not looked up: recipes, networks and metrics of other packages need not be installed. Raises StudyError.
    """
    try:
        return StudyDesign.model_validate(yaml.safe_load(settings), context=_RECORDED)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error)}") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{where}: the settings are not YAML: {' '.join(str(error).split())}") from error


def parse_design(raw: Any, where: str) -> StudyDesign:
    """Return the design in the plain value `raw`; `where` is named in errors. Raises StudyError."""
    if not isinstance(raw, dict):
        raise StudyError(f"{where}: a study file is a mapping with the keys {', '.join(StudyDesign.model_fields)}")
    try:
        return StudyDesign.model_validate(raw)
    except SonosynthError as error:
        raise StudyError(f"{where}: {error}") from error
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error)}") from error


_PLAIN = {
    "tuple_type": "should be a list, such as [a, b]",
    "model_type": "should be a mapping, such as {key: value}",
    "string_pattern_mismatch": "use letters, digits, spaces, dots, dashes and underscores, and begin with one of the "
    "first two",
}


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    location = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        section: type[BaseModel] = StudyDesign
        for part in problem["loc"][:-1]:
            annotation = section.model_fields[str(part)].annotation
            assert isinstance(annotation, type)
            section = annotation
        known = list(section.model_fields)
        key = str(problem["loc"][-1])
        return f"unknown key '{location}'{did_you_mean(key, known)}; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"the key '{location}' is missing"
    message = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"{location}: {message} (found {problem['input']!r})" if location else message


def expand(source: str) -> Path:
    """Return the path of a `source`, with environment variables and ``~`` expanded; ``$$`` stands for a dollar sign.

    Raises:
        StudyError: a variable is not set.
    """
    home = os.path.expanduser(source)  # noqa: PTH111 - that of pathlib raises where there is no such user
    parts = [os.path.expandvars(part) for part in home.split("$$")]
    if any("$" in part for part in parts):
        raise StudyError(f"source '{source}': the environment variable in it is not set; a dollar sign is written $$")
    return Path("$".join(parts))

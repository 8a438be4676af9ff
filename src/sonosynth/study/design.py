"""The study file: what is compared, as one validated value."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from sonosynth.classify.arms import ARMS, find_arm
from sonosynth.classify.networks import NETWORKS
from sonosynth.errors import SonosynthError, StudyError, nearest
from sonosynth.features import known_features
from sonosynth.gan.recipe import Recipe
from sonosynth.gan.recipes import make_recipe
from sonosynth.metrics.families import PARTS, Part


class _Section(BaseModel):
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


_Distinct = AfterValidator(_distinct)
_Seeds = Annotated[tuple[int, ...], Field(min_length=1), _Distinct]
_Path = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]


class DataSection(_Section):
    """Which images, and how they are prepared."""

    source: _Path
    size: Literal[32, 64, 128, 256, 512] = 64
    fit: Literal["stretch", "pad", "crop", "mask"] = "stretch"
    mask_overlays: bool = False
    groups: _Path = "source"  # of the source itself; "audit": duplicates too; else a groups.csv
    drop_conflicts: bool | None = None  # None: where groups are not the source's own
    classes: tuple[str, ...] | None = None  # None: all, sorted by name

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


class SplitSection(_Section):
    """How the images are divided; `sizes` are totals over the classes."""

    test_fraction: float | None = Field(None, gt=0, lt=1)
    test: _Path | None = None  # a source of the user's own instead of a fraction
    sizes: Annotated[tuple[int, ...], Field(min_length=1), _Distinct]
    draws: int = Field(1, ge=1)
    seed: int = 0
    naive: bool | None = None  # classifiers on a split that ignores groups, to compare; None: where data.groups is set

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


class GanEntry(_Section):
    """One generator of the study: a recipe, or a folder of synthetic images made elsewhere."""

    name: _Name
    recipe: SerializeAsAny[Recipe] | None = None
    settings: tuple[str, ...] = ()  # names of the recipe settings that the study file gives
    folder: _Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, raw: Any) -> Any:
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
        return {"name": recipe.name, "recipe": recipe, "settings": tuple(sorted(settings))}


class TrainingSection(_Section):
    """How the generators are trained; what is not given is each recipe's own default."""

    kimg: float | None = Field(None, gt=0)
    mode: Literal["per_class", "conditional"] | None = None
    seeds: _Seeds = (0,)
    snapshot: Literal["last", "best"] = "last"  # best: nearest to the training subset, by kernel distance
    patience_kimg: float | None = Field(None, ge=0.5)  # end a run that has come no nearer for so long


class ScoresSection(_Section):
    """How the synthetic images are scored."""

    features: Annotated[tuple[str, ...], Field(min_length=1), _Distinct] = ("inception",)
    n_synthetic: int = Field(500, ge=20)
    parts: Annotated[tuple[Part, ...], Field(min_length=1), _Distinct] = PARTS

    @field_validator("features")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known_names("feature network", names, list(known_features()))


class ClassifiersSection(_Section):
    """Which classifiers are trained on what."""

    networks: Annotated[tuple[str, ...], _Distinct] = ("resnet18",)
    arms: Annotated[tuple[str, ...], _Distinct] = tuple(ARMS)
    ratios: Annotated[tuple[float, ...], _Distinct] = (1.0,)
    seeds: _Seeds = (0, 1)
    steps: int = Field(200, ge=20)

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _known_names("classifier network", names, list(NETWORKS))

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(find_arm(name).name for name in names)

    @field_validator("ratios")
    @classmethod
    def _positive(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if any(ratio <= 0 for ratio in ratios):
            raise ValueError("ratios of synthetic to real images must be above 0")
        return ratios


def _known_names(what: str, names: tuple[str, ...], known: list[str]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return names


class StudyDesign(_Section):
    """A whole study: data, split, generators, scores and classifiers."""

    name: str = Field(pattern=r"^[\w][\w .-]*$")
    data: DataSection
    split: SplitSection
    gans: tuple[GanEntry, ...] = ()
    training: TrainingSection = TrainingSection()
    scores: ScoresSection = ScoresSection()
    classifiers: ClassifiersSection = ClassifiersSection()

    @field_validator("gans")
    @classmethod
    def _distinct_names(cls, gans: tuple[GanEntry, ...]) -> tuple[GanEntry, ...]:
        names = [gan.name for gan in gans]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two GANs are called '{name}'; give one of them another 'name'")
        return gans

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
        StudyError: the file is missing, is not YAML, or has an unknown key or a wrong value; the message names it.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse_design(raw, str(path))


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
        return f"unknown key '{location}'{nearest(key, known)}; known here: {', '.join(known)}"
    if problem["type"] == "missing":
        return f"the key '{location}' is missing"
    message = _PLAIN.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return f"{location}: {message} (found {problem['input']!r})" if location else message


def expand(source: str) -> Path:
    """Return the path of a `source`, with environment variables and ``~`` expanded.

    Raises:
        StudyError: a variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(source))  # noqa: PTH111 - pathlib does not expand variables
    if "$" in expanded:
        raise StudyError(f"source '{source}': the environment variable in it is not set")
    return Path(expanded)

"""The study file: what is compared, as one validated value."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from sonosynth.core.errors import SonosynthError, StudyError
from sonosynth.core.strict_yaml import DuplicateKeyError, parse_yaml
from sonosynth.core.text import did_you_mean
from sonosynth.study.sections import (
    ClassifiersSection,
    DataSection,
    GanEntry,
    ScoresSection,
    Section,
    SplitSection,
    TrainingSection,
)


class StudyDesign(Section):
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

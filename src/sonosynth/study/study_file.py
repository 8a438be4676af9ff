"""Study files: reading one, saying what is wrong with it, and writing a first one for a folder of images."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from sonosynth.core.errors import SonosynthError, StudyError
from sonosynth.core.strict_yaml import DuplicateKeyError, parse_yaml
from sonosynth.core.text import counted, did_you_mean
from sonosynth.study.config import RECORDED, StudyDesign

if TYPE_CHECKING:
    from sonosynth.data.source import ReadOptions, Source

_PLAIN = {
    "tuple_type": "should be a list, such as [a, b]",
    "model_type": "should be a mapping, such as {key: value}",
    "string_pattern_mismatch": "use letters, digits, spaces, dots, dashes and underscores, and begin with one of the "
    "first two",
}

_TEST_FRACTION = 0.25
_FEWEST = 10  # training images of the smaller size of a first study
_FIRST = """\
# {n} images: {classes}. What every key means: docs/reference/study-file.md
name: {name}
data:
  source: {source}
{read}  size: {size}  # every image becomes {size} x {size} pixels
  fit: stretch  # width and height are scaled separately; crop and pad keep the proportions
  groups: audit  # {groups}
split:
  test_fraction: {test_fraction}  # the test set: nothing is tuned on it, no patient is on both sides
  sizes: {sizes}  # numbers of training images; each set is part of the next
  draws: 1  # how often these are drawn; from three draws on, differences are tested
  seed: 0
gans:  # narrowed for a CPU: on a GPU leave ngf and ndf out, and show 100 kimg
{gans}
training: {{mode: conditional, seeds: [0]}}  # one generator for all classes
scores: {{features: [efficientnet-lite0], n_synthetic: 500}}
classifiers:
  networks: [resnet18]
  arms: [real, real+classical, real+synthetic, real+classical+synthetic, oversampled]
  ratios: [1]  # synthetic images per real image
  seeds: [0, 1]
  steps: 150
"""


def load_design(path: Path) -> StudyDesign:
    """Read a study file. Raises StudyError, which names what is missing, no YAML, unknown, given twice or wrong."""
    try:
        raw = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); give the path of a study file") from error
    except DuplicateKeyError as error:
        raise StudyError(f"{path}, {error}") from error
    except (yaml.YAMLError, ValueError) as error:  # not UTF-8, or a date that no calendar has
        raise StudyError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return parse_design(raw, str(path))


def read_study(study: str | Path | Mapping[str, Any], exclude_known: bool = False) -> tuple[StudyDesign, str]:
    """Return the design in a study file, or in a mapping as it stands in one, and its text.

    With `exclude_known`, ``data.exclude_known`` is set in both. Raises StudyError like `load_design`.
    """
    if isinstance(study, Mapping):
        raw, where = dict(study), "the study"
        design, text = parse_design(raw, where), yaml.safe_dump(raw, sort_keys=False)
    else:
        path, where = Path(study), str(study)
        design, text = load_design(path), path.read_text(encoding="utf-8")
        raw = parse_yaml(text)
    if not exclude_known or design.data.exclude_known:
        return design, text
    raw |= {"data": raw["data"] | {"exclude_known": True}}
    return parse_design(raw, where), yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)


def parse_design(raw: Any, where: str, context: str | None = None) -> StudyDesign:
    """Return the design in the plain value `raw`; `where` is named in errors. Raises StudyError."""
    if not isinstance(raw, dict):
        raise StudyError(f"{where}: a study file is a mapping with the keys {', '.join(StudyDesign.model_fields)}")
    try:
        return StudyDesign.model_validate(raw, context=context)
    except ValidationError as error:
        raise StudyError(f"{where}: {_first_problem(error)}") from error
    except SonosynthError as error:
        raise StudyError(f"{where}: {error}") from error


def settings_text(design: StudyDesign) -> str:
    """Return all settings of `design`, defaults included, as YAML: what `recorded_design` reads."""
    return yaml.safe_dump(design.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recorded_design(settings: str, where: str) -> StudyDesign:
    """Return the design of a study that has run, from its `settings_text`; `where` is named in errors.

    Names are not looked up: recipes, networks and metrics of other packages need not be installed. Raises StudyError.
    """
    try:
        return parse_design(yaml.safe_load(settings), where, RECORDED)
    except yaml.YAMLError as error:
        raise StudyError(f"{where}: the settings are not YAML: {' '.join(str(error).split())}") from error


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
    """Return the path of a `source`, with environment variables and ``~`` expanded; ``$$`` stands for a dollar sign."""
    home = os.path.expanduser(source)  # noqa: PTH111 - that of pathlib raises where there is no such user
    parts = [os.path.expandvars(part) for part in home.split("$$")]
    if any("$" in part for part in parts):
        raise StudyError(f"source '{source}': the environment variable in it is not set; a dollar sign is written $$")
    return Path("$".join(parts))


def read_test_set(given: str, design: StudyDesign) -> "Source":
    """Read `given`, a test set of the user's own, as `data.source` is read; `data.columns` are those of a table."""
    from sonosynth.data.imageset import MANIFEST  # readers take a moment to import, which a page need not wait for
    from sonosynth.data.readers.manifest import LABELS
    from sonosynth.data.scan import read_source

    path, options = expand(given), design.data.options
    if path.suffix.lower() == ".csv" or any((path / name).is_file() for name in (MANIFEST, LABELS)):
        return read_source(path, options)
    return read_source(path, replace(options, path=None, label=None, group=None))


def first_study(given: str | Path, options: "ReadOptions", size: int = 64) -> str:
    """Return the text of a study file to begin with, for the source `given` and images of `size` pixels.

    Two sizes of training sets that it has enough images for, FastGAN, and FastGAN from a prior where one comes with
    this package for that size. Raises SourceError like `read_source`; StudyError: fewer than two classes, or images.
    """
    from sonosynth.data.scan import read_source
    from sonosynth.priors.prior import shipped_priors

    source = read_source(Path(given).expanduser(), options)
    counts = Counter(item.label for item in source.items)
    few = f"{given} has {counted(len(source.items), 'image')} of {counted(len(counts), 'class', 'classes')}"
    if source.synthetic:
        raise StudyError(f"{given} has synthetic images; a study begins with real ones")
    if len(counts) < 2:
        raise StudyError(f"{few}; a study with classifiers needs two classes: one folder of images for each")
    pool = int(len(source.items) * (1 - _TEST_FRACTION) * 0.9)  # some are left out as copies with different labels
    largest = min(200, pool // 5 * 5)
    smallest = largest // (4 if largest >= 100 else 2) // 5 * 5
    if smallest < _FEWEST:
        raise StudyError(f"{few}; with fewer than {_FEWEST * 2 / 0.9 / (1 - _TEST_FRACTION):.0f} nothing can be learnt")
    gans = ["  - {base: fastgan, ngf: 16, ndf: 16, kimg: 10}  # kimg: thousands of training images shown"]
    if any((prior.card.family, prior.card.size) == ("fastgan", size) for prior in shipped_priors()):
        gans.append("  - fastgan+prior  # begins with what it has learnt from other patients")
    read = {"columns": options.columns} if options.columns else {}
    read |= {name: value for name in ("force_dicom", "bits", "axis") if (value := getattr(options, name))}
    groups = {item.group for item in source.items} - {None}
    folder = Path(given).expanduser().resolve()
    folder = folder.parent if folder.is_file() else folder
    return _FIRST.format(
        n=len(source.items),
        classes=", ".join(f"{label} {n}" for label, n in sorted(counts.items())),
        name=_as_yaml(re.sub(r"[^\w .-]", "_", folder.name).lstrip(" .-") or "study"),
        source=_as_yaml(str(given).replace("$", "$$")),
        read="".join(f"  {name}: {_as_yaml(value)}\n" for name, value in read.items()),
        size=size,
        groups="the patients of the source, and copies that an audit finds first, stay on one side of the split"
        if len(groups) < len(source.items) and groups
        else "copies, which an audit finds first, stay on one side of the split; patients are not known here",
        test_fraction=_TEST_FRACTION,
        sizes=_as_yaml([smallest, largest]),
        gans="\n".join(gans),
    )


def _as_yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # of which YAML is a superset

"""The files of a study directory: their names, and how those of JSON are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, unreadable_reason

STUDY_FILE, PROVENANCE, PLAN = "study.yaml", "provenance.json", "plan.json"
IMAGES_CSV, TEST_IMAGES_CSV = "images.csv", "test_images.csv"
"""The manifests of the prepared images, and of a test set of the user's own, kept beside the tables."""
AGAIN = "remove it and run the study again"
UNRECORDED = "an earlier version, which did not record it"
_LARGEST = 1 << 30  # bytes


def study_directory(name: str, out: str | Path | None) -> Path:
    """Return the directory of the study of that `name`: `out`, or ``runs/NAME``."""
    return Path("runs", name) if out is None else Path(out)


class FileModel(BaseModel):
    """What files of a study hold; keys that are unknown belong to other versions."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, ser_json_inf_nan="constants")


def read_object(path: Path, remedy: str = AGAIN) -> Any:
    """Return the content of a JSON file. Raises StudyError, with the `remedy`, if it is missing or damaged."""
    try:
        if why := unreadable_reason(path, _LARGEST):  # it would be waited for, and never end
            raise StudyError(f"{path} is {why}; {remedy}")
        return read_json(path)
    except FileNotFoundError as error:
        raise StudyError(f"{path} is missing; {remedy}") from error
    except ValueError as error:  # no JSON, or no text
        raise StudyError(f"{path} is damaged ({error}); {remedy}") from error


def read_mapping(path: Path, key: str, remedy: str = AGAIN) -> dict[str, Any]:
    """Return the JSON object in a file, which must have `key`. Raises StudyError, with the `remedy`."""
    content = read_object(path, remedy)
    if not isinstance(content, dict) or key not in content:
        raise StudyError(f"{path} is damaged (it is no object with '{key}'); {remedy}")
    return content


def validated(model: type[BaseModel], values: Any, path: Path) -> Any:
    """Return `values` as the `model`. Raises StudyError, which names the file and the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing":
            raise StudyError(f"{path} lacks the field '{field}'; {AGAIN}") from error
        what = f"{field}: {problem['msg']}" if field else problem["msg"]
        raise StudyError(f"{path} is damaged ({what}); {AGAIN}") from error


def machine_in_words(machine: Mapping[str, Any] | None) -> str:
    """Return what of a machine and its libraries may change a result beyond the last digits."""
    if machine is None:
        return UNRECORDED
    versions = machine.get("versions") or {}
    parts = [machine.get("device"), machine.get("precision")]
    parts += [f"{name} {versions[name]}" for name in ("sonosynth", "torch") if name in versions]
    return ", ".join(str(part) for part in parts if part)

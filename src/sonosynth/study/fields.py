"""JSON files of a study directory, read field by field: what is damaged or absent is named with its file."""

from pathlib import Path
from typing import Any

from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, unreadable_reason

_LARGEST = 1 << 30  # bytes
AGAIN = "remove it and run the study again"


class Fields:
    """Fields of one JSON object; a missing one is an error that names the file."""

    def __init__(self, file: Path, values: object) -> None:
        if not isinstance(values, dict):
            raise StudyError(f"{file}: a JSON object is needed where {type(values).__name__} stands; remove the file")
        self.file, self.values = file, values

    def required(self, name: str) -> Any:
        """Return the field. Raises StudyError if it is absent."""
        if name not in self.values:
            raise StudyError(f"{self.file} lacks the field '{name}'; remove the file and run the study again")
        return self.values[name]

    def optional(self, name: str) -> Any:
        """Return the field, or None where it is absent or empty."""
        value = self.values.get(name)
        return None if value == "" else value


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

"""Tables that people write: comma-separated, in UTF-8, with a line of column names; and which column says what."""

import csv
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_VR, keyword_dict

from sonosynth.core.errors import ManifestError
from sonosynth.core.files import unreadable_reason
from sonosynth.core.text import counted, did_you_mean
from sonosynth.data.source import ReadOptions

UID = "sop_instance_uid"
# What public tables call the columns of file and class, without case, where they have none called path or label.
_PATHS = ("path", "filename", "file_name", "file", "image", "image_filename", "image_name", "image_path", "file_path")
_LABELS = ("label", "class")
# What programs write where a value is missing; no class or patient is called so.
_MISSING = frozenset(("", "nan", "na", "n/a", "<na>", "null", "#n/a"))
# Columns that tell which images are of one patient, by their names without "_", "-" and spaces; the best first.
_PATIENTS = tuple(
    re.compile(rf"({what})(s?(id|ids|no|nr|number|num|code|key|name|uid|index|identifier))?")
    for what in (
        "patient|pat|pid",
        "subject|person|participant|proband|animal|mrn",
        "case",
        "lesion",
        "exam(ination)?|study",
    )
)
_MASKS = re.compile(r"masks?([_\- ].*)?", re.IGNORECASE)
# Columns that may tell who a patient is, by their names without "_", "-" and spaces; beside DICOM files they are not
# copied. They are called like a DICOM element of a name, date, time or UID, begin like those of people and places, or
# are one of a few more. What a patient is like is kept.
_TELLING_VR = frozenset(("PN", "DA", "TM", "DT", "UI"))
_TELLING = re.compile(
    r"patient(?!s?(age|sex|gender|size|height|weight|bmi|position|orientation))"
    r"|institution|operator|physician|referring|performing|otherpatientid|issuerofpatientid|accessionnumber|studyid$"
    r"|admissionid|deviceserialnumber|stationname"
)


@dataclass(frozen=True)
class Columns:
    """Which column of a table gives the files (None: `UID` does, by their DICOM instances), classes and patients."""

    path: str | None
    label: str
    group: str | None
    notes: tuple[str, ...] = ()

    @property
    def searched(self) -> bool:
        """Whether `path` was not written for this program, so that it may hold names without folder or suffix."""
        return self.path not in (None, "path")


def choose_columns(table: Path, header: Sequence[str], options: ReadOptions) -> Columns:
    """Return which of the columns `header` of `table` says what.

    Raises ManifestError if one that `options` name, or one for files or classes, is not there.
    """
    for option, name in options.columns.items():
        if name not in header:
            raise ManifestError(
                f"{table} has no column '{name}'{did_you_mean(name, list(header))}, which --{option} names; "
                f"its columns: {', '.join(header)}"
            )
    path = options.path or _called(_PATHS, header)
    label = options.label or _called(_LABELS, header)
    if label is None or (path is None and UID not in header):
        name = "label" if path or UID in header else "path"
        raise ManifestError(
            f"{table} lacks the column '{name}'{near_column(name, header)}; the first line must be path,label or "
            f"path,label,group, or name the column with --{name}"
        )
    guessed = [f"'{found}' as {name}" for name, found in (("path", path), ("label", label))
               if found not in (None, name, getattr(options, name))]  # fmt: skip
    notes = (f"columns taken: {' and '.join(guessed)}",) if guessed else ()
    if options.path is None and UID in header and "path" not in header:
        path, notes = None, ()
    return Columns(path, label, options.group or ("group" if "group" in header else None), notes)


def near_column(name: str, header: Sequence[str]) -> str:
    """Return what may have become of column `name`, which `header` lacks; an empty string if nothing is near."""
    return " (separated by ';'? use ',')" if any(";" in column for column in header) else did_you_mean(name, header)


def _called(names: Sequence[str], header: Sequence[str]) -> str | None:
    """Return the column that is called by the first of `names` that one is called by; as written wins over any case."""
    if names[0] in header:
        return names[0]
    return next((column for name in names for column in header if column.casefold() == name), None)


def is_missing(text: str) -> bool:
    """Return whether `text` is what tables hold where a value is missing."""
    return text.strip().casefold() in _MISSING


def mask_columns(header: Sequence[str]) -> list[str]:
    """Return the columns that may name files of masks, such as ``mask`` or ``Mask_tumor_filename``."""
    return [name for name in header if _MASKS.fullmatch(name)]


def patient_note(columns: Mapping[str, Sequence[str]], groups: Sequence[str | None]) -> list[str]:
    """Return a line about a column that seems to say which patient an image is of, and is not used for the `groups`."""
    for pattern in _PATIENTS:
        for name, values in columns.items():
            if not pattern.fullmatch(re.sub(r"[\W_]", "", name.casefold())):
                continue
            members: dict[str, set[object]] = {}
            for place, (value, group) in enumerate(zip(values, groups, strict=True)):
                if not is_missing(value):
                    members.setdefault(value, set()).add(place if group is None else group)
            if len(members) > 1 and any(len(of) > 1 for of in members.values()):
                return [
                    f"column '{name}' repeats: use it as group with --group {shlex.quote(name)} (data.columns.group in "
                    "a study file) if it says which patient an image is of, so that no patient is divided"
                ]
    return []


def identifying_columns(header: Collection[str]) -> list[str]:
    """Return the columns that may tell who a patient is, by their names."""
    telling = {word.casefold() for word, tag in keyword_dict.items() if word and dictionary_VR(tag) in _TELLING_VR}
    plain = {name: re.sub(r"[\W_]", "", name.casefold()) for name in header}
    return [name for name in header if _TELLING.match(plain[name]) or plain[name] in telling]


_LARGEST = 1 << 28  # bytes


def rows_by_column(
    path: Path, header: Sequence[str], lines: Sequence[tuple[int, list[str]]]
) -> list[tuple[int, dict[str, str]]]:
    """Return what `read_table` found as cells by column. Raises ManifestError if a row has another number of cells."""
    for line, cells in lines:
        if len(cells) != len(header):
            raise ManifestError(
                f"{path}, line {line}: {counted(len(cells), 'field')} where the first line has {len(header)}; "
                "put values that contain a comma into double quotes"
            )
    return [(line, dict(zip(header, cells, strict=True))) for line, cells in lines]


def read_table(path: Path, advice: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names of the table at `path`, and its rows that are not empty with their line numbers.

    Raises ManifestError if it is no plain file, too large, or no such table; `advice` says what to do if it cannot be
    opened.
    """
    try:
        if why := unreadable_reason(path, _LARGEST):
            raise ManifestError(f"{path} is {why}; give a table with one image per line")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if len(header) in (1, 2) and header[0].casefold().startswith("sep="):
                raise ManifestError(
                    f"{path} begins with the line '{','.join(header)}', which spreadsheets write for themselves; "
                    "remove that line, and save the table with commas"
                )
            if len(header) == 1 and "\t" in header[0]:
                raise ManifestError(f"{path} is separated by tabs; save it as 'CSV UTF-8', separated by commas")
            return header, [(reader.line_num, cells) for cells in reader if any(cells)]
    except OSError as error:
        raise ManifestError(f"{path} cannot be read ({error.strerror}); {advice}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"{path} is not a comma-separated table in UTF-8 ({error}); save it as 'CSV UTF-8'"
        ) from error

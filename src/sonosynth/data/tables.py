"""Tables that people write: comma-separated, in UTF-8, with a line of column names."""

import csv
from pathlib import Path

from sonosynth.core.errors import ManifestError
from sonosynth.core.files import refusal

_LARGEST = 1 << 28  # bytes


def read_table(path: Path, advice: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names of the table at `path`, and its rows that are not empty with their line numbers.

    Raises:
        ManifestError: it is no plain file, too large, or no such table; `advice` ends the line where it cannot be read.
    """
    try:
        if why := refusal(path, _LARGEST):
            raise ManifestError(f"{path} is {why}; give a table with one image a line")
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

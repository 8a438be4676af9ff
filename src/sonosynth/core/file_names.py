"""Names of files that every file system takes, and tells apart."""

import re
import unicodedata
from collections.abc import Iterable

_LONGEST = 200  # bytes of a name made by `safe_name`; file systems take 255, and a suffix is still to come
# Names that Windows keeps for devices, with any suffix.
_DEVICE_NAMES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{kind}{i}" for kind in ("COM", "LPT") for i in range(1, 10)))
)


def folder_names(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Return a folder name for each of `names` that every file system takes, and that tells them apart.

    A name that is one already keeps it, unless it is `reserved`. Names that differ only in what had to change, in case,
    or in how accents are composed, are numbered.
    """
    folders: dict[str, str] = {}
    used = {portable_key(name) for name in reserved}
    for name in names:
        stem = safe_name(name)
        folder = stem
        while portable_key(folder) in used:
            folder = f"{stem}~{len(used)}"
        used.add(portable_key(folder))
        folders[name] = folder
    return folders


def portable_key(name: str) -> str:
    """Return what two names have in common if a file system somewhere takes them for one: case, composed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def safe_name(name: str) -> str:
    """Return `name` as a file name: letters, digits, spaces and ``_().+-``, no dot or space at either end.

    It has at most 200 bytes, and is not one that Windows keeps for devices.
    """
    allowed = re.sub(r"[^\w() .+-]", "_", name)
    safe = allowed.strip(" .").encode()[:_LONGEST].decode(errors="ignore").strip(" .") or "_"
    return f"_{safe}" if safe.split(".")[0].rstrip().upper() in _DEVICE_NAMES else safe


def is_portable(part: str) -> bool:
    """Return whether every file system takes `part`, one name of a path."""
    if any(letter < " " or letter in '<>:"|?*\x7f' or "\ud800" <= letter <= "\udfff" for letter in part):
        return False
    if part[-1] in " ." or part.split(".")[0].rstrip().upper() in _DEVICE_NAMES:
        return False
    return len(part.encode()) <= 255

"""One folder of a source, its entries sorted into images, other files and subfolders."""

import re
from pathlib import Path

from sonosynth.data import clips, dicom, pictures, volumes
from sonosynth.data.source import check_name, entries

_MASK = re.compile(r"(?P<image>.+)_mask(_\d+)?", re.IGNORECASE)


def is_image(path: Path) -> bool:
    """Return whether `path` is named as a picture, a clip or a volume, or is a DICOM file. Raises SourceError."""
    named = path.suffix.lower() in pictures.SUFFIXES | clips.SUFFIXES or volumes.is_volume(path)
    return named or dicom.is_dicom(path)


class Folder:
    """The entries of one folder, in natural order.

    Attributes:
        images: pictures, clips, volumes and DICOM files; with `nested`, also the DICOM files of its subfolders at any
            depth.
        side: files that are none of these, and do not hold the pixels of a volume.
        hidden: files and folders whose names begin with a dot.
        folders: subfolders.
        looked_into: those of `folders` that hold DICOM files.
    """

    def __init__(self, path: Path, nested: bool = False) -> None:
        """List `path`. Raises SourceError if it cannot be listed or a name is not text."""
        shown, self.hidden = entries(path)
        self.folders = [entry for entry in shown if entry.is_dir()]
        # A broken link counts as an image, so that it is named as unreadable and not lost.
        files = [entry for entry in shown if not entry.is_dir()]
        self.images = [entry for entry in files if is_image(entry)]
        images = set(self.images)
        images |= volumes.data_files(self.images)
        self.side = [entry for entry in files if entry not in images]
        below = {sub: dicom.dicom_files(sub) for sub in self.folders if nested and not sub.is_symlink()}
        self.looked_into = [sub for sub, found in below.items() if found]
        self.images += [file for found in below.values() for file in found]
        for entry in (path, *self.images) if self.images else ():
            check_name(entry)

    def stems(self) -> set[str]:
        """Return the names of the images without suffix."""
        return {path.stem for path in self.images}

    def masks(self) -> dict[Path, str]:
        """Return the files named like masks with the stem of the image each belongs to."""
        matches = {path: _MASK.fullmatch(path.stem) for path in self.images}
        return {path: match["image"] for path, match in matches.items() if match}

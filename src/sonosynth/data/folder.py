"""One folder of a source, its entries sorted into images, other files and subfolders."""

import re
from pathlib import Path

from sonosynth.data import clips, dicom, pictures
from sonosynth.data.source import check_name, entries

_MASK = re.compile(r"(?P<image>.+)_mask(_\d+)?", re.IGNORECASE)


def is_image(path: Path, force_dicom: bool = False) -> bool:
    """Return whether the name of `path` is that of a picture or a clip, or it is a DICOM file. Raises SourceError."""
    return path.suffix.lower() in pictures.SUFFIXES | clips.SUFFIXES or dicom.is_dicom(path, force_dicom)


class Folder:
    """The entries of one folder, in natural order.

    Attributes:
        images: pictures, clips and DICOM files; with `nested`, also the DICOM files of its subfolders at any depth.
        side: files that are none of these.
        hidden: files and folders whose names begin with a dot.
        folders: subfolders.
        looked_into: those of `folders` that hold DICOM files.
    """

    def __init__(self, path: Path, nested: bool = False, force_dicom: bool = False) -> None:
        """List `path`; `force_dicom`: see `is_dicom`. Raises SourceError if that fails or a name is not text."""
        shown, self.hidden = entries(path)
        self.folders = [entry for entry in shown if entry.is_dir()]
        # A broken link counts as an image, so that it is named as unreadable and not lost.
        files = [entry for entry in shown if not entry.is_dir()]
        self.images = [entry for entry in files if is_image(entry, force_dicom)]
        images = set(self.images)
        self.side = [entry for entry in files if entry not in images]
        below = {sub: dicom.dicom_files(sub, force_dicom) for sub in self.folders if nested and not sub.is_symlink()}
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

"""One folder of a source, its entries sorted into images, other files and subfolders."""

import os
from collections.abc import Iterable
from pathlib import Path

from sonosynth.data.readers import clips, pictures, volumes
from sonosynth.data.readers.dicom import header as dicom
from sonosynth.data.source import check_name, entries, files_below


def is_image(path: Path, force_dicom: bool) -> bool:
    """Return whether `path` is named as a picture, a clip or a volume, or is a DICOM file. Raises SourceError."""
    named = path.suffix.lower() in pictures.SUFFIXES | clips.SUFFIXES or volumes.is_volume(path)
    return named or dicom.is_dicom(path, force_dicom)


class Folder:
    """The entries of one folder, in natural order.

    Attributes:
        images: pictures, clips, volumes and DICOM files in the folder itself.
        below: the same of each subfolder, at any depth; subfolders without any are not listed.
        side: files that are none of these, and do not hold the pixels of a volume.
        hidden: files and folders that a system or a program keeps for itself (see `source.entries`).
        folders: subfolders.
        linked: those of `folders` that are links, which are not looked into.
    """

    def __init__(self, path: Path, force_dicom: bool, nested: bool = False) -> None:
        """List `path`, and if `nested` its subfolders; `force_dicom`: see `is_dicom`.

        Raises SourceError if a folder cannot be listed, or a name is not text.
        """
        shown, self.hidden = entries(path)
        self.folders = [entry for entry in shown if entry.is_dir()]
        # A broken link counts as an image, so that it is named as unreadable and not lost.
        files = [entry for entry in shown if not entry.is_dir()]
        self.images = [entry for entry in files if is_image(entry, force_dicom)]
        images = set(self.images)
        images |= volumes.data_files(self.images)
        self.side = [entry for entry in files if entry not in images]
        self.below: dict[Path, list[Path]] = {}
        self.linked = [sub for sub in self.folders if nested and (sub.is_symlink() or _leads_up(path))]
        for sub in self.folders if nested else ():
            if sub not in self.linked and (found := list(images_below(sub, force_dicom))):
                self.below[sub] = found
        for entry in (path, *self.images) if self.all_images else ():
            check_name(entry)

    @property
    def all_images(self) -> list[Path]:
        """Images in the folder and below."""
        return [*self.images, *(image for found in self.below.values() for image in found)]


def images_below(folder: Path, force_dicom: bool) -> Iterable[Path]:
    """Yield the images in `folder` and below, in natural order; hidden ones and linked folders are left out.

    Raises SourceError if a folder cannot be listed, or a name on the way to an image is not text.
    """
    checked = set()
    for file in files_below(folder):
        if is_image(file, force_dicom):
            for place in (file, *file.parents):
                if place in checked or place == folder.parent:
                    break
                check_name(place)
                checked.add(place)
            yield file


def _leads_up(folder: Path) -> bool:
    """Return whether `folder` is a link to a folder above it, so that looking into it would never come to an end."""
    return folder.is_symlink() and Path(os.path.realpath(folder.parent)).is_relative_to(os.path.realpath(folder))

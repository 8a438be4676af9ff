"""Folders of labelled images, one folder per class: what lies in them, and what that says of classes and groups."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from sonosynth.core.errors import SourceError
from sonosynth.core.text import counted
from sonosynth.data.imageset import MANIFEST
from sonosynth.data.masks import find_masks, is_images_folder, masks_in_own_folders
from sonosynth.data.readers.dicom.header import is_dicom
from sonosynth.data.readers.frames import all_synthetic, expand_frames
from sonosynth.data.readers.registry import data_files, is_image
from sonosynth.data.source import (
    ReadOptions,
    Source,
    SourceItem,
    check_file_name,
    count_suffixes,
    formulas,
    links_out,
    list_folder,
    similar_class_names,
    some_of,
    walk_files,
)

# What people call the parts of a data set that was divided before.
_PART = re.compile(
    r"(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval(uation)?|hold[_\-. ]?out|(fold|split|part)[_\-. ]?\d+)"
    r"([_\-. ]?(sets?|data|images?))?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"\d")


class Folder:
    """The entries of one folder, and if `nested` of its subfolders, in natural order.

    Raises SourceError if a folder cannot be listed, or a name is not text.
    """

    def __init__(self, path: Path, options: ReadOptions, nested: bool = False) -> None:
        shown, self.hidden = list_folder(path)
        self.folders = [entry for entry in shown if entry.is_dir()]
        # A broken link counts as an image, so that it is named as unreadable and not lost.
        files = [entry for entry in shown if not entry.is_dir()]
        self.images = [entry for entry in files if is_image(entry, options)]
        taken = {*self.images, *data_files(self.images)}
        self.side = [entry for entry in files if entry not in taken]  # neither images nor the pixels of a volume
        self.below: dict[Path, list[Path]] = {}  # the images of each subfolder that has some, at any depth
        # Links are not looked into; one to a folder above it would be without end.
        above = path.is_symlink() and Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(path))
        self.linked = [sub for sub in self.folders if nested and (sub.is_symlink() or above)]
        for sub in self.folders if nested else ():
            if sub not in self.linked and (found := list(images_below(sub, options))):
                self.below[sub] = found
        for entry in (path, *self.images) if self.all_images else ():
            check_file_name(entry)

    @property
    def all_images(self) -> list[Path]:
        """Images in the folder and below."""
        return [*self.images, *(image for found in self.below.values() for image in found)]


def images_below(folder: Path, options: ReadOptions) -> Iterable[Path]:
    """Yield the images in `folder` and below, in natural order; hidden ones and linked folders are left out.

    Raises SourceError if a folder cannot be listed, or a name on the way to an image is not text.
    """
    checked = set()
    for file in walk_files(folder):
        if is_image(file, options):
            for place in (file, *file.parents):
                if place in checked or place == folder.parent:
                    break
                check_file_name(place)
                checked.add(place)
            yield file


def read_folders(root: Path, here: Folder, options: ReadOptions) -> Source:
    """Return the images in the class folders below `root`, whose entries are `here`. Raises SourceError."""
    force = options.force_dicom
    found = {folder.name: Folder(folder, options, nested=True) for folder in here.folders}
    apart = masks_in_own_folders(root, [path for folder in found.values() for path in folder.all_images])
    base, masks_in = root, set(apart)
    left = [name for name, folder in found.items() if set(folder.all_images) - masks_in]
    _check_parts(root, {name: found[name] for name in left}, masks_in)
    if apart and len(left) == 1 and is_images_folder(left[0]) and not found[left[0]].images:
        base = root / left[0]  # images/CLASS and masks/CLASS
        found = {folder.name: Folder(folder, options, nested=True) for folder in found[left[0]].folders}
        _check_parts(base, {name: folder for name, folder in found.items() if folder.all_images}, masks_in)
    pictures = {
        name: there
        for name, folder in sorted(found.items())
        if (there := [path for path in folder.all_images if path not in masks_in])
    }
    if not pictures:
        raise SourceError(_nothing_in(root, here, found, force))
    first, *others = pictures
    if not (others or found[first].images or all(is_dicom(path, force) for path in found[first].all_images)):
        raise SourceError(
            f"{root} has no images in its folders, but {base / first} has, in its subfolders: "
            f"{some_of(sub.name for sub in found[first].below)}; give that folder instead if these are the classes"
        )
    masks = find_masks([path for there in pictures.values() for path in there], apart)
    # A subfolder of a class folder is a patient, unless it is called "images" or holds all images of all classes, as in
    # CLASS/US/PATIENT/*.png. DICOM files say themselves of which patient they are.
    subfolders = {
        path: [part for part in path.relative_to(base / name).parts[:-1] if not is_images_folder(part)]
        for name, there in pictures.items()
        for path in there
        if not is_dicom(path, force)
    }
    levels = zip(*subfolders.values(), strict=False) if others else ()
    shared = [names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels)]
    files = []
    for name, there in pictures.items():
        for path in there:
            if path not in masks.files:
                patient = next(iter(subfolders.get(path, [])[len(shared) :]), None)
                files.append(SourceItem(path, name, patient, "", masks=masks.of.get(path, ())))
    if bare := [name for name in pictures if name not in {item.label for item in files}]:
        raise SourceError(f"{base / bare[0]} holds only masks; put the masks beside their images or outside {root}")
    beside = any(mask.parent == image.parent for image, of in masks.of.items() for mask in of)
    notes = [f"subfolder '{name}' holds all images of all classes: no group" for name in shared]
    notes += [*masks.notes(), *_folder_notes(here, found, files), *links_out(root, (item.path for item in files))]
    items, more = expand_frames(root, files, False, options)
    held = {item.label for item in items}
    if not held:
        raise SourceError(f"{root} holds no images, only other DICOM objects; give a folder with images")
    notes += [f"class '{name}' holds no images, only other DICOM objects" for name in pictures if name not in held]
    classes = tuple(name for name in pictures if name in held)
    notes += [*more, *similar_class_names(classes), *formulas((item.id, item.label) for item in items)]
    all_dicom = subfolders.keys().isdisjoint(item.path for item in files)
    kind = "DICOM folder" if all_dicom else "BUSI layout" if beside else "image folder"
    return Source(kind, root, items, classes, tuple(notes), all_synthetic(root, items), options)


def _check_parts(root: Path, holding: Mapping[str, Folder], masks: set[Path]) -> None:
    """Raise SourceError if the folders `holding` images are parts of a data set, such as train and test."""
    below = {name: folder for name, folder in holding.items() if not folder.images}
    inside = sorted({sub.name for folder in holding.values() for sub in folder.below if _PART.fullmatch(sub.name)})
    if inside and len(holding) > 1:
        raise SourceError(
            f"{root}: the class folders are divided into parts of a data set ({some_of(inside)}), which are no "
            "patients; put the classes into the parts (such as train/CLASS), or list the images in a manifest.csv "
            "(path,label)"
        )
    parts = [name for name in below if _PART.fullmatch(name) or (root / name / MANIFEST).is_file()]
    subfolders = [
        {sub.name for sub, files in folder.below.items() if not (is_images_folder(sub.name) or masks.issuperset(files))}
        for folder in below.values()
    ]
    same = len(below) > 1 and all(names == subfolders[0] for names in subfolders) and len(subfolders[0]) > 1
    if same and len(below) == len(holding) and not any(_NUMBERED.search(name) for name in subfolders[0]):
        parts = list(below)  # the same classes in each: hospitals, say
    if not parts and len(holding) > 1 and all(map(_PART.fullmatch, holding)):
        raise SourceError(
            f"{root}: the folders {some_of(holding)} are parts of a data set, and nothing says of what class their "
            "images are; put the images into one folder per class in each, or list them in a manifest.csv (path,label)"
        )
    if not parts or not all(name in parts or _PART.fullmatch(name) for name in holding):
        return
    order = sorted(parts, key=lambda name: (not name.casefold().startswith("train"), name))
    test = next((name for name in order[1:] if name.casefold().startswith(("test", "hold"))), None)
    last, study = root / order[-1], ""
    places = f"{last} has"
    if len(order) > 1:
        places = f"{some_of(str(root / name) for name in order[:-1])} and {last} have, as parts of a data set"
        study = f"; in a study, give data.source: {root / order[0]}{f' and split.test: {root / test}' if test else ''}"
    raise SourceError(f"{root} has no images in its folders, but {places}; give one of them as SOURCE{study}")


def _folder_notes(here: Folder, found: Mapping[str, Folder], files: Sequence[SourceItem]) -> list[str]:
    notes = []
    if here.images:
        outside = some_of((path.name for path in here.images), 3)
        notes.append(f"{counted(len(here.images), 'image')} outside the class folders left out: {outside}")
    if side := [path for folder in (here, *found.values()) for path in folder.side]:
        are = counted(len(side), "file that is not an image", "files that are not images")
        notes.append(f"{are} left out: {count_suffixes(side)}")
    if tables := [path.name for path in here.side if path.suffix.lower() == ".csv"]:
        notes.append(
            f"{some_of(tables, 3)} not read: if it lists the images, give it as SOURCE and name its columns with "
            "--path, --label and --group"
        )
    if hidden := sum(len(folder.hidden) for folder in (here, *found.values())):
        notes.append(f"{counted(hidden, 'hidden or system file')} left out")
    if bare := [name for name, folder in found.items() if not folder.all_images]:
        are = counted(len(bare), "folder without images is not a class", "folders without images are not classes")
        notes.append(f"{are}: {some_of(bare)}")
    if linked := [f"{name}/{sub.name}" for name, folder in found.items() for sub in folder.linked]:
        notes.append(f"{counted(len(linked), 'linked folder')} inside class folders not looked into: {some_of(linked)}")
    labels: dict[str, set[str]] = {}
    grouped = [item for item in files if item.group is not None]
    for item in grouped:
        labels.setdefault(item.group or "", set()).add(item.label)
    if labels:
        several = some_of((name for name, of in labels.items() if len(of) > 1), 3)
        notes.append(
            f"{counted(len(grouped), 'image')} in subfolders of class folders: each subfolder is a group (a patient), "
            f"{counted(len(labels), 'group')}"
            + (f"; a subfolder of the same name in several classes is one group: {several}" if several else "")
        )
    return notes


def _nothing_in(root: Path, here: Folder, found: Mapping[str, Folder], force: bool) -> str:
    if here.images and all(is_dicom(path, force) for path in here.images):
        return (
            f"{root}: {counted(len(here.images), 'DICOM file lies', 'DICOM files lie')} in the folder itself and "
            "nothing says what they show; put them into one folder per class, or add a "
            "labels.csv with the columns path,label or sop_instance_uid,label"
        )
    if here.images:
        return (
            f"{root}: {counted(len(here.images), 'image lies', 'images lie')} in the folder itself; give the folder "
            "above it if this is one class, else put them into one folder per class or list them in a manifest.csv "
            "(path,label)"
        )
    for name in found:
        if (root / name / MANIFEST).is_file():
            return f"{root} has no images in its folders, but {root / name} has; give that folder instead"
    side = [path for folder in (here, *found.values()) for path in folder.side]
    what = f" (only {count_suffixes(side)})" if side else ""
    return f"{root} holds no images{what}; give a folder with one folder of images per class, or a manifest.csv"

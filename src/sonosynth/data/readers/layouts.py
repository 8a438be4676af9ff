"""From a folder, a manifest or a file of arrays to a list of labelled images; nothing is decoded here."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sonosynth.core.errors import SourceError
from sonosynth.core.text import counted
from sonosynth.data.imageset import MANIFEST
from sonosynth.data.readers.arrays import SUFFIX, read_npz
from sonosynth.data.readers.dicom.header import dicom_files, is_dicom
from sonosynth.data.readers.folder import Folder, images_below
from sonosynth.data.readers.frames import spread
from sonosynth.data.readers.manifests import (
    DATASET_JSON,
    LABELS,
    dataset_json_labels,
    names_images,
    read_dataset_json,
    read_manifest,
)
from sonosynth.data.readers.masks import find_masks, is_images_folder, masks_apart
from sonosynth.data.source import ReadOptions, Source, SourceItem, alike, named, natural_key, suffixes
from sonosynth.data.source_warnings import formulas, links_out

__all__ = ["ReadOptions", "Source", "SourceItem", "named", "natural_key", "read_source"]

# What people call the parts of a data set that was divided before.
_PART = re.compile(
    r"(train(ing)?|val(id(ation)?)?|test(ing)?|dev|eval(uation)?|hold[_\-. ]?out|(fold|split|part)[_\-. ]?\d+)"
    r"([_\-. ]?(sets?|data|images?))?",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"\d")


def read_source(path: Path, options: ReadOptions | None = None) -> Source:
    """Find the labelled images under `path`, of which nothing is decoded.

    `path` is a folder in BUSI layout, a folder with one folder a class, a manifest.csv or the folder it lies in, or an
    .npz file (see `arrays.read_npz`). In folders lie pictures, clips and volumes (of which a few frames or slices are
    taken, see `clips` and `volumes`) and DICOM files (every frame is taken, see `dicom`); docs/reference/sources.md has
    all rules.

    A manifest wins over folders, and so do a table of labels (labels.csv) and StyleGAN's dataset.json. Masks are paired
    with their images, by their names, places and content (see `masks`). In subfolders of class folders every image is
    read, with the subfolder as its group; DICOM files say themselves of which patient they are.

    Args:
        path: the folder or file.
        options: what the user says of it.

    Raises:
        SourceError: `path` does not exist, holds no images in class folders, or is not an .npz file that is read.
        ManifestError: the manifest lacks columns, names a missing file, one file twice, or a file elsewhere.
    """
    options = options or ReadOptions()
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path, options)
    if path.is_file() and path.name == DATASET_JSON:
        return read_dataset_json(path, options)
    if path.is_file() and path.suffix.lower() == SUFFIX:
        _check_no_columns(path, options)
        return read_npz(path, options)
    if not path.is_dir():
        what = "is neither a folder nor a manifest.csv nor an .npz file" if path.exists() else "does not exist"
        if not path.exists() and not path.is_absolute():
            what += f" in the current folder {Path.cwd()}"
        raise SourceError(f"{path} {what}; give a folder with one folder a class, a manifest.csv or an .npz file")
    manifest = path / MANIFEST
    # A link to nothing is a mistake to tell, not a folder without a manifest.
    if manifest.is_symlink() or (manifest.exists() and not manifest.is_dir()):
        return read_manifest(manifest, options)
    here = Folder(path, options.force_dicom)
    return _read_table_in(path, here, options) or _read_folders(path, here, options)


def _read_table_in(root: Path, here: Folder, options: ReadOptions) -> Source | None:
    """Return the images that a table in the folder `root` lists, if there is one that is meant to. Raises SourceError.

    Where there are class folders, a table without columns for files and classes is about something else.
    """
    force = options.force_dicom
    tables = [path for path in here.side if path.suffix.lower() == ".csv"]
    labels = [path for path in tables if path.name == LABELS]
    if options.columns and not labels:
        labels = tables
        if len(labels) > 1:
            raise SourceError(
                f"{root} holds {len(labels)} tables: {named((p.name for p in labels), 5)}; give one as SOURCE"
            )
    if labels and (here.images or options.columns or dicom_files(root, force) or names_images(labels[0], options)):
        return read_manifest(labels[0], options)
    labelled = root / DATASET_JSON
    if labelled.is_file() and (
        dataset_json_labels(labelled) is not None
        or not any(any(images_below(folder, force)) for folder in here.folders)
    ):
        return read_dataset_json(labelled, options)
    return None


# ---------------------------------------------------------------------------------------------------- folders


def _read_folders(root: Path, here: Folder, options: ReadOptions) -> Source:
    _check_no_columns(root, options)
    force = options.force_dicom
    found = {folder.name: Folder(folder, force, nested=True) for folder in here.folders}
    apart = masks_apart(root, [path for folder in found.values() for path in folder.all_images])
    base, masks_in = root, set(apart)
    left = [name for name, folder in found.items() if set(folder.all_images) - masks_in]
    _check_parts(root, {name: found[name] for name in left}, masks_in)
    if apart and len(left) == 1 and is_images_folder(left[0]) and not found[left[0]].images:
        base = root / left[0]  # images/CLASS and masks/CLASS
        found = {folder.name: Folder(folder, force, nested=True) for folder in found[left[0]].folders}
        _check_parts(base, {name: folder for name, folder in found.items() if folder.all_images}, masks_in)
    pictures = {
        name: there
        for name, folder in sorted(found.items())
        if (there := [path for path in folder.all_images if path not in masks_in])
    }
    if not pictures:
        raise SourceError(_nothing_in(root, here, found, force))
    if (
        len(pictures) == 1
        and not (only := found[next(iter(pictures))]).images
        and not all(is_dicom(p, force) for p in only.all_images)
    ):
        raise SourceError(
            f"{root} has no images in its folders, but {base / next(iter(pictures))} has, in its subfolders: "
            f"{named((sub.name for sub in only.below), 5)}; give that folder instead if these are the classes"
        )
    masks = find_masks([path for there in pictures.values() for path in there], apart)
    shared = _shared_folders(base, pictures, force)
    files = [
        SourceItem(path, name, _patient(base / name, path, shared, force), "", masks=masks.of.get(path, ()))
        for name, there in pictures.items()
        for path in there
        if path not in masks.files
    ]
    if bare := [name for name in pictures if name not in {item.label for item in files}]:
        raise SourceError(f"{base / bare[0]} holds only masks; put the masks beside their images or outside {root}")
    beside = any(mask.parent == image.parent for image, of in masks.of.items() for mask in of)
    notes = [f"subfolder '{name}' holds all images of all classes: no group" for name in shared]
    notes += [*masks.notes(), *_folder_notes(here, found, files), *links_out(root, (item.path for item in files))]
    items, more = spread(root, files, False, options)
    held = {item.label for item in items}
    if not held:
        raise SourceError(f"{root} holds no images, only other DICOM objects; give a folder with images")
    notes += [f"class '{name}' holds no images, only other DICOM objects" for name in pictures if name not in held]
    classes = tuple(name for name in pictures if name in held)
    notes += [*more, *alike(classes), *formulas((item.id, item.label) for item in items)]
    all_dicom = all(is_dicom(item.path, force) for item in files)
    kind = "DICOM folder" if all_dicom else "BUSI layout" if beside else "image folder"
    return Source(kind, root, items, classes, tuple(notes), options=options)


def _check_no_columns(path: Path, options: ReadOptions) -> None:
    if options.columns:
        asked = " ".join(f"--{name} {column}" for name, column in options.columns.items())
        raise SourceError(f"{path} is no table, so it has no columns for {asked}; give a table (.csv) of its images")


def _shared_folders(base: Path, pictures: Mapping[str, Sequence[Path]], force: bool) -> list[str]:
    """Return the subfolders, from the class folders down, that all images of all of several classes lie under.

    Such a folder (CLASS/US/PATIENT/*.png) says nothing of a patient. DICOM files are left out: they say it themselves.
    """
    inside = [
        [name for name in path.relative_to(base / label).parts[:-1] if not is_images_folder(name)]
        for label, there in pictures.items()
        for path in there
        if not is_dicom(path, force)
    ]
    shared: list[str] = []
    while len(pictures) > 1 and inside and all(names[len(shared) :] for names in inside):
        here = {names[len(shared)] for names in inside}
        if len(here) > 1:
            break
        shared += here
    return shared


def _patient(folder: Path, path: Path, shared: Sequence[str], force: bool) -> str | None:
    """Return the subfolder of class folder `folder` in which `path` lies, if it says which patient that is.

    DICOM files say so themselves; a folder called "images" tells nothing, nor do those that all classes have in common.
    """
    if is_dicom(path, force):
        return None
    names = [name for name in path.relative_to(folder).parts[:-1] if not is_images_folder(name)]
    return next(iter(names[len(shared) :]), None)


def _check_parts(root: Path, holding: Mapping[str, Folder], masks: set[Path]) -> None:
    """Raise SourceError if the folders `holding` images are parts of a data set, such as train and test."""
    below = {name: folder for name, folder in holding.items() if not folder.images}
    inside = sorted({sub.name for folder in holding.values() for sub in folder.below if _PART.fullmatch(sub.name)})
    if inside and len(holding) > 1:
        raise SourceError(
            f"{root}: the class folders are divided into parts of a data set ({named(inside)}), which are no patients; "
            "put the classes into the parts (such as train/CLASS), or list the images in a manifest.csv (path,label)"
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
            f"{root}: the folders {named(holding)} are parts of a data set, and nothing says of what class their "
            "images are; put the images into one folder a class in each, or list them in a manifest.csv (path,label)"
        )
    if not parts or not all(name in parts or _PART.fullmatch(name) for name in holding):
        return
    order = sorted(parts, key=lambda name: (not name.casefold().startswith("train"), name))
    test = next((name for name in order[1:] if name.casefold().startswith(("test", "hold"))), None)
    places = " and ".join(filter(None, (named(map(str, (root / name for name in order[:-1]))), str(root / order[-1]))))
    study = f"; in a study, give data.source: {root / order[0]}" + (f" and split.test: {root / test}" if test else "")
    have = "has" if len(order) == 1 else "have, as parts of a data set"
    raise SourceError(
        f"{root} has no images in its folders, but {places} {have}; give one of them as SOURCE"
        f"{study if len(order) > 1 else ''}"
    )


def _folder_notes(here: Folder, found: Mapping[str, Folder], files: Sequence[SourceItem]) -> list[str]:
    notes = []
    side = [path for folder in (here, *found.values()) for path in folder.side]
    hidden = [path for folder in (here, *found.values()) for path in folder.hidden]
    bare = [name for name, folder in found.items() if not folder.all_images]
    if here.images:
        notes.append(
            f"{counted(len(here.images), 'image')} outside the class folders left out: "
            f"{named((path.name for path in here.images), 3)}"
        )
    if side:
        are = counted(len(side), "file that is not an image", "files that are not images")
        notes.append(f"{are} left out: {suffixes(side)}")
    if tables := [path.name for path in here.side if path.suffix.lower() == ".csv"]:
        notes.append(
            f"{named(tables, 3)} not read: if it lists the images, give it as SOURCE and name its columns with --path, "
            "--label and --group"
        )
    if hidden:
        notes.append(f"{counted(len(hidden), 'hidden or system file')} left out")
    if bare:
        are = counted(len(bare), "folder without images is not a class", "folders without images are not classes")
        notes.append(f"{are}: {named(bare, 5)}")
    if linked := [f"{name}/{sub.name}" for name, folder in found.items() for sub in folder.linked]:
        notes.append(
            f"{counted(len(linked), 'linked folder')} inside class folders not looked into: {named(linked, 5)}"
        )
    labels: dict[str, set[str]] = {}
    for item in files:
        if item.group is not None:
            labels.setdefault(item.group, set()).add(item.label)
    if labels:
        several = [name for name, of in labels.items() if len(of) > 1]
        same = f"; a subfolder of the same name in several classes is one group: {named(several, 3)}" if several else ""
        notes.append(
            f"{counted(sum(item.group is not None for item in files), 'image')} in subfolders of class folders: each "
            f"subfolder is a group (a patient), {counted(len(labels), 'group')}{same}"
        )
    return notes


def _nothing_in(root: Path, here: Folder, found: Mapping[str, Folder], force: bool) -> str:
    if here.images and all(is_dicom(path, force) for path in here.images):
        return (
            f"{root}: {counted(len(here.images), 'DICOM file lies', 'DICOM files lie')} in the folder itself and "
            "nothing says what they show; put them into one folder a class, or add a "
            f"{LABELS} with the columns path,label or sop_instance_uid,label"
        )
    if here.images:
        return (
            f"{root}: {counted(len(here.images), 'image lies', 'images lie')} in the folder itself; give the folder "
            "above it if this is one class, else put them into one folder a class or list them in a manifest.csv "
            "(path,label)"
        )
    for name in found:
        if (root / name / MANIFEST).is_file():
            return f"{root} has no images in its folders, but {root / name} has; give that folder instead"
    side = [path for folder in (here, *found.values()) for path in folder.side]
    what = f" (only {suffixes(side)})" if side else ""
    return f"{root} holds no images{what}; give a folder with one folder of images a class, or a manifest.csv"

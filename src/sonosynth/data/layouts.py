"""From a folder, a manifest or a file of arrays to a list of labelled images; nothing is decoded here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sonosynth.data.arrays import SUFFIX, read_npz
from sonosynth.data.cautions import formulas, links_out
from sonosynth.data.contents import spread
from sonosynth.data.dicom import dicom_files, is_dicom
from sonosynth.data.folder import Folder
from sonosynth.data.imageset import MANIFEST
from sonosynth.data.manifests import LABELS, read_manifest
from sonosynth.data.source import ReadOptions, Source, SourceItem, alike, named, natural_key, suffixes
from sonosynth.errors import SourceError

__all__ = ["ReadOptions", "Source", "SourceItem", "named", "natural_key", "read_source"]


def read_source(path: Path, options: ReadOptions | None = None) -> Source:
    """Find the labelled images under `path`, of which nothing is decoded.

    `path` is a folder in BUSI layout, a folder with one folder a class, a manifest.csv or the folder it lies in, or an
    .npz file (see `arrays.read_npz`). In folders lie pictures, clips and volumes (of which a few frames or slices are
    taken, see `clips` and `volumes`) and DICOM files (every frame is taken, see `dicom`); docs/reference/sources.md has
    all rules.

    A manifest wins over folders, and so does a table of labels (labels.csv) beside DICOM files. In BUSI layout files
    named ``NAME_mask.png`` or ``NAME_mask_1.png`` are masks and left out. In subfolders of class folders only DICOM
    files are looked for.

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
    if path.is_file() and path.suffix.lower() == SUFFIX:
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
    if (path / LABELS).is_file() and dicom_files(path):
        return read_manifest(path / LABELS, options)
    return _read_folders(path, options)


# ---------------------------------------------------------------------------------------------------- folders


def _read_folders(root: Path, options: ReadOptions) -> Source:
    here = Folder(root)
    found = {folder.name: Folder(folder, nested=True) for folder in sorted(here.folders)}
    classes = tuple(name for name, folder in found.items() if folder.images)
    if not classes:
        raise SourceError(_nothing_in(root, here, found))
    masks = {name: found[name].masks() for name in classes}
    busi = any(
        path.stem != stem and stem in found[name].stems() for name in classes for path, stem in masks[name].items()
    )
    left_out = {path for name in classes for path in masks[name]} if busi else set()
    pairs = [(path, name) for name in classes for path in found[name].images if path not in left_out]
    if len({name for _, name in pairs}) < len(classes):
        only = next(name for name in classes if name not in {label for _, label in pairs})
        raise SourceError(f"{root / only} holds only masks; put the masks beside their images or outside {root}")
    notes = [f"{len(left_out)} masks left out"] if left_out else []
    marks = {
        path: tuple(mask for mask, stem in masks[name].items() if stem == path.stem) for path, name in pairs if busi
    }
    unpaired = sum(map(len, masks.values())) - len(left_out)
    if unpaired:
        notes.append(f"{unpaired} files are named like masks but their images are not beside them: counted as images")
    notes += [*_folder_notes(here, found, classes), *links_out(root, (path for path, _ in pairs))]
    items, more = spread(
        root, [SourceItem(path, label, None, "", masks=marks.get(path, ())) for path, label in pairs], False, options
    )
    left = {item.label for item in items}
    if not left:
        raise SourceError(f"{root} holds no images, only other DICOM objects; give a folder with images")
    notes += [f"class '{name}' holds no images, only other DICOM objects" for name in classes if name not in left]
    classes = tuple(name for name in classes if name in left)
    all_dicom = all(is_dicom(path) for path, _ in pairs)
    notes += [*more, *alike(classes), *formulas((item.id, item.label) for item in items)]
    kind = "DICOM folder" if all_dicom else "BUSI layout" if busi else "image folder"
    return Source(kind, root, items, classes, tuple(notes), options=options)


def _folder_notes(here: Folder, found: Mapping[str, Folder], classes: Sequence[str]) -> list[str]:
    notes = []
    side = [path for folder in (here, *found.values()) for path in folder.side]
    hidden = [path for folder in (here, *found.values()) for path in folder.hidden]
    nested = [
        f"{name}/{sub.name}" for name in classes for sub in found[name].folders if sub not in found[name].looked_into
    ]
    bare = [name for name in found if name not in classes]
    if here.images:
        notes.append(
            f"{len(here.images)} images outside the class folders left out: {named(p.name for p in here.images)}"
        )
    if side:
        notes.append(f"{len(side)} files that are not images left out: {suffixes(side)}")
    if hidden:
        notes.append(f"{len(hidden)} hidden files left out")
    if nested:
        notes.append(f"{len(nested)} folders inside class folders not looked into: {named(nested)}")
    if bare:
        notes.append(f"{len(bare)} folders without images are not classes: {named(bare)}")
    return notes


def _nothing_in(root: Path, here: Folder, found: Mapping[str, Folder]) -> str:
    if here.images and all(is_dicom(path) for path in here.images):
        return (
            f"{root}: {len(here.images)} DICOM files lie in the folder itself and nothing says what they show; put "
            f"them into one folder a class, or add a {LABELS} with the columns path,label or sop_instance_uid,label"
        )
    if here.images:
        return (
            f"{root}: {len(here.images)} images lie in the folder itself; give the folder above it if this is one "
            "class, else put them into one folder a class or list them in a manifest.csv (path,label)"
        )
    for name, folder in found.items():
        if (root / name / MANIFEST).is_file() or any(Folder(sub).images for sub in folder.folders):
            return f"{root} has no images in its folders, but {root / name} has; give that folder instead"
    side = [path for folder in (here, *found.values()) for path in folder.side]
    what = f" (only {suffixes(side)})" if side else ""
    return f"{root} holds no images{what}; give a folder with one folder of images a class, or a manifest.csv"

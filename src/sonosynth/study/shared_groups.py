"""Patients who stand in a study's images and in a test set of the user's own, as far as the two sources name them."""

from collections.abc import Collection, Hashable

from sonosynth.core.text import counted
from sonosynth.data.readers.dicom.header import is_dicom, quiet_pydicom, read_header
from sonosynth.data.source import Source

_NAMES_GROUPS = ("manifest", "npz file")  # kinds of sources in which the user gives the groups


@quiet_pydicom()
def shared_groups(ours: Source, test: Source, classes: Collection[str]) -> list[str]:
    """Return a line that tells of groups with one name in both sources, empty if there are none.

    Names are the groups of a manifest or an array file, and patients in DICOM headers. It is no error, for two clinics
    may number their patients alike. An example is told by its images, as a name may be that of a person.

    Args:
        ours: the source of the study's images.
        test: that of the test set.
        classes: classes of the study; others are not looked at.
    """
    here, there = (_named(source, classes) for source in (ours, test))
    both = [name for name in here if name in there]
    if not both:
        return []
    called = counted(len(both), "group of split.test is", "groups of split.test are")
    return [
        f"{called} called like groups of data.source, e.g. that of '{there[both[0]]}' like "
        f"that of '{here[both[0]]}': if they are the same patients, remove them from one of the two"
    ]


def _named(source: Source, classes: Collection[str]) -> dict[Hashable, str]:
    """Return what the source calls its groups, each with the id of one of its images."""
    found: dict[Hashable, str] = {}
    force = source.options.force_dicom
    for item in source.items:
        headed = is_dicom(item.path, force)
        numbered = headed or (item.frame is not None and source.kind == "manifest")  # a reader may have numbered these
        name = item.extra.get("source_group") if source.kind == "image set" else item.group
        names: list[Hashable] = [read_header(item.path, force).owner] if headed else []
        if source.kind == "image set" or (source.kind in _NAMES_GROUPS and not (numbered and str(name).isdigit())):
            names.append(name)
        for one in names:
            if one and item.label in classes:
                found.setdefault(one, item.id)
    return found

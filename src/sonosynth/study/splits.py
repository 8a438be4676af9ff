"""How the images of a study are divided: into test images, validation images and training subsets.

The same models write ``split.json`` and read it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sonosynth.data.imageset import ImageSet
from sonosynth.study.results import read_object, validated

SPLIT_JSON = "split.json"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Subset(_Model):
    """One training subset: `indices` into the study's images, asked to hold `size` images."""

    size: int
    replicate: int = Field(alias="draw")
    indices: tuple[int, ...]


class SplitIndices(_Model):
    """One division of the images, by their indices.

    Attributes:
        test: the test images; None if the test set is the user's own.
        validation: images that choose the weights of classifiers, in no subset; None where nothing is chosen.
        subsets: training subsets, by draw and size.
    """

    test: tuple[int, ...] | None
    validation: tuple[int, ...] | None = None
    subsets: tuple[Subset, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the number of images of each subset."""
        subsets = [
            {"size": s.size, "draw": s.replicate, "n": len(s.indices), "indices": s.indices} for s in self.subsets
        ]
        chosen_by = {} if self.validation is None else {"validation": self.validation}
        return {"test": self.test, **chosen_by, "subsets": subsets}


class _RepeatedSplits(_Model):
    repeats: tuple[SplitIndices, ...]


class _WithNaive(_Model):
    naive: SplitIndices | None = None


def splits_to_dict(splits: tuple[SplitIndices, ...], repeated: bool, naive: SplitIndices | None) -> dict[str, Any]:
    """Return the content of ``split.json``."""
    content = {"repeats": [split.to_dict() for split in splits]} if repeated else splits[0].to_dict()
    return content if naive is None else content | {"naive": naive.to_dict()}


def read_splits(path: Path) -> tuple[tuple[SplitIndices, ...], bool, SplitIndices | None]:
    """Return what `splits_to_dict` was given. Raises StudyError if the file is missing or damaged."""
    content = read_object(path)
    repeated = isinstance(content, dict) and content.get("repeats") is not None
    splits = (
        validated(_RepeatedSplits, content, path).repeats if repeated else (validated(SplitIndices, content, path),)
    )
    return splits, repeated, validated(_WithNaive, content, path).naive


@dataclass(frozen=True)
class StudySplit:
    """A division of `images`, with those that judge the classifiers: the test set, and what chooses weights."""

    images: ImageSet
    indices: SplitIndices
    held_out: ImageSet
    validation: ImageSet | None = None

    @property
    def subsets(self) -> tuple[Subset, ...]:
        """Training subsets, by draw and size."""
        return self.indices.subsets

    def images_of(self, subset: Subset) -> ImageSet:
        """Return the images of a training subset."""
        return self.images.subset(subset.indices)

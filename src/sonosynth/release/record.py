"""What a release says of itself to programs: ``release.json``, and the names of its files."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sonosynth.core.errors import FetchError
from sonosynth.datasets.catalogue import public_dataset
from sonosynth.release.gate import Privacy

RECORD, SUMS, README, CONFIG = "release.json", "SHA256SUMS", "README.md", "config.json"
CROISSANT, SCORES, METADATA, NOTICE = "croissant.json", "scores.json", "metadata.csv", "NOTICE.txt"
SEVEN_CS, CHECKLIST = "seven-cs.md", "checklist.md"
METADATA_COLUMNS = ("file_name", "label", "id", "synthetic")  # those of the images' own come after
DICOM, PICTURES, BUNDLE = "dicom", "pictures", "configs"
"""Folders beside those of the classes."""
SIGNATURES = (f"{SUMS}.sig", f"{SUMS}.minisig")
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
FORMAT = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingData(_Model):
    """What the generator was trained on."""

    name: str = ""  # of the data set; empty where nobody said
    licence: str = ""
    terms: str = ""  # what may be done with what was made from it
    citation: str = ""
    doi: str = ""
    images: dict[str, int] = Field(default_factory=dict)  # per class
    groups: int | None = None  # patients, or clusters of duplicates
    fingerprint: str = ""  # SHA-256 of the images, as the generator has it
    confirmed: bool = False  # whether the images that were compared with are those

    @property
    def warning(self) -> str:
        """What to tell of the licence, in a sentence; empty where there is nothing."""
        whose = f"the training images ({self.name})" if self.name else "the training images"
        if not self.licence or self.licence.startswith("none stated"):
            return f"no licence of {whose} is stated: ask who holds the rights before you pass the release on"
        if re.search(r"\bNC\b|non-?commercial", self.licence, re.IGNORECASE):
            return f"the licence of {whose} allows no commercial use ({self.licence}): keep the release to that"
        return ""


class StudyCitation(_Model):
    """The study that trained the generator."""

    name: str
    sha256: str  # of its study file


class Record(_Model):
    """All that programs need to know of a release."""

    format: int = FORMAT
    name: str = Field(pattern=NAME_PATTERN)
    sonosynth: str  # version
    n: int
    classes: dict[str, int]  # images per class
    folders: dict[str, str]  # of the images of each class
    height: int
    width: int
    seed: int
    snapshot: str
    truncation: float
    original_shape: bool
    family: str  # of generators
    recipe: dict[str, Any]  # settings, as the run records them
    kimg: float | None  # thousands of images shown in training, of all its generators together
    weights: dict[str, str]  # SHA-256 of each generator file, by its path in the release
    weights_included: bool
    identity: str  # SHA-256 of weights, seed and number, which UIDs and patient IDs come from
    dicom: int  # DICOM files of images
    clips: int  # DICOM files of clips
    clip_frames: int
    training: TrainingData
    held_out: int  # real images that the generator had not seen, in the comparison
    features: tuple[str, ...]  # networks of the scorecard
    licence: str  # of the release; empty where nobody said
    study: StudyCitation | None
    privacy: Privacy


def training_data(name: str, licence: str, citation: str) -> TrainingData:
    """Return what is known of a data set of that name: from the catalogue, where the arguments do not say it."""
    try:
        entry = public_dataset(name)
    except FetchError:
        return TrainingData(name=name, licence=licence, citation=citation)
    return TrainingData(
        name=entry.name,
        licence=licence or entry.licence,
        terms=entry.weights,
        citation=citation or entry.citation,
        doi=entry.doi,
    )

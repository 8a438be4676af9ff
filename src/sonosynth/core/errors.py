"""Every mistake a user can mend, one exception type per cause.

The message says what was wrong, where (file, field, value) and what to do; the command line prints it as one line and
exits with status 2.
"""

from sonosynth.core.text import one_line

_LONGEST = 1600


class SonosynthError(Exception):
    """Base of all errors that the user can mend.

    The message is one line, whatever names it holds; of a very long one the middle is left out.
    """

    def __init__(self, message: str = "") -> None:
        line = one_line(message)
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}")


class SourceError(SonosynthError):
    """A folder or manifest of images cannot be used as it stands."""


class UnreadableImageError(SourceError):
    """One file that should be an image cannot be decoded."""


class ManifestError(SourceError):
    """A manifest.csv lacks columns, names a missing file, or names one file twice."""


class MixedSizesError(SourceError):
    """Images of several sizes where one size is needed."""


class ClassError(SonosynthError):
    """A class is unknown, missing or too small for what was asked."""


class SplitError(SonosynthError):
    """The data cannot be divided as asked."""


class LeakageError(SonosynthError):
    """Images would judge what was made from them, or stand for what they are not."""


class RecipeError(SonosynthError):
    """A generator recipe is unknown or one of its settings is wrong."""


class RunError(SonosynthError):
    """A run directory cannot be read, or belongs to another recipe."""


class DivergenceError(SonosynthError):
    """A training run became non-finite."""


class ProcessError(SonosynthError):
    """A training run cannot be spread as asked."""


class TrackingError(SonosynthError):
    """A training run cannot be followed as asked."""


class FeatureError(SonosynthError):
    """A feature network is unknown or its weights are not what they should be."""


class PriorError(SonosynthError):
    """A pretrained generator is unknown, damaged, or does not fit what it is to start."""


class PhantomError(SonosynthError):
    """A parameter of simulated images is unknown, or cannot have that value."""


class StudyError(SonosynthError):
    """A study file is wrong, or a study directory belongs to another study."""


class FetchError(SonosynthError):
    """A public data set is unknown, cannot be downloaded, or is not what its publisher says."""


class ArchiveError(FetchError):
    """An archive is damaged, or not safe to unpack."""


class ReleaseError(SonosynthError):
    """A release cannot be made as asked, or is not what its own records say."""


class PrivacyError(ReleaseError):
    """Images are not released, since they may give away images that the generator was trained on."""


class WebError(SonosynthError):
    """A page cannot be served as asked."""


class ReaderStudyError(SonosynthError):
    """A reader study cannot be made, or its files are not what they were."""


class OutputError(SonosynthError):
    """The output cannot be written where it was asked for."""

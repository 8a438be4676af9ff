"""sonosynth: synthetic ultrasound from small data sets.

The public API. Names are imported when they are first used, so that ``import sonosynth`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sonosynth.core.errors import SonosynthError as SonosynthError
    from sonosynth.data.imageset import ImageSet as ImageSet
    from sonosynth.data.prepare import load_image_set as load_image_set
    from sonosynth.data.prepare import prepare as prepare
    from sonosynth.data.readers.scan import read_source as read_source
    from sonosynth.data.split import held_out as held_out
    from sonosynth.data.split import nested_subsets as nested_subsets
    from sonosynth.gan.registry import make_recipe as make_recipe
    from sonosynth.gan.sample import generate as generate
    from sonosynth.gan.training.loop import train as train
    from sonosynth.metrics.scorecard import scorecard as scorecard
    from sonosynth.phantoms.phantom import phantom as phantom
    from sonosynth.phantoms.phantom import phantom_with_masks as phantom_with_masks
    from sonosynth.report.study.page import write_report as write_report

__version__ = version("sonosynth")

_HOMES = {
    "ImageSet": "data.imageset",
    "SonosynthError": "core.errors",
    "generate": "gan.sample",
    "held_out": "data.split",
    "load_image_set": "data.prepare",
    "make_recipe": "gan.registry",
    "nested_subsets": "data.split",
    "phantom": "phantoms.phantom",
    "phantom_with_masks": "phantoms.phantom",
    "prepare": "data.prepare",
    "read_source": "data.readers.scan",
    "scorecard": "metrics.scorecard",
    "train": "gan.training.loop",
    "write_report": "report.study.page",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sonosynth' has no attribute '{name}'")
    return getattr(import_module(f"sonosynth.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])

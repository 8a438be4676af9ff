"""sonosynth: synthetic ultrasound from small data sets.

The public names stand in ``__init__.pyi``, each with the file that it comes from. They are imported when they are first
used, so that ``import sonosynth`` costs nothing. `audit`, `classify` and `release` are functions here, although folders
have the same names; ``from sonosynth.audit import ...`` reaches into the folder.
"""

import os
from importlib.metadata import version

import lazy_loader

# OpenMP reads it when PyTorch is loaded: threads without work sleep, and do not keep cores from those that have some.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = version("sonosynth")
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

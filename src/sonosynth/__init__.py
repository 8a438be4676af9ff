"""sonosynth: synthetic ultrasound from small data sets."""

from importlib.metadata import version

__version__ = version("sonosynth")

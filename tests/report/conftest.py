import pytest

from sonosynth.report import classifier_figures, figures
from sonosynth.report.drawing import Picture


@pytest.fixture
def undrawn(monkeypatch):
    """Leave out the slow end of every figure: it is composed, but not written in three formats."""
    for module in (figures, classifier_figures):
        monkeypatch.setattr(module, "finish", lambda figure, name, alt, *_, **__: Picture(name, alt, "data:image/png,"))

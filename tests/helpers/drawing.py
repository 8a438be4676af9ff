"""Reports without the slow end of their figures."""

import pytest


def leave_out_drawing(patch: pytest.MonkeyPatch) -> None:
    """Leave out the slow end of the report's figures: they are composed, but not written in three formats."""
    from sonosynth.report.drawing import Picture
    from sonosynth.report.study import classifier_figures, figures

    for module in (figures, classifier_figures):
        patch.setattr(module, "finish", lambda figure, name, alt, *_, **__: Picture(name, alt, "data:image/png,"))

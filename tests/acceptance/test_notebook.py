"""The notebook that newcomers open first runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_steps.ipynb"


def test_the_first_steps_lead_to_a_scorecard_and_two_classifiers(tmp_path, monkeypatch, capsys):
    matplotlib.use("agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]).replace("kimg=1", "kimg=0.2"), names)
    told = capsys.readouterr().out
    assert "90 training images, 30 test images" in told and "score.html" in told
    assert "macro F1" in told and len(names["synthetic"]) == 90
    assert {"frechet_distance", "kernel_distance", "recall"} <= set(names["card"].to_frame().metric)


@pytest.mark.parametrize("key", ["outputs", "execution_count"])
def test_the_notebook_is_kept_without_outputs_of_one_machine(key):
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell[key] for cell in cells if cell["cell_type"] == "code")

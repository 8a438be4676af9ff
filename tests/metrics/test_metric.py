import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sonosynth.core.errors import SonosynthError
from sonosynth.metrics import metric as module
from sonosynth.metrics.metric import Metric, get_metric, list_metrics, register_metric
from sonosynth.metrics.scorecard import score
from sonosynth.phantoms.phantom import phantom

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-metric.md"


def toy(**changes) -> Metric:
    words = {"name": "toy", "part": "realism", "title": "Toy", "about": "One.", "direction": "smaller"}
    return Metric(**{**words, "value": lambda comparison: 1.0, **changes})


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(module, "_registered", [])


@pytest.mark.long
def test_the_metric_of_the_how_to_has_a_row_and_a_real_baseline(registry, tmp_path, capsys):
    (code,) = re.findall(r"```python\n(# brightness\.py.*?)```", HOW_TO.read_text(), flags=re.DOTALL)
    (tmp_path / "brightness.py").write_text(code)
    runpy.run_path(str(tmp_path / "brightness.py"), run_name="__main__")
    row = next(line for line in capsys.readouterr().out.splitlines() if " all " in line).split()
    assert float(row[2]) >= 0 and float(row[3]) >= 0 and int(float(row[4])) >= 20


@pytest.mark.long
def test_the_interval_of_the_how_to_page_holds_the_value(registry):
    blocks = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(), flags=re.DOTALL)
    names = {"__name__": "brightness"}
    for code in blocks[:2]:
        exec(code, names)
    register_metric(replace(names["METRIC"], interval=names["brightness_interval"], interval_method="disjoint halves"))
    card = score(phantom(12, 64, seed=1), phantom(12, 64, seed=2), features=[], parts=["realism"])
    (row,) = [row for row in card.scores if (row.metric, row.class_) == ("brightness_gap", "all")]
    assert row.low < row.value < row.high


def test_registered_metrics_come_last_in_their_part(registry):
    register_metric(toy())
    assert [metric.name for metric in list_metrics("realism")][-1] == "toy" and get_metric("toy").title == "Toy"


def test_names_that_are_taken_and_unknown_parts_are_refused(registry):
    with pytest.raises(SonosynthError, match="'recall' is registered already"):
        register_metric(toy(name="recall"))
    with pytest.raises(SonosynthError, match="no part 'beauty'"):
        register_metric(toy(part="beauty"))


@pytest.mark.long
def test_declarations_and_pages_need_no_torch():
    code = "import sys, sonosynth.report.scorecard.page as p; from sonosynth.metrics.metric import list_metrics; "
    code += "list_metrics(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

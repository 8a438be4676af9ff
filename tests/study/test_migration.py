"""A record of the first version, and a record of tables alone: the same numbers and the same page."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sonosynth.analysis.read_record import read_record
from sonosynth.core.errors import StudyError
from sonosynth.core.files import read_json, write_json
from sonosynth.metrics.scores import current_names
from sonosynth.report.study.page import write_report
from sonosynth.study.results import COLUMNS, SCORES_CSV, read_result, table_rows
from sonosynth.study.study_file import load_design, recorded_design, settings_text

OLD = Path(__file__).parent / "projected_features"


def tables_of(record: Path) -> dict[str, pd.DataFrame]:
    names = read_json(record / "plan.json")["cells"]
    rows = table_rows(read_result(record / "cells" / f"{name}.json")[1] for name in names)
    return {name: pd.DataFrame(rows[name], columns=list(columns), dtype=object) for name, columns in COLUMNS.items()}


@pytest.fixture
def tables_alone(tmp_path) -> Path:
    """The record as this version writes it, without its cells."""
    folder = tmp_path / "tables"
    shutil.copytree(OLD, folder, ignore=shutil.ignore_patterns("cells", "plan.json", "scores.csv"))
    for name, table in tables_of(OLD).items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    settings = settings_text(load_design(OLD / "study.yaml"))
    record = read_record(OLD)
    counts = {"planned": record.n_planned, "finished": record.n_finished, "made_on": record.made_on}
    provenance = read_json(OLD / "provenance.json") | {"settings": settings, "cells": counts}
    write_json(folder / "provenance.json", provenance)
    return folder


def test_cells_of_the_first_version_give_the_committed_table(tmp_path):
    tables_of(OLD)[SCORES_CSV].to_csv(tmp_path / SCORES_CSV, index=False, lineterminator="\n")
    old, new = (
        pd.read_csv(folder / SCORES_CSV, dtype=str, keep_default_na=False).to_dict("records")
        for folder in (OLD, tmp_path)
    )
    assert len(new) == 556 and new == [current_names(row) for row in old]


def test_the_page_of_a_record_of_tables_alone_is_that_of_its_cells(tables_alone, tmp_path, undrawn):
    of_cells = write_report(OLD, tmp_path / "of-cells").read_text(encoding="utf-8")
    of_tables = write_report(tables_alone, tmp_path / "of-tables").read_text(encoding="utf-8")
    assert of_tables == of_cells


def test_the_settings_of_a_study_are_read_back_without_looking_names_up():
    asked = load_design(OLD / "study.yaml")
    design = recorded_design(settings_text(asked), "provenance.json")
    assert settings_text(design) == settings_text(asked) and [gan.base for gan in design.gans] == ["projected"] * 2
    settings = asked.model_dump(mode="json")
    settings["gans"][0]["base"] = settings["gans"][0]["name"] = "a recipe of a package that is gone"
    assert recorded_design(yaml.safe_dump(settings), "provenance.json").gans[0].recipe["ngf"] == 32
    settings["split"]["seed"] = "x"
    with pytest.raises(StudyError, match=r"provenance\.json: split\.seed: .*'x'"):
        recorded_design(yaml.safe_dump(settings), "provenance.json")


@pytest.mark.long
def test_a_page_is_made_without_torch_generators_or_classifiers(tables_alone, tmp_path):
    code = (
        "import sys; from pathlib import Path; from sonosynth.report.study.page import write_report; "
        "write_report(Path(sys.argv[1]), Path(sys.argv[2])); "
        "heavy = ('torch', 'monai', 'sonosynth.gan', 'sonosynth.classify', 'sonosynth.features'); "
        "sys.exit(', '.join(name for name in sys.modules if name.startswith(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, tables_alone, tmp_path / "page"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scores_of_classifiers_without_predictions_are_refused_in_one_line(tables_alone):
    (tables_alone / "f1.csv").write_text(",".join(COLUMNS["f1.csv"]) + "\n" + "," * 18 + "\n")
    with pytest.raises(StudyError, match=r"has no predictions\.csv, from which intervals"):
        read_record(tables_alone)

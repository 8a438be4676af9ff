"""A study that trackers follow: what its cells are called there, and that nothing of the study itself changes."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from image_sets import blobs
from monitor import Told
from sonosynth.core.files import read_json
from sonosynth.study.results import COLUMNS, GENERATORS_CSV
from tracked_runs import assert_none_leaves, logged, points, tiny_study

pytestmark = pytest.mark.long
TRACK = ["csv", "tensorboard"]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images") / "clinic"
    blobs(30).save(folder)
    return folder


@pytest.fixture(scope="module")
def study(source, tmp_path_factory) -> Path:
    return tiny_study(source, tmp_path_factory.mktemp("study") / "study", TRACK)


def warnings_of(told: Told) -> list[str]:
    return [note for note in told.notes if "failed" in note]


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics.csv")


def test_tables_are_those_of_a_study_without_trackers(study, source, tmp_path):
    alone = tiny_study(source, tmp_path / "alone")
    timed = [column for column in COLUMNS[GENERATORS_CSV] if "seconds" in column or column == "img_per_s"]
    for path in alone.glob("*.csv"):
        ours, theirs = (pd.read_csv(folder / path.name, dtype=str) for folder in (study, alone))
        left = [column for column in (*timed, "seconds") if column in ours]
        pd.testing.assert_frame_equal(ours.drop(columns=left), theirs.drop(columns=left))
        if not left:
            assert (study / path.name).read_bytes() == path.read_bytes()
    names = {path.name for path in alone.iterdir()}
    assert {path.name for path in study.iterdir()} - names == {"csv", "tensorboard"}
    assert read_json(study / "plan.json") == read_json(alone / "plan.json")


def test_a_generator_is_a_run_and_other_cells_are_their_metrics(study, source):
    (run,) = (study / "runs").iterdir()
    for tracker in TRACK:
        names = sorted(path.name.rpartition(" ") for path in (study / tracker).iterdir())
        assert [name for name, _, _ in names] == [
            "classify real tiny n8 draw 0 seed 0",
            "classify real+synthetic tiny stylegan2 n8 draw 0 gan seed 0 ratio 1.0 fill proportional truncation 1.0 "
            "seed 0",
            "score stylegan2 n8 draw 0 seed 0 truncation 1.0",
            "stylegan2 n8 draw 0 seed 0",
        ]
        assert_none_leaves(study / tracker, source)
    (trained,) = (study / "csv").glob("stylegan2*")
    assert trained.name.endswith(run.name[:8])
    shown = points(table(trained).to_dict("records"), but=("step",))
    assert {name: values for name, values in shown.items() if pd.notna(values[0][1])} == points(logged(run), but=())
    f1 = pd.read_csv(study / "f1.csv").dropna(subset="value")
    for arm, rows in f1.groupby("arm"):
        wanted = dict(zip(rows["metric"], rows["value"], strict=True))
        (folder,) = (study / "csv").glob(f"classify {arm} *")
        assert table(folder).drop(columns="step").iloc[0].to_dict() == pytest.approx(wanted)
        events = EventAccumulator(str(study / "tensorboard" / folder.name)).Reload()
        found = {tag.partition("/")[2]: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
        assert found == pytest.approx(wanted, rel=1e-6)


def test_what_a_tracker_lacks_is_shown_when_the_study_goes_on(study, source, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "csv")
    told = Told()
    tiny_study(source, tmp_path / "study", ["csv"], told=told)
    assert not told.fresh and not warnings_of(told)
    for folder in (study / "csv").iterdir():
        pd.testing.assert_frame_equal(table(tmp_path / "study" / "csv" / folder.name), table(folder))


def test_a_tracker_that_fails_is_a_note_and_the_study_goes_on(study, source, tmp_path, monkeypatch):
    def full(self, items):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sonosynth.tracking.csv_file.CsvFile.show", full)
    told = Told()
    out = tiny_study(source, tmp_path / "study", ["csv"], told=told)
    (note,) = warnings_of(told)
    assert note.startswith("the CSV file failed ([Errno 28] No space left on device); the work goes on")
    assert (out / "f1.csv").read_bytes() == (study / "f1.csv").read_bytes()

"""The table of a log, read back and compared with the log that it mirrors."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from lightning_fabric.utilities.rank_zero import rank_zero_only

from sonosynth.tracking.csv_file import CsvFile
from sonosynth.tracking.tracker import Mirror, TrackedRun
from tracked_runs import kill_at_84, logged, points, resume
from tracked_runs import short_ticks as short_ticks

pytestmark = pytest.mark.usefixtures("short_ticks")


def rows(run: Path) -> list[dict]:
    table = pd.read_csv(run / "csv" / "metrics.csv", dtype={"event": str}).to_dict("records")
    return [{name: None if isinstance(x, float) and math.isnan(x) else x for name, x in row.items()} for row in table]


@pytest.mark.long
def test_a_killed_and_resumed_run_has_every_log_line_once(small_set, tmp_path, recwarn):
    run = tmp_path / "$HOME ~"
    kill_at_84(small_set, run, ["csv"])
    assert [row["step"] for row in rows(run)] == [20, 40, 60, 80]
    resume(small_set, run, ["csv"])
    found = rows(run)
    assert [row.pop("step") for row in found] == [20, 40, 60, 80, 100, 120]
    assert points(found, but=()) == points(logged(run), but=())
    assert not [warning for warning in recwarn if "logs" in str(warning.message)]
    assert [path.name for path in tmp_path.iterdir()] == [run.name]


def test_rows_of_any_rank_are_written_and_steps_rolled_back_are_an_event(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    entries = [
        {"kimg": 0.5, "seconds": 1.0, "event": None, "loss_g": 1.5},
        {"kimg": 0.5, "seconds": 2.0, "event": "rolled back", "loss_g": 9.0},
        {"kimg": 1.0, "seconds": 3.0, "event": None, "loss_g": 1.25, "late": 7.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    run = TrackedRun("run", "train", {}, "sonosynth", tmp_path / "csv", tmp_path, tmp_path / "tracking.json")
    mirror = Mirror(CsvFile(run), tmp_path / "log.jsonl", tmp_path / "samples")
    mirror.update(0)
    mirror.close(True)
    table = rows(tmp_path)
    assert [row["loss_g"] for row in table] == [1.5, None, 1.25]
    assert [row["event"] for row in table] == [None, "rolled back", None]
    assert [row["late"] for row in table] == [None, None, 7.0]
    assert not (tmp_path / "tracking.json").exists()  # nothing that it needs

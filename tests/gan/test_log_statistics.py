"""Log lines of a run that was cut and resumed, compared with those of an uninterrupted run."""

import json
import signal

import pytest
import torch

from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training import loop as train_module
from sonosynth.gan.training.log_statistics import StatisticsCollector
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.trainer import Trainer

TINY = {"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16, "batch": 4}
CPU = torch.device("cpu")


def ada():
    return make_recipe("stylegan2-ada", **TINY, ada_kimg=0.1)


def lines(run):
    """Return the log lines of `run` by kimg, without times."""
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line.pop("kimg"): {k: v for k, v in line.items() if k not in ("seconds", "img_per_s")} for line in found}


def cut(data, out, at, **how):
    """Train to image number `at` and interrupt."""

    def press(done, total, latest):
        if round(done * 1000) == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_run(data, ada(), out, progress=press, **how)


@pytest.fixture
def short_intervals(monkeypatch):
    monkeypatch.setattr(train_module, "TICK_KIMG", 0.04)


@pytest.mark.long
@pytest.mark.parametrize("at", [[12], [28, 60]])
def test_a_run_that_is_cut_within_an_interval_logs_what_an_uninterrupted_one_does(
    small_set, tmp_path, short_intervals, at
):
    how = {"kimg": 0.1, "conditional": True, "device": CPU, "distance": lambda images: float(images.mean())}
    straight = train_run(small_set, ada(), tmp_path / "straight", **how)
    for images in at:
        cut(small_set, tmp_path / "cut", images, **how)
    resumed = train_run(small_set, ada(), tmp_path / "cut", **how)
    assert list(lines(straight)) == [0.04, 0.08, 0.1]
    assert lines(resumed) == lines(straight)
    state = torch.load(resumed / "state.pt", weights_only=True)
    assert state["interval"]["loss_g"][1] == 5, "steps since 0.08 kimg"


@pytest.mark.long
def test_a_longer_run_logs_what_a_run_of_that_length_does(small_set, tmp_path, short_intervals):
    how = {"conditional": True, "device": CPU}
    straight = train_run(small_set, ada(), tmp_path / "straight", kimg=0.08, **how)
    for kimg in (0.02, 0.052, 0.08):
        run = train_run(small_set, ada(), tmp_path / "run", kimg=kimg, **how)
    found = lines(run)
    assert list(found) == [0.02, 0.04, 0.052, 0.08]
    assert {kimg: found[kimg] for kimg in (0.04, 0.08)} == lines(straight)


@pytest.mark.long
def test_a_rollback_after_a_resume_keeps_the_steps_before_it(small_set, tmp_path, short_intervals, monkeypatch):
    how = {"kimg": 0.04, "conditional": True, "device": CPU}
    cut(small_set, tmp_path / "run", 20, **how)
    original = Trainer.step

    def spoil_once(self, gradient_norms=False):
        statistics = original(self, gradient_norms)
        if self.step_count == 8 and not self.rollbacks:
            statistics["loss_g"] = statistics["loss_g"] * torch.nan
        return statistics

    monkeypatch.setattr(Trainer, "step", spoil_once)
    closed = []
    close = StatisticsCollector.close
    monkeypatch.setattr(
        StatisticsCollector,
        "close",
        lambda tick, *a, **k: closed.append(tick._sums["loss_g"][1]) or close(tick, *a, **k),
    )
    run = train_run(small_set, ada(), tmp_path / "run", **how)
    assert closed == [10, 10], "both lines average over ten steps, five of them before the resume"
    assert lines(run)[0.04]["loss_g"] is not None


@pytest.mark.long
def test_a_state_of_an_earlier_version_goes_on(small_set, tmp_path, short_intervals):
    how = {"kimg": 0.04, "conditional": True, "device": CPU}
    cut(small_set, tmp_path / "run", 20, **how)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    del state["interval"]
    torch.save(state, tmp_path / "run" / "state.pt")
    assert list(lines(train_run(small_set, ada(), tmp_path / "run", **how))) == [0.04]

"""Training in two processes is training in one, to rounding."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing
from typer.testing import CliRunner

import forked
from image_sets import blobs
from sonosynth.cli.main import app
from sonosynth.core import distributed
from sonosynth.core.device import bfloat16
from sonosynth.core.distributed import RankSlice
from sonosynth.core.draws import Draws
from sonosynth.core.errors import ProcessError, RecipeError
from sonosynth.gan.checkpoint import run_config
from sonosynth.gan.networks.layers import BatchNorm2d
from sonosynth.gan.registry import make_recipe
from sonosynth.gan.training.loop import train_run
from sonosynth.gan.training.trainer import Trainer

CPU = torch.device("cpu")
RECIPES = {
    "stylegan2-ada": {"channel_base": 512, "channel_max": 16, "z_dim": 16, "w_dim": 16, "minibatch_group": 2}
    | {"r1_interval": 1, "path_length_interval": 1, "lecam_weight": 0.1, "ada_kimg": 0.02, "mirror": True},
    "fastgan": {"ngf": 8, "ndf": 8, "z_dim": 16, "perceptual": "l1"},
    "projected": {"ngf": 8, "ndf": 8, "z_dim": 16, "feature_px": 128},
}


def observe(name, steps=2):
    """Return what `steps` steps of the recipe `name` see and leave behind, in full precision."""
    data = blobs(6, classes=("dark", "light", "grey"))
    recipe = make_recipe(name, **RECIPES[name], batch=8, balanced_classes=True)
    with bfloat16(False):
        trainer = Trainer(data, run_config(data, recipe, conditional=True, seed=3), CPU)
        seen = {}
        for step in range(steps):
            statistics = trainer.step(gradient_norms=True)
            seen |= {f"{step} {key}": distributed.mean(value.float()) for key, value in statistics.items()}
    kept = trainer.objective.state_dict() | {
        f"{network} {key}": value
        for network in ("generator", "discriminator")
        for key, value in getattr(trainer, network).named_buffers()
        if value.is_floating_point()
    }
    return seen | kept


def in_group(index, folder, work, arguments):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=index, world_size=2)
    torch.save(work(*arguments), folder / f"{index}.pt")
    dist.destroy_process_group()


def in_two(folder, work, *arguments):
    """Return what `work` returns in each of two processes."""
    forked.context()  # with all imports
    multiprocessing.start_processes(in_group, args=(folder, work, arguments), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(2)]


@pytest.mark.long
@pytest.mark.parametrize("name", list(RECIPES))
def test_two_processes_compute_what_one_does(name, tmp_path):
    alone = observe(name)
    first, second = in_two(tmp_path, observe, name)
    assert alone.keys() == first.keys() and len(alone) > 6
    counts = {key for key in alone if key.split()[-1] in ("sign_sum", "sign_real", "r_t", "p")}
    for key, value in alone.items():
        if key in counts and not key.startswith("0 "):
            continue  # signs of outputs near zero
        scale = float(value.abs().max())
        # Rounding takes single values across the kinks of ReLU6, and with them their gradients; Adam turns it, where
        # gradients are near zero, into whole steps of some weights: before `logit_fake` those of the generator, after
        # the first step of all. Means of logits may be near zero themselves.
        tolerance = 0.02 if not key.startswith("0 ") else 5e-3 if "gradient_norm" in key else 1e-4
        absolute = 1e-4 if key.startswith("0 ") and key != "0 logit_fake" and key != "0 loss_d" else 2e-3
        assert float((value - first[key]).abs().max()) <= tolerance * scale + absolute, key
        assert torch.equal(first[key], second[key]), key


def normalise():
    share = distributed.rank_slice()
    norm = BatchNorm2d(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 + 1
    mine = x[share.of(8)].clone().requires_grad_()
    y = norm(mine)
    (y * y.abs() * torch.arange(16.0).reshape(4, 4)).mean().backward()
    return {"y": y.detach(), "x": mine.grad / share.count, "mean": norm.running_mean, "var": norm.running_var}


@pytest.mark.long
def test_batch_normalisation_spans_processes(tmp_path):
    alone = normalise()
    parts = in_two(tmp_path, normalise)
    for key in ("y", "x"):
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), alone[key], rtol=1e-4, atol=1e-6)
    for key in ("mean", "var"):
        torch.testing.assert_close(parts[0][key], alone[key])


def test_a_share_of_the_draws_is_part_of_all():
    whole = Draws(1, "phase", 2, CPU)
    parts = [Draws(1, "phase", 2, CPU, RankSlice(index, 2)) for index in range(2)]
    for draw in (lambda d, n: d.normal(n, 3), lambda d, n: d.uniform(n), lambda d, n: d.integers(0, 9, n, 2)):
        assert torch.equal(torch.cat([draw(part, 4) for part in parts]), draw(whole, 8))


@pytest.mark.parametrize(("batch", "count"), [(16, 3), (16, 8), (12, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(batch, count):
    with pytest.raises(RecipeError, match=f"batch = {batch}: {count} processes need a multiple of"):
        make_recipe("stylegan2", batch=batch).check_processes(count)


SETTINGS = [word for key, value in RECIPES["fastgan"].items() for word in ("--set", f"{key}={value}")]
WORDS = ["train", "--gan", "fastgan", "--track", "none", *SETTINGS]
CODE = "from sonosynth.cli.main import app; app()"


def command(data, out, *more):
    """Run ``sonosynth train`` and return what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    script = out.parent / "run_sonosynth.py"
    script.write_text(CODE)
    return subprocess.run(
        [sys.executable, script, *WORDS, data, "--out", out, *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.long
def test_train_with_devices_and_go_on_with_one(tmp_path):
    data = blobs(10)
    data.save(tmp_path / "data")
    begun = command(tmp_path / "data", tmp_path / "run", "--conditional", "--kimg", "0.016", "--devices", "2")
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout == f"{tmp_path / 'run'}\n"
    words = [*WORDS, tmp_path / "data", "--out", tmp_path / "run", "--conditional", "--kimg", "0.032"]
    ended = CliRunner().invoke(app, [str(word) for word in words])
    assert ended.exit_code == 0, ended.output
    recipe = make_recipe("fastgan", **RECIPES["fastgan"])
    train_run(data, recipe, tmp_path / "one", kimg=0.016, conditional=True)
    train_run(data, recipe, tmp_path / "one", kimg=0.032, conditional=True)
    logs = [[json.loads(line) for line in (tmp_path / run / "log.jsonl").open()] for run in ("run", "one")]
    assert [line["kimg"] for line in logs[0]] == [line["kimg"] for line in logs[1]] == [0.016, 0.032]
    for shared, alone in zip(*logs, strict=True):
        assert shared["reconstruction"] == pytest.approx(alone["reconstruction"], rel=0.05)


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_and_the_run_goes_on(tmp_path):
    blobs(10).save(tmp_path / "data")
    words = [*WORDS, tmp_path / "data", "--out", tmp_path / "run", "--conditional", "--kimg", "2"]
    soon = "import sonosynth.gan.training.loop as train; train.TICK_KIMG = 0.05"  # all stop together at a log line
    (tmp_path / "run_sonosynth.py").write_text(f"{soon}\n{CODE}")
    process = subprocess.Popen(
        [sys.executable, tmp_path / "run_sonosynth.py", *words, "--devices", "2"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    log = tmp_path / "run" / "log.jsonl"
    while not (log.is_file() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 130 and told.count("interrupted") == 1 and "Traceback" not in told
    kimg = json.loads(log.read_text().splitlines()[-1])["kimg"]
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == round(kimg * 1000 / 8)


def test_machines_that_do_not_know_each_other_are_told_in_one_line(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "GROUP_RANK", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    with pytest.raises(ProcessError, match="MASTER_PORT, NODE_RANK not set"), distributed.launch(1, 2):
        pass


@pytest.mark.long
def test_devices_that_cannot_share_the_batch_are_told_in_one_line(tmp_path):
    blobs(10).save(tmp_path / "data")
    told = command(tmp_path / "data", tmp_path / "run", "--conditional", "--kimg", "0.016", "--devices", "3")
    assert told.returncode == 2 and told.stderr.count("\n") == 1 and "batch" in told.stderr
    assert not (tmp_path / "run").exists()

"""Tests of the precision a processor gets."""

from types import SimpleNamespace

import pytest
import torch

from sonosynth.core import device as engine
from sonosynth.core.device import autocast, bfloat16, has_bfloat16, precision

CPU = torch.device("cpu")


def product_type() -> torch.dtype:
    with autocast(CPU):
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


@pytest.mark.parametrize(
    ("amx", "avx512", "expected"), [(True, True, True), (False, True, True), (False, False, False)]
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(amx, avx512, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert has_bfloat16("cpu") == expected
    assert precision(CPU).startswith("bfloat16" if expected else "float32")
    assert product_type() == (torch.bfloat16 if expected else torch.float32)


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert has_bfloat16("cuda") == expected


def test_the_precision_can_be_chosen_for_a_block(monkeypatch):
    monkeypatch.setattr(engine, "has_bfloat16", lambda device_type: True)
    with bfloat16(False):
        assert product_type() == torch.float32
        with bfloat16(True):
            assert product_type() == torch.bfloat16
        assert product_type() == torch.float32
    assert product_type() == torch.bfloat16


@pytest.fixture
def measured(monkeypatch):
    """Yield a list of (clock, all cores, this process) in seconds, of which `ThreadAdjuster` reads the last."""
    moments = [(0.0, 0.0, 0.0)]
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(engine, "_keeps_threads", False)
    monkeypatch.setattr(engine.ThreadAdjuster, "_now", lambda self: moments[-1])
    monkeypatch.setattr(engine, "psutil", SimpleNamespace(cpu_count=lambda: 2))
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: moments[-1][0]))
    torch.set_num_threads(2)
    yield moments
    torch.set_num_threads(before)


def test_training_leaves_cores_to_other_programs_and_takes_them_back(measured):
    threads = engine.ThreadAdjuster(torch.device("cpu"))
    measured.append((4.0, 8.0, 4.0))
    assert threads.adjust() is None, "measured before its time"
    measured.append((6.0, 12.0, 6.0))  # others took one of two cores
    assert threads.adjust() == "1 instead of 2 threads: other programs leave 1.0 of 2 cores"
    assert torch.get_num_threads() == 1
    measured.append((20.0, 40.0, 11.0))
    assert threads.adjust() is None, "14 seconds are too few"
    measured.append((22.0, 28.0, 22.0))  # nobody else
    assert threads.adjust() == "2 instead of 1 threads: other programs leave 2.0 of 2 cores"


def test_little_use_by_others_changes_no_threads(measured):
    threads = engine.ThreadAdjuster(torch.device("cpu"))
    measured.append((10.0, 20.0, 16.0))
    assert threads.adjust() is None
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("asked", ["environment", "study", "gpu"])
def test_threads_that_were_asked_for_stay(asked, measured, monkeypatch):
    if asked == "environment":
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    if asked == "study":
        engine.keep_threads()
    threads = engine.ThreadAdjuster(torch.device("cuda" if asked == "gpu" else "cpu"))
    measured.append((10.0, 20.0, 5.0))
    assert threads.adjust() is None
    threads.take(1)
    assert torch.get_num_threads() == 2


def test_a_resumed_run_goes_on_with_its_threads_as_far_as_there_are_cores(measured):
    threads = engine.ThreadAdjuster(torch.device("cpu"))
    threads.take(1)
    assert torch.get_num_threads() == 1
    threads.take(8)
    assert torch.get_num_threads() == 2

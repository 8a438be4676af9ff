"""How many workers the memory of a machine, or of a made-up one, allows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from image_sets import blobs
from sonosynth.study.engines import memory
from sonosynth.study.engines.memory import available_memory, needed_memory, with_peak, workers_that_fit
from sonosynth.study.prepared import prepare_study
from sonosynth.study.study_file import parse_design
from tiny_classifier import QUICK
from tiny_classifier import tiny_network as tiny_network

GIB, MIB = 1 << 30, 1 << 20


def machine(root: Path, free: int, **files: str | int) -> Path:
    """Make the files by which Linux tells its memory; "__" stands for a slash in the names of `files`."""
    written = {"proc/meminfo": f"MemTotal: {64 * MIB} kB\nMemFree: 1 kB\nMemAvailable: {free >> 10} kB\n"}
    for name, content in (written | {name.replace("__", "/"): content for name, content in files.items()}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def group(at: str, limit: int | str, used: int, droppable: int) -> dict[str, str | int]:
    return {f"{at}/memory.max": limit, f"{at}/memory.current": used, f"{at}/memory.stat": f"inactive_file {droppable}"}


def test_without_control_groups_what_the_machine_has_is_free(tmp_path):
    assert available_memory(machine(tmp_path, 6 * GIB)) == 6 * GIB
    assert available_memory(tmp_path / "no Linux") is None
    assert 0 < available_memory() < 1 << 50


@pytest.mark.parametrize("path", ["/job/step", "/", "/../elsewhere", "/not/seen/here"])
def test_the_tightest_group_on_the_way_decides(tmp_path, path):
    machine(tmp_path, 6 * GIB, proc__self__cgroup=f"0::{path}")
    top, job = "sys/fs/cgroup", "sys/fs/cgroup/job"
    for files in (group(top, 5 * GIB, GIB, 0), group(job, 2 * GIB, GIB, 512 * MIB), group(f"{job}/step", "max", 1, 0)):
        machine(tmp_path, 6 * GIB, **files)
    assert available_memory(tmp_path) == (1536 * MIB if path == "/job/step" else 4 * GIB)


def test_groups_of_the_first_version_count_too(tmp_path):
    at = "sys/fs/cgroup/memory/box"
    files = {
        "proc/self/cgroup": "7:cpu,cpuacct:/box\n4:memory:/box\n0::/",
        f"{at}/memory.limit_in_bytes": 3 * GIB,
        f"{at}/memory.usage_in_bytes": GIB,
        f"{at}/memory.stat": f"cache 1\ntotal_inactive_file {MIB}",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": (1 << 63) - 4096,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 5 * GIB,
        "sys/fs/cgroup/memory/memory.stat": "cache 1",
    }
    assert available_memory(machine(tmp_path, 6 * GIB, **files)) == 2 * GIB + MIB


@pytest.fixture
def planned(tmp_path):
    blobs(30).save(tmp_path / "real")
    raw = {
        "name": "tiny",
        "data": {"source": str(tmp_path / "real"), "size": 32},
        "split": {"sizes": [8], "draws": 1},
        "gans": [{"base": "stylegan2", "channel_base": 512, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch": 4}],
        "training": {"kimg": 0.012, "mode": "conditional"},
        "scores": {"features": ["random-conv"], "n_synthetic": 20, "parts": ["distances"]},
        "classifiers": QUICK | {"arms": ["real", "real+synthetic"]},
    }
    design = parse_design(raw, "study.yaml")
    data = prepare_study(design)
    return data.cells(design), data


@pytest.mark.parametrize(("free", "fit"), [(None, 3), (9 * GIB, 3), (int(7.6 * GIB), 2), (4 * GIB, 1), (GIB, 1)])
def test_as_many_workers_as_the_most_demanding_cells_leave_room_for(planned, monkeypatch, free, fit):
    cells, data = planned
    needs = {"train": 4 * GIB, "score": int(2.8 * GIB)}
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    monkeypatch.setattr(memory, "needed_memory", lambda cell, _: needs.get(cell.kind, GIB))
    workers, why = workers_that_fit(3, cells, data)
    assert workers == fit
    if fit == 3:
        assert why is None
    else:
        assert f"{fit} worker" in why and "of 3, for want of memory: to train stylegan2" in why
        assert "about 4.0 GiB" in why and f"{free / GIB:.1f} GiB are free" in why and "\n" not in why


@pytest.mark.long
def test_more_memory_is_foreseen_for_larger_batches_and_images(planned):
    cells, data = planned
    first = {cell.kind: cell for cell in cells}
    needs = {kind: needed_memory(cell, data) for kind, cell in first.items()}
    assert all(600 * MIB < need < 3 * GIB for need in needs.values())
    source = first["train"].generation.source | {"batch": 256}
    larger = replace(first["train"], generation=replace(first["train"].generation, source=source))
    assert needed_memory(larger, data) > needs["train"] + 20 * MIB


def test_the_peak_is_that_of_tensors_alive_at_once():
    def work() -> int:
        for _ in range(5):
            torch.zeros(MIB).mul_(2)  # 4 MiB, freed before the next
        kept = torch.ones(MIB)
        view = kept[: MIB // 2]
        return len(view)

    found, peak = with_peak(work)
    assert found == MIB // 2 and 4 * MIB <= peak < 8 * MIB + 1024

"""Device, precision, generators and provenance: the only file that asks "cuda or cpu?"."""

import ctypes
import gc
import importlib.metadata
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor

from sonosynth.core.seeds import seed_of

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of malloc.h

_bfloat16: bool | None = None  # None: where the processor has it
_records_graphs = False  # whether compiled functions are CUDA graphs
_keeps_threads = False  # whether `keep_threads` was called

Function = TypeVar("Function", bound=Callable[..., Any])

_REPORTED = ("sonosynth", "torch", "numpy", "scipy", "scikit-learn", "monai", "pillow")


def default_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16(device_type: str) -> bool:
    """Return whether the processor multiplies bfloat16 itself: where it does not, float32 is two to five times faster.

    Such are GPUs from compute capability 8.0 (Ampere) and CPUs with AMX or AVX-512-BF16.
    """
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device, enabled: bool | None = None) -> AbstractContextManager[None]:
    """Return a context in which convolutions and matrix products run in bfloat16: by default, where that is faster."""
    if enabled is None:
        enabled = has_bfloat16(device.type) if _bfloat16 is None else _bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=True)


def precision(device: torch.device) -> str:
    """Return in what convolutions and matrix products of training run on `device`, for people to read."""
    return "bfloat16" if has_bfloat16(device.type) else "float32, as this processor has no bfloat16 arithmetic"


@contextmanager
def bfloat16(enabled: bool) -> Iterator[None]:
    """Turn `autocast` on or off inside the block, whatever is faster; for functions that are not compiled."""
    global _bfloat16
    before, _bfloat16 = _bfloat16, enabled
    try:
        yield
    finally:
        _bfloat16 = before


def keep_freed_memory() -> None:
    """Let this process keep what it frees, where the C library is glibc: the next step or batch wants the same again.

    Otherwise every large tensor on the CPU is mapped anew, a page fault for every 4 KiB: up to half of the time that a
    network takes to embed images.
    """
    if mallopt := _c_function("mallopt"):
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_MMAP_MAX, 0)


def return_freed_memory() -> None:
    """Collect garbage, and give what this process has kept but does not use back to the system."""
    gc.collect()
    if trim := _c_function("malloc_trim"):
        trim(0)


def _c_function(name: str) -> Callable[..., int] | None:
    """Return a function of glibc; None where the C library is another."""
    return getattr(ctypes.CDLL(None), name, None) if platform.libc_ver()[0] == "glibc" else None


def limit_threads(workers: int) -> None:
    """Let this process use its part of the cores, where `workers` processes share them."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // workers)))


def keep_threads() -> None:
    """Let no `ThreadAdjuster` change the number of threads of this process from now on."""
    global _keeps_threads
    _keeps_threads = True


class ThreadAdjuster:
    """Gives this process as many threads as other programs leave it cores: one that waits for a core holds up the rest.

    The number of threads changes the last bits of sums. It stays as it is where it was asked for (``OMP_NUM_THREADS``,
    `keep_threads`), where work is for another `device`, and where other programs take less than half of a core.
    """

    FIRST_SECONDS, SECONDS = 5.0, 15.0  # over which the use of the cores is measured: at first, and later

    def __init__(self, device: torch.device):
        asked_for = _keeps_threads or bool(os.environ.get("OMP_NUM_THREADS"))
        self.most = 1 if asked_for or device.type != "cpu" else torch.get_num_threads()
        self._window, self._last = self.FIRST_SECONDS, self._now()

    def take(self, threads: int) -> None:
        """Go on with the number that an interrupted run had, as far as there are cores."""
        if self.most > 1:
            torch.set_num_threads(max(1, min(threads, self.most)))

    def adjust(self) -> str | None:
        """Measure, where it is time to, and return in words what has changed."""
        if self.most == 1 or time.perf_counter() - self._last[0] < self._window:
            return None
        now, cores = self._now(), psutil.cpu_count() or 1
        seconds, all_busy, own = (new - old for new, old in zip(now, self._last, strict=True))
        self._window, self._last = self.SECONDS, now
        left = cores - max(0.0, all_busy - own) / seconds
        before, threads = torch.get_num_threads(), max(1, min(self.most, round(left)))
        if threads == before:
            return None
        torch.set_num_threads(threads)
        return f"{threads} instead of {before} threads: other programs leave {left:.1f} of {cores} cores"

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds: of the clock, of all cores at work, and of this process."""
        times = psutil.cpu_times()._asdict()
        at_rest = {"idle", "iowait", "guest", "guest_nice"}  # guests are in the time of users already
        busy = sum(seconds for name, seconds in times.items() if name not in at_rest)
        return time.perf_counter(), busy, time.process_time()


def median_seconds(work: Callable[[], object], device: torch.device, repeats: int = 1, warm_up: int = 0) -> float:
    """Return how long `work` takes, with all that it leaves to `device`: a median, after `warm_up` calls.

    One call alone may meet a busy moment of the machine.
    """
    times = []
    for _ in range(warm_up + repeats):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[warm_up:])


def _wait(device: torch.device) -> None:
    if is_asynchronous(device):
        torch.cuda.synchronize(device)


def is_asynchronous(device: torch.device) -> bool:
    """Return whether work is only handed to `device`, and this process goes on meanwhile."""
    return device.type == "cuda"


def can_compile(device: torch.device) -> bool:
    """Return whether `compiled` has what it needs: for a CPU that is a C++ compiler, ``$CXX`` or g++ or clang++."""
    named = os.environ.get("CXX")
    return device.type == "cuda" or any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))


def reset_compiler() -> None:
    """Drop all that is compiled: what comes next has networks of its own, and the number of variants is limited.

    What is compiled takes `has_bfloat16` for a constant; to say so earlier would import the compiler, which takes
    seconds.
    """
    if mallopt := _c_function("mallopt"):
        mallopt(_M_ARENA_MAX, 1)  # heaps of the compiler's threads would stay, some 20 MiB
    torch.compiler.reset()
    torch.compiler.assume_constant_result(has_bfloat16)  # type: ignore[no-untyped-call]


def compile_function(function: Function, device: torch.device) -> Function:
    """Return `function` compiled for `device` when first called, anew for every shape and type of its arguments.

    On a GPU its kernels are recorded as CUDA graphs; call `mark_step_begin` before earlier outputs may be lost.
    """
    global _records_graphs
    _records_graphs = device.type == "cuda"
    mode = "reduce-overhead" if _records_graphs else None
    return torch.compile(function, dynamic=False, mode=mode)  # type: ignore[return-value]


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return `x`, which is on the CPU, on `device`, without waiting for what the device has still to do."""
    return x.pin_memory().to(device, non_blocking=True) if is_asynchronous(device) else x.to(device)


def pinned_empty(device: torch.device, *shape: int) -> Tensor:
    """Return an empty float32 tensor on the CPU, of which `to_device` takes a copy at once."""
    return torch.empty(shape, pin_memory=is_asynchronous(device))


def start_copy_to_cpu(x: Tensor) -> Callable[[], Tensor]:
    """Begin to copy `x` to the CPU; return a function that waits for the copy, not for work given to the device since.

    `x` itself, where it is there already.
    """
    if not is_asynchronous(x.device):
        return lambda: x
    copy = torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
    done = torch.cuda.current_stream(x.device).record_event()

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait


def sampling_batch_size(device: torch.device, side: int) -> int:
    """Return how many images of `side` pixels a generator makes at once, however many are wanted of it.

    On a GPU a pass of fewer takes as long: to launch it takes longer than to compute it.
    """
    return max(32, min(256, 2**22 // side**2)) if is_asynchronous(device) else 32


def mark_step_begin() -> None:
    """Allow compiled functions to overwrite what they returned before."""
    if _records_graphs:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def torch_generator(*parts: int | str, device: torch.device | None = None) -> torch.Generator:
    """Return a torch generator on `device` (CPU if not given) seeded from `parts`; see `seed_of`.

    On a CPU, PyTorch's generator takes 32 bits of the seed: of 10,000 sequences two are one with a chance of 1 %.
    """
    return torch.Generator(device or torch.device("cpu")).manual_seed(seed_of(*parts))


def provenance() -> dict[str, Any]:
    """Return what a record needs to be repeated: machine, device, threads and the versions of the main libraries."""
    device = default_device()
    cpu = f"CPU ({platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "precision": precision(device),
        "versions": {name: importlib.metadata.version(name) for name in _REPORTED},
    }

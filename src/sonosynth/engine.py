"""Device, precision, seeds and provenance: the only file that asks "cuda or cpu?"."""

import hashlib
import importlib.metadata
import os
import platform
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

_REPORTED = ("sonosynth", "torch", "numpy", "scipy", "scikit-learn", "monai", "pillow")


def default_device() -> torch.device:
    """Return the first CUDA device if there is one, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager[None]:
    """Return a context in which convolutions and matrix products run in bfloat16."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=True)


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed derived from `parts`, e.g. ``(seed, "latent", step)``; any two differing lists differ."""
    digest = hashlib.blake2b("\x1f".join(f"{type(p).__name__}:{p}" for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str, device: torch.device | None = None) -> torch.Generator:
    """Return a torch generator on `device` (CPU if not given) seeded from `parts`; see `seed_of`."""
    return torch.Generator(device or torch.device("cpu")).manual_seed(seed_of(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator seeded from `parts`; see `seed_of`."""
    return np.random.default_rng(seed_of(*parts))


def provenance() -> dict[str, Any]:
    """Return what a record needs to be repeated: machine, device, threads and the versions of the main libraries."""
    device = default_device()
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "versions": {name: importlib.metadata.version(name) for name in _REPORTED},
    }


def _cpu_name() -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    return f"CPU ({platform.processor() or platform.machine()}, {capability})"

"""Seeds from what they are for, and numpy generators from them: without torch, which takes seconds to load."""

import hashlib

import numpy as np


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed derived from `parts`, e.g. ``(seed, "latent", step)``; other parts give another seed.

    Two different lists share a seed with a chance of 2^-63.
    """
    digest = hashlib.blake2b("\x1f".join(f"{type(p).__name__}:{p}" for p in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a numpy generator seeded from `parts`; see `seed_of`."""
    return np.random.default_rng(seed_of(*parts))

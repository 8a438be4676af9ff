"""Many small matrices at once: a core for each is faster than all cores for one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from joblib import cpu_count
from threadpoolctl import threadpool_limits


@contextmanager
def single_threaded_blas() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread for each core, in which products and decompositions of matrices use no other threads."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cpu_count()) as pool:
        yield pool

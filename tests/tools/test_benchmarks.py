"""Benchmarks: each can still be imported, since what they name in the package may have moved."""

from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = sorted(path.stem for path in (Path(__file__).parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported(name):
    assert Path(import_module(name).__file__).parent.name == "benchmarks"

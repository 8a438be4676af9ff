"""Bad input gives its one line or a counted skip; nothing hangs, nothing is left behind, and no memory is used up."""

import faulthandler
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hostile.case import Case
from hostile.make import CASES, make
from sonosynth.cli.main import app
from sonosynth.core.text import counted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="makes pipes, links and names that other systems refuse")
LIMIT_S, LIMIT_BYTES = 120, 3 << 29  # for one command: seconds, and bytes beyond what the process has

EACH = """
import os, sys
import sonosynth.data.scan
from sonosynth.cli.main import app

for source in sys.argv[1:]:  # each in a process of its own, which has everything imported when it begins
    if not os.fork():
        app(["data", "info", source])
    print("exit status", os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr, flush=True)
"""


def sonosynth(*arguments: object) -> Result:
    begun = time.monotonic()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "10000"})
    assert time.monotonic() - begun < LIMIT_S
    assert result.exit_code in (0, 2), (result.output, result.exception)
    for text in (result.stdout, result.stderr):
        text.encode()  # no half characters
        assert all(letter.isprintable() or letter == "\n" for letter in text), text
    return result


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A process that hangs is ended with a trace of where; one that wants more memory than it may gets an error."""
    faulthandler.dump_traceback_later(6 * LIMIT_S, exit=True)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if has_proc() else 0
    if used:
        resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)
    faulthandler.cancel_dump_traceback_later()


def has_proc() -> bool:
    return Path("/proc/self/statm").exists()


def everything(folder: Path) -> list[str]:
    return sorted(os.fsencode(path.relative_to(folder)).hex() for path in folder.rglob("*"))


def the_line(result: Result) -> str:
    """Return the one line on standard error that a command must end with."""
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and len(line) < 2000, line
    return line


def prepared(source: Path, folder: Path, *more: str) -> Result:
    """Run ``data prepare``; whatever becomes of it, the output is whole or absent."""
    folder.mkdir()
    before = everything(source) if source.is_dir() else []
    result = sonosynth("data", "prepare", source, "--out", folder / "out", "--size", 16, *more)
    assert before == (everything(source) if source.is_dir() else [])
    assert [path.name for path in folder.iterdir()] == ([] if result.exit_code else ["out"])
    if result.exit_code == 0:
        assert not [path for path in (folder / "out").rglob("*") if path.name.startswith(".")]
        assert "ready to use" in sonosynth("data", "info", folder / "out").stdout
        assert (
            "already done" in sonosynth("data", "prepare", source, "--out", folder / "out", "--size", 16, *more).stdout
        )
    return result


def test_the_corpus_is_large_and_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.long
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case.large else []) for case in CASES]
)
def test_every_case_ends_as_it_must(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = make(case, tmp_path / "case")
    plain = prepared(source, tmp_path / "plain")
    stops = bool(plain.exit_code) if case.either else case.stops is not None
    check(case, plain, stops)
    told = plain
    if not case.large:
        told = sonosynth("data", "info", source)
        check(case, told, stops and not case.info_reads)
        skipping = prepared(source, tmp_path / "skip", "--skip-unreadable")
        check(case, skipping, stops and not case.skipped)
        if stops and case.skipped:
            assert f"note {counted(case.skipped, 'unreadable file')} left out: " in words(skipping)
            assert re.search(case.stops or "", skipping.stdout)
    if told.exit_code == 0:
        assert re.search(case.tells or "", words(told)), told.stdout
    assert capfd.readouterr().err == ""  # nor does a decoder write there by itself


def check(case: Case, result: Result, stops: bool) -> None:
    if stops:
        assert re.search(case.stops or "", the_line(result)), the_line(result)
    else:
        assert result.exit_code == 0 and result.stderr == "", result.stderr


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


@pytest.mark.long
def test_nothing_but_the_line_reaches_the_terminal(tmp_path: Path) -> None:
    names = ("tiff-flip", "tiff-samples", "tiff-tag", "name-not-text-beside")
    cases = [next(case for case in CASES if case.name == name) for name in names]
    sources = [make(case, tmp_path / case.name) for case in cases]
    result = subprocess.run([sys.executable, "-c", EACH, *sources], capture_output=True, text=True, timeout=120)
    lines = iter(result.stderr.splitlines())
    for case in cases:
        if case.stops:
            assert next(lines).startswith("error: "), result.stderr
        assert next(lines) == f"exit status {2 if case.stops else 0}", result.stderr
    assert list(lines) == []


@pytest.mark.parametrize("name", ["name-escape-class", "name-right-to-left", "name-not-text-beside"])
def test_json_is_plain_text_whatever_the_names(name: str, tmp_path: Path) -> None:
    source = make(next(case for case in CASES if case.name == name), tmp_path / "case")
    result = sonosynth("data", "info", source, "--json", "--skip-unreadable")
    assert result.stdout.isascii() and json.loads(result.stdout)["classes"]


@pytest.mark.long
def test_the_corpus_is_the_same_each_time(tmp_path: Path) -> None:
    for case in CASES:
        if not case.large and case.name not in ("npz-bomb", "clip-no-frames"):
            first, second = (make(case, tmp_path / name / case.name) for name in ("one", "two"))
            if first.is_dir():
                assert everything(first) == everything(second)
                assert [p.read_bytes() for p in plain_files(first)] == [p.read_bytes() for p in plain_files(second)]


def plain_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size < 1 << 24]

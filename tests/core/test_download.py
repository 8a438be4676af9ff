import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bad_server import CONTENT, SHORT, checksum
from sonosynth.core.download import RemoteFile, _ResumingDownloader, download
from sonosynth.core.errors import FetchError, OutputError
from special_files import pipe


def test_a_download_is_the_file_and_leaves_nothing_else(server, tmp_path):
    told = []
    path = download(
        server.file(size=len(CONTENT), checksum=checksum()), tmp_path, SHORT, lambda *now: told.append(now[:2])
    )
    assert path.read_bytes() == CONTENT and [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]
    assert told[-1] == (len(CONTENT), len(CONTENT)) and told == sorted(told)


@pytest.mark.parametrize("name", ["x.bin", "x.bin.part", "x.bin.part.json"])
def test_a_special_file_is_not_replaced_by_a_download(server, tmp_path, name):
    pipe(tmp_path / name)
    with pytest.raises(OutputError, match=f"{name} is a pipe where a file is needed"):
        download(server.file(checksum=checksum()), tmp_path, SHORT)
    assert (tmp_path / name).is_fifo() and not server.asked


@pytest.mark.long
@pytest.mark.parametrize("fault", ["drop", "stall", "503", "429"])
def test_a_passing_fault_is_overcome_with_what_came_before(server, tmp_path, fault):
    server.faults = [fault]
    path = download(server.file(checksum=checksum()), tmp_path, SHORT)
    assert path.read_bytes() == CONTENT
    resumed = None if fault.isdecimal() else f"bytes={len(CONTENT) // 2}-"
    assert [asked for _, asked in server.asked] == [None, resumed]


def test_a_server_that_asks_to_wait_is_obeyed_within_limits(server, tmp_path):
    server.faults = ["429"]
    began = time.monotonic()
    download(server.file(), tmp_path, replace(SHORT, max_backoff=0.3))
    assert 0.3 <= time.monotonic() - began < 3


def test_progress_counts_more_than_failures(server, tmp_path):
    content = CONTENT * 4
    server.faults = ["drop"] * 4  # more than the attempts, but each brings half of the rest
    assert download(server.file(content=content), tmp_path, replace(SHORT, max_attempts=2)).read_bytes() == content


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.ranges, server.faults = False, ["drop", "drop"]
    assert download(server.file(checksum=checksum()), tmp_path, SHORT).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_server_without_ranges_that_always_drops_is_given_up(server, tmp_path):
    server.ranges, server.always = False, "drop"
    with pytest.raises(FetchError, match=r"broke off after 150000 .*in a row; 150000 bytes are kept"):
        download(server.file(checksum=checksum()), tmp_path, SHORT)
    assert len(server.asked) <= 2 * SHORT.max_attempts


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "message", "requests"),
    [
        ("404", "HTTP 404", 1),
        ("403", "HTTP 403", 1),
        ("503", r"the server is busy \(HTTP 503\), 3 times in a row$", 3),
        ("trickle", "all but stalled after", 3),
        ("gzip", "Content-Encoding", 1),
    ],
)
def test_a_lasting_fault_is_one_line(server, tmp_path, fault, message, requests):
    server.always = fault
    began = time.monotonic()
    with pytest.raises(FetchError, match=message):
        download(server.file(), tmp_path, SHORT)
    assert len(server.asked) == requests and time.monotonic() - began < 5
    assert not (tmp_path / "x.bin").exists()


@pytest.mark.long
def test_a_stalled_server_does_not_hang(server, tmp_path):
    server.ranges, server.always = False, "stall"
    began = time.monotonic()
    with pytest.raises(FetchError, match="stalled after 150000 bytes"):
        download(server.file(), tmp_path, replace(SHORT, max_attempts=2))
    assert time.monotonic() - began < 4


def test_a_server_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(FetchError, match=r"127\.0\.0\.1 cannot be reached .*refused"):
        download(RemoteFile("http://127.0.0.1:9/x.bin", "x.bin"), tmp_path, SHORT)


def test_an_interrupted_download_goes_on_in_the_next_call(server, tmp_path):
    file = server.file(checksum=checksum())
    server.faults = ["drop"]
    with pytest.raises(FetchError, match="150000 bytes are kept"):
        download(file, tmp_path, replace(SHORT, max_attempts=1))
    assert download(file, tmp_path, SHORT).read_bytes() == CONTENT
    assert server.asked[-1] == ("/x.bin", "bytes=150000-")


def test_a_part_of_another_version_is_not_continued(server, tmp_path):
    file = server.file()  # no checksum that would find out
    server.faults = ["drop"]
    with pytest.raises(FetchError):
        download(file, tmp_path, replace(SHORT, max_attempts=1))
    server.files["x.bin"], server.tag = CONTENT[::-1], '"two"'
    assert download(file, tmp_path, SHORT).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_a_part_of_unknown_version_is_continued_only_under_a_checksum(server, tmp_path, tag):
    server.tag = tag
    for known, resumed in ((None, None), (checksum(), "bytes=150000-")):
        server.faults, server.asked = ["drop"], []
        file = server.file(f"{bool(known)}.bin", checksum=known)
        assert download(file, tmp_path, SHORT).read_bytes() == CONTENT
        assert server.asked[-1][1] == resumed


def test_a_part_that_is_complete_already_is_taken(server, tmp_path):
    file = server.file(checksum=checksum())
    (tmp_path / "x.bin.part").write_bytes(CONTENT)
    assert download(file, tmp_path, SHORT).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_starts_anew(server, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(CONTENT + b"more")
    assert download(server.file(checksum=checksum()), tmp_path, SHORT).read_bytes() == CONTENT


def test_a_wrong_part_starts_anew(server, tmp_path):
    server.faults = ["drop", "wrong part"]
    assert download(server.file(checksum=checksum()), tmp_path, SHORT).read_bytes() == CONTENT


def test_a_length_that_is_too_high_is_noticed(server, tmp_path):
    server.ranges, server.always = False, "claims more"
    with pytest.raises(FetchError, match="broke off after 300000 "):
        download(server.file(), tmp_path, SHORT)


@pytest.mark.parametrize("known", [{"size": len(CONTENT)}, {"checksum": checksum()}])
def test_a_length_that_is_too_low_is_noticed(server, tmp_path, known):
    server.always = "claims less"
    with pytest.raises(FetchError, match=r"offers 299000 bytes, but 300000 were published|not what was published"):
        download(server.file(**known), tmp_path, SHORT)
    assert not (tmp_path / "x.bin").exists()


def test_a_body_without_length_is_held_to_the_published_size(server, tmp_path):
    server.always = "no length"
    assert download(server.file(size=len(CONTENT)), tmp_path, SHORT).read_bytes() == CONTENT
    (tmp_path / "x.bin").unlink()
    with pytest.raises(FetchError, match="more than the 299999 bytes"):
        download(server.file(size=len(CONTENT) - 1), tmp_path, SHORT)
    server.always, server.ranges = "no length, drop", False
    with pytest.raises(FetchError, match="broke off after 150000 of 300000"):
        download(server.file("y.bin", size=len(CONTENT)), tmp_path, SHORT)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_is_one_line_and_nothing_is_kept(server, tmp_path, kind):
    with pytest.raises(FetchError, match=f"the checksum is not {checksum(b'other', kind)}"):
        download(server.file(checksum=checksum(b"other", kind)), tmp_path, SHORT)
    assert not list(tmp_path.iterdir())


def test_a_file_that_a_person_put_there_is_taken_if_it_is_the_one(server, tmp_path):
    file = server.file(checksum=checksum())
    (tmp_path / "x.bin").write_bytes(CONTENT)
    assert download(file, tmp_path, SHORT).read_bytes() == CONTENT and not server.asked
    (tmp_path / "x.bin").write_bytes(b"something else")
    assert download(file, tmp_path, SHORT).read_bytes() == CONTENT and len(server.asked) == 1


def test_an_address_that_becomes_unencrypted_is_refused(tmp_path):
    class Answer:
        status_code, url, headers = 200, "http://example.org/x.bin", {"Content-Length": "4"}

    file = RemoteFile("https://example.org/x.bin", "x.bin")
    with pytest.raises(FetchError, match="not encrypted"):
        _ResumingDownloader(file, tmp_path, SHORT, None)._receive(Answer(), file.url)


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr("sonosynth.core.download.disk_usage", lambda _: SimpleNamespace(free=len(CONTENT) - 1))
    with pytest.raises(OutputError, match="300000 bytes do not fit, 299999 are free"):
        download(server.file(), tmp_path, SHORT)

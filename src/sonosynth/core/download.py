"""Downloading one file of a public data set: continued where it broke off, and verified."""

import re
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from shutil import disk_usage
from typing import Any
from urllib.parse import urlsplit

from sonosynth.core.errors import FetchError, OutputError
from sonosynth.core.files import check_file_types, read_json, write_json
from sonosynth.core.text import counted
from sonosynth.core.types import StageProgress

_CHUNK = 1 << 18
_TRANSIENT_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504))
_STEP = 1 << 16


@dataclass(frozen=True)
class RemoteFile:
    """One file to download."""

    url: str  # that needs no account
    name: str  # to keep it under; an archive is unpacked and not kept
    size: int | None = None  # bytes, if published
    checksum: str | None = None  # "algorithm:hexdigits", if published
    archive: bool = False  # a zip or tar.gz to unpack


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server, and how often to try again; times in seconds."""

    connect_timeout: float = 15.0
    read_timeout: float = 30.0  # for the next byte; also how long a download may stay below `min_bytes_per_second`
    min_bytes_per_second: int = 256  # a slower download has stalled
    max_attempts: int = 5  # in a row without progress before giving up
    backoff: float = 1.0  # pause before the second attempt; doubled before each further one
    max_backoff: float = 30.0  # the longest pause, also where the server asks for more


class _TransientError(Exception):
    """The server may do better in a moment; `pause` is the number of seconds it asks for."""

    def __init__(self, what: str, pause: int = 0) -> None:
        super().__init__(what)
        self.pause = pause


def download(
    file: RemoteFile, folder: Path, retry: RetryPolicy | None = None, progress: StageProgress | None = None
) -> Path:
    """Return the path of `file` in `folder`, downloading what is not there yet.

    A file that is there and has the published checksum, or whose publisher gives none, is taken as it is: one that a
    person put there counts. A broken download is kept as ``NAME.part`` and continued by this or the next call where
    the server can and the rest is sure to belong to it; otherwise it starts anew. No other process may use `folder`,
    which must be there. `progress` is called with bytes.

    Raises:
        FetchError: the server cannot be reached, refuses, stalls, or sends something else than was published.
        OutputError: the disk is too full, or what is there under the name is no ordinary file.
    """
    import pooch

    check_file_types(folder, (file.name, f"{file.name}.part", f"{file.name}.part.json"))
    pooch.get_logger().setLevel("ERROR")
    try:
        path = pooch.retrieve(
            file.url, file.checksum, file.name, folder, downloader=_ResumingDownloader(file, folder, retry, progress)
        )
    except ValueError as error:
        raise FetchError(
            f"{file.url}: what came is not what was published, the checksum is not {file.checksum}; it is removed"
        ) from error
    return Path(path)


class _ResumingDownloader:
    """A pooch downloader that continues an earlier download."""

    def __init__(
        self, file: RemoteFile, folder: Path, retry: RetryPolicy | None, progress: StageProgress | None
    ) -> None:
        self.file = file
        self.retry = retry or RetryPolicy()
        self.tell = progress or (lambda done, total, text: None)
        self.part = folder / f"{file.name}.part"
        self.validator_file = folder / f"{file.name}.part.json"

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`. Raises FetchError."""
        import requests

        failures, furthest = 0, self._have()
        with requests.Session() as session:
            while True:
                try:
                    self._attempt(session, url)
                    break
                except _TransientError as error:
                    have = self._have()
                    if have >= furthest + _STEP:
                        failures, furthest = 0, have
                    failures += 1
                    if failures >= self.retry.max_attempts:
                        kept = f"; {have} bytes are kept" if have else ""
                        raise FetchError(f"{url}: {error}, {counted(failures, 'time')} in a row{kept}") from error
                    pause = max(error.pause, self.retry.backoff * 2 ** (failures - 1))
                    self.tell(have, None, f"{error}; trying again")
                    time.sleep(min(pause, self.retry.max_backoff))
        self.part.replace(output_file)
        self.validator_file.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _restart(self) -> None:
        self.part.unlink(missing_ok=True)
        self.validator_file.unlink(missing_ok=True)

    def _attempt(self, session: Any, url: str) -> None:
        import requests

        headers = {"User-Agent": f"sonosynth/{version('sonosynth')}", "Accept-Encoding": "identity"}
        have, validator = self._have(), self._validator()
        if have and (validator or self.file.checksum):  # what is there can be continued
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": validator} if validator else {})
        else:
            self._restart()
        host, limits = urlsplit(url).hostname, (self.retry.connect_timeout, self.retry.read_timeout)
        try:
            with session.get(url, headers=headers, stream=True, timeout=limits) as response:
                self._receive(response, url)
        except requests.exceptions.SSLError as error:
            raise FetchError(f"{url}: the certificate of {host} cannot be verified ({_reason(error)})") from error
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ReadTimeout) as error:
            raise _TransientError(f"{host} did not answer in time") from error
        except requests.exceptions.ConnectionError as error:
            raise _TransientError(f"{host} cannot be reached ({_reason(error)})") from error
        except requests.exceptions.RequestException as error:
            raise FetchError(f"{url}: {_reason(error)}") from error

    def _validator(self) -> str | None:
        """Return what names the version of the remote file that the part is of: an ETag or a date."""
        try:
            record = read_json(self.validator_file) if self.validator_file.is_file() else {}
            return str(record["validator"]) if record["url"] == self.file.url else None
        except (ValueError, LookupError, TypeError):
            return None  # a damaged note is as good as none: without a checksum the download starts anew

    def _receive(self, response: Any, url: str) -> None:
        status, have = response.status_code, self._have()
        if status in _TRANSIENT_STATUS:
            pause = _number(response.headers.get("Retry-After")) or 0
            raise _TransientError(f"the server is busy (HTTP {status})", pause)
        if status == 416:
            if _range_of(response) != (None, have):
                self._restart()
                raise _TransientError("what was downloaded before does not fit")
            return
        if status not in (200, 206):
            raise FetchError(f"{url}: the server answers HTTP {status} {response.reason or ''}".rstrip())
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise FetchError(f"{url}: the server redirects to {response.url}, which is not encrypted")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError(f"{url}: the server changes what it sends (Content-Encoding), so it cannot be verified")
        start, total = _range_of(response) if status == 206 else (0, _number(response.headers.get("Content-Length")))
        if start not in (0, have):
            self._restart()
            raise _TransientError("the server sends another part than was asked for")
        if total is not None and self.file.size is not None and total != self.file.size:
            self._restart()
            raise FetchError(f"{url}: the server offers {total} bytes, but {self.file.size} were published")
        folder = self.part.parent
        if total is not None and total - have > (free := disk_usage(folder).free):
            raise OutputError(f"{folder}: {total} bytes do not fit, {free} are free; choose another --out")
        validator = response.headers.get("ETag", "")
        if not validator or validator.startswith("W/"):  # a weak one does not promise equal bytes
            validator = response.headers.get("Last-Modified")
        if start == 0 and validator:
            write_json(self.validator_file, {"url": self.file.url, "validator": validator})
        due = total if total is not None else self.file.size
        got = self._copy(response, start or 0, due)
        if due is not None and got != due:
            raise _TransientError(f"the connection broke off after {got} of {due} bytes")

    def _copy(self, response: Any, start: int, due: int | None) -> int:
        """Append the body to the part; return the size it then has. Raises _TransientError on a stalled connection."""
        import urllib3

        done, mark, since = start, start, time.monotonic()
        with self.part.open("ab" if start else "wb") as file:
            while True:
                try:
                    # read1 returns what one packet brought, so that a trickle is noticed too.
                    chunk = response.raw.read1(_CHUNK, decode_content=False)
                except urllib3.exceptions.ReadTimeoutError as error:
                    raise _TransientError(f"the server stalled after {done} bytes") from error
                except (urllib3.exceptions.HTTPError, OSError) as error:
                    raise _TransientError(f"the connection broke off after {done} bytes") from error
                if not chunk:
                    return done
                file.write(chunk)
                done += len(chunk)
                if due is not None and done > due:
                    raise FetchError(f"{self.file.url}: the server sends more than the {due} bytes it should")
                self.tell(done, due, self.file.name)
                if time.monotonic() - since > self.retry.read_timeout:
                    if done - mark < self.retry.min_bytes_per_second * self.retry.read_timeout:
                        raise _TransientError(f"the server all but stalled after {done} bytes")
                    mark, since = done, time.monotonic()


def _range_of(response: Any) -> tuple[int | None, int | None]:
    """Return where a partial answer starts and the size of the whole file; None for what it does not say."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    start, total = match.groups() if match else (None, None)
    return _number(start), _number(total)


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\d{1,18}", text) else None


def _reason(error: BaseException) -> str:
    """Return the innermost cause in a few words, without the address, which the line names already."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__

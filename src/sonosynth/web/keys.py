"""Who may come in: links that work once and expire, and the sessions that they become. Only hashes are stored."""

import hashlib
import hmac
import secrets
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SESSION_HOURS = 12.0
_TABLES = """
CREATE TABLE IF NOT EXISTS links (hash TEXT PRIMARY KEY, who TEXT NOT NULL, expires REAL NOT NULL, used REAL);
CREATE TABLE IF NOT EXISTS sessions (hash TEXT PRIMARY KEY, who TEXT NOT NULL, expires REAL NOT NULL);
"""


@dataclass(frozen=True)
class Session:
    """A browser that came in by a link."""

    who: str  # for whom the link was made; of readers a number, never a name
    csrf: str  # what every form of this session carries


def connect(path: Path | None) -> sqlite3.Connection:
    """Return a connection to the database at `path`, or to one in memory, for several threads under a lock.

    What is committed to a file has reached the disk (write-ahead log, ``synchronous=FULL``).
    """
    connection = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class Keys:
    """Links and sessions, in a database or in memory. Safe to use from several threads and processes."""

    def __init__(self, path: Path | None = None, *, session_hours: float = SESSION_HOURS):
        self._db, self._lock = connect(path), threading.Lock()
        self._db.executescript(_TABLES)
        self._session_seconds = session_hours * 3600

    def new_link(self, who: str, hours: float) -> str:
        """Return a new key for `who`, which opens one session within so many `hours`."""
        key = secrets.token_urlsafe(32)
        with self._lock:
            self._db.execute("INSERT INTO links VALUES (?, ?, ?, NULL)", (_hash(key), who, time.time() + hours * 3600))
        return key

    def revoke(self, who: str) -> None:
        """End every session of `who`, and all links that were made for them."""
        with self._lock:
            self._db.execute("DELETE FROM links WHERE who = ?", (who,))
            self._db.execute("DELETE FROM sessions WHERE who = ?", (who,))

    def redeem(self, key: str) -> str | None:
        """Use up the link of `key` and return the token of a new session; None if it is unknown, used or expired."""
        now = time.time()
        with self._lock:
            row = self._row("SELECT hash, who FROM links WHERE hash = ? AND used IS NULL AND expires > ?", key, now)
            if row is None:
                return None
            # One of two requests at once changes the row; the other finds it used.
            changed = self._db.execute("UPDATE links SET used = ? WHERE hash = ? AND used IS NULL", (now, row[0]))
            if changed.rowcount != 1:
                return None
            token = secrets.token_urlsafe(32)
            self._db.execute("DELETE FROM sessions WHERE expires < ?", (now,))
            self._db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?)", (_hash(token), row[1], now + self._session_seconds)
            )
            return token

    def session(self, token: str) -> Session | None:
        """Return the session of a cookie, None if there is none or it has expired."""
        with self._lock:
            row = self._row("SELECT hash, who FROM sessions WHERE hash = ? AND expires > ?", token, time.time())
        if row is None:
            return None
        return Session(row[1], hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest())

    def _row(self, query: str, secret: str, now: float) -> tuple[str, str] | None:
        digest = _hash(secret)
        row = self._db.execute(query, (digest, now)).fetchone()
        return (row[0], row[1]) if row is not None and hmac.compare_digest(row[0], digest) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

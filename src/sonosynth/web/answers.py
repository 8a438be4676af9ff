"""The answers of readers: a row each, on the disk before the next image is shown. SQLite with a write-ahead log."""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from sonosynth.core.errors import ReaderStudyError
from sonosynth.web.keys import connect

_TABLES = """
CREATE TABLE IF NOT EXISTS study (sha256 TEXT NOT NULL, secret TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS readers (reader TEXT PRIMARY KEY, invited REAL NOT NULL, consented REAL);
CREATE TABLE IF NOT EXISTS shown (
    reader TEXT, practice INTEGER, position INTEGER, at REAL NOT NULL, PRIMARY KEY (reader, practice, position));
CREATE TABLE IF NOT EXISTS pauses (reader TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    reader TEXT NOT NULL, practice INTEGER NOT NULL, position INTEGER NOT NULL, item INTEGER NOT NULL,
    rating INTEGER NOT NULL, quality INTEGER, class TEXT, birads TEXT,
    viewing_ms INTEGER, elapsed_ms INTEGER, answered REAL NOT NULL, seen INTEGER NOT NULL,
    PRIMARY KEY (reader, practice, position));
"""


@dataclass(frozen=True)
class Answer:
    """What a reader said of an image."""

    reader: str
    position: int  # in this reader's order, from 0
    item: int  # number of the image in the study
    rating: int  # 1 surely real to 6 surely synthetic
    quality: int | None
    label: str | None
    birads: str | None
    viewing_ms: int | None  # while the page was visible, as the browser says
    elapsed_ms: int | None  # from when the page was last sent, as the server says


class Answers:
    """The database of a reader study. Safe to use from several threads and processes."""

    def __init__(self, path: Path, study_hash: str):
        self._db, self._lock = connect(path), threading.Lock()
        self._db.executescript(_TABLES)
        with self._writing() as db:
            row = db.execute("SELECT sha256, secret FROM study").fetchone()
            if row is None:
                row = study_hash, secrets.token_hex(32)
                db.execute("INSERT INTO study VALUES (?, ?)", row)
        if row[0] != study_hash:
            raise ReaderStudyError(f"{path} holds answers of another study; remove it, or restore {path.parent}")
        self.secret: str = row[1]  # of addresses of images

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Yield the database in a transaction that has reached the disk at the end, or changed nothing."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def new_reader(self) -> str:
        """Add a reader and return the number, such as ``R01``."""
        with self._writing() as db:
            reader = f"R{db.execute('SELECT COUNT(*) FROM readers').fetchone()[0] + 1:02d}"
            db.execute("INSERT INTO readers VALUES (?, ?, NULL)", (reader, time.time()))
        return reader

    def readers(self) -> list[tuple[str, float | None]]:
        """Return all readers, each with the time of consent."""
        with self._lock:
            return self._db.execute("SELECT reader, consented FROM readers ORDER BY reader").fetchall()

    def consent(self, reader: str) -> None:
        """Note that a reader consented, if not noted yet."""
        with self._writing() as db:
            db.execute("UPDATE readers SET consented = ? WHERE reader = ? AND consented IS NULL", (time.time(), reader))

    def has_consented(self, reader: str) -> bool:
        """Return whether a reader has consented."""
        with self._lock:
            row = self._db.execute("SELECT consented FROM readers WHERE reader = ?", (reader,)).fetchone()
        return row is not None and row[0] is not None

    def progress(self, reader: str) -> tuple[int, int, int | None]:
        """Return the numbers of practice answers and of answers, and the practice rating that is still to be told."""
        with self._lock:
            practice, rated = (
                self._db.execute(
                    "SELECT COUNT(*) FROM answers WHERE reader = ? AND practice = ?", (reader, kind)
                ).fetchone()[0]
                for kind in (1, 0)
            )
            told = self._db.execute(
                "SELECT rating FROM answers WHERE reader = ? AND practice = 1 AND seen = 0", (reader,)
            ).fetchone()
        return practice, rated, None if told is None else told[0]

    def showing(self, reader: str, practice: bool, position: int) -> None:
        """Note that an image is sent now."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO shown VALUES (?, ?, ?, ?)", (reader, practice, position, time.time()))

    def tell_result(self, reader: str) -> None:
        """Note that the reader has seen the result of the last practice image."""
        with self._writing() as db:
            db.execute("UPDATE answers SET seen = 1 WHERE reader = ?", (reader,))

    def pause(self, reader: str) -> None:
        """Note a pause."""
        with self._writing() as db:
            db.execute("INSERT INTO pauses VALUES (?, ?)", (reader, time.time()))

    def record(self, answer: Answer, *, practice: bool = False) -> bool:
        """Keep an answer; return False, and change nothing, if it is not the next one of this reader.

        When it returns, the answer has reached the disk. The first answer to an image stands.
        """
        key = answer.reader, practice
        with self._writing() as db:
            done = db.execute("SELECT COUNT(*) FROM answers WHERE reader = ? AND practice = ?", key).fetchone()[0]
            if done != answer.position:
                return False
            now = time.time()
            shown = db.execute(
                "SELECT at FROM shown WHERE reader = ? AND practice = ? AND position = ?", (*key, answer.position)
            ).fetchone()
            elapsed = None if shown is None else round(1000 * (now - shown[0]))
            db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(*key, answer.position, answer.item, answer.rating, answer.quality, answer.label),
                    *(answer.birads, answer.viewing_ms, elapsed, now, not practice),
                ),
            )
        return True

    def all(self) -> list[Answer]:
        """Return all answers that count, by reader and position."""
        with self._lock:
            rows = self._db.execute(
                "SELECT reader, position, item, rating, quality, class, birads, viewing_ms, elapsed_ms FROM answers "
                "WHERE practice = 0 ORDER BY reader, position"
            ).fetchall()
        return [Answer(*row) for row in rows]

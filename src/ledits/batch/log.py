"""What came of each job: rows of JSON, each writer in files of its own, so that no two write to one and none is torn.

A finished job's row is written before its picture appears: a picture without a row can't be, and a row without its
picture counts for nothing.
"""

import json
import os
import secrets
from collections.abc import Iterator
from typing import Any

from ledits.batch.places import Bucket, Folder, Place, PlaceError

FOLDER = ".ledits/log"
_ROWS = 256  # of a file in an object store, which is written anew with every row


def is_begun(place: Place) -> bool:
    """Whether a batch has worked here, so that what bears the names of its tables and pages is its own."""
    return next(place.names(FOLDER), None) is not None


def begin(place: Place) -> None:
    """See that `is_begun`, also where no job has come to a row."""
    if not is_begun(place):
        place.put(f"{FOLDER}/begun", b"a batch of ledits writes here\n")


class Log:
    """One writer's rows of one kind, "done" or "failed"."""

    def __init__(self, place: Place, kind: str) -> None:
        self._place, self._name = place, f"{FOLDER}/{kind}-{secrets.token_hex(6)}"
        self._part, self._rows = 0, list[bytes]()
        self._file: int | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Write a row; PlaceError where it can't be."""
        line = json.dumps({"id": row["id"], **row}).encode() + b"\n"
        if isinstance(self._place, Folder):
            self._append(self._place, line)
            return
        self._rows.append(line)
        try:
            self._place.put(f"{self._name}-{self._part:06d}.jsonl", b"".join(self._rows))
        except PlaceError:
            self._rows.pop()
            raise
        if len(self._rows) >= _ROWS:
            self._part, self._rows = self._part + 1, []

    def _append(self, place: Folder, line: bytes) -> None:
        path = place.path / f"{self._name}.jsonl"
        try:
            if self._file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            if os.write(self._file, line) < len(line):
                # A full disk takes part of a row: the next one must not be glued to it.
                os.close(self._file)
                self._file, self._name = None, f"{self._name}x"
                raise PlaceError(f"{path} can't be written: No space left on device")
        except OSError as error:
            raise PlaceError(f"{path} can't be written: {error.strerror}") from None


def lines(place: Place, kind: str) -> Iterator[tuple[str, int, bytes]]:
    """Every whole row of a kind: its file's name, its offset in it, its bytes."""
    for name in sorted(name for name in place.names(FOLDER) if name.startswith(f"{FOLDER}/{kind}-")):
        for offset, line in _lines(place, name):
            yield name, offset, line


def rows(place: Place, kind: str) -> Iterator[dict[str, Any]]:
    """Every row of a kind."""
    for _, _, line in lines(place, kind):
        yield json.loads(line)


def _lines(place: Place, name: str) -> Iterator[tuple[int, bytes]]:
    offset = 0
    if isinstance(place, Bucket):
        content = place.get(name) or b""
        for line in content.splitlines(keepends=True):
            yield offset, line
            offset += len(line)
        return
    assert isinstance(place, Folder)
    with (place.path / name).open("rb") as file:
        for line in file:
            # The last row of a killed writer may be cut off.
            if line.endswith(b"}\n"):
                yield offset, line
            offset += len(line)

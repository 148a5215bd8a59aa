"""Answers that are kept for whoever comes back for them: on disk, for a time, so many for each key.

Each is ID.json, which says what was asked and how it ended, and ID.answer with the answer's bytes. A job that was not
done when the server ended is found as "stopped": it is not run again, as nobody may want it any more. Used from the
event loop only.
"""

import asyncio
import hashlib
import json
import logging
import re
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ledits.asked.settings import checked
from ledits.files import atomic
from ledits.server.errors import Refused
from ledits.server.jobs import Event
from ledits.server.settings import Limits

log = logging.getLogger("ledits.serve")

_ID = re.compile(r"[0-9a-f]{32}")
_LARGE = ("preview", "image", "b64_json")  # what a step may carry of a picture
_RESULTS = ("done", "completed")  # events that hold the result, which is the answer's own

Status = Literal["running", "done", "failed", "cancelled", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is on disk of a record."""

    id: str
    owner: str  # of whose key; "" where there are no keys
    path: str  # that was asked
    created: float
    status: str = "running"
    key: str = ""  # a hash of the idempotency key; "" where the answer is not given again
    digest: str = ""  # of the request
    code: int = 0  # of the answer; 0 while there is none
    headers: str = "[]"  # of the answer, as JSON
    bytes: int = 0  # of the answer


class Record:
    """One request that is carried out whoever waits for it: it watches the job of the request."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.begun = self.over  # whether it has had its place in the line of jobs
        self.latest: Event | None = None  # the last step that was told
        self.told = 0  # how many steps were told
        self.refused: Refused | None = None  # why there is no result, which an answer of events says in its midst
        self.code, self.headers = kept.code, [(str(name), str(value)) for name, value in json.loads(kept.headers)]
        self.chunks: list[bytes] | None = None if self.over else []  # of the answer, None once it is on disk
        self._changed = asyncio.Event()

    @property
    def over(self) -> bool:
        return self.kept.status != "running"

    @property
    def id(self) -> str:
        return self.kept.id

    def begin(self) -> None:
        self.begun = True
        self.changed()

    def hear(self, event: Event | Refused) -> None:
        if isinstance(event, Refused):
            self.refused = event
        elif event[0] not in _RESULTS:
            self.latest, self.told = event, self.told + 1
            self.changed()

    def changed(self) -> None:
        """Wake whoever waits for news."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self) -> None:
        """Wait for the next change."""
        await self._changed.wait()


class Records:
    """The kept answers of all owners."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._records: dict[str, Record] = {}  # the oldest first
        self._find()

    def _find(self) -> None:
        """Take up what an earlier server kept; what it had not done by its end is stopped."""
        found = list[Kept]()
        for path in self._folder.glob("*.json"):
            try:
                kept = checked(Kept, json.loads(path.read_bytes()), "record")
                if kept.id != path.stem or not _ID.fullmatch(kept.id):
                    raise ValueError("its id is another")
                json.loads(kept.headers)
            except (OSError, ValueError, TypeError, RecursionError) as error:
                log.warning("a kept answer is left out, as %s.json is damaged (%s)", path.stem, str(error)[:200])
                continue
            found.append(kept)
        for kept in sorted(found, key=lambda kept: kept.created):
            if kept.status == "running":
                kept = replace(kept, status="stopped", key="")
                with suppress(OSError):
                    self._write(kept)
            self._records[kept.id] = Record(kept)
        for path in self._folder.glob("*.answer"):
            if path.stem not in self._records:
                path.unlink(missing_ok=True)
        self._shrink()

    def new(self, owner: str, path: str, key: str, digest: str) -> tuple[Record, bool]:
        """The record of a request, and whether it was asked before under the same key; 422 for another request."""
        self._shrink()
        hashed = hashlib.sha256(key.encode()).hexdigest() if key else ""
        for record in self._records.values():
            if hashed and (record.kept.owner, record.kept.key) == (owner, hashed):
                if record.kept.digest != digest:
                    raise Refused(
                        "this Idempotency-Key was sent with another request before: take a new one for each request",
                        422, code="idempotency_key_reused",
                    )  # fmt: skip
                return record, True
        kept = Kept(
            id=secrets.token_hex(16), owner=owner, path=path[:200], created=time.time(), key=hashed, digest=digest
        )
        record = self._records[kept.id] = Record(kept)
        with suppress(OSError, ValueError):  # it matters only to a start after a fall
            self._folder.mkdir(parents=True, exist_ok=True)
            self._write(kept)
        return record, False

    def settle(self, record: Record) -> None:
        """The answer is whole: write it. A refusal is not given again under its key: the next try is a new one."""
        why = record.refused.code if record.refused else None
        status: Status = "done" if 0 < record.code < 400 and not record.refused else "failed"
        if not record.code or why == "shutting_down":
            status = "stopped"
        elif why == "cancelled":
            status = "cancelled"
        body = b"".join(record.chunks or [])
        kept = replace(
            record.kept, status=status, key=record.kept.key if status == "done" else "", code=record.code,
            headers=json.dumps(record.headers), bytes=len(body),
        )  # fmt: skip
        try:
            if len(body) > self._limits.answers_bytes:
                raise OSError("it is larger than all that may be kept")
            with atomic.written(self._path(kept.id, ".answer"), overwrite=True) as temporary:
                temporary.write_bytes(body)
            self._write(kept)
        except (OSError, ValueError) as error:
            log.error("an answer can't be kept (%s)", error)
            self._remove(kept.id)
        record.kept, record.chunks = kept, None
        record.changed()
        self._shrink()

    def drop(self, record: Record) -> None:
        """The answer is whole and needed no job, as a refusal's: it is for whoever waits now."""
        self._remove(record.id)
        record.kept = replace(record.kept, status="failed")
        record.changed()

    def find(self, id: str, owner: str) -> Record:
        """A record by its id; 404 for an unknown one, and for another's."""
        self._shrink()
        record = self._records.get(id)
        if record is None or record.kept.owner != owner or not record.begun:
            raise Refused(
                "there is no such job: its time is over, or it was not asked with 'Prefer: respond-async'", 404,
                param="id", code="not_found",
            )  # fmt: skip
        return record

    def listed(self, owner: str) -> list[dict[str, Any]]:
        """Those of one owner, the newest first."""
        self._shrink()
        mine = [record for record in self._records.values() if record.kept.owner == owner and record.begun]
        return [self.shown(record) for record in reversed(mine)]

    def shown(self, record: Record) -> dict[str, Any]:
        """What the caller sees; `expires` is the latest time that it is kept to."""
        kept, latest = record.kept, record.latest and {"event": record.latest[0], **record.latest[1]}
        told = None if latest is None else {name: each for name, each in latest.items() if name not in _LARGE}
        return {
            "id": kept.id, "status": kept.status, "path": kept.path, "created": kept.created,
            "expires": kept.created + self._limits.answers_seconds, "code": kept.code or None, "latest": told,
            "result": f"/v1/jobs/{kept.id}/result",
        }  # fmt: skip

    def body(self, record: Record) -> bytes:
        """The bytes of an answer that is done."""
        try:
            return self._path(record.id, ".answer").read_bytes()
        except OSError:
            raise Refused("the answer is gone: it made room for newer ones", 410, code="gone") from None

    def forget(self, id: str) -> None:
        """Remove a record that is over."""
        self._remove(id)

    @property
    def idle(self) -> bool:
        """Whether every answer is written."""
        return all(record.over for record in self._records.values())

    def _write(self, kept: Kept) -> None:
        with atomic.written(self._path(kept.id, ".json"), overwrite=True) as temporary:
            temporary.write_text(json.dumps(asdict(kept)))

    def _path(self, id: str, ending: str) -> Path:
        return self._folder / f"{id}{ending}"

    def _shrink(self) -> None:
        """Remove what is too old, the oldest of an owner with too many, and the oldest of all beyond the bytes."""
        limits, now = self._limits, time.time()
        over = [record.kept for record in self._records.values() if record.over]
        left, held = dict[str, int](), 0
        for kept in reversed(over):
            left[kept.owner] = left.get(kept.owner, 0) + 1
            held += kept.bytes
            old = now > kept.created + limits.answers_seconds
            if old or left[kept.owner] > limits.answers or held > limits.answers_bytes:
                self._remove(kept.id)

    def _remove(self, id: str) -> None:
        self._records.pop(id, None)
        for ending in (".json", ".answer"):
            with suppress(OSError):
                self._path(id, ending).unlink(missing_ok=True)

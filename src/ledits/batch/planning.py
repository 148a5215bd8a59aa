"""What is still to do: rows, minus those that are done, grouped so that a picture is inverted once.

Rows are looked at a window at a time, ahead of the work. Memory holds one window, and 8 bytes for each row.
"""

import hashlib
import queue
import random
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from threading import Thread
from typing import Generic, TypeVar

from ledits.batch import log
from ledits.batch.digests import Digests, Ids
from ledits.batch.jobs import Job, Planner, Row, failed_id, finished_id
from ledits.batch.manifest import Source
from ledits.batch.places import Place

T = TypeVar("T")
_FIRST, _WINDOW = 64, 4096  # rows: small at first, so that work begins at once


@dataclass(frozen=True)
class Group:
    """Jobs that share a picture and its inversion."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Bad:
    """A row that can't become a job."""

    row: Row
    id: str
    problem: str


@dataclass(frozen=True)
class Skipped:
    """Rows that need no work."""

    done: int = 0  # in an earlier run
    failed: int = 0  # in an earlier run, and not to be tried again
    repeated: int = 0  # the same job as another row


Item = Group | Bad | Skipped


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What earlier runs left in the place of outputs."""

    done: Ids
    failed: Ids

    @classmethod
    def found(cls, place: Place) -> "Finished":
        """Finished jobs by one listing of outputs, failed ones by their rows."""
        done = Ids(identity for name in place.names() if (identity := finished_id(name)))
        failed = Ids(row["id"] for row in log.rows(place, "failed"))
        return cls(done=done, failed=failed)


@dataclass(kw_only=True)
class Planning:
    """The stream of what is to do. `ids` grows with it: the id of each row, 0 for one of another shard."""

    source: Source
    planner: Planner
    digests: Digests
    finished: Finished
    shard: tuple[int, int] = (1, 1)  # which, from 1, of how many
    retry_failed: bool = False
    limit: int | None = None  # of jobs
    ids: "array[int]" = field(default_factory=lambda: array("Q"))

    def items(self) -> Iterator[Item]:
        """Everything there is to do or to say, in windows; within one, groups come in any order."""
        rows, size, left, begun = self.source.rows(), _FIRST, self.limit, Ids()
        while window := list(islice(rows, size)):
            size = min(2 * size, _WINDOW)
            groups: dict[str, list[Job]] = {}
            done = failed = repeated = 0
            mine = [self._mine(row) for row in window]
            asked = [row.path for row, own in zip(window, mine, strict=True) if own and not row.problem]
            digests = iter(self.digests.of(asked))
            for row, own in zip(window, mine, strict=True):
                if not own:
                    self.ids.append(0)
                    continue
                digest = row.problem or next(digests)
                identity = problem = ""
                job: Job | None = None
                try:
                    if row.problem or isinstance(digest, ValueError):
                        raise ValueError(str(digest))
                    identity = self.planner.identity(row, digest)
                    if self._is_new(identity):
                        job = self.planner.job(row, digest)
                except (ValueError, ArithmeticError, RecursionError) as error:
                    problem = str(error) or type(error).__name__
                    identity = identity or failed_id(row, problem)
                self.ids.append(int(identity, 16))
                if identity in begun:
                    repeated += 1
                elif identity in self.finished.done:
                    done += 1
                elif identity in self.finished.failed and not self.retry_failed:
                    failed += 1
                elif left == 0:
                    continue
                else:
                    begun.add(identity)
                    left = None if left is None else left - 1
                    if job is None:
                        yield Bad(row, identity, problem)
                    else:
                        groups.setdefault(self.planner.group(row, job.sha256), []).append(job)
            if done or failed or repeated:
                yield Skipped(done, failed, repeated)
            # Two runs on one output that went in the same order would edit the same picture at the same time.
            shuffled = [Group(tuple(jobs)) for jobs in groups.values()]
            random.shuffle(shuffled)
            yield from shuffled
        self.digests.flush()

    def _is_new(self, identity: str) -> bool:
        failed = identity in self.finished.failed and not self.retry_failed
        return identity not in self.finished.done and not failed

    def _mine(self, row: Row) -> bool:
        """Whether the row is of this shard: by its picture's name, so that a machine reads its own pictures alone."""
        which, count = self.shard
        if count == 1:
            return True
        digest = hashlib.blake2b(row.picture.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % count == which - 1


class Ahead(Generic[T]):
    """An iterator that runs in a thread of its own, up to `size` items ahead; `take` never waits."""

    def __init__(self, items: Iterator[T], size: int) -> None:
        self._queue: queue.Queue[T | BaseException] = queue.Queue(size)
        self._items, self.ended = items, False
        Thread(target=self._run, daemon=True, name="planning").start()

    def take(self) -> T | None:
        """The next item, None where there is none yet or no more (`ended`). Raises what the iterator raised."""
        if self.ended:
            return None
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, StopIteration):
            self.ended = True
            return None
        if isinstance(item, BaseException):
            self.ended = True
            raise item
        return item

    def _run(self) -> None:
        try:
            for item in self._items:
                self._queue.put(item)
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(StopIteration())

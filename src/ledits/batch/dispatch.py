"""The one loop: tasks to workers, wherever they live. Who dies is replaced, and the job in hand is tried once more.

A job that is in hand at two deaths is the likely cause: it is recorded as failed and the run goes on without it. A
worker that dies with a task before it has begun any of its jobs leaves all of them suspect: they are tried one by one.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ledits.batch.jobs import Job
from ledits.batch.places import PlaceError
from ledits.batch.planning import Ahead, Bad, Item, Skipped

_DEATHS = 2  # of workers with a job in hand, after which it is recorded as failed
_STARTS = 10  # of workers in a row that die before they are ready, after which the run stops
_WAIT = 0.2  # seconds


@dataclass(frozen=True)
class Heard:
    """What a pool says of a worker: it is ready, it says something of its task (`work.Event`), or it is gone."""

    worker: str
    kind: Literal["ready", "begin", "row", "end", "place", "died"]
    ids: tuple[str, ...] = ()
    row: dict[str, Any] | None = None
    error: str = ""


class Pool(Protocol):
    """Workers somewhere. It starts them and starts others for those that die."""

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None: ...

    def hear(self, timeout: float) -> list[Heard]:
        """What workers said, waiting at most `timeout` seconds for the first; here the pool also grows and shrinks."""
        ...

    def finish(self) -> None:
        """Have workers end their tasks after the job in hand."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


class Ledger(Protocol):
    """Who is told what came of every row."""

    def settled(self, row: dict[str, Any]) -> None: ...

    def bad(self, bad: Bad) -> None: ...

    def skipped(self, skipped: Skipped) -> None: ...

    def lost(self, job: Job, error: str) -> None:
        """A job that is given up: its workers died."""
        ...

    def finished(self, job: Job) -> bool:
        """Whether a job's output is there, though its worker could not say so."""
        ...


@dataclass
class _Task:
    left: dict[str, Job]
    in_hand: tuple[str, ...] = ()


@dataclass
class Loop:
    """One run's dispatch."""

    tasks: Ahead[Item]
    pool: Pool
    ledger: Ledger
    previews: int = 0  # how many more jobs get one
    stopping: Callable[[], bool] = lambda: False
    _running: dict[str, _Task] = field(default_factory=dict[str, _Task])
    _idle: set[str] = field(default_factory=set[str])
    _again: deque[tuple[Job, ...]] = field(default_factory=deque[tuple[Job, ...]])
    _deaths: Counter[str] = field(default_factory=Counter[str])
    _failed_starts: int = 0

    def run(self) -> None:
        """Until all is done, or `stopping` says so and what is in hand is done.

        Raises ValueError where no worker comes up, `places.PlaceError` where the outputs can't be written.
        """
        told = False
        while True:
            if self.stopping() and not told:
                self.pool.finish()
                told = True
            waiting = self._feed(told)
            if not self._running and (told or (self.tasks.ended and not self._again)):
                return
            for heard in self.pool.hear(0.01 if waiting else _WAIT):
                self._hear(heard)

    def _feed(self, told: bool) -> bool:
        """Give every idle worker a task; True where one waits for the planning."""
        while not told and self._idle:
            if self._again:
                jobs = self._again.popleft()
            else:
                item = self.tasks.take()
                if item is None:
                    return not self.tasks.ended
                if isinstance(item, Bad):
                    self.ledger.bad(item)
                    continue
                if isinstance(item, Skipped):
                    self.ledger.skipped(item)
                    continue
                jobs = item.jobs
            worker = self._idle.pop()
            self._running[worker] = _Task({job.id: job for job in jobs})
            self.pool.send(worker, jobs, self.previews > 0)
            self.previews -= len(jobs)
        return False

    def _hear(self, heard: Heard) -> None:
        task = self._running.get(heard.worker)
        match heard.kind:
            case "ready":
                self._failed_starts = 0
                self._idle.add(heard.worker)
            case "begin" if task:
                task.in_hand = heard.ids
            case "row" if task and heard.row:
                task.left.pop(str(heard.row["id"]), None)
                self.ledger.settled(heard.row)
            case "end":
                self._running.pop(heard.worker, None)
                self._idle.add(heard.worker)
            case "place":
                raise PlaceError(heard.error)
            case "died":
                self._died(heard)
            case _:
                pass

    def _died(self, heard: Heard) -> None:
        self._idle.discard(heard.worker)
        task = self._running.pop(heard.worker, None)
        if task is None:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise ValueError(f"no worker comes up: {heard.error}")
            return
        suspects = list[Job]()
        innocent = list[Job]()
        for job in task.left.values():
            (suspects if job.id in task.in_hand or not task.in_hand else innocent).append(job)
        alone = bool(task.in_hand) or len(suspects) == 1
        again = list[Job]()
        for job in suspects:
            if self.ledger.finished(job):
                self.ledger.settled({"id": job.id, "status": "done", "evaluations": 0})
                continue
            self._deaths[job.id] += 1
            if self._deaths[job.id] >= _DEATHS and alone:
                self.ledger.lost(job, f"its worker died {_DEATHS} times with it in hand; the last time: {heard.error}")
            else:
                again.append(job)
        # Those that were not in hand go first: they are not suspected of anything.
        if again and alone:
            self._again.append(tuple(again))
        elif again:
            self._again += [(job,) for job in again]
        if innocent:
            self._again.appendleft(tuple(innocent))

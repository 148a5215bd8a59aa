"""One job on the device at a time: a bounded line, one thread, and a stop between any two steps.

A job is a function that tells of each step with `Job.send`, where it can be stopped, and returns the last event's data.
What waits in line is never more than `Limits.jobs`, so that a client who would wait for long is told so at once.
"""

import asyncio
import json
import logging
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from ledits.server.errors import Refused
from ledits.server.metrics import Metrics
from ledits.server.settings import Limits

log = logging.getLogger("ledits.serve")

_LATE = 10.0  # seconds past its time before a job counts as stuck: a step of the network is not stopped

Event = tuple[str, dict[str, Any]]  # its name and its data
Work = Callable[["Job"], dict[str, Any]]


class Watch(Protocol):
    """Who is told of the job of a request that outlives its connection."""

    @property
    def id(self) -> str: ...  # which the job takes for its own

    def begin(self) -> None: ...  # it has its place in the line

    def hear(self, event: Event | Refused) -> None: ...


asking: ContextVar[Watch | None] = ContextVar("asking", default=None)  # the request that is carried out, if watched


class Stopped(Exception):
    """A job that was cancelled, at its next step."""


@dataclass(eq=False)
class Job:
    """One piece of work and whoever waits for it."""

    kind: str
    owner: str
    work: Work
    loop: asyncio.AbstractEventLoop
    id: str
    events: asyncio.Queue[Event | Refused | None] = field(default_factory=asyncio.Queue[Event | Refused | None])
    stopped: threading.Event = field(default_factory=threading.Event)
    asked: float = field(default_factory=time.monotonic)
    ends: float = math.inf  # the monotonic time by which it has to be done
    about: dict[str, Any] = field(default_factory=dict[str, Any])  # for the log: sizes and counts, nothing of a picture

    def send(self, name: str, data: dict[str, Any]) -> None:
        """Tell of a step; raises where the job was cancelled or has taken too long."""
        self.check()
        self.tell((name, {"job": self.id, **data}))

    def check(self) -> None:
        if self.stopped.is_set():
            raise Stopped
        if time.monotonic() > self.ends:
            raise Refused(
                "the edit took longer than this server allows: ask for fewer steps or a smaller picture, or have it "
                "started with more --seconds",
                code="too_long",
            )

    def tell(self, event: Event | Refused | None) -> None:
        """Hand an event to whoever waits, from any thread; None is the end."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Jobs:
    """The line and the thread that works it off."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._waiting = deque[Job]()
        self._known: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._closing = self._hurried = False
        self._seconds = 2.0  # a job's usual time on the device, a running mean
        self._thread = threading.Thread(target=self._run, name="ledits-device")
        self._thread.start()

    def submit(self, kind: str, owner: str, work: Work) -> Job:
        """A new job at the end of the line; 429 where the line is full, 503 where the server is going down."""
        with self._changed:
            if self._closing:
                raise self._refused()
            if len(self._waiting) >= self._limits.jobs:
                raise Refused(
                    f"{len(self._waiting)} edits are waiting, the most that this server keeps: try again later",
                    429, code="queue_full", retry_after=self.retry_after(),
                )  # fmt: skip
            mine = sum(job.owner == owner for job in self._known.values())
            if owner and mine >= self._limits.key_jobs:
                raise Refused(
                    f"{mine} edits of this key wait or run, the most that one may have: wait for one of them",
                    429, code="key_busy", retry_after=self.retry_after(),
                )  # fmt: skip
            watch = asking.get()
            job = Job(kind, owner, work, asyncio.get_running_loop(), id=watch.id if watch else secrets.token_hex(16))
            self._waiting.append(job)
            self._known[job.id] = job
            self._metrics.waiting.set(len(self._waiting))
            self._changed.notify()
        if watch is not None:
            watch.begin()
        return job

    def retry_after(self) -> int:
        """Seconds until there is likely to be room: what is in line, at a job's usual time; at most two minutes."""
        return max(1, min(120, round((len(self._waiting) + 1) * self._seconds)))

    def cancel(self, job: Job) -> None:
        """Stop a job before its next step, or take it out of the line."""
        job.stopped.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._metrics.waiting.set(len(self._waiting))
                self._end(job, "cancelled", 0.0)
                job.tell(_cancelled())
                job.tell(None)

    def find(self, id: str, owner: str) -> Job:
        """A job that waits or runs, by its id; 404 for an unknown one, and for another's."""
        job = self._known.get(id)
        if job is None or job.owner != owner:
            raise Refused("there is no such job: it is done, or never was", 404, code="not_found")
        return job

    def hurry(self) -> None:
        """Stop what is in hand at its next step, and say so now: that step may outlast the server. First, `drain`."""
        first, self._hurried = not self._hurried, True
        for job in list(self._known.values()):
            job.stopped.set()
            if first:
                job.tell(self._refused())

    def drain(self) -> None:
        """Take no more work, send away what waits, and finish what is in hand."""
        with self._changed:
            self._closing = True
            for job in self._waiting:
                self._end(job, "refused", 0.0)
                job.tell(self._refused())
                job.tell(None)
            self._waiting.clear()
            self._metrics.waiting.set(0)
            self._changed.notify()

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def trouble(self) -> str | None:
        """Why no job would be done: "stuck" where one does not end in its time, "failed" where the thread is gone."""
        if not self._thread.is_alive():
            return "failed"
        late = [job for job in list(self._known.values()) if time.monotonic() > job.ends + _LATE]
        return "stuck" if late else None

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._known

    def join(self) -> None:
        """Wait for the thread to end; call `drain` first."""
        self._thread.join()

    def _refused(self) -> Refused:
        return Refused("the server is shutting down: try again", 503, code="shutting_down", retry_after=5)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._metrics.waiting.set(len(self._waiting))
            self._do(job)

    def _do(self, job: Job) -> None:
        began = time.monotonic()
        job.about["waited"] = round(began - job.asked, 3)
        self._metrics.waited.observe(began - job.asked)
        job.ends = began + self._limits.job_seconds
        outcome = "done"
        try:
            job.check()
            job.tell(("done", job.work(job)))
        except Stopped:
            outcome = "cancelled"
            job.tell(self._refused() if self._hurried else _cancelled())
        except Refused as error:
            outcome, job.about["said"] = "refused", error.message
            job.tell(error)
        except ValueError as error:
            # Whoever leaves takes his files along, perhaps while they are read.
            outcome = "cancelled" if job.stopped.is_set() else "refused"
            refused = Refused(str(error))
            job.about["said"] = refused.message
            job.tell(refused)
        except Exception:
            outcome = "failed"
            log.exception("job %s failed", job.id)
            job.tell(Refused(f"the edit failed on the server, which has noted why under job {job.id}", 500))
        seconds = time.monotonic() - began
        if outcome == "done":
            self._seconds += 0.2 * (seconds - self._seconds)
        with self._changed:
            self._end(job, outcome, seconds)
        job.tell(None)

    def _end(self, job: Job, outcome: str, seconds: float) -> None:
        """Count and log a job that is over; one line of JSON."""
        self._known.pop(job.id, None)
        self._metrics.jobs.labels(job.kind, outcome).inc()
        self._metrics.seconds.labels(job.kind).observe(seconds)
        self._metrics.evaluations.inc(job.about.get("network_evaluations", 0))
        line = {"job": job.id, "kind": job.kind, "outcome": outcome, "seconds": round(seconds, 3), **job.about}
        log.info("%s", json.dumps(line))


def _cancelled() -> Refused:
    return Refused("the job was cancelled", 409, code="cancelled")


async def follow(jobs: Jobs, job: Job, left: Callable[[], Awaitable[bool]]) -> AsyncGenerator[Event]:
    """The events of a job as they come; raises Refused where it was refused.

    A caller who stops listening, or a client for whom `await left()` is true, cancels the job.
    """
    over, watch = False, asking.get()
    try:
        while True:
            try:
                event = await asyncio.wait_for(job.events.get(), 0.2)
            except TimeoutError:
                if await left():
                    return
                continue
            if event is None:
                over = True
                return
            if watch is not None:
                watch.hear(event)
            if isinstance(event, Refused):
                over = True
                raise event
            yield event
    finally:
        if not over:
            jobs.cancel(job)

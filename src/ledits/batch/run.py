"""One run of a batch: what is done, what is to do, workers, and the table at the end."""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Protocol

from ledits.batch import log, results
from ledits.batch.digests import Digests
from ledits.batch.dispatch import Loop, Pool
from ledits.batch.jobs import PREVIEWS, TEMPLATE, Job, Model, Planner, check_template
from ledits.batch.local import Local
from ledits.batch.log import Log
from ledits.batch.manifest import Source
from ledits.batch.on_ray import OnRay
from ledits.batch.places import Folder, Place, PlaceError, place
from ledits.batch.planning import Ahead, Bad, Finished, Group, Planning, Skipped
from ledits.batch.report import Sheet

_AHEAD = 512  # groups
_PREVIEWS = 200  # of a place of outputs
_SAMPLES = 3  # pictures that a dry run tries, each with at most two recipes


@dataclass(frozen=True, kw_only=True)
class Options:
    """A run, as the command line asks for it."""

    source: Source
    output: str  # a folder or a URL
    model: str = "scenes"
    device: str = "auto"
    dtype: str = "auto"
    template: str = TEMPLATE
    workers: int | None = None
    threads: int | None = None
    ray: str | None = None  # an address; "": a Ray of this machine; None: local processes
    shard: tuple[int, int] = (1, 1)
    retry_failed: bool = False
    limit: int | None = None
    anyway: bool = False  # edit also what the model does not know, and try again what failed for that


@dataclass
class Counts:
    """Rows so far. `done` and `failed` are this run's; `skipped` were settled before, or are the same as another."""

    total: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    evaluations: int = 0
    workers: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def settled(self) -> int:
        return self.done + self.failed + self.skipped


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What came of a run, over all rows of the manifest that it looked at."""

    done: int
    failed: int
    to_do: int
    edited: int  # by this run
    evaluations: int  # of this run
    seconds: float
    stopped: bool
    files: tuple[str, ...]
    named_before: int = 0  # outputs of earlier runs that keep a name other than the template gives now
    unlisted: int = 0  # outputs of earlier runs that are in no row of this one


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would do, by a dry run."""

    rows: int
    jobs: int
    inversions: int
    done: int
    failed: int  # before, and rows that can't become jobs
    repeated: int
    evaluations: int | None  # None where nothing could be tried
    seconds: float | None  # of one worker
    problems: tuple[str, ...]  # of the first bad rows


class MeetingPool(Pool, Protocol):
    """A pool that can be met: its first worker says which model it has."""

    def meet(self) -> Model: ...

    @property
    def running(self) -> int: ...


Watch = Callable[[Counts], None]


class _Ledger:
    def __init__(self, where: Place, counts: Counts, watch: Watch) -> None:
        self._place, self._failed, self._counts, self._watch = where, Log(where, "failed"), counts, watch

    def settled(self, row: dict[str, Any]) -> None:
        if row["status"] == "done":
            self._counts.done += 1
        else:
            self._counts.failed += 1
        self._counts.evaluations += int(row["evaluations"])
        self._watch(self._counts)

    def bad(self, bad: Bad) -> None:
        row = bad.row
        self._record(bad.id, row.number, row.picture, None, list(row.edits), bad.problem)

    def skipped(self, skipped: Skipped) -> None:
        self._counts.skipped += skipped.done + skipped.failed + skipped.repeated
        self._watch(self._counts)

    def lost(self, job: Job, error: str) -> None:
        self._record(job.id, job.row, job.picture, job.sha256, list(job.edits), error)

    def finished(self, job: Job) -> bool:
        return self._place.exists(job.output)

    def _record(self, identity: str, row: int, picture: str, sha256: str | None, edits: list[str], error: str) -> None:
        self._failed.append({
            "id": identity, "status": "failed", "row": row, "picture": picture, "sha256": sha256, "output": None,
            "edits": edits, "error": error, "seconds": 0.0, "evaluations": 0, "worker": None, "time": time.time(),
        })  # fmt: skip
        self._counts.failed += 1
        self._watch(self._counts)


def run(options: Options, watch: Watch = lambda counts: None, pool: MeetingPool | None = None) -> Summary:
    """Do what is still to do. ValueError where the manifest, the model or the place of outputs can't be used."""
    check_template(options.template)
    with _settled(options) as options:
        return _run(options, watch, pool)


def _run(options: Options, watch: Watch, pool: MeetingPool | None) -> Summary:
    where = place(options.output)
    counts = Counts(options.source.check())
    if isinstance(where, Folder):
        where.prepare()
    _check_own(options, where)
    workers = pool or _pool(options, where)
    with _interruptible() as stopping, _closing(workers):
        try:
            finished = Finished.found(where)
            model, digests = workers.meet(), Digests(where)
            planning = _planning(options, model, digests, finished)
            ledger = _Ledger(where, counts, watch)

            def looked(counts: Counts = counts) -> bool:
                counts.workers = workers.running
                return stopping()

            previews = _PREVIEWS - sum(1 for _ in where.names(PREVIEWS))
            Loop(Ahead(planning.items(), _AHEAD), workers, ledger, previews, looked).run()
        except PlaceError as error:
            raise ValueError(
                f"{error}; jobs that this run has done: {counts.done}; mend that and run the same command again"
            ) from None
        seconds = time.monotonic() - counts.began
    with contextlib.suppress(PlaceError):
        digests.close()
    try:
        sheet, table, files = _written(options, where, planning)
    except PlaceError as error:
        raise ValueError(f"{error}; all pictures are there: mend that and run the same command again") from None
    # Other parts of a batch list what they have made, and a run that was stopped has not come to all rows.
    whole = options.shard == (1, 1) and not stopping()
    return Summary(
        done=sheet.counts["done"], failed=sheet.counts["failed"], to_do=sheet.counts["to do"], edited=counts.done,
        evaluations=counts.evaluations, seconds=seconds, stopped=stopping(), files=files,
        named_before=table.named_before, unlisted=table.unlisted() if whole else 0,
    )  # fmt: skip


@contextlib.contextmanager
def _settled(options: Options) -> Generator[Options]:
    """The options with a source whose rows stay as they are now, whatever happens to manifest and folders."""
    with tempfile.TemporaryDirectory(prefix="ledits-") as scratch:
        yield replace(options, source=options.source.settled(Path(scratch), options.output))


def estimate(options: Options, pool: MeetingPool | None = None) -> Estimate:
    """What `run` would do, and its cost from a sample that is edited into a folder that is thrown away."""
    check_template(options.template)
    with _settled(options) as options:
        return _estimate(options, pool)


def _estimate(options: Options, pool: MeetingPool | None) -> Estimate:
    where, rows = place(options.output), options.source.check()
    known = not isinstance(where, Folder) or where.path.is_dir()
    if known:
        _check_own(options, where)
    with tempfile.TemporaryDirectory(prefix="ledits-") as scratch:
        scrap = Folder(scratch)
        workers = pool or _pool(options, scrap, sample=True)
        with _closing(workers):
            model = workers.meet()
            try:
                finished = Finished.found(where if known else scrap)
                digests = Digests(where if known else scrap)
                planning = _planning(options, model, digests, finished)
                jobs = inversions = done = failed = repeated = 0
                sample, problems = list[Group](), list[str]()
                for item in planning.items():
                    if isinstance(item, Group):
                        jobs, inversions = jobs + len(item.jobs), inversions + 1
                        if len(sample) < _SAMPLES:
                            sample.append(Group(item.jobs[:2]))
                    elif isinstance(item, Bad):
                        failed += 1
                        if len(problems) < 5:
                            problems.append(f"row {item.row.number}: {item.problem}")
                    else:
                        done, failed, repeated = done + item.done, failed + item.failed, repeated + item.repeated
                digests.close()
                tried = _Sample(scrap)
                Loop(Ahead(iter(sample), len(sample) + 1), workers, tried).run()
            except PlaceError as error:
                raise ValueError(str(error)) from None
    first, more = _mean(tried.first), _mean(tried.more) or _mean(tried.first)
    cost = (
        None
        if first is None or more is None
        else [inversions * a + (jobs - inversions) * b for a, b in zip(first, more, strict=True)]
    )
    return Estimate(
        rows=rows, jobs=jobs, inversions=inversions, done=done, failed=failed, repeated=repeated,
        evaluations=round(cost[1]) if cost else None, seconds=cost[0] if cost else None, problems=tuple(problems),
    )  # fmt: skip


class _Sample(_Ledger):
    """Costs (seconds, evaluations) of each picture's first recipe, with the inversion, and of further ones."""

    def __init__(self, where: Place) -> None:
        super().__init__(where, Counts(0), lambda counts: None)
        self.first, self.more = list[tuple[float, int]](), list[tuple[float, int]]()
        self._seen = set[str]()

    def settled(self, row: dict[str, Any]) -> None:
        if row["status"] == "done" and row["evaluations"]:
            into = self.more if row["sha256"] in self._seen else self.first
            self._seen.add(row["sha256"])
            into.append((row["seconds"], row["evaluations"]))


def _mean(costs: list[tuple[float, int]]) -> tuple[float, float] | None:
    return (sum(a for a, _ in costs) / len(costs), sum(b for _, b in costs) / len(costs)) if costs else None


def _pool(options: Options, where: Folder | Any, sample: bool = False) -> MeetingPool:
    home = str(where.path) if isinstance(where, Folder) else options.output
    if options.ray is not None and not sample:
        return OnRay(
            options.ray, options.model, options.device, options.dtype, home, options.workers, options.threads or 1,
            anyway=options.anyway,
        )  # fmt: skip
    workers = 1 if sample else options.workers
    return Local(
        options.model, options.device, options.dtype, home, workers, options.threads, anyway=options.anyway
    )  # fmt: skip


def _planning(options: Options, model: Model, digests: Digests, finished: Finished) -> Planning:
    return Planning(
        source=options.source, planner=Planner(model, options.template), digests=digests, finished=finished,
        shard=options.shard, retry_failed=options.retry_failed or options.anyway, limit=options.limit,
    )  # fmt: skip


def _names(shard: tuple[int, int]) -> tuple[str, str]:
    """The table's name without its ending, and the page's."""
    which, count = shard
    part = "" if count == 1 else f"-{which}-of-{count}"
    return f"results{part}", f"index{part}.html"


def _check_own(options: Options, where: Folder | Any) -> None:
    """ValueError where table or page would take the place of a file that no batch wrote, or of the manifest."""
    names = list[str]()
    for shard in {options.shard: None, (1, 1): None}:  # after the parts comes the run that writes the whole
        table, page = _names(shard)
        names += [*(table + ending for ending in results.TABLES), page]
    given = options.source.manifest
    paths = [os.path.realpath(where.path / name) for name in names] if isinstance(where, Folder) else []
    if given and os.path.realpath(given) in paths:
        raise ValueError(f"the table of this run would replace its manifest {given}: name another folder with -o")
    try:
        there = [] if log.is_begun(where) else [name for name in names if where.exists(name)]
    except PlaceError as error:
        raise ValueError(str(error)) from None
    if there:
        raise ValueError(
            f"{where.where} holds {', '.join(there)}, which no batch wrote and this one would replace: move "
            f"{'them' if len(there) > 1 else 'it'}, or name another folder with -o"
        )


def _written(options: Options, where: Folder | Any, planning: Planning) -> tuple[Sheet, results.Table, tuple[str, ...]]:
    """The table and the page, from what lies in the place now: another run may have added to it."""
    log.begin(where)
    finished = Finished.found(where)
    sheet = Sheet({Path(name).stem: name for name in where.names(PREVIEWS)})
    name, page = _names(options.shard)
    with tempfile.TemporaryDirectory(prefix="ledits-") as scratch:
        recorded = results.Recorded(where, Path(scratch))
        try:
            table = results.Table(
                source=options.source, ids=planning.ids, recorded=recorded, finished=finished.done,
                template=options.template,
            )  # fmt: skip
            files = results.write(where, table.rows(), name, sheet.see)
        finally:
            recorded.close()
    shown = sheet.page(f"ledits batch: {options.source.title}", files)
    where.put(page, shown.encode(errors="backslashreplace"))
    return sheet, table, (*files, page)


@contextlib.contextmanager
def _closing(pool: MeetingPool) -> Generator[None]:
    try:
        yield
    finally:
        pool.close()


@contextlib.contextmanager
def _interruptible() -> Generator[Callable[[], bool]]:
    """Whether Ctrl-C (or SIGTERM) was heard; the second one ends everything at once."""
    heard = list[int]()

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    if current_thread() is not main_thread():
        yield lambda: bool(heard)
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A pool whose one worker lives in this process, on a toy: a whole run takes milliseconds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ledits.batch.dispatch import Heard
from ledits.batch.jobs import Job, Model
from ledits.batch.manifest import Source
from ledits.batch.places import place
from ledits.batch.run import Options, Summary, run
from ledits.batch.work import Worker
from ledits.batch.worker import introduction
from ledits.editor import Editor
from ledits.testing import ToyBackbone


class Here:
    """`dispatch.Pool` and `run.MeetingPool`. `before` is called with each task, before the worker sees it."""

    running = 1

    def __init__(self, where: str, before: Callable[[Sequence[Job]], None] = lambda jobs: None) -> None:
        self._where, self._before = where, before
        self._said = [Heard("here", "ready")]
        self._editor = Editor(ToyBackbone())

    def meet(self) -> Model:
        self._worker = Worker(self._editor, place(self._where), "here")
        return Model.from_json(introduction(self._editor, "auto")["model"])

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None:
        self._before(jobs)
        for event in self._worker.work(jobs, previews, lambda: False):
            self._said.append(Heard(worker, event.kind, event.ids, event.row, event.error))

    def hear(self, timeout: float) -> list[Heard]:
        said, self._said = self._said, []
        return said

    def finish(self) -> None: ...

    def close(self) -> None: ...


def batch(
    source: Source, output: Path, before: Callable[[Sequence[Job]], None] = lambda jobs: None, **options: Any
) -> Summary:  # fmt: skip
    """A whole run."""
    return run(Options(source=source, output=str(output), **options), pool=Here(str(output), before))

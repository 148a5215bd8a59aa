"""What a worker does with a task: invert each picture once, edit it by each job's recipe, publish, say what came of it.

It never raises for a job: a bad one is a row with its error. It yields small events; pictures go to the place.
"""

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ledits.asked.plan import Plan
from ledits.asked.settings import Settings
from ledits.batch import places
from ledits.batch.jobs import PREVIEWS, Job
from ledits.batch.log import Log
from ledits.batch.places import Place, PlaceError
from ledits.errors import LeditsError
from ledits.picture import image
from ledits.scenes import suits

if TYPE_CHECKING:
    from ledits.editor import Edited, Editor, Inversion

_PREVIEW = 192  # pixels, the longer side
_TRIES = 3  # of writing, with a pause in between: a store may be busy for a moment
_LONGEST_ERROR = 500
# What settles an error, in the words of a manifest and of `ledits batch`.
_REMEDIES = {
    "anyway": "name another model with --model, or go on with this one by --anyway",
    "source": "give it in the column source, or with --source",
    "mask": "leave the column mask empty, and --mask out",
    "size": "work at a smaller size, such as 512, or in a smaller --dtype",
    "device": "use --device cpu",
}
Kind = Literal["begin", "row", "end", "place"]


@dataclass(frozen=True)
class Event:
    """begin: these ids are in hand. row: what came of a job. end: the task is over. place: it can't be written to."""

    kind: Kind
    ids: tuple[str, ...] = ()
    row: dict[str, Any] | None = None
    error: str = ""


class Worker:
    """An editor, the place of its outputs, and its own log."""

    def __init__(self, editor: "Editor", place: Place, name: str, *, anyway: bool = False) -> None:
        """`anyway`: also where the model knows neither such a picture nor such a word."""
        self._editor, self._place, self._name, self._anyway = editor, place, name, anyway
        self._done, self._failed = Log(place, "done"), Log(place, "failed")

    def work(self, jobs: Sequence[Job], previews: bool, stopping: Callable[[], bool]) -> Iterator[Event]:
        """The events of a task: jobs that share an inversion. It ends early where `stopping` says so."""
        try:
            left = list[Job]()
            for job in jobs:
                try:
                    there = self._place.exists(job.output)
                except PlaceError:
                    raise
                except Exception as error:  # a name that no file can have
                    yield self._fails(job, error, time.time())
                    continue
                if there:
                    yield Event("row", row=self._row(job, "done", time.time()))
                else:
                    left.append(job)
            if left and not stopping():
                yield from self._group(left, previews, stopping)
        except PlaceError as error:
            yield Event("place", error=str(error))
        yield Event("end")

    def _group(self, jobs: Sequence[Job], previews: bool, stopping: Callable[[], bool]) -> Iterator[Event]:
        yield Event("begin", tuple(job.id for job in jobs))
        began = time.time()
        try:
            shown, plans = self._checked(jobs)
        except Exception as error:
            for job in jobs:
                yield self._fails(job, error, began)
            return
        inversion: Inversion | None = None
        for job, plan in zip(jobs, plans, strict=True):
            if stopping():
                return
            if isinstance(plan, Exception):
                yield self._fails(job, plan, began)
                continue
            evaluations = 0
            try:
                if inversion is None:
                    inversion = self._editor.invert(shown, Settings(**job.settings), anyway=self._anyway)
                    # The inversion's cost stands in the row of the first job that needed it.
                    evaluations = inversion.network_evaluations
                yield Event("begin", (job.id,))
                edited = _alone(inversion).replay(plan).result()
                content = encoded(job, edited)
                row = self._row(job, "done", began)
                row["evaluations"] = evaluations + edited.network_evaluations
                row["targets"] = edited.targets
                row["recipe"] = edited.recipe.to_json()
                if previews:
                    self._put(f"{PREVIEWS}/{job.id}.webp", preview(shown.rgb, edited), again=True)
                _insist(lambda row=row: self._done.append(row))
                self._put(job.output, content)
            except Exception as error:
                yield self._fails(job, error, began)
            else:
                yield Event("row", row={k: v for k, v in row.items() if k != "recipe"})
            began = time.time()

    def _checked(self, jobs: Sequence[Job]) -> tuple[image.Picture, list[Plan | Exception]]:
        """The picture, and each job's plan or what is wrong with it, before a long inversion."""
        content = places.read(jobs[0].path)
        if hashlib.sha256(content).hexdigest() != jobs[0].sha256:
            raise ValueError(f"{jobs[0].picture} has changed since its job was planned: run the batch again")
        try:
            shown = image.read(content)
        except ValueError as error:
            raise ValueError(str(error).replace("the picture", jobs[0].picture, 1)) from None
        backbone = self._editor.backbone
        height, width, _ = shown.rgb.shape

        def plan(job: Job) -> Plan | Exception:
            try:
                found = Plan.of(
                    job.edits, Settings(**job.settings), region=None, mask=job.mask,  # pyright: ignore[reportArgumentType]
                    composite=job.composite, drop_source_late=job.drop_source_late, width=width, height=height,
                    world=self._editor.world,
                )  # fmt: skip
                found.check(backbone.defaults)
                if not self._anyway:
                    suits.check_words(backbone.name, suits.local(backbone.name), found.edits, found.settings.source)
            except Exception as error:
                return error
            return found

        return shown, [plan(job) for job in jobs]

    def _row(self, job: Job, status: str, began: float) -> dict[str, Any]:
        now = time.time()
        return {
            "id": job.id, "status": status, "row": job.row, "picture": job.picture, "sha256": job.sha256,
            "output": job.output, "edits": list(job.edits), "error": None, "seconds": round(now - began, 3),
            "evaluations": 0, "worker": self._name, "time": now,
        }  # fmt: skip

    def _fails(self, job: Job, error: Exception, began: float) -> Event:
        if isinstance(error, PlaceError):
            raise error
        row = {**self._row(job, "failed", began), "output": None, "error": sentence(error)}
        _insist(lambda: self._failed.append(row))
        return Event("row", row=row)

    def _put(self, name: str, content: bytes, *, again: bool = False) -> None:
        write = self._place.put if again else self._place.create
        _insist(lambda: write(name, content))


def _insist(write: Callable[[], object]) -> None:
    for attempt in range(_TRIES):
        try:
            write()
            return
        except PlaceError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.2 * 4**attempt)


def _alone(inversion: "Inversion") -> "Inversion":
    """The inversion without what earlier edits made it remember.

    What is remembered is not asked again, so the network's batches, and with them the last digit of an answer, would
    depend on the jobs that went before.
    """
    from ledits.editor import Inversion

    return Inversion(
        inversion.editor, inversion.picture, inversion.path, inversion.provenance, 0, inversion.then,
        anyway=inversion.anyway,
    )  # fmt: skip


def encoded(job: Job, edited: "Edited") -> bytes:
    """The output file's bytes, with the recipe in it."""
    alpha, name = edited.inversion.picture.alpha, Path(job.output)
    if alpha is not None and name.suffix.lower() in (".jpg", ".jpeg"):
        raise ValueError(f"{job.picture} has transparency, which JPEG can't hold: choose --name with .png")
    return image.encode(name, edited.rgb, alpha, edited.recipe.to_json())


def preview(rgb: "np.ndarray[Any, np.dtype[np.uint8]]", edited: "Edited") -> bytes:
    """Before, after and where the edits acted, side by side, as a small WebP: what lies between them is transparent, so
    that the page's own colour shows there, in light and in dark.
    """
    height, width, _ = rgb.shape
    scale = min(1.0, _PREVIEW / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sheet = Image.new("RGBA", (3 * size[0] + 8, size[1]))
    for k, shown in enumerate((rgb, edited.rgb, np.asarray(edited.overlay))):
        sheet.paste(Image.fromarray(shown).resize(size, Image.Resampling.LANCZOS), (k * (size[0] + 4), 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def sentence(error: BaseException) -> str:
    """An error as one sentence of a row."""
    said = error.said(_REMEDIES) if isinstance(error, LeditsError) else str(error)
    text = " ".join(said.split()) or type(error).__name__
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + "..."

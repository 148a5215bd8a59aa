"""What the endpoints share: the models, the line of jobs, the kept inversions; and the work that jobs do."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from ledits.asked.idle import Idle
from ledits.asked.recipe import Edit
from ledits.asked.settings import InvertOptions
from ledits.asked.settings import Settings as InvertSettings
from ledits.editor import Edited, Editor, Inversion, Replay
from ledits.errors import Unsuited
from ledits.files import checkpoints
from ledits.files.checkpoints import World
from ledits.language import sentences
from ledits.picture import image
from ledits.scenes import suits
from ledits.seeing.assistant import Answer, NoAnswer, reader
from ledits.server import pictures
from ledits.server.addresses import Addresses
from ledits.server.decoder import Decoder
from ledits.server.errors import Refused
from ledits.server.jobs import Job, Jobs, Work
from ledits.server.metrics import Metrics
from ledits.server.records import Records
from ledits.server.schemas import EditIn, EditsIn, SheetIn
from ledits.server.settings import Settings
from ledits.server.store import Store

log = logging.getLogger("ledits.serve")

# Pages that draw each step take the time from a fast edit itself. Seconds between two steps that are told of, and for
# which a preview is seen at least.
_PAUSE, _SEEN = 0.1, 0.2


@dataclass(frozen=True)
class Asked:
    """An edit as a client asked for it: None in place of its region where it may act everywhere."""

    edit: Edit
    region: bytes | None  # a picture's file
    muted: bool


class Service:
    """Everything that lives as long as the server does."""

    def __init__(self, settings: Settings, editors: Mapping[str, Editor]) -> None:
        self.settings, self.editors, self.limits = settings, editors, settings.limits
        self.worlds: dict[str, World | None] = {}
        for name, editor in editors.items():
            folder = suits.local(editor.backbone.name)
            self.worlds[name] = None if folder is None else checkpoints.world(folder)
            # A folder's path is nothing for clients to know, and answers carry the model's name.
            editor.backbone.name = name
        self.metrics = Metrics()
        # One for the device alone, so that whoever sends strange files makes nobody's edit wait.
        self.decoder, self._lookers = Decoder(settings.limits, 1), Decoder(settings.limits, 2)
        self.store = Store(settings.folder, settings.limits, self.metrics)
        self.records = Records(settings.folder / "jobs", settings.limits)
        self.addresses = Addresses(settings.limits)
        self.assistant = reader(settings.assistant) if settings.assistant else None
        self._assistants = anyio.CapacityLimiter(settings.limits.assistants)
        self.jobs = Jobs(settings.limits, self.metrics)
        self.began = int(time.time())

    def warm(self) -> None:
        """Start what the first request would have to wait for."""
        self.decoder.warm()
        self._lookers.warm()

    def close(self) -> None:
        """Finish the job in hand and leave."""
        self.jobs.drain()
        self.jobs.join()
        self.decoder.close()
        self._lookers.close()
        self.store.close()

    def hurry(self) -> None:
        """Stop the job in hand at its next step, and what is being decoded at once."""
        self.jobs.hurry()
        self.decoder.close()
        self._lookers.close()

    def abandon(self) -> None:
        """Leave without waiting for anything: nothing half written stays behind."""
        self.hurry()
        self.store.tidy()

    def editor(self, name: str | None) -> Editor:
        """The model of that name, the first one where none is named; 404 for any other."""
        if not name:
            return next(iter(self.editors.values()))
        aliases = self.settings.aliases
        editor = self.editors.get(aliases.get(name, name)) or self.editors.get(aliases.get("*", ""))
        if editor is None:
            raise Refused(
                f"there is no model {name[:100]!r} here: {', '.join(self.editors)}; the server can be started with "
                f"--alias {name[:100]}={next(iter(self.editors))}",
                404, param="model", code="model_not_found",
            )  # fmt: skip
        return editor

    def world(self, name: str | None) -> World | None:
        """What the model of that name knows, None where it knows any word."""
        return self.worlds[self.editor(name).backbone.name]

    def suit(self, editor: Editor, picture: image.Picture, settings: InvertSettings) -> None:
        """Refuse a picture that a model of a small world could not even give back; the words are `words.check`'s."""
        try:
            editor.check(picture, settings)
        except Unsuited as error:
            raise Refused(
                f"{error.what}: ask for a model for photographs, or go on with anyway=true", param="image",
                code="unsuitable_image",
            ) from None  # fmt: skip

    async def understood(self, text: str, source: str, sent: UploadFile) -> tuple[list[Edit], str]:
        """The edits that a prompt asks for and the picture's caption: by the rules, else by the assistant, if there is
        one; 400 for what neither reads.
        """
        try:
            return sentences.read(text, source), source
        except ValueError as error:
            if not text.strip() or not sentences.is_sentence(text):
                raise Refused(str(error), param="prompt", code="unknown_instruction") from None
            if self.assistant is None:
                raise Refused(
                    f"{error}; or start the server with --assistant URL#MODEL, a language model that sees the picture "
                    "and reads any sentence",
                    param="prompt", code="unknown_instruction",
                ) from None  # fmt: skip
        assistant = self.assistant

        def ask() -> Answer:
            return assistant.answer(self._lookers.read(pictures.content(sent)), text, source)

        try:
            answer = await anyio.to_thread.run_sync(ask, limiter=self._assistants)
        except NoAnswer as error:
            log.warning("no answer of the assistant (%s)", error)
            raise Refused(
                "the assistant that reads free sentences does not answer: write edits such as 'cat->dog', or try again",
                502, param="prompt", code="assistant_failed",
            ) from None  # fmt: skip
        except ValueError as error:
            raise Refused(str(error), param="prompt", code="unknown_instruction") from None
        return list(answer.edits), answer.source

    def settled(self, editor: Editor, asked: InvertOptions) -> InvertSettings:
        """How to invert, with the model's defaults; 400 for what the model or the server doesn't allow."""
        try:
            settings = editor.settings(**asdict(asked))
            editor.choosing(settings.use_lora)
        except ValueError as error:
            raise Refused(str(error), code="invalid_value") from None
        self._within("steps", settings.steps, self.limits.steps)
        most = self.limits.enlarged * math.isqrt(editor.backbone.area)
        if (asked.size or 0) > most:
            raise Refused(f"size {asked.size}: this server works at {most} at most", param="size", code="invalid_value")
        return settings

    def asked(self, edits: Sequence[str | EditIn], region: str | None, source: str) -> list[Asked]:
        """The edits of a request on a picture with the caption `source`, checked; 400 for the first that is none."""
        if not edits:
            raise Refused(
                "no edit is given: add one to edits, such as '+sunglasses', '-hat' or 'cat->dog'", param="edits",
                code="missing_parameter",
            )  # fmt: skip
        self._within("edits", len(edits), self.limits.edits)
        common = None if region is None else self.sent(region, "region")
        checked: list[Asked] = []
        for k, given in enumerate(edits):
            if isinstance(given, str):
                checked += [Asked(edit, common, False) for edit in read(given, source, f"edits.{k}")]
                continue
            try:
                edit = given.edit()
            except ValueError as error:
                raise Refused(str(error), param=f"edits.{k}", code="invalid_edit") from None
            own = common if given.region is None else self.sent(given.region, f"edits.{k}.region")
            checked.append(Asked(edit, own, given.muted))
        # A text may ask for several.
        self._within("edits", len(checked), self.limits.edits)
        return checked

    def sent(self, text: str, param: str) -> bytes:
        """A picture's file within JSON, its header checked."""
        data = pictures.from_text(text, param)
        self._lookers.look(data, param)
        return data

    def look(self, file: UploadFile, param: str) -> tuple[int, int]:
        """The size of a picture in a form, by its header."""
        return self._lookers.look(pictures.content(file), param)

    def upright(self, id: str) -> bytes:
        """A kept inversion's picture as a PNG."""
        return pictures.upright(self._lookers.read(self.store.picture(id)))

    def recipe(self, file: UploadFile) -> dict[str, Any] | None:
        """The recipe in a picture's file."""
        return self._lookers.recipe(pictures.content(file))

    def invert(self, editor: Editor, sent: UploadFile, settings: InvertSettings, owner: str) -> Work:
        """Invert a picture and keep it."""

        def work(job: Job) -> dict[str, Any]:
            began, data = time.monotonic(), pictures.content(sent)
            shown = self.decoder.read(data, check=job.check)
            # The page says what the model does not know, and lets people go on.
            inversion = editor.invert(shown, settings, progress=progress(job), anyway=True)
            return self._kept(job, inversion, data, owner, time.monotonic() - began)

        return work

    def receive(self, sent: UploadFile, file: UploadFile, owner: str) -> Work:
        """Keep an inversion that was made elsewhere, with its picture."""

        def work(job: Job) -> dict[str, Any]:
            data = pictures.content(sent)
            shown = self.decoder.read(data, check=job.check)
            inversion = self.store.received(pictures.content(file), self._made_with, shown)
            return self._kept(job, inversion, data, owner, 0.0)

        return work

    def open(self, job: Job, id: str, editor: Editor, draft: int | None = None) -> Inversion:
        """A kept inversion, or a draft of it."""
        return self.store.open(id, editor, draft, lambda data: self.decoder.read(data, check=job.check))

    def regions(self, job: Job, asked: Sequence[Asked]) -> list[image.Picture | None] | None:
        """The region of each edit, each file opened once; None where no edit has one."""
        files = dict.fromkeys(each.region for each in asked if each.region is not None)
        opened = {file: self.decoder.read(file, "region", job.check) for file in files}
        return [None if each.region is None else opened[each.region] for each in asked] if opened else None

    def edit(self, id: str, asked: Sequence[Asked], request: EditsIn) -> Work:
        """Edit a kept inversion; steps are told, at most 10 a second, some of them with a preview."""
        editor = self.editor(self.store.entry(id).model)

        def work(job: Job) -> dict[str, Any]:
            began = time.monotonic()
            inversion = self.open(job, id, editor, request.draft)
            heard = [each for each in asked if not each.muted]
            if not heard:
                # Every edit is muted: what is there is the picture through the autoencoder.
                rebuilt = pictures.png(inversion.reconstruction)
                nothing = [None for _ in asked]
                return {"image": rebuilt, "masks": nothing, "idle": nothing, "targets": nothing, "recipe": None,
                        "network_evaluations": 0, "seconds": round(time.monotonic() - began, 3)}  # fmt: skip
            pictures.check(inversion.picture, request.format)
            replay = inversion.steps(
                *(each.edit for each in heard), region=self.regions(job, heard), mask=request.mask,
                composite=request.composite,
            )  # fmt: skip
            shown, cost, told, begun = 0.0, 0.0, 0.0, time.monotonic()
            for step in replay:
                preview, now = None, time.monotonic()
                left = (now - begun) / (step.index + 1) * (step.total - step.index - 1)
                # The first change at once, then those that are looked at, in a tenth of the time at most.
                seen = not shown or (now - shown > max(9 * cost, _SEEN) and left > _SEEN)
                due = request.previews and seen and bool(step.step.guidance.any())
                if not due and now - told < _PAUSE:
                    job.check()
                    continue
                if due:
                    preview = pictures.preview(step.preview())
                    shown, cost = time.monotonic(), time.monotonic() - now
                told = now
                job.send(
                    "step", {"i": step.index + 1, "n": step.total, "preview": preview,
                             "network_evaluations": step.network_evaluations},
                )  # fmt: skip
            edited = replay.result()
            masks, idle, targets = iter(edited.masks), iter(edited.idle), iter(edited.targets)
            seconds = round(time.monotonic() - began, 3)
            job.about |= _about(edited.inversion, edited.network_evaluations)
            return {
                "image": pictures.text(pictures.encoded(edited, request.format)),
                "masks": [None if each.muted else pictures.png(next(masks)) for each in asked],
                "idle": [None if each.muted else _why(next(idle)) for each in asked],
                "targets": [None if each.muted else next(targets, None) for each in asked],
                "recipe": edited.recipe.to_json(), "network_evaluations": edited.network_evaluations,
                "seconds": seconds,
            }  # fmt: skip

        return work

    def sheet(self, id: str, asked: Sequence[Asked], request: SheetIn) -> Work:
        """The edits at every scale and threshold, one picture after the other."""
        self._within("cells", len(request.scales) * len(request.thresholds), self.limits.cells)
        editor = self.editor(self.store.entry(id).model)
        heard = [each for each in asked if not each.muted]
        if not heard:
            raise Refused("a sheet needs at least one edit that is not muted", param="edits", code="invalid_value")

        def work(job: Job) -> dict[str, Any]:
            began, evaluations = time.monotonic(), 0
            inversion = self.open(job, id, editor, request.draft)
            job.about |= _about(inversion, 0)
            pictures.check(inversion.picture, request.format)
            regions = self.regions(job, heard)

            def cell(scale: float, threshold: float | None) -> Replay:
                edits = (_at(each.edit, scale, threshold) for each in heard)
                return inversion.steps(*edits, region=regions, mask=request.mask, composite=request.composite)

            # All are checked before the first is drawn, and none is kept: each would hold its regions.
            for threshold, scale in product(request.thresholds, request.scales):
                job.check()
                cell(scale, threshold)
            for row, threshold in enumerate(request.thresholds):
                for column, scale in enumerate(request.scales):
                    replay = cell(scale, threshold)
                    for _ in replay:
                        job.check()
                    edited = replay.result()
                    evaluations += edited.network_evaluations
                    job.about["network_evaluations"] = evaluations
                    shown = pictures.text(pictures.encoded(edited, request.format, size=pictures.small(edited)))
                    job.send("cell", {"row": row, "column": column, "image": shown})
            return {"rows": len(request.thresholds), "columns": len(request.scales),
                    "network_evaluations": evaluations, "seconds": round(time.monotonic() - began, 3)}  # fmt: skip

        return work

    def reconstruct(self, id: str) -> Work:
        """The inverted picture through the autoencoder."""
        editor = self.editor(self.store.entry(id).model)
        return lambda job: {"image": pictures.png(self.open(job, id, editor).reconstruction)}

    def _made_with(self, fingerprint: str) -> Editor:
        for editor in self.editors.values():
            if editor.backbone.fingerprint == fingerprint:
                return editor
        raise Refused("the inversion was made with a model that is not here", param="inversion", code="model_not_found")

    def _kept(self, job: Job, inversion: Inversion, picture: bytes, owner: str, seconds: float) -> dict[str, Any]:
        job.about |= _about(inversion, inversion.network_evaluations)
        entry = self.store.keep(inversion, picture, owner, seconds)
        return {"job": job.id, "inversion": entry.shown()}

    def _within(self, name: str, given: int, most: int) -> None:
        if given > most:
            raise Refused(f"{given} {name}: this server allows {most}", param=name, code="invalid_value")


def read(text: str, source: str, param: str) -> list[Edit]:
    """The edits that an element of `edits` asks for, as every surface reads it; 400 for what is none."""
    try:
        return sentences.read(text, source)
    except ValueError as error:
        raise Refused(str(error), param=param, code="invalid_edit") from None


async def picture(
    sent: Sequence[Any], service: Service, param: str = "image"
) -> tuple[UploadFile, tuple[int, int]]:  # fmt: skip
    """The one picture of a form and its size, its header checked; raises Refused for none and for several."""
    if len(sent) != 1 or not isinstance(sent[0], UploadFile):
        raise Refused(
            f"{param} is missing: send the picture's file" if not sent else f"one file is needed as {param}",
            param=param, code="missing_parameter" if not sent else "invalid_value",
        )  # fmt: skip
    return sent[0], await run_in_threadpool(service.look, sent[0], param)


def progress(job: Job) -> Callable[[int, int], None]:
    """Tells of an inversion's progress; what it raises stops the inversion."""
    return lambda done, total: job.send("progress", {"done": done, "total": total})


def measured(job: Job, edited: Edited, evaluations: int) -> None:
    """Note for the log what an edit was."""
    job.about |= _about(edited.inversion, evaluations)


def _about(inversion: Inversion, evaluations: int) -> dict[str, Any]:
    p = inversion.provenance
    return {"model": p.model, "width": p.frame.width, "height": p.frame.height, "steps": inversion.settings.steps,
            "network_evaluations": evaluations}  # fmt: skip


def _why(idle: Idle | None) -> dict[str, str] | None:
    return idle and {"why": idle.why, "other": idle.other, "text": str(idle)}


def _at(edit: Edit, scale: float, threshold: float | None) -> Edit:
    return replace(edit, scale=scale, threshold=edit.threshold if threshold is None else threshold)

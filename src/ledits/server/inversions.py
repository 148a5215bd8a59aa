"""Our own endpoints: inversions that are made once, kept, and edited any number of times."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, Response

from ledits.asked.settings import InvertOptions
from ledits.language import sentences
from ledits.server import answers, pictures, words
from ledits.server.bodies import form, route
from ledits.server.errors import Refused
from ledits.server.schemas import EditIn, EditsIn, InversionIn, ParseIn, SheetIn, Strict, checked
from ledits.server.service import Service, picture


def router(service: Service) -> APIRouter:
    """The endpoints over a service."""
    routes = APIRouter(tags=["inversions"], route_class=route(service.limits))
    store, jobs = service.store, service.jobs

    @routes.post("/v1/inversions", openapi_extra=_described(InversionIn, "image"))
    async def invert(request: Request) -> Response:
        """Invert a picture and keep it. With `source`, which says what it shows, edits rewrite that caption."""
        fields = await form(request, service.limits)
        asked = checked(InversionIn, _texts(fields.multi_items(), "image"))
        editor = service.editor(asked.model)
        settings = service.settled(editor, InvertOptions(**asked.model_dump(exclude={"model"})))
        sent, _ = await picture(fields.getlist("image"), service)
        work = service.invert(editor, sent, settings, request.state.owner)
        return await _answered(request, "invert", work)

    @routes.post("/v1/inversions/file", openapi_extra=_described(None, "image", "inversion"))
    async def receive(request: Request) -> Response:
        """Keep an inversion that was downloaded here or made by `ledits invert`, with the picture it belongs to."""
        fields = await form(request, service.limits)
        checked(_Nothing, _texts(fields.multi_items(), "image", "inversion"))
        sent, _ = await picture(fields.getlist("image"), service)
        files = fields.getlist("inversion")
        if len(files) != 1 or not isinstance(files[0], UploadFile):
            raise Refused(
                "inversion is missing: send a .safetensors file" if not files else "one file is needed as inversion",
                param="inversion", code="missing_parameter" if not files else "invalid_value",
            )  # fmt: skip
        work = service.receive(sent, files[0], request.state.owner)
        return await _answered(request, "receive", work)

    async def _answered(request: Request, kind: str, work: Any) -> Response:
        job = jobs.submit(kind, request.state.owner, work)
        return await answers.answer(service, job, request, lambda done: done["inversion"])

    @routes.get("/v1/inversions")
    async def listed(request: Request) -> Response:
        """The inversions that were made with the caller's key, the newest first; none in a demo, which has no keys."""

        def kept() -> list[dict[str, Any]]:
            return [] if service.settings.demo else [entry.shown() for entry in store.listed(request.state.owner)]

        return await answers.as_json({"inversions": await run_in_threadpool(kept)})

    @routes.get("/v1/inversions/{id}")
    async def one(id: str) -> dict[str, Any]:
        """One inversion; whoever holds its id may use it."""
        return store.entry(id).shown()

    @routes.delete("/v1/inversions/{id}")
    async def delete(id: str) -> dict[str, Any]:
        """Remove it from the disk."""
        await run_in_threadpool(store.delete, id)
        return {"deleted": id}

    @routes.get("/v1/inversions/{id}/file")
    async def file(id: str) -> Response:
        """The inversion as a .safetensors file, for `ledits edit --inversion` or to be sent here again."""
        path = store.file(id)
        return FileResponse(path, media_type="application/octet-stream", filename=f"{id}.safetensors")

    @routes.get("/v1/inversions/{id}/picture")
    async def shown(id: str) -> Response:
        """The picture as a PNG, upright and in sRGB."""
        data = await run_in_threadpool(service.upright, id)
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    @routes.get("/v1/inversions/{id}/reconstruction")
    async def reconstruction(id: str, request: Request) -> Response:
        """What an edit that changes nothing gives, as a PNG."""
        job = jobs.submit("reconstruct", request.state.owner, service.reconstruct(id))
        events = await answers.as_one(service, job, request)
        if events is None:
            return answers.left()
        data = await run_in_threadpool(pictures.from_base64, events[-1][1]["image"])
        return Response(data, media_type="image/png")

    @routes.post("/v1/inversions/{id}/edits")
    async def edit(id: str, asked: EditsIn, request: Request) -> Response:
        """Edit a kept inversion: events `step` and `done`, or one JSON object without that Accept header."""
        source = store.entry(id).source
        work = service.edit(id, await run_in_threadpool(service.asked, asked.edits, asked.region, source), asked)
        job = jobs.submit("edit", request.state.owner, work)
        return await answers.answer(service, job, request, lambda done: done)

    @routes.post("/v1/inversions/{id}/sheets")
    async def sheet(id: str, asked: SheetIn, request: Request) -> Response:
        """The edits at every scale and threshold: an event `cell` for each, then `done`."""
        source = store.entry(id).source
        work = service.sheet(id, await run_in_threadpool(service.asked, asked.edits, asked.region, source), asked)
        job = jobs.submit("sheet", request.state.owner, work)
        return await answers.as_events(service, job, request, lambda event: event)

    @routes.post("/v1/parse")
    async def parse(asked: ParseIn) -> dict[str, Any]:
        """What a prompt is understood as, without editing anything."""
        try:
            edits = sentences.read(asked.text, asked.source)
        except ValueError as error:
            raise Refused(str(error), param="text", code="unknown_instruction") from None
        return {
            "edits": [EditIn.of(edit).model_dump() for edit in edits],
            "grammar": ", ".join(str(edit) for edit in edits),
            "unknown": words.unknown(service.world(asked.model), edits),
            **words.captions(service.world(asked.model), edits, asked.source),
        }

    @routes.post("/v1/recipes", openapi_extra=_described(None, "image"))
    async def recipe(request: Request) -> Response:
        """The recipe in a picture that `ledits` wrote; null where it carries none."""
        fields = await form(request, service.limits)
        checked(_Nothing, _texts(fields.multi_items(), "image"))
        sent, _ = await picture(fields.getlist("image"), service)
        return await answers.as_json({"recipe": await run_in_threadpool(service.recipe, sent)})

    @routes.get("/v1/words")
    async def known(model: str | None = None) -> dict[str, Any]:
        """The words that a model of a small world knows; null where it knows any."""
        return words.known(service.world(model))

    return routes


class _Nothing(Strict):
    """A form that has files only."""


def _texts(items: list[tuple[str, Any]], *files: str) -> dict[str, Any]:
    """A form's text fields; 400 for a file where none is known."""
    values: dict[str, Any] = {}
    for key, value in items:
        if key in files:
            continue
        if isinstance(value, UploadFile):
            raise Refused(f"{key[:100]} is not a file of this request", param=key[:100], code="unknown_parameter")
        if key in values:
            raise Refused(f"{key[:100]} is given more than once", param=key[:100], code="invalid_value")
        if value != "":
            values[key] = value
    return values


def _described(kind: Any, *files: str) -> dict[str, Any]:
    schema: dict[str, Any] = kind.model_json_schema() if kind else {"type": "object", "properties": {}}
    schema["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    schema["required"] = list(files)
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}

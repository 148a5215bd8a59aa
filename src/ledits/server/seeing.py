"""What a picture shows, and where something is: POST /v1/captions, POST /v1/regions. Nothing is downloaded here."""

import re
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from ledits.picture.image import Picture
from ledits.seeing import weights
from ledits.server import answers, pictures
from ledits.server.bodies import form
from ledits.server.errors import Refused
from ledits.server.jobs import Job
from ledits.server.service import Service, picture

_POINTS = 16  # of one selection


def router(service: Service) -> APIRouter:
    """The endpoints over a service."""
    routes = APIRouter(tags=["pictures"])
    florence, sam = service.settings.florence, service.settings.sam

    @routes.get("/v1/seeing")
    async def seeing() -> dict[str, bool]:
        """Whether the models are on this machine: Florence-2 for captions and phrases, SAM 2 for clicks and boxes."""
        return {
            "captions": await run_in_threadpool(_there, florence, "florence2"),
            "clicks": await run_in_threadpool(_there, sam, "sam2"),
        }

    @routes.post("/v1/captions", openapi_extra=_described())
    async def caption(request: Request) -> Response:
        """What the picture shows, in one sentence, for `source`."""
        fields = await form(request, service.limits)
        _only(list(fields), "image")
        sent, _ = await picture(fields.getlist("image"), service)
        await _needed(florence, "florence2")
        editor = service.editor(None)

        def work(job: Job) -> dict[str, Any]:
            shown = service.decoder.read(pictures.content(sent), check=job.check)
            return {"caption": editor.caption(shown, weights=florence)}

        job = service.jobs.submit("caption", request.state.owner, work)
        return await answers.answer(service, job, request, lambda done: done)

    @routes.post("/v1/regions", openapi_extra=_described(phrase="string", point="string", box="string"))
    async def region(request: Request) -> Response:
        """The region of what a `phrase` names ("the left cat"), or of the thing under each `point` ("x,y"), or in a
        `box` ("left,top,width,height"): a PNG as edits take it, in base64, and the share of the picture that it has.
        """
        fields = await form(request, service.limits)
        _only(list(fields), "image", "phrase", "point", "box")
        texts = {name: [_text(each) for each in fields.getlist(name)] for name in ("phrase", "point", "box")}
        phrases, boxes = texts["phrase"], [_numbers("box", each, 4) for each in texts["box"]]
        points = [_numbers("point", each, 2) for each in texts["point"]]
        if [bool(phrases), bool(points), bool(boxes)].count(True) != 1 or len(phrases) > 1 or len(boxes) > 1:
            raise Refused("one phrase, points or one box is needed", param="phrase", code="invalid_value")
        if len(points) > _POINTS:
            raise Refused(f"{len(points)} points: {_POINTS} are enough", param="point", code="invalid_value")
        sent, _ = await picture(fields.getlist("image"), service)
        await _needed(*((florence, "florence2") if phrases else (sam, "sam2")))
        editor = service.editor(None)

        def found(shown: Picture) -> np.ndarray[Any, Any]:
            if phrases:
                return editor.where(shown, phrases[0], weights=florence)
            box = (boxes[0][0], boxes[0][1], boxes[0][2], boxes[0][3]) if boxes else None
            return editor.select(shown, *((x, y) for x, y in points), box=box, weights=sam)

        def work(job: Job) -> dict[str, Any]:
            mask = found(service.decoder.read(pictures.content(sent), check=job.check))
            shown = Image.fromarray(mask.astype(np.uint8) * 255)
            return {"region": pictures.png(shown), "share": round(float(mask.mean()), 4)}

        job = service.jobs.submit("region", request.state.owner, work)
        return await answers.answer(service, job, request, lambda done: done)

    return routes


def _there(name: str, kind: str) -> bool:
    try:
        weights.found(name, kind)
    except ValueError:
        return False
    return True


async def _needed(name: str, kind: str) -> None:
    """Refuse, with the command that fetches the weights, where they are not on this machine."""
    try:
        await run_in_threadpool(weights.found, name, kind)
    except ValueError as error:
        raise Refused(f"this server can't see: {error}", 501, code="not_set_up") from None


def _only(given: list[str], *known: str) -> None:
    for name in given:
        if name not in known:
            raise Refused(f"{name[:99]} is not a field of this request", param=name[:99], code="unknown_parameter")


def _text(value: UploadFile | str) -> str:
    if isinstance(value, UploadFile):
        raise Refused("phrase, point and box are texts, not files", param="phrase", code="invalid_value")
    return value


def _numbers(name: str, text: str, count: int) -> list[int]:
    parts = text.split(",")
    if len(parts) != count or not all(re.fullmatch(r" ?[0-9]{1,6}", part) for part in parts):
        example = "120,80" if count == 2 else "40,60,200,160"
        raise Refused(f"{name} is {text[:60]!r}: write {name}={example}, in pixels", param=name, code="invalid_value")
    return [int(part) for part in parts]


def _described(**texts: str) -> dict[str, Any]:
    properties: dict[str, Any] = {"image": {"type": "string", "format": "binary"}}
    properties |= {name: {"type": kind} for name, kind in texts.items()}
    schema = {"type": "object", "properties": properties, "required": ["image"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}

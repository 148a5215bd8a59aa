"""POST /v1/keep: what another editor changed by accident goes back."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ledits.picture.keeping import keep
from ledits.server import answers, pictures
from ledits.server.bodies import form
from ledits.server.errors import Refused
from ledits.server.jobs import Job
from ledits.server.service import Service, picture

_FILES = ("before", "after", "mask")


def router(service: Service) -> APIRouter:
    """The endpoint over a service."""
    routes = APIRouter(tags=["pictures"])

    @routes.post("/v1/keep", openapi_extra=_described())
    async def kept(request: Request) -> Response:
        """Lay what changed on purpose in `after` onto `before`: a PNG of it, and one of where it changed, as base64.

        `mask`, a picture of `before`'s size, says where it may change, in white; without one it is found.
        """
        fields = await form(request, service.limits)
        for name in fields:
            if name not in _FILES:
                raise Refused(f"{name[:99]} is not a field of this request", param=name[:99], code="unknown_parameter")
        sent = {name: (await picture(fields.getlist(name), service, name))[0] for name in _FILES if name in fields}
        for name in ("before", "after"):
            if name not in sent:
                await picture([], service, name)

        def work(job: Job) -> dict[str, Any]:
            given = [
                service.decoder.read(pictures.content(sent[name]), name, job.check) if name in sent else None
                for name in _FILES
            ]
            try:
                found = keep(*given)
            except ValueError as error:
                raise Refused(str(error), code="invalid_value") from None
            return {
                "image": pictures.png(found.image), "mask": pictures.png(found.mask), "changed": found.share,
                "shift": found.shift, "scale": found.scale,
            }  # fmt: skip

        job = service.jobs.submit("keep", request.state.owner, work)
        return await answers.answer(service, job, request, lambda done: done)

    return routes


def _described() -> dict[str, Any]:
    files = {name: {"type": "string", "format": "binary"} for name in _FILES}
    schema = {"type": "object", "properties": files, "required": ["before", "after"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}

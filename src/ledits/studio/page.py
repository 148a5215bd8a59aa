"""What the page is told and given beside its own files: the models, the samples, the picture that it begins with."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from mimetypes import guess_type
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ledits.editor import Editor
from ledits.scenes.samples import SAMPLES, SUGGESTED, draw
from ledits.server.errors import Refused
from ledits.studio import STATIC


def page(editors: Mapping[str, Editor], picture: Path | None = None, caption: str = "") -> Starlette:
    """The page, for an application over `editors`; it begins with `picture`, whose caption is `caption`."""
    about: dict[str, Any] = {
        "loading": False,
        "models": {name: asdict(editor.backbone.defaults) for name, editor in editors.items()},
        "loras": {name: editor.loras for name, editor in editors.items()},
        "samples": [
            {"name": name, "url": f"/samples/{name}.png", "caption": SAMPLES[name].caption(), "edits": edits}
            for name, edits in SUGGESTED.items()
        ],
        "picture": picture and {"name": picture.name, "url": "/opened", "caption": caption},
    }

    async def described(request: Request) -> Response:
        return JSONResponse(about, headers={"cache-control": "no-store"})

    async def sample(request: Request) -> Response:
        name = str(request.path_params["name"])
        if name not in SUGGESTED:
            return Refused(f"there is no sample {name[:100]!r}", 404, code="not_found").response()
        return Response(_drawn(name), media_type="image/png", headers={"cache-control": "no-cache"})

    async def opened(request: Request) -> Response:
        if picture is None:
            return Refused("the studio was started without a picture", 404, code="not_found").response()
        # By its name alone: a picture that is called page.html is no page.
        kind = guess_type(picture.name)[0] or ""
        safe = kind.startswith("image/") and "svg" not in kind
        return FileResponse(
            picture, media_type=kind if safe else "application/octet-stream", headers={"cache-control": "no-store"}
        )

    return Starlette(
        routes=[
            Route("/studio.json", described),
            Route("/samples/{name}.png", sample),
            Route("/opened", opened),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ]
    )


@cache
def _drawn(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(name)).save(buffer, "PNG")
    return buffer.getvalue()

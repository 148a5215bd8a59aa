"""OpenAI's image edits, as its clients of November 2026 send them: POST /v1/images/edits and GET /v1/models.

What can't be honoured is refused and named, never left out: a mask that is quietly dropped is a wrong picture.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from ledits.asked.recipe import Edit
from ledits.asked.settings import InvertOptions
from ledits.editor import Edited, Editor, Inversion
from ledits.server import answers, pictures, words
from ledits.server.bodies import form, route
from ledits.server.errors import Refused, RefusedBody
from ledits.server.jobs import Event, Job, Work
from ledits.server.pictures import Format
from ledits.server.schemas import LORAS, MOST, EditText, Loras, Source, Strict, checked
from ledits.server.service import Service, measured, picture, read

_STEPS = {"low": 10, "medium": 25, "high": 50, "xhigh": 75, "max": 100}
# What other models of this interface do and an edit of a picture can't.
_IMPOSSIBLE = {
    "markup": "drawings on the picture are not read: use mask",
    "complexity": "there is no planning",
    "frame_count": "there is one frame",
    "frame_duration_ms": "there is one frame",
    "svg": "there are no vectors",
}


class ImageEdit(Strict):
    """The fields beside the files; those from `source` on are ours, sent by the clients' extra_body."""

    prompt: Annotated[str, Field(max_length=32_000)] = ""
    model: Annotated[str, Field(max_length=200)] | None = None
    n: int = Field(default=1, ge=1, le=10)
    size: Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$")] = "auto"
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard"] = "auto"
    background: Literal["auto", "opaque", "transparent"] = "auto"
    output_format: Format = "png"
    output_compression: int | None = Field(default=None, ge=0, le=100)
    input_fidelity: Literal["low", "high"] | None = None
    partial_images: int = Field(default=0, ge=0, le=3)
    stream: bool = False
    response_format: Literal["b64_json", "url"] = "b64_json"
    moderation: Literal["auto", "low"] = Field(default="auto", description="accepted, not used: there is no filter")
    user: Annotated[str, Field(max_length=1000)] = ""
    safety_identifier: Annotated[str, Field(max_length=1000)] = ""
    source: Source = ""
    edits: list[EditText] = Field(default=[], max_length=MOST)
    steps: int | None = Field(default=None, ge=1)
    skip: float | None = Field(default=None, ge=0, lt=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    use_lora: Loras | None = Field(default=None, description=LORAS)
    inversion: Annotated[str, Field(max_length=100)] | None = None
    composite: bool = False
    anyway: bool = Field(default=False, description="go on with words and pictures that a small model does not know")


def router(service: Service) -> APIRouter:
    """The endpoints over a service."""
    routes = APIRouter(tags=["OpenAI"], route_class=route(service.limits))

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The models that are loaded, and the other names that they are asked for by."""
        names = [*service.editors, *(name for name in service.settings.aliases if name != "*")]
        return {"object": "list", "data": [_model(service, name) for name in names]}

    @routes.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        service.editor(name)
        return _model(service, name)

    @routes.post("/v1/images/edits", openapi_extra=_described())
    async def edits(request: Request) -> Response:
        """Edit a picture. The prompt is "cat->dog, +crown:8" or plain words such as "make the cat a dog".

        As a form with the picture's file, or as JSON with `images: [{"image_url": "data:image/png;base64,..."}]`.
        """
        json_given = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        values, images, masks = await (_of_json if json_given else _of_form)(request, service)
        asked = checked(ImageEdit, values)
        kept = None if asked.inversion is None else service.store.entry(asked.inversion)
        editor = service.editor(asked.model if kept is None or asked.model else kept.model)
        if kept is not None and editor is not service.editor(kept.model):
            raise _refused("model", f"that inversion was made with {kept.model!r}: name that model, or leave it out")
        if asked.partial_images and not asked.stream:
            raise _refused("partial_images", "they are events of a stream: ask for stream too, or leave them out")
        if asked.steps is not None and asked.quality in _STEPS:
            raise _refused("quality", f"it says {_STEPS[asked.quality]} steps, and steps says {asked.steps}: give one")
        if asked.response_format == "url" and asked.stream:
            raise _refused("response_format", "events carry the pictures themselves: leave it out, or do not stream")
        sent, (width, height) = await picture(images, service)
        if asked.n * width * height > service.limits.pixels:
            raise _refused("n", f"{asked.n} pictures of {width}x{height} pixels are more than one answer may hold")
        mask, _ = await picture(masks, service, "mask") if masks else (None, None)
        understood, caption = await _edits(asked, service, kept.source if kept else asked.source, sent)
        if kept is None:
            asked = asked.model_copy(update={"source": caption})
        if not asked.anyway:
            words.check(editor.backbone.name, service.world(editor.backbone.name), understood, asked.source)
        size, fitted = _size(asked, width, height, service)
        if asked.output_compression not in (None, 100) and asked.output_format == "png":
            raise _refused("output_compression", "PNG is lossless: ask for jpeg or webp, or leave it out")
        work = _work(service, editor, asked, sent, mask, understood, size, request.state.owner)
        job = service.jobs.submit("images.edits", request.state.owner, work)
        common = {"size": asked.size if size is None else f"{size[0]}x{size[1]}", "quality": asked.quality,
                  "background": asked.background, "output_format": asked.output_format, "model": editor.backbone.name,
                  "source": caption, "edits": [str(edit) for edit in understood]}  # fmt: skip
        headers = {"x-ledits-job": job.id, "x-ledits-model": editor.backbone.name}
        if fitted:
            headers["x-ledits-size"] = f"{fitted}; asked for {asked.size}, of another shape"
        if asked.stream:
            return await answers.as_events(service, job, request, _streamed(common), headers)
        events = await answers.as_one(service, job, request)
        if events is None:
            return answers.left()
        said = ", ".join(str(edit) for edit in understood)
        drawn = [data for name, data in events if name == "completed"]
        images = [
            {**_given(data["b64_json"], asked, service, request), "revised_prompt": said, "targets": data["targets"]}
            for data in drawn
        ]
        body = {"created": int(time.time()), "data": images, **common, "usage": events[-1][1]["usage"]}
        return await answers.as_json(body, headers)

    return routes


Given = tuple[dict[str, Any], list[Any], list[Any]]  # fields, pictures, masks


async def _of_form(request: Request, service: Service) -> Given:
    """What a form holds."""
    fields = await form(request, service.limits)
    images = [value for key, value in fields.multi_items() if key in ("image", "image[]")]
    return _fields(fields), images, fields.getlist("mask")


async def _of_json(request: Request, service: Service) -> Given:
    """What a JSON body holds; its pictures lie on disk from now on, as those of a form do."""
    try:
        values: Any = await request.json()
    except RefusedBody as error:
        raise error.refused from None
    if not isinstance(values, dict):
        raise Refused("the body is no JSON object", code="invalid_json")
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}  # pyright: ignore[reportUnknownVariableType]
    for name in _IMPOSSIBLE:
        if name in given:
            raise _refused(name, f"{_IMPOSSIBLE[name]}: leave it out")
    if "image" in given:
        raise _refused("image", 'in JSON the field is images: [{"image_url": "data:image/png;base64,..."}]')
    pictured = given.pop("images", [])
    masks = [given.pop("mask")] if "mask" in given else []
    if not isinstance(pictured, list):
        raise _refused("images", 'a list is needed, such as [{"image_url": "data:image/png;base64,..."}]')
    if len(pictured) > service.limits.files:  # pyright: ignore[reportUnknownArgumentType]
        raise _refused("images", "one picture is needed")
    files = [await run_in_threadpool(_kept, each, "images") for each in pictured]  # pyright: ignore[reportUnknownVariableType]
    kept_masks = [await run_in_threadpool(_kept, each, "mask") for each in masks]
    request.state.form = FormData([("file", file) for file in [*files, *kept_masks]])
    return given, files, kept_masks


def _kept(told: Any, param: str) -> UploadFile:
    """The picture of {"image_url": a data URL} as a file."""
    url = told.get("image_url") if isinstance(told, dict) else told  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(url, str) or not url.startswith("data:"):
        raise _refused(
            param, "the picture itself is needed, as a data URL (data:image/png;base64,...): nothing is fetched here"
        )
    data = pictures.from_text(url, param)
    file = SpooledTemporaryFile(max_size=2**20)  # noqa: SIM115 the gate closes it when the request is over
    file.write(data)
    return UploadFile(cast(BinaryIO, file), size=len(data))


def _work(
    service: Service, editor: Editor, asked: ImageEdit, sent: UploadFile, mask: UploadFile | None,
    edits: list[Edit], size: tuple[int, int] | None, owner: str,
) -> Work:  # fmt: skip
    """Invert, edit and encode `n` pictures, each with a seed of its own."""
    inversions = _inversions(service, editor, asked, sent)

    def work(job: Job) -> dict[str, Any]:
        region = None
        if mask is not None:
            region = pictures.openai_mask(service.decoder.read(pictures.content(mask), "mask", job.check))
        total = 0
        for k in range(asked.n):
            inversion = inversions(job, k)
            if asked.background == "transparent" and inversion.picture.alpha is None:
                raise _refused("background", "the picture has no transparency, and an edit adds none")
            if asked.background != "opaque":
                pictures.check(inversion.picture, asked.output_format)
            composite = asked.composite or asked.input_fidelity == "high"
            replay = inversion.steps(*edits, region=region, composite=composite)
            steps = len(inversion.path.schedule)
            partial = {round((p + 1) * steps / (asked.partial_images + 1)): p for p in range(asked.partial_images)}
            for step in replay:
                job.check()
                if asked.stream and (index := partial.get(step.index + 1)) is not None:
                    shown = pictures.text(pictures.file(step.preview(), asked.output_format, size))
                    job.send("partial", {"b64_json": shown, "partial_image_index": index})
            edited = replay.result()
            total += edited.network_evaluations + (0 if asked.inversion else inversion.network_evaluations)
            measured(job, edited, total)
            sent = {"b64_json": _encoded(edited, asked, size), "targets": edited.targets, "usage": _usage(total)}
            job.send("completed", sent)
        return {"usage": _usage(total)}

    return work


def _inversions(
    service: Service, editor: Editor, asked: ImageEdit, sent: UploadFile
) -> Callable[[Job, int], Inversion]:  # fmt: skip
    """How the k-th picture is inverted: anew with a seed of its own, or from a kept inversion of the same picture."""
    if asked.inversion is not None:
        given = {"steps": asked.steps, "skip": asked.skip, "seed": asked.seed, "source": asked.source or None,
                 "use_lora": asked.use_lora, "quality": None if asked.quality == "auto" else asked.quality,
                 "n": None if asked.n == 1 else asked.n}  # fmt: skip
        if fixed := [name for name, value in given.items() if value is not None]:
            raise _refused(fixed[0], f"an inversion fixes {', '.join(fixed)}: leave it out")
        id = asked.inversion
        editor = service.editor(service.store.entry(id).model)

        def kept(job: Job, k: int) -> Inversion:
            inversion = service.open(job, id, editor)
            if service.decoder.read(pictures.content(sent), check=job.check).sha256 != inversion.provenance.picture:
                raise _refused("image", "it is not the picture of that inversion")
            return inversion

        return kept
    steps = _STEPS.get(asked.quality) if asked.steps is None else asked.steps
    options = InvertOptions(source=asked.source, steps=steps, skip=asked.skip, seed=asked.seed, use_lora=asked.use_lora)
    settings = service.settled(editor, options)

    def anew(job: Job, k: int) -> Inversion:
        shown = service.decoder.read(pictures.content(sent), check=job.check)
        seeded = replace(settings, seed=settings.seed + k)
        if not asked.anyway and not k:
            service.suit(editor, shown, seeded)
        return editor.invert(shown, seeded, progress=lambda done, total: job.check(), anyway=True)

    return anew


async def _edits(asked: ImageEdit, service: Service, source: str, sent: UploadFile) -> tuple[list[Edit], str]:
    """What the prompt and the field `edits` ask for, in this order, and the picture's caption."""
    edits: list[Edit] = []
    if asked.prompt.strip() or not asked.edits:
        edits, source = await service.understood(asked.prompt, source, sent)
    edits += await run_in_threadpool(lambda: [edit for text in asked.edits for edit in read(text, source, "edits")])
    if len(edits) > service.limits.edits:
        raise _refused("prompt", f"{len(edits)} edits: this server allows {service.limits.edits}")
    return edits, source


def _fields(fields: FormData) -> dict[str, Any]:
    """A form's text fields, lists as lists; 400 for what is unknown, given twice, or impossible here."""
    values: dict[str, Any] = {}
    for key, value in fields.multi_items():
        name, listed = key.removesuffix("[]"), key.endswith("[]")
        if name.partition("[")[0] in _IMPOSSIBLE:
            name = name.partition("[")[0]
            raise _refused(name, f"{_IMPOSSIBLE[name]}: leave it out")
        if name in ("image", "mask"):
            continue
        if isinstance(value, UploadFile):
            if name == "images":
                raise _refused(name, "in a form the picture's field is image")
            raise _refused(key, "a text is needed, not a file")
        if name == "edits":
            values.setdefault("edits", []).append(value)
        elif name in values or listed:
            raise _refused(name, "it is given more than once")
        elif value != "" or name == "prompt":
            values[name] = value
    if values.get("output_format") in ("gif", "svg"):
        raise _refused("output_format", "png, jpeg and webp are made here")
    return values


def _size(asked: ImageEdit, width: int, height: int, service: Service) -> tuple[tuple[int, int] | None, str]:
    """The size asked for, None for the picture's own; and what it became, where it was of another shape.

    Chat programs send a fixed size with every picture: the result then fits inside it, in the picture's own shape.
    """
    if asked.size == "auto":
        return None, ""
    most = service.limits.pixels
    wide, high = map(int, asked.size.split("x"))
    if asked.n * wide * high > most:
        raise _refused(
            "size", f"{asked.n} of {asked.size} pixels are more than the {most:,} of one answer: ask for less"
        )
    if abs(wide * height / width - high) <= 1 or abs(high * width / height - wide) <= 1:
        return (wide, high), ""
    if service.settings.strict:
        raise _refused(
            "size", f"{asked.size} is of another shape than the picture, {width}x{height}: ask for auto, or scale both"
        )
    scale = min(wide / width, high / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return size, f"{size[0]}x{size[1]}"


def _encoded(edited: Edited, asked: ImageEdit, size: tuple[int, int] | None) -> str:
    data = pictures.encoded(
        edited, asked.output_format, size=size, quality=asked.output_compression, opaque=asked.background == "opaque"
    )
    return pictures.text(data)


def _given(b64: str, asked: ImageEdit, service: Service, request: Request) -> dict[str, str]:
    """A picture itself, or its address for some minutes."""
    if asked.response_format == "b64_json":
        return {"b64_json": b64}
    path = service.addresses.keep(pictures.from_base64(b64), asked.output_format)
    return {"url": f"{str(request.base_url).rstrip('/')}{path}"}


def _streamed(common: dict[str, Any]) -> Callable[[Event], Event | None]:
    """Our events under OpenAI's names."""

    def shape(event: Event) -> Event | None:
        name = {"partial": "image_edit.partial_image", "completed": "image_edit.completed"}.get(event[0])
        if name is None:
            return None
        data = {key: value for key, value in event[1].items() if key != "job"}
        return name, {"type": name, "created_at": int(time.time()), **common, **data}

    return shape


def _usage(evaluations: int) -> dict[str, Any]:
    # There are no tokens to bill: output_tokens counts network evaluations, which is what an edit costs.
    return {"input_tokens": 0, "output_tokens": evaluations, "total_tokens": evaluations,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 0}}  # fmt: skip


def _model(service: Service, name: str) -> dict[str, Any]:
    editor = service.editor(name)
    return {"id": name, "object": "model", "created": service.began, "owned_by": "ledits",
            "root": editor.backbone.name,  # another, where the name is an alias
            "loras": editor.loras}  # fmt: skip


def _refused(param: str, why: str) -> Refused:
    return Refused(f"{param}: {why}", param=param, code="invalid_value")


def _described() -> dict[str, Any]:
    """The form, for the OpenAPI page: the fields above and the files."""
    schema = ImageEdit.model_json_schema()
    file = {"type": "string", "format": "binary"}
    schema["properties"] = {"image": file, "mask": file, **schema["properties"]}
    schema["required"] = ["image", "prompt"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}

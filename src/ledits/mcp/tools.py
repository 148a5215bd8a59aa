"""The tools. A model that sees pictures calls them: it writes the caption and the edits, and judges what comes back."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import numpy as np
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from PIL import Image as Pictures
from pydantic import Field, ValidationError

import ledits
from ledits.asked.recipe import Edit
from ledits.editor import Edited, Editor, Inversion
from ledits.errors import LeditsError
from ledits.language import sentences
from ledits.mcp import shown
from ledits.mcp.folders import Folders
from ledits.mcp.stacks import Made, Stack, Stacks
from ledits.picture import image
from ledits.picture.keeping import keep as kept

T = TypeVar("T")
Check = Callable[[], None]  # raises where the caller has gone
Run = Callable[[Callable[[Check], T]], Awaitable[T]]  # does work on the device, one at a time

_INSTRUCTIONS = """\
Edits real pictures with words and leaves the rest as it is. Look at the picture, then `invert` it with a caption that \
you write: one plain sentence that names everything an edit will touch, such as "a man with a hat beside a red car". \
Then `edit`: "hat->crown" swaps, "+scarf" adds, "-hat" removes, "->the whole new caption" says it all. Words to the \
left of -> must stand in the caption as written. Look at the picture that comes back and at `targets`, the captions \
that the model was told. Too weak: a larger scale, "hat->crown:4". Wrong place: a region. Spilled: `undo` and try \
again with a smaller scale. An inversion serves any number of edits; each `edit` starts from the original."""
_LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_REMEDIES = {
    "source": "invert the picture again with a caption", "anyway": "use a model for photographs, or pass anyway=true",
    "mask": "leave it out", "overwrite": "choose another output", "size": "use a smaller picture",
}  # fmt: skip

Picture = Annotated[str, Field(description="Path of a picture below the open folders.", max_length=1000)]
Id = Annotated[str, Field(description="The id that invert gave.", max_length=100)]
Edits = Annotated[
    list[Annotated[str, Field(max_length=1000)]],
    Field(
        description='Such as ["cat->dog", "+crown:4"]; all of them together make one result. Plain sentences work too.',
        min_length=1, max_length=16,
    ),
]  # fmt: skip
Output = Annotated[
    str | None, Field(description="Where to write the result. Default: a new name beside the picture.", max_length=1000)
]
Anyway = Annotated[bool, Field(description="Go on where a small model knows neither the picture nor a word.")]


def create(editors: Mapping[str, Editor], folders: Folders, run: Run[Any]) -> MCPServer:
    """The server with its tools. `run` does work on the device; whatever it is told to do is one edit, or less."""
    server = _Server("ledits", title="LEDITS++", instructions=_INSTRUCTIONS, version=ledits.__version__)
    stacks = Stacks()

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def look(picture: Picture, context: Context) -> list[str | Image]:
        """Look at a picture: its size, and a small copy to see."""

        def work(check: Check) -> list[str | Image]:
            path = folders.picture(picture)
            read = image.read(path)
            height, width, _ = read.rgb.shape
            return [_text(path=str(path), width=width, height=height), shown.content(_as_image(read))]

        return await run(work)

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def models(context: Context) -> str:
        """The models that are loaded, the words that a small one knows, and the folders that are open."""
        known = {
            name: {
                "area": editor.backbone.area, "device": str(editor.backbone.device),
                "words": None if editor.world is None else sorted(editor.world.words),
            }
            for name, editor in editors.items()
        }  # fmt: skip
        return _text(models=known, folders=[str(folder) for folder in folders.folders])

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def invert(
        picture: Picture, context: Context,
        caption: Annotated[
            str, Field(description="What the picture shows, in one plain sentence. Edits rewrite it.", max_length=1000)
        ] = "",
        model: Annotated[str | None, Field(description="One of models; the first one by default.")] = None,
        anyway: Anyway = False,
    ) -> str:  # fmt: skip
        """Open a picture for edits. Slow, once a picture; the id that it gives serves any number of edits.

        With a caption edits are far better: write one.
        """
        if model is not None and model not in editors:
            raise ToolError(f"there is no model {model[:100]!r}: {', '.join(editors)} are loaded")

        def work(check: Check) -> str:
            path = folders.picture(picture)
            read, editor = image.read(path), editors[model] if model else next(iter(editors.values()))
            settings = editor.settings(source=caption.strip() or None)
            if not anyway:
                editor.check(read, settings)
            inversion = editor.invert(read, settings, progress=lambda done, total: check())
            id = stacks.open(Stack(inversion, path, shown.small(_as_image(read)), anyway))
            return _text(
                id=id, mode=inversion.mode, caption=settings.source, steps=settings.steps, picture=str(path),
                note="" if caption.strip() else "by words alone: with a caption edits keep to their place better",
            )  # fmt: skip

        return await run(work)

    @server.tool(annotations=_WRITES, structured_output=False)
    async def edit(
        inversion: Id, edits: Edits, context: Context, output: Output = None,
        region: Annotated[
            list[int] | None,
            Field(description="Only within this box: left, top, width, height in pixels.", min_length=4, max_length=4),
        ] = None,
        exact: Annotated[bool, Field(description="Keep every pixel outside of the edits, bit for bit.")] = True,
    ) -> list[str | Image]:  # fmt: skip
        """Edit an open picture and write the result. Gives its path, a small copy to judge, the captions that the model
        was told (targets), and the share of the picture that each edit took.
        """

        def work(check: Check) -> list[str | Image]:
            stack = stacks.find(inversion)
            path = folders.beside(stack.picture, "edited") if output is None else folders.new(output)
            done = _edited(stack, edits, region, exact, check)
            done.save(path)
            made = Made(done.recipe.edits, path, shown.small(done.image))
            stack.add(made)
            return [_told(stack, done), shown.content(made.shown)]

        return await run(work)

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def sheet(
        inversion: Id, edits: Edits, context: Context,
        scales: Annotated[
            list[float], Field(description="A picture for each; higher is stronger.", min_length=1, max_length=9)
        ] = [1.0, 2.0, 4.0],  # noqa: B006  # a default of the tool's schema, never changed
    ) -> list[str | Image]:  # fmt: skip
        """The same edits at several strengths, side by side, to choose a scale. Nothing is written."""

        def work(check: Check) -> list[str | Image]:
            stack, cells = stacks.find(inversion), list[tuple[str, Pictures.Image]]()
            for scale in scales:
                asked = sentences.asked(edits, stack.inversion.settings.source)
                at = [replace(each, scale=scale) for each in asked]
                cells.append((f"scale {scale:g}", _edited(stack, at, None, True, check).image))
            return [_text(scales=scales), shown.content(shown.sheet(cells))]

        return await run(work)

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def undo(inversion: Id, context: Context) -> list[str | Image]:
        """Go back to the result before the last edit. Files stay where they are."""
        return await run(lambda check: _stepped(stacks.find(inversion), -1))

    @server.tool(annotations=_LOOKS, structured_output=False)
    async def redo(inversion: Id, context: Context) -> list[str | Image]:
        """Go forward to the result that was undone."""
        return await run(lambda check: _stepped(stacks.find(inversion), 1))

    @server.tool(annotations=_WRITES, structured_output=False)
    async def keep(before: Picture, after: Picture, context: Context, output: Output = None) -> list[str | Image]:
        """Lay what another editor changed on purpose, in `after`, onto the original `before`; all else stays exact."""

        def work(check: Check) -> list[str | Image]:
            original, other = folders.picture(before), folders.picture(after)
            path = folders.beside(original, "kept") if output is None else folders.new(output)
            result = kept(image.read(original), image.read(other))
            result.save(path)
            return [_text(path=str(path), changed=round(result.share, 4)), shown.content(result.image)]

        return await run(work)

    return server


class _Server(MCPServer[Any]):
    """The SDK's server; what a caller got wrong is one sentence, that says how to get it right."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        tools = {tool.name: tool for tool in await self.list_tools()}
        if name not in tools:
            raise ToolError(f"there is no tool {name[:100]!r}: {', '.join(tools)} are here")
        takes: Mapping[str, Any] = tools[name].input_schema.get("properties", {})
        if unknown := [key for key in arguments if key not in takes]:
            raise ToolError(f"{name} has no argument {unknown[0][:100]!r}: it takes {', '.join(takes) or 'none'}")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                first = cause.errors()[0]
                where = ".".join(map(str, first["loc"]))
                said = str(first["msg"]).replace("Value error, ", "")
                raise ToolError(f"{name}: {where}: {said[0].lower()}{said[1:]}, {_schema(takes, where)}") from None
            if isinstance(cause, LeditsError):
                raise ToolError(_line(cause.said(_REMEDIES))) from None
            if isinstance(cause, ValueError):
                raise ToolError(_line(str(cause))) from None
            if isinstance(cause, OSError):
                raise ToolError(f"a file can't be used: {cause.strerror}: choose another one") from None
            raise


def _schema(takes: Mapping[str, Any], where: str) -> str:
    told = takes.get(where.partition(".")[0], {})
    return str(told.get("description", "see the tool's schema"))


def _line(text: str) -> str:
    return " ".join(text.split())


def _text(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False)


def _as_image(read: image.Picture) -> Pictures.Image:
    return Pictures.fromarray(read.rgb if read.alpha is None else np.dstack([read.rgb, read.alpha]))


def _edited(stack: Stack, edits: Sequence[Edit | str], region: list[int] | None, exact: bool, check: Check) -> Edited:
    inversion: Inversion = stack.inversion
    asked = sentences.asked(edits, inversion.settings.source)
    if not stack.anyway:
        inversion.editor.check(inversion.picture, inversion.settings, asked)
    replay = inversion.steps(*asked, region=None if region is None else tuple(region), composite=exact)
    for _ in replay:
        check()
    return replay.result()


def _told(stack: Stack, done: Edited) -> str:
    """What a caller needs to judge the result in force."""
    made, inversion = stack.now(), stack.inversion
    shares = [round(float(np.asarray(mask).mean()) / 255, 3) for mask in done.masks]
    targets = inversion.targets(*done.plan.edits) if inversion.mode == "caption" else []
    height, width, _ = done.rgb.shape
    return _text(
        path=str(made.path), edits=list(made.edits), targets=targets, shares=shares, width=width, height=height,
        position=f"{stack.at} of {len(stack.made)}",
    )  # fmt: skip


def _stepped(stack: Stack, by: int) -> list[str | Image]:
    if not 0 <= stack.at + by <= len(stack.made):
        raise ValueError("there is nothing to undo" if by < 0 else "there is nothing to redo")
    stack.at += by
    made = stack.now()
    told = _text(path=str(made.path), edits=list(made.edits), position=f"{stack.at} of {len(stack.made)}")
    return [told, shown.content(made.shown)]

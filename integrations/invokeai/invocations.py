"""The invocations. They hold no method: everything goes through `ledits.Editor`."""

import shutil
import tempfile
import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from invokeai.app.services.session_processor.session_processor_common import CanceledException
from invokeai.invocation_api import (
    BaseInvocation,
    BaseInvocationOutput,
    CLIPField,
    ImageCollectionOutput,
    ImageField,
    Input,
    InputField,
    InvocationContext,
    OutputField,
    StringOutput,
    UIComponent,
    UNetField,
    VAEField,
    WithBoard,
    WithMetadata,
    invocation,
    invocation_output,
)
from ledits.asked.recipe import MaskRule, parse
from ledits.editor import Edited, Inversion
from ledits.errors import Unsuited
from ledits.files import atomic

from .models import LeditsEdit, LeditsEditsField, LeditsInversionField, LeditsModelField, opened

VERSION = "0.1.0"
# Inversions lie here until InvokeAI ends, as its own tensors do; Save Inversion keeps one.
_TEMPORARY = tempfile.TemporaryDirectory(prefix="ledits-")
GRAMMAR = "+hat adds, -hat removes, cat->dog swaps. Of a captioned picture also: ->the whole new caption. One a line."
GONE = "the inversion is gone, for InvokeAI was started anew: invert the picture again"


@invocation_output("ledits_model_output")
class LeditsModelOutput(BaseInvocationOutput):
    model: LeditsModelField = OutputField(title="LEDITS++ Model", description="The model to edit with")


@invocation_output("ledits_inversion_output")
class LeditsInversionOutput(BaseInvocationOutput):
    inversion: LeditsInversionField = OutputField(title="Inversion", description="The inverted picture")


@invocation_output("ledits_edits_output")
class LeditsEditsOutput(BaseInvocationOutput):
    edits: LeditsEditsField = OutputField(title="Edits", description="Edits that are carried out at once")


@invocation_output("ledits_apply_output")
class LeditsApplyOutput(BaseInvocationOutput):
    image: ImageField = OutputField(description="The edited picture")
    where: ImageField = OutputField(description="Where the edits acted")
    width: int = OutputField(description="Pixels")
    height: int = OutputField(description="Pixels")


@invocation("ledits_load", title="LEDITS++ Load", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsLoadInvocation(BaseInvocation):
    """A model in diffusers' layout, by ledits' own loader."""

    model: str = InputField(default="scenes", description="scenes (small, bundled), a folder, or a hub id")

    def invoke(self, context: InvocationContext) -> LeditsModelOutput:
        return LeditsModelOutput(model=LeditsModelField(name=self.model))


@invocation("ledits_use_model", title="LEDITS++ Use Model", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsUseModelInvocation(BaseInvocation):
    """Models of the model manager: Stable Diffusion 1.x and 2.x, SDXL, with their LoRAs."""

    unet: UNetField = InputField(description="UNet", input=Input.Connection, title="UNet")
    clip: CLIPField = InputField(description="CLIP", input=Input.Connection, title="CLIP")
    clip2: CLIPField | None = InputField(
        default=None, description="The second text encoder, of SDXL", input=Input.Connection, title="CLIP 2"
    )
    vae: VAEField = InputField(description="VAE", input=Input.Connection, title="VAE")

    def invoke(self, context: InvocationContext) -> LeditsModelOutput:
        return LeditsModelOutput(model=LeditsModelField(unet=self.unet, clip=self.clip, clip2=self.clip2, vae=self.vae))


@invocation("ledits_invert", title="LEDITS++ Invert", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsInvertInvocation(BaseInvocation):
    """Takes the picture apart, once for any number of edits."""

    model: LeditsModelField = InputField(description="The model", input=Input.Connection, title="LEDITS++ Model")
    image: ImageField = InputField(description="The picture")
    caption: str = InputField(
        default="", ui_component=UIComponent.Textarea,
        description="What the picture shows. With it edits find their places by themselves, which works best",
    )  # fmt: skip
    steps: int = InputField(default=0, ge=0, le=500, description="0: the model's own number")
    skip: float = InputField(
        default=-1, ge=-1, lt=1,
        description="Share of the noisiest steps left out: smaller allows larger changes. -1: the model's own",
    )  # fmt: skip
    seed: int = InputField(default=0, ge=0, description="Of the noise")
    negative: str = InputField(default="", description="Negative prompt; not with a caption")
    size: int = InputField(default=0, ge=0, description="Work at no more than size x size pixels. 0: the model's own")

    def invoke(self, context: InvocationContext) -> LeditsInversionOutput:
        picture = context.images.get_pil(self.image.image_name, "RGB")
        with opened(context, self.model) as editor:
            settings = editor.settings(
                source=self.caption.strip(), steps=self.steps or None, skip=None if self.skip < 0 else self.skip,
                seed=self.seed, negative=self.negative.strip(), size=self.size or None,
            )  # fmt: skip
            _check(editor, picture, settings, ())

            def progress(done: int, total: int) -> None:
                _stop_if_canceled(context)
                context.util.signal_progress("Inverting", done / total)

            inversion = editor.invert(picture, settings, progress=progress, anyway=True)
        path = Path(_TEMPORARY.name) / f"{uuid.uuid4().hex}.safetensors"
        inversion.save(path)
        return LeditsInversionOutput(inversion=LeditsInversionField(path=str(path), image=self.image, model=self.model))


@invocation("ledits_edit", title="LEDITS++ Edit", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsEditInvocation(BaseInvocation):
    """An edit, and where it may act. Chain several of these: all are carried out at once."""

    edit: str = InputField(default="+sunglasses", description=GRAMMAR, ui_component=UIComponent.Textarea)
    strength: float = InputField(default=0, description="How much of it. 0: the model's own")
    threshold: float = InputField(
        default=0, ge=0, lt=1, description="Share left alone: 0.5 suits a style, 0.9 an object. 0: automatic"
    )
    mask: ImageField | None = InputField(default=None, description="Where it may act; white is open")
    edits: LeditsEditsField | None = InputField(
        default=None, description="Edits before this one", input=Input.Connection
    )

    def invoke(self, context: InvocationContext) -> LeditsEditsOutput:
        lines = [line for line in self.edit.splitlines() if line.strip()] or [self.edit]
        asked = [
            replace(edit, scale=self.strength or edit.scale, threshold=self.threshold or edit.threshold)
            for edit in map(parse, lines)
        ]
        before = [] if self.edits is None else self.edits.edits
        added = [LeditsEdit(edit=str(edit), mask=self.mask) for edit in asked]
        return LeditsEditsOutput(edits=LeditsEditsField(edits=[*before, *added]))


@invocation("ledits_apply", title="LEDITS++ Apply", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsApplyInvocation(BaseInvocation, WithMetadata, WithBoard):
    """The picture with all edits."""

    inversion: LeditsInversionField = InputField(description="The inverted picture", input=Input.Connection)
    edits: LeditsEditsField = InputField(description="What to change", input=Input.Connection)
    composite: bool = InputField(
        default=True,
        description="Keep the picture's own pixels away from the edits; outside a mask, all of them",
    )
    mask: Literal["auto", MaskRule] = InputField(
        default="auto", description="How edits by words find their places; a captioned picture needs auto"
    )

    def invoke(self, context: InvocationContext) -> LeditsApplyOutput:
        with opened(context, self.inversion.model) as editor:
            inversion = _inversion(context, editor, self.inversion)
            rule = None if self.mask == "auto" else self.mask
            edited = _edited(context, inversion, self.edits.edits, self.composite, rule, 0, 1)
            where = np.max([np.asarray(mask) for mask in edited.masks], axis=0)
            saved, shown = context.images.save(edited.image), context.images.save(Image.fromarray(where))
        return LeditsApplyOutput(
            image=ImageField(image_name=saved.image_name), where=ImageField(image_name=shown.image_name),
            width=saved.width, height=saved.height,
        )  # fmt: skip


@invocation("ledits_sheet", title="LEDITS++ Sheet", tags=["ledits", "edit"], category="ledits", version=VERSION)
class LeditsSheetInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Strengths side by side, from one inversion: as a collection, row by row."""

    inversion: LeditsInversionField = InputField(description="The inverted picture", input=Input.Connection)
    edits: LeditsEditsField = InputField(description="What to change", input=Input.Connection)
    strengths: list[float] = InputField(default=[2.0, 5.0, 8.0], description="A column for each")
    thresholds: list[float] = InputField(default=[], description="A row for each; none: the edits' own")
    composite: bool = InputField(
        default=True,
        description="Keep the picture's own pixels away from the edits; outside a mask, all of them",
    )

    def invoke(self, context: InvocationContext) -> ImageCollectionOutput:
        if not self.strengths:
            raise ValueError("no strengths are given: write some, such as 2, 5 and 8")
        cells = [(s, t) for t in self.thresholds or [None] for s in self.strengths]
        saved = list[ImageField]()
        with opened(context, self.inversion.model) as editor:
            inversion = _inversion(context, editor, self.inversion)
            for at, (strength, threshold) in enumerate(cells):
                asked = [
                    LeditsEdit(
                        edit=str(replace(e, scale=strength, threshold=e.threshold if threshold is None else threshold)),
                        mask=edit.mask,
                    )
                    for edit in self.edits.edits
                    for e in [parse(edit.edit)]
                ]
                edited = _edited(context, inversion, asked, self.composite, None, at, len(cells))
                saved.append(ImageField(image_name=context.images.save(edited.image).image_name))
        return ImageCollectionOutput(collection=saved)


@invocation(
    "ledits_save_inversion", title="LEDITS++ Save Inversion", tags=["ledits", "edit"], category="ledits",
    version=VERSION, use_cache=False,
)  # fmt: skip
class LeditsSaveInversionInvocation(BaseInvocation):
    """Keeps an inversion in outputs/ledits, so that edits go on another day."""

    inversion: LeditsInversionField = InputField(description="The inverted picture", input=Input.Connection)
    name: str = InputField(default="inversion", description="Of the file; it must be new")

    def invoke(self, context: InvocationContext) -> StringOutput:
        path, made = _kept(context, self.name), Path(self.inversion.path)
        if not made.is_file():
            raise ValueError(GONE)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.written(path, overwrite=False) as temporary:
            shutil.copyfile(made, temporary)
        return StringOutput(value=self.name)


@invocation(
    "ledits_load_inversion", title="LEDITS++ Load Inversion", tags=["ledits", "edit"], category="ledits",
    version=VERSION, use_cache=False,
)  # fmt: skip
class LeditsLoadInversionInvocation(BaseInvocation):
    """An inversion from outputs/ledits, with the picture and the model that it was made of."""

    model: LeditsModelField = InputField(description="The model", input=Input.Connection, title="LEDITS++ Model")
    image: ImageField = InputField(description="The picture")
    name: str = InputField(default="inversion", description="Of the file")

    def invoke(self, context: InvocationContext) -> LeditsInversionOutput:
        path = _kept(context, self.name)
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in path.parent.glob("*.safetensors"))) or "nothing"
            raise ValueError(f"outputs/ledits has no inversion {self.name!r}: it holds {there}")
        field = LeditsInversionField(path=str(path), image=self.image, model=self.model)
        with opened(context, self.model) as editor:
            _inversion(context, editor, field)  # what does not match is said here
        return LeditsInversionOutput(inversion=field)


def _check(editor: Any, picture: Any, settings: Any, edits: Any) -> None:
    """The bundled model's small world is asked here, where the edits are known."""
    try:
        editor.check(picture, settings, edits)
    except Unsuited as error:
        raise ValueError(f"{error.what}: name another model in LEDITS++ Load") from None


def _inversion(context: InvocationContext, editor: Any, field: LeditsInversionField) -> Inversion:
    if not Path(field.path).is_file():
        raise ValueError(GONE)
    return editor.open_inversion(field.path, context.images.get_pil(field.image.image_name, "RGB"), anyway=True)


def _edited(
    context: InvocationContext, inversion: Inversion, edits: list[LeditsEdit], composite: bool, rule: Any, at: int,
    of: int,
) -> Edited:  # fmt: skip
    """One picture's edits, with progress and previews; it is `at` of `of` in all."""
    asked = [parse(edit.edit) for edit in edits]
    _check(inversion.editor, inversion.picture, inversion.settings, asked)
    high, wide = inversion.picture.rgb.shape[:2]
    regions = [
        None if edit.mask is None else context.images.get_pil(edit.mask.image_name, "L").resize((wide, high))
        for edit in edits
    ]
    replay = inversion.steps(*asked, region=regions, mask=rule, composite=composite)
    cost, shown = 0.0, 0.0
    with closing(replay):
        for step in replay:
            _stop_if_canceled(context)
            preview, now = None, time.monotonic()
            if now - shown >= 3 * cost:  # previews take a quarter of the time at most
                preview = step.preview()
                preview.thumbnail((512, 512))
                shown = time.monotonic()
                cost = shown - now
            done = (at + (step.index + 1) / step.total) / of
            context.util.signal_progress("Editing", done, preview, (wide, high) if preview else None)
        return replay.result()


def _stop_if_canceled(context: InvocationContext) -> None:
    if context.util.is_canceled():
        raise CanceledException


def _kept(context: InvocationContext, name: str) -> Path:
    if not name.strip() or Path(name).name != name or name.startswith(".") or "\\" in name:
        raise ValueError(f"the name {name!r} is no plain file name: write letters and digits, such as portrait")
    return context.config.get().outputs_path / "ledits" / f"{name}.safetensors"

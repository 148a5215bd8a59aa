"""The nodes. They hold no method: everything goes through `ledits.Editor`."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
import torch.nn.functional as F
from comfy_api.latest import io
from torch import Tensor

from ledits import Editor, keep
from ledits.asked.recipe import MASK_RULES, Edit, parse
from ledits.editor import Edited, Inversion
from ledits.errors import Unsuited

from .backbone import ComfyBackbone

Model = io.Custom("LEDITS_MODEL")  # a ledits.Editor
Inverted = io.Custom("LEDITS_INVERSION")  # a list of ledits.editor.Inversion, one a picture of the batch
Edits = io.Custom("LEDITS_EDITS")  # a tuple of (ledits.asked.recipe.Edit, mask (b H W) or None)

CATEGORY = "LEDITS++"
MASKS = ["auto", *MASK_RULES]
GRAMMAR = "+hat adds, -hat removes, cat->dog swaps. Of a captioned picture also: ->the whole new caption. One a line."


class Load(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsLoad", display_name="LEDITS++ Load", category=CATEGORY,
            description="A model in diffusers' layout, by ledits' own loader.",
            inputs=[
                io.String.Input("model", default="scenes", tooltip="scenes (small, bundled), a folder, or a hub id"),
                io.Combo.Input("dtype", options=["auto", "float32", "float16", "bfloat16"], default="auto"),
            ],
            outputs=[Model.Output(display_name="ledits model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        device = comfy.model_management.get_torch_device()
        return io.NodeOutput(Editor(model, device=str(device), dtype=dtype))


class UseModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsUseModel", display_name="LEDITS++ Use Model", category=CATEGORY,
            description="The graph's own MODEL, CLIP and VAE, with its LoRAs.",
            inputs=[io.Model.Input("model"), io.Clip.Input("clip"), io.Vae.Input("vae")],
            outputs=[Model.Output(display_name="ledits model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any) -> io.NodeOutput:
        return io.NodeOutput(Editor(ComfyBackbone(model, clip, vae)))


class Invert(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsInvert", display_name="LEDITS++ Invert", category=CATEGORY,
            description="Takes the picture apart, once for any number of edits.",
            inputs=[
                Model.Input("ledits_model"),
                io.Image.Input("image"),
                io.String.Input(
                    "caption", multiline=True, default="",
                    tooltip="What the picture shows. With it edits find their places by themselves, which works best; "
                    "without it they are by words alone.",
                ),
                io.Int.Input("steps", default=0, min=0, max=500, tooltip="0: the model's own number"),
                io.Float.Input(
                    "skip", default=-1.0, min=-1.0, max=0.99, step=0.01,
                    tooltip="Share of the noisiest steps left out: smaller allows larger changes. -1: the model's own",
                ),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=False),
                io.String.Input("negative", default="", optional=True, tooltip="Negative prompt; not with a caption"),
                io.Int.Input(
                    "size", default=0, min=0, max=8192, optional=True,
                    tooltip="Work at no more than size x size pixels. 0: the model's own",
                ),
            ],
            outputs=[
                Inverted.Output(display_name="inversion"),
                io.Image.Output(display_name="reconstruction", tooltip="What an edit that changes nothing gives"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, ledits_model: Editor, image: Tensor, caption: str, steps: int, skip: float, seed: int, negative: str = "",
        size: int = 0,
    ) -> io.NodeOutput:  # fmt: skip
        settings = ledits_model.settings(
            source=caption.strip(), steps=steps or None, skip=None if skip < 0 else skip, seed=seed,
            negative=negative.strip(), size=size or None,
        )  # fmt: skip
        bar, done = comfy.utils.ProgressBar(1), list[Inversion]()
        for picture in _pictures(image):
            _check(ledits_model, picture, settings, ())

            def progress(now: int, total: int) -> None:
                comfy.model_management.throw_exception_if_processing_interrupted()
                bar.update_absolute(now + total * len(done), total * len(image))

            done.append(ledits_model.invert(picture, settings, progress=progress, anyway=True))
        return io.NodeOutput(done, _batch([each.reconstruction for each in done]))


class AddEdit(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsEdit", display_name="LEDITS++ Edit", category=CATEGORY,
            description="An edit, and where it may act. Chain several of these: all are carried out at once.",
            inputs=[
                io.String.Input("edit", multiline=True, default="+sunglasses", tooltip=GRAMMAR),
                io.Float.Input(
                    "strength", default=0.0, min=-100.0, max=100.0, step=0.5,
                    tooltip="How much of it. 0: the model's own",
                ),
                io.Float.Input(
                    "threshold", default=0.0, min=0.0, max=0.99, step=0.01,
                    tooltip="Share of the picture left alone: 0.5 suits a style, 0.9 an object. 0: automatic",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where it may act; white is open. None: anywhere"),
                Edits.Input("edits", optional=True, tooltip="Edits before this one"),
            ],
            outputs=[Edits.Output(display_name="edits")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, edit: str) -> bool | str:
        try:
            _parsed(edit)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, edit: str, strength: float, threshold: float, mask: Tensor | None = None, edits: tuple[Any, ...] = ()
    ) -> io.NodeOutput:
        if mask is not None and not mask.any():
            raise ValueError("the mask is empty: paint where the edit may act, or take the mask off the edit")
        added = [
            replace(each, scale=strength or each.scale, threshold=threshold or each.threshold) for each in _parsed(edit)
        ]
        return io.NodeOutput((*edits, *((each, mask) for each in added)))


class Apply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsApply", display_name="LEDITS++ Apply", category=CATEGORY,
            description="The picture with all edits.",
            inputs=[
                Inverted.Input("inversion"),
                Edits.Input("edits"),
                io.Boolean.Input(
                    "composite", default=True,
                    tooltip="Keep the picture's own pixels away from the edits; outside a mask, all of them",
                ),
                io.Combo.Input(
                    "mask", options=MASKS, default="auto", optional=True,
                    tooltip="How edits by words find their places; a captioned picture needs auto",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.Mask.Output(display_name="where", tooltip="Where the edits acted"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, inversion: list[Inversion], edits: tuple[Any, ...], composite: bool, mask: str = "auto"
    ) -> io.NodeOutput:
        asked = _per_picture(inversion, edits)
        done = [_edited(each, *asked[j], composite, mask, j, len(inversion)) for j, each in enumerate(inversion)]
        where = [np.max([np.asarray(m) for m in each.masks], axis=0) for each in done]
        return io.NodeOutput(_batch([each.image for each in done]), _batch(where))


class Sheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsSheet", display_name="LEDITS++ Sheet", category=CATEGORY,
            description="Strengths side by side, from one inversion: as a batch, row by row.",
            inputs=[
                Inverted.Input("inversion"),
                Edits.Input("edits"),
                io.String.Input("strengths", default="2, 5, 8"),
                io.String.Input("thresholds", default="", optional=True, tooltip="One row each; none: the edits' own"),
                io.Boolean.Input("composite", default=True, optional=True),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, strengths: str, thresholds: str = "") -> bool | str:
        try:
            if not _numbers(strengths):
                return "no strengths are given: write numbers with commas between, such as 2, 5, 8"
            _numbers(thresholds)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, inversion: list[Inversion], edits: tuple[Any, ...], strengths: str, thresholds: str = "",
        composite: bool = True,
    ) -> io.NodeOutput:  # fmt: skip
        given = _per_picture(inversion, edits)
        cells = [
            (j, s, t)
            for j in range(len(inversion)) for t in _numbers(thresholds) or [None] for s in _numbers(strengths)
        ]  # fmt: skip
        done = list[Edited]()
        for at, (j, strength, threshold) in enumerate(cells):
            asked, regions = given[j]
            asked = [replace(e, scale=strength, threshold=threshold or e.threshold) for e in asked]
            done.append(_edited(inversion[j], asked, regions, composite, "auto", at, len(cells)))
        return io.NodeOutput(_batch([each.image for each in done]))


class SaveInversion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsSaveInversion", display_name="LEDITS++ Save Inversion", category=CATEGORY,
            description="Writes to output/ledits, so that edits go on another day.", is_output_node=True,
            inputs=[Inverted.Input("inversion"), io.String.Input("name", default="inversion")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        return _plain(name) or f"the name {name!r} is no plain file name: write letters and digits, such as portrait"

    @classmethod
    def execute(cls, inversion: list[Inversion], name: str) -> io.NodeOutput:
        _folder().mkdir(parents=True, exist_ok=True)
        saved, number = list[dict[str, str]](), 0
        for each in inversion:
            number += 1
            while (path := _folder() / f"{name}_{number:05}.safetensors").exists():
                number += 1
            each.save(path)
            saved.append({"filename": path.name, "subfolder": "ledits", "type": "output"})
        return io.NodeOutput(ui={"inversions": saved})


class LoadInversion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsLoadInversion", display_name="LEDITS++ Load Inversion", category=CATEGORY,
            description="An inversion from output/ledits, with the picture and the model that it was made of.",
            inputs=[
                Model.Input("ledits_model"),
                io.Image.Input("image"),
                io.String.Input("file", default="inversion_00001.safetensors"),
            ],
            outputs=[Inverted.Output(display_name="inversion")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        if not _plain(file) or not (_folder() / file).is_file():
            there = ", ".join(sorted(path.name for path in _folder().glob("*.safetensors"))) or "nothing"
            return f"output/ledits has no file {file!r}: it holds {there}"
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str, **others: Any) -> Any:
        path = _folder() / file
        return (file, path.stat().st_mtime_ns if path.is_file() else 0)

    @classmethod
    def execute(cls, ledits_model: Editor, image: Tensor, file: str) -> io.NodeOutput:
        if len(image) != 1:
            raise ValueError(f"{len(image)} pictures for one inversion: give the one that it was made of")
        return io.NodeOutput([ledits_model.open_inversion(_folder() / file, _pictures(image)[0], anyway=True)])


class Keep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LeditsKeep", display_name="LEDITS++ Keep", category=CATEGORY,
            description="What any editor changed by accident goes back: its change alone is laid onto the original.",
            inputs=[
                io.Image.Input("before"),
                io.Image.Input("after", tooltip="What another editor made of it, of any size"),
                io.Mask.Input("mask", optional=True, tooltip="Where it may change; none: found"),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.Mask.Output(display_name="where", tooltip="What changed"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, before: Tensor, after: Tensor, mask: Tensor | None = None) -> io.NodeOutput:
        if len(before) not in (1, len(after)):
            raise ValueError(f"{len(before)} originals for {len(after)} edited pictures: give one, or one for each")
        masks = [None] * len(after) if mask is None else [mask[j % len(mask)] for j in range(len(after))]
        pictures = _pictures(before)
        done = [
            keep(pictures[j % len(pictures)], each, masks[j]) for j, each in enumerate(_pictures(after))
        ]  # fmt: skip
        return io.NodeOutput(_batch([each.image for each in done]), _batch([each.mask for each in done]))


NODES = [Load, UseModel, Invert, AddEdit, Apply, Sheet, SaveInversion, LoadInversion, Keep]


def _edited(
    inversion: Inversion, edits: Sequence[Edit], regions: list[Any], composite: bool, mask: str, at: int, of: int
) -> Edited:
    """One picture's edits, with progress and previews; `at` of `of` pictures in all."""
    editor, settings = inversion.editor, inversion.settings
    _check(editor, inversion.picture, settings, edits)
    if mask == "auto":
        # Transformers of the host have no maps that can be recorded.
        words_alone = inversion.mode == "words" and not getattr(editor.backbone, "maps", True)
        rule = "noise" if words_alone else None
    else:
        rule = mask
    replay = inversion.steps(*edits, region=regions, mask=rule, composite=composite)
    bar, cost, shown = comfy.utils.ProgressBar(1), 0.0, 0.0
    with closing(replay):
        for step in replay:
            comfy.model_management.throw_exception_if_processing_interrupted()
            preview, now = None, time.monotonic()
            if now - shown >= 3 * cost:  # previews take a quarter of the time at most
                picture = step.preview()
                preview = ("JPEG", picture, min(512, max(picture.size)))  # the host enlarges up to that
                shown = time.monotonic()
                cost = shown - now
            bar.update_absolute(step.index + 1 + at * step.total, step.total * of, preview)
        return replay.result()


def _check(editor: Any, picture: Any, settings: Any, edits: Any) -> None:
    """The bundled model's small world is asked here, where the edits are known."""
    try:
        editor.check(picture, settings, edits)
    except Unsuited as error:
        raise ValueError(f"{error.what}: name another model in LEDITS++ Load") from None


def _per_picture(inversion: list[Inversion], edits: tuple[Any, ...]) -> list[tuple[list[Edit], list[Any]]]:
    """Edits and their regions for each picture of the batch; a batch of masks has one for each picture, or one."""
    for _, mask in edits:
        if mask is not None and len(mask) not in (1, len(inversion)):
            raise ValueError(f"{len(mask)} masks for {len(inversion)} pictures: give one for all, or one for each")
    asked = [edit for edit, _ in edits]
    return [
        (asked, [None if mask is None else _region(mask[j if len(mask) > 1 else 0], each) for _, mask in edits])
        for j, each in enumerate(inversion)
    ]


def _region(mask: Tensor, inversion: Inversion) -> Tensor:
    """A mask (H' W') at the picture's size, as the host's own nodes scale masks."""
    size = inversion.picture.rgb.shape[:2]
    if tuple(mask.shape) != size:
        mask = F.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0]
    return mask.clamp(0, 1)


def _pictures(image: Tensor) -> list[np.ndarray]:
    """Each picture (H W 3) uint8 of an IMAGE (b H W c) in 0..1."""
    return list((image[..., :3].clamp(0, 1) * 255).round().byte().cpu().numpy())


def _batch(pictures: Sequence[Any]) -> Tensor:
    """An IMAGE (b H W 3) or a MASK (b H W) in 0..1."""
    return torch.stack([torch.from_numpy(np.array(picture)) for picture in pictures]).float() / 255


def _parsed(text: str) -> list[Edit]:
    return [parse(line) for line in text.splitlines() if line.strip()] or [parse(text)]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers: write them with commas between, such as 2, 5, 8") from None


def _plain(name: str) -> bool:
    return bool(name.strip()) and Path(name).name == name and not name.startswith(".") and "\\" not in name


def _folder() -> Path:
    return Path(folder_paths.get_output_directory()) / "ledits"

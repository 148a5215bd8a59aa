"""The front door: a picture in, an edited picture out. Every surface stands on this file and calls nothing below it.

    editor = Editor("owner/checkpoint")
    inversion = editor.invert("photo.jpg", source="a cat on a beach")
    inversion.edit("cat->dog", "-hat:6").save("dog.png")

Pictures are paths, a file's bytes, PIL images, arrays or tensors (`picture.image.take`).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ledits.asked import regions
from ledits.asked.plan import Plan
from ledits.asked.recipe import Edit, MaskRule, Recipe, parse
from ledits.asked.regions import Regions
from ledits.asked.settings import Mode, Settings
from ledits.backbones import BUNDLED, Backbone, from_pipe, load
from ledits.files import artifact, checkpoints
from ledits.files.artifact import Provenance
from ledits.files.checkpoints import World
from ledits.language import assistant as assistants
from ledits.language import sentences, several, targets
from ledits.method import caption, core
from ledits.method.core import Step
from ledits.picture import composite, image
from ledits.picture.frame import Frame, overlay
from ledits.scenes import suits
from ledits.seeing import florence, sam

Progress = Callable[[int, int], None]  # (network evaluations done, of how many); raising in it stops the work


class Editor:
    """A loaded model. It keeps nothing between calls, so that any number of threads may use it at once."""

    def __init__(self, model: "str | Backbone" = BUNDLED, *, device: str = "auto", dtype: str = "auto") -> None:
        """`model`: "scenes" (bundled), a folder in diffusers' layout, a hub id, or a backbone that is loaded already.

        `device`: auto, cpu, mps, cuda or cuda:N. `dtype`: auto, float32, float16 or bfloat16.
        """
        self.backbone = load(model, device=device, dtype=dtype) if isinstance(model, str) else model

    @cached_property
    def world(self) -> World | None:
        """What the model says of its small world; None for a model that draws anything."""
        return suits.world(self.backbone.name)

    @classmethod
    def from_pipe(cls, pipe: Any) -> "Editor":
        """An editor on a diffusers pipeline as it stands: its offloading, quantisation and adapters go on working."""
        return cls(from_pipe(pipe))

    def settings(
        self, *, source: str | None = None, steps: int | None = None, skip: float | None = None,
        seed: int | None = None, source_scale: float | None = None, negative: str | None = None,
        size: int | None = None,
    ) -> Settings:  # fmt: skip
        """Settings with what is None taken from the model's defaults; see `Settings`, and `Settings.resolve`."""
        return Settings.resolve(
            self.backbone.defaults, self.backbone.area, steps=steps, skip=skip, seed=seed, source=source,
            source_scale=source_scale, negative=negative, size=size,
        )  # fmt: skip

    def invert(
        self, picture: Any, settings: Settings | None = None, *, source: str | None = None,
        steps: int | None = None, skip: float | None = None, seed: int | None = None,
        source_scale: float | None = None, negative: str | None = None, size: int | None = None,
        progress: Progress | None = None,
    ) -> "Inversion":  # fmt: skip
        """Invert a picture once, for any number of edits.

        With a `source` caption edits rewrite the caption (mode "caption"); without one they are by words alone, as in
        the paper (mode "words"). Raises ValueError for a picture or settings that can't be used.
        """
        if settings is None:
            settings = self.settings(
                source=source, steps=steps, skip=skip, seed=seed, source_scale=source_scale, negative=negative,
                size=size,
            )  # fmt: skip
        backbone, shown = self.backbone, image.take(picture)
        height, width, _ = shown.rgb.shape
        frame = Frame.of(width, height, settings.area, backbone.multiple)
        pixels = frame.tensor(shown.rgb, backbone.multiple)
        schedule = backbone.schedule(settings.steps, settings.skip, pixels.shape[2], pixels.shape[3])
        x0 = backbone.encode(pixels)
        captioned = settings.mode == "caption"
        suits.warn_of_words(backbone, captioned=captioned)
        total = len(schedule) * (2 if settings.source_scale else 1)

        def watch(done: int) -> None:
            if progress is not None:
                progress(done, total)

        with backbone.denoiser(schedule, maps=False, watch=watch) as denoise:
            path = core.invert(
                denoise, schedule, x0, noise(len(schedule), x0.shape[1:], settings.seed).to(x0.device),
                base_prompt=settings.source if captioned else settings.negative,
                source="" if captioned else settings.source, source_scale=settings.source_scale,
            )  # fmt: skip
            evaluations = denoise.evaluations
        provenance = Provenance(
            model=checkpoints.short(backbone.name), fingerprint=backbone.fingerprint, picture=shown.sha256,
            frame=frame, settings=settings, dtype=str(backbone.dtype).removeprefix("torch."),
            device=backbone.device.type,
        )  # fmt: skip
        return Inversion(self, shown, path, provenance, evaluations)

    def check(self, picture: Any, settings: Settings, edits: Sequence[Edit] = ()) -> None:
        """Raise ValueError where a model of a small world, as the bundled one, knows neither the picture nor the words.

        A surface asks before it edits, for the result would be a smear; models for photographs suit any picture.
        """
        shown = image.take(picture)
        height, width, _ = shown.rgb.shape
        suits.check_words(self.backbone.name, suits.local(self.backbone.name), edits, settings.source)
        suits.check_picture(self.backbone, Frame.of(width, height, settings.area, self.backbone.multiple), shown.rgb)

    def caption(self, picture: Any, *, weights: str = florence.FLORENCE) -> str:
        """What a picture shows, by Florence-2, for `source`. Nothing is downloaded: ValueError says how to."""
        return florence.caption(picture, self.backbone.device, weights)

    def where(self, picture: Any, phrase: str, *, weights: str = florence.FLORENCE) -> "np.ndarray[Any, Any]":
        """The region (H W) of what a phrase names, such as "the left cat", by Florence-2, for `region`."""
        return florence.where(picture, phrase, self.backbone.device, weights)

    def select(
        self, picture: Any, *points: tuple[int, int], box: tuple[int, int, int, int] | None = None,
        weights: str = sam.SAM,
    ) -> "np.ndarray[Any, Any]":  # fmt: skip
        """The region (H W) of the thing under points (x, y), or within a box, by SAM 2, for `region`."""
        return sam.selected(picture, self.backbone.device, points=points, box=box, name=weights)

    def open_inversion(self, path: Path | str, picture: Any) -> "Inversion":
        """An inversion that was saved, with the picture that it belongs to; ValueError where the two don't match."""
        path, shown, backbone = Path(path), image.take(picture), self.backbone
        stored, provenance = artifact.load(path)
        height, width, _ = shown.rgb.shape
        frame = Frame.of(width, height, provenance.settings.area, backbone.multiple)
        artifact.check(
            provenance, path, fingerprint=backbone.fingerprint, model=backbone.name, picture=shown.sha256, frame=frame
        )
        return Inversion(self, shown, _moved(stored, backbone.device), provenance, 0)

    def edit(
        self, picture: Any, *edits: Edit | str, region: Regions = None, mask: MaskRule | None = None,
        composite: bool = False, drop_source_late: bool = False, settings: Settings | None = None,
        source: str | None = None, steps: int | None = None, skip: float | None = None, seed: int | None = None,
        source_scale: float | None = None, negative: str | None = None, size: int | None = None,
    ) -> "Edited":  # fmt: skip
        """Invert and edit in one go; see `Inversion.steps` for the edits. What is wrong with them is said first."""
        if settings is None:
            settings = self.settings(
                source=source, steps=steps, skip=skip, seed=seed, source_scale=source_scale, negative=negative,
                size=size,
            )  # fmt: skip
        shown = image.take(picture)
        height, width, _ = shown.rgb.shape
        plan = Plan.of(
            edits, settings, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late,
            width=width, height=height,
        )  # fmt: skip
        plan.check(self.backbone.defaults)
        return self.invert(shown, settings).replay(plan).result()

    def repeat(self, picture: Any, recipe: Recipe) -> "Edited":
        """What a recipe made of a picture, made again; ValueError where it was made with other weights."""
        if recipe.fingerprint != self.backbone.fingerprint:
            raise ValueError(
                f"the recipe was made with another version of model {recipe.model!r}: its result can't be repeated"
            )
        return self.edit(
            picture, *map(parse, recipe.edits), region=recipe.masks(), mask=recipe.mask,
            composite=recipe.composite, drop_source_late=recipe.drop_source_late, settings=recipe.settings,
        )  # fmt: skip


class Inversion:
    """A picture's inversion and the editor that made it: for any number of edits, from any thread."""

    def __init__(
        self, editor: Editor, picture: image.Picture, path: core.Inversion, provenance: Provenance, evaluations: int
    ) -> None:
        self.editor, self.picture, self.path, self.provenance = editor, picture, path, provenance
        self.network_evaluations = evaluations
        # The path as last edited from, and how far each prompt's predictions on it differ from the caption's: a change
        # of scale does not ask again.
        self._asked: tuple[core.Inversion, caption.Known] = (path, caption.Known())

    @property
    def settings(self) -> Settings:
        return self.provenance.settings

    @property
    def mode(self) -> Mode:
        """ "words": edits by words, the paper. "caption": edits rewrite the source caption."""
        return self.settings.mode

    @property
    def frame(self) -> Frame:
        return self.provenance.frame

    @cached_property
    def reconstruction(self) -> Image.Image:
        """The inverted picture through the autoencoder: what an edit that changes nothing gives."""
        return Image.fromarray(self.decoded(self.path.x[-1]))

    @cached_property
    def suits(self) -> bool:
        """False where a model of a small world, as the bundled one, can't even give the picture back: edits of it will
        be smears.
        """
        try:
            suits.check_picture(self.editor.backbone, self.frame, self.picture.rgb)
        except ValueError:
            return False
        return True

    def decoded(self, x: Tensor) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        """Latents (1 c h w) as a picture of the original's size, (H W 3) uint8."""
        return self.frame.picture(self.editor.backbone.decode(x)[0])

    def targets(self, *edits: Edit | str) -> list[str]:
        """The caption after each edit alone, as the network will be told; nothing is computed.

        ValueError for an edit whose caption is not certain, and for a picture that was inverted without a caption.
        """
        world = self.editor.world
        return targets.targets(self.settings.source, *edits, emptied=world.emptied if world else None)

    def edit(
        self, *edits: Edit | str, region: Regions = None, mask: MaskRule | None = None, composite: bool = False,
        drop_source_late: bool = False,
    ) -> "Edited":  # fmt: skip
        """The picture with these edits; the arguments are those of `steps`."""
        return self.steps(
            *edits, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late
        ).result()

    def steps(
        self, *edits: Edit | str, region: Regions = None, mask: MaskRule | None = None, composite: bool = False,
        drop_source_late: bool = False,
    ) -> "Replay":  # fmt: skip
        """An edit step by step: iterate for progress and previews, stop iterating to cancel, `result()` at the end.

        Edits are texts ("+hat", "-hat", "cat->dog:8@0.9", "->a caption"), sentences ("make the cat a dog") or
        `recipe.Edit`; the result's recipe has what a sentence was read as. `region` is where they may act: a mask of
        the picture's size (white is open, black and transparent closed), a box in pixels (left, top, width, height),
        or a list with one for each edit. `composite` keeps the picture's own pixels away from the
        edits, and outside a `region` all of them, bit for bit. `mask` is the rule of implicit masks, by words.
        `drop_source_late` leaves the source caption out of later steps, with a caption: an approximation.
        """
        height, width, _ = self.picture.rgb.shape
        plan = Plan.of(
            edits, self.settings, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late,
            width=width, height=height,
        )  # fmt: skip
        return self.replay(plan)

    def replay(self, plan: Plan) -> "Replay":
        """The steps of a checked plan."""
        return Replay(self, plan)

    def sheet(
        self, *edits: Edit | str, scale: Sequence[float], threshold: Sequence[float | None] = (None,),
        region: Regions = None, composite: bool = False,
    ) -> "list[list[Edited]]":  # fmt: skip
        """Strengths side by side from one inversion: a row for each threshold, a column for each scale."""
        asked = sentences.asked(edits, self.settings.source)

        def cell(s: float, t: float | None) -> Edited:
            changed = [replace(edit, scale=s, threshold=edit.threshold if t is None else t) for edit in asked]
            return self.edit(*changed, region=region, composite=composite)

        return [[cell(s, t) for s in scale] for t in threshold]

    def draft(self, steps: int) -> "Inversion":
        """The same path with only about `steps` of its levels: faster edits for a preview, at no network evaluation.

        Levels are noised independently of each other (paper, Eq. 6), so that any of them are a path of their own.
        """
        n = len(self.path.schedule)
        if not 1 <= steps <= n:
            raise ValueError(f"a draft of {steps} steps: 1 to {n}, the inversion's own, are possible")
        kept = [i * n // steps for i in range(steps)]
        s = self.path.schedule
        schedule = core.Schedule(
            tuple(s.t[i] for i in kept), tuple(s.alpha[i] for i in [*kept, n]), tuple(s.sigma[i] for i in [*kept, n]),
            s.order,
        )  # fmt: skip
        denoised, base = self.path.denoised[kept], self.path.base_denoised[kept]
        path = replace(
            self.path, schedule=schedule, x=self.path.x[[*kept, n]], denoised=denoised,
            base_denoised=denoised if self.path.base_denoised is self.path.denoised else base,
        )  # fmt: skip
        settings = replace(self.settings, steps=steps)
        return Inversion(self.editor, self.picture, path, replace(self.provenance, settings=settings), 0)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a .safetensors file that `Editor.open_inversion` reads, with the same picture."""
        artifact.save(Path(path), self.path, self.provenance, overwrite=overwrite)

    def captioned(self, denoise: core.Denoiser, base_prompt: str) -> tuple[core.Inversion, caption.Known]:
        """The path with its predictions for another base prompt, and what `caption.locate` knows about it.

        The levels are noised whatever the network says, so that a caption found later is asked along the same path.
        """
        path, known = self._asked
        if path.base_prompt != base_prompt:
            path, known = self.path, caption.Known()
            if path.base_prompt != base_prompt:
                path = core.predict(
                    denoise, path.schedule, path.x, base_prompt=base_prompt, source="", source_scale=0.0
                )
            self._asked = path, known
        return path, known

    def latent_error(self) -> float:
        """|replayed - x0| / |x0| in latents, over a replay in which the network is asked again at every level.

        Each step is handed back, so that none can be taken over from the inversion.
        """
        x0 = self.path.x[-1].float()
        return ((self.replayed() - x0).norm() / x0.norm()).item()

    def replayed(self) -> Tensor:
        """The latents (1 c h w) at the end of a replay without edits in which the network is asked at every level."""
        with self.editor.backbone.denoiser(self.path.schedule, maps=False) as denoise:
            steps = core.edit(denoise, self.path, [], "none")
            x = next(steps).x
            for _ in range(len(self.path.schedule) - 1):
                x = steps.send(x).x
        return x


@dataclass(frozen=True)
class EditStep:
    """One step of an edit: how far it is, and what the picture looks like by now."""

    index: int  # 0 to total - 1
    total: int
    network_evaluations: int  # so far
    step: Step
    inversion: Inversion

    def preview(self) -> Image.Image:
        """The picture that the network sees at this step, at the original's size."""
        return Image.fromarray(self.inversion.decoded(self.step.x0))


class Replay:
    """The steps of one edit; `result` runs what is left of them. Drop or close it to cancel."""

    def __init__(self, inversion: Inversion, plan: Plan) -> None:
        self.inversion, self.plan = inversion, plan
        groups = plan.grouped(inversion.editor.backbone.defaults, inversion.editor.world)
        # Which edit each concept belongs to.
        self._edit_of = [k for k, group in enumerate(groups) for _ in group]
        self.concepts = [
            replace(concept, region=self._region(plan.masks[k])) for k, group in enumerate(groups) for concept in group
        ]
        core.check_windows(self.concepts, len(inversion.path.schedule))
        self._masks: list[Tensor] = []
        self._x, self._evaluations = inversion.path.x[-1], 0
        self._steps = self._run()

    def __iter__(self) -> Iterator[EditStep]:
        return self

    def __next__(self) -> EditStep:
        return next(self._steps)

    def close(self) -> None:
        """Leave the model now, and not when the last name of this is gone; `result` is then what was reached."""
        self._steps.close()

    def result(self) -> "Edited":
        """The edited picture."""
        for _ in self:
            pass
        # Where nothing was ever guided, as by a scale of 0, nothing was let through.
        masks = self._masks or [self._x.new_zeros(len(self.concepts), *self._x.shape[2:])]
        return Edited(self.inversion, self.plan, self._x, masks, self._edit_of, self._evaluations)

    def _region(self, mask: regions.Mask | None) -> Tensor | None:
        frame, path = self.inversion.frame, self.inversion.path
        found = frame.inside(*path.x.shape[-2:]) if mask is None else frame.region(mask)
        return None if found is None else found.to(path.x.device)

    def _run(self) -> Generator[EditStep]:
        inversion, plan, asked = self.inversion, self.plan, self.concepts
        rule = plan.rule(inversion.editor.backbone.defaults)
        backbone, total = inversion.editor.backbone, len(inversion.path.schedule)
        with backbone.denoiser(inversion.path.schedule, maps=rule in ("intersect", "attention")) as denoise:
            if captions := plan.captions(backbone.defaults, inversion.editor.world):
                path, known = inversion.captioned(denoise, captions.source)
                told = several.told(captions.source, captions.targets)
                steps = caption.edit(
                    denoise, path, asked, told, known=known, drop_source_late=plan.drop_source_late
                )  # fmt: skip
            else:
                steps = core.edit(denoise, inversion.path, asked, cast("core.MaskRule", rule))
            for step in steps:
                self._x, self._evaluations = step.x, denoise.evaluations
                if any(concept.active(step.i) for concept in asked):
                    self._masks.append(step.masks[:, 0])
                yield EditStep(step.i, total, denoise.evaluations, step, inversion)


class Edited:
    """An edited picture and how it came about."""

    def __init__(
        self, inversion: Inversion, plan: Plan, x: Tensor, masks: Sequence[Tensor], edit_of: Sequence[int],
        evaluations: int,
    ) -> None:  # fmt: skip
        self.inversion, self.plan, self.network_evaluations = inversion, plan, evaluations
        rgb, frame, picture = inversion.decoded(x), inversion.frame, inversion.picture
        if plan.composite:
            rebuilt = np.asarray(inversion.reconstruction)
            drawn = [plan.masks[k] for k in edit_of]
            rgb = composite.onto(picture.rgb, rgb, rebuilt, composite.weights(masks, frame, drawn))
        self.rgb = rgb  # (H W 3) uint8, without the picture's alpha
        mean = torch.stack(list(masks)).mean(0)
        of = torch.tensor(edit_of, device=mean.device)
        self._masks = [frame.cells(mean[of == k].amax(0)) for k in range(len(plan.edits))]

    @property
    def image(self) -> Image.Image:
        """The result, with the picture's alpha."""
        alpha = self.inversion.picture.alpha
        return Image.fromarray(self.rgb if alpha is None else np.dstack([self.rgb, alpha]))

    @property
    def reconstruction(self) -> Image.Image:
        """What an edit that changes nothing gives."""
        return self.inversion.reconstruction

    @property
    def masks(self) -> list[Image.Image]:
        """Where each edit acted, its mean over the active steps: greyscale, at the picture's size."""
        return [Image.fromarray((mask * 255).round().astype(np.uint8)) for mask in self._masks]

    @property
    def overlay(self) -> Image.Image:
        """The picture in its own colours where any edit acted, dimmed elsewhere."""
        return Image.fromarray(overlay(self.inversion.picture.rgb, np.max(self._masks, axis=0)))

    @property
    def recipe(self) -> Recipe:
        """What makes the same result again from the same picture."""
        p, plan = self.inversion.provenance, self.plan
        rule = plan.rule(self.inversion.editor.backbone.defaults)
        return Recipe(
            edits=tuple(map(str, plan.edits)), regions=tuple(map(regions.to_text, plan.masks)), model=p.model,
            fingerprint=p.fingerprint, settings=p.settings, mask=rule, composite=plan.composite,
            drop_source_late=plan.drop_source_late,
            dtype=str(self.inversion.editor.backbone.dtype).removeprefix("torch."),
            device=self.inversion.editor.backbone.device.type,
        )  # fmt: skip

    def save(self, path: Path | str, *, overwrite: bool = False, recipe: bool = True) -> None:
        """Write the result with its recipe; the ending names the format. ValueError where it can't be written."""
        written = self.recipe.to_json() if recipe else None
        image.write(Path(path), self.rgb, self.inversion.picture.alpha, written, overwrite=overwrite)


def edit(
    picture: Any, *edits: Edit | str, model: str = BUNDLED, device: str = "auto", dtype: str = "auto",
    region: Regions = None, composite: bool = False, source: str | None = None, steps: int | None = None,
    skip: float | None = None, seed: int | None = None, size: int | None = None, assistant: str | None = None,
) -> Edited:  # fmt: skip
    """Edit a picture: `ledits.edit("photo.jpg", "cat->dog", source="a cat").save("dog.png")`.

    The model stays loaded. `assistant`, such as "http://127.0.0.1:11434/v1#qwen3-vl", is asked for what sentences mean
    that no rule reads; the caption and the edits that it answers with stand in the result's recipe.
    """
    if assistant is not None:
        edits, source = assistants.read(edits, source or "", assistant, picture)[:2]
    return _editor(model, device, dtype).edit(
        picture, *edits, region=region, composite=composite, source=source, steps=steps, skip=skip, seed=seed, size=size
    )


@cache
def _editor(model: str, device: str, dtype: str) -> Editor:
    return Editor(model, device=device, dtype=dtype)


def noise(levels: int, shape: Sequence[int], seed: int) -> Tensor:
    """One picture's noise (n 1 c h w), the same on every device; drawn from the least noisy level up, as the authors
    do.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(levels, 1, *shape, generator=generator).flip(0)


def _moved(path: core.Inversion, device: torch.device) -> core.Inversion:
    x, denoised, base = (v.to(device) for v in (path.x, path.denoised, path.base_denoised))
    base = denoised if path.base_denoised is path.denoised else base
    return replace(path, x=x, denoised=denoised, base_denoised=base)

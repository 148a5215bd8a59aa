"""The front door: a picture in, an edited picture out. Every surface stands on this file and calls nothing below it.

    editor = Editor("owner/checkpoint")
    inversion = editor.invert("photo.jpg", source="a cat on a beach")
    inversion.edit("cat->dog", "-hat:6").save("dog.png")

Pictures are paths, a file's bytes, PIL images, arrays or tensors (`picture.image.take`).
"""

import io
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import compress
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ledits import progress as bars
from ledits.asked import idle, regions
from ledits.asked.idle import Idle
from ledits.asked.loading import Embedding, Loading, Lora
from ledits.asked.plan import Plan
from ledits.asked.recipe import Edit, MaskRule, Recipe, parse
from ledits.asked.regions import Regions
from ledits.asked.settings import InvertOptions, Mode, Settings
from ledits.backbones import BUNDLED, Backbone, from_pipe, load, loaded, lora_choice, state
from ledits.files import artifact, checkpoints
from ledits.files.artifact import Provenance
from ledits.files.checkpoints import World
from ledits.language import sentences, several, targets
from ledits.method import caption, core
from ledits.method.core import Step
from ledits.method.regions import Known
from ledits.method.told import Told
from ledits.picture import composite, image
from ledits.picture.frame import Frame, overlay
from ledits.progress import Progress
from ledits.scenes import suits
from ledits.seeing import assistant as assistants
from ledits.seeing import florence, sam

logger = logging.getLogger(__name__)


class Editor:
    """A loaded model, and the front door to all that ledits does with it.

    It keeps nothing between calls, so any number of threads may use it at once. A picture is a path, a file's bytes, a
    PIL image, an array (H W), (H W 3) or (H W 4), or a tensor (3 H W) or (1 3 H W): uint8, or floats from 0 to 1.
    """

    def __init__(
        self, model: "str | Backbone" = BUNDLED, *, device: str = "auto", dtype: str = "auto",
        lora: Sequence[str | Lora] = (), embedding: Sequence[str | Embedding] = (), vae: str | None = None,
        tiny_vae: str | None = None,
        base: str | None = None, text_encoder: Sequence[str] = (), variant: str | None = None,
        offload: str | None = None, quantize: str | None = None,
    ) -> None:  # fmt: skip
        """`model`: "scenes" (bundled), a folder in diffusers' layout, a hub id, a file of weights, or a backbone that
        is loaded already. The other options are those of `ledits.load`. Raises ValueError for a model or an option that
        can't be used, and FileNotFoundError, which is a ValueError too, for a file that is not there.
        """
        if isinstance(model, str):
            model = load(
                model, device=device, dtype=dtype, lora=lora, embedding=embedding, vae=vae, tiny_vae=tiny_vae,
                base=base, text_encoder=text_encoder, variant=variant, offload=offload, quantize=quantize,
            )  # fmt: skip
        self.backbone = model

    @classmethod
    def of(cls, asked: Loading) -> "Editor":
        """An editor with a model as it is asked for, by whoever has checked that before."""
        return cls(loaded(asked))

    def __repr__(self) -> str:
        return f"<Editor of {self.backbone.name!r} on {self.backbone.device}, {_short(self.backbone.dtype)}>"

    @cached_property
    def world(self) -> World | None:
        """What the model says of its small world; None for a model that draws anything."""
        return suits.world(self.backbone.name)

    @classmethod
    def from_pipe(cls, pipe: Any) -> "Editor":
        """An editor on a diffusers pipeline as it stands: its offloading, quantisation and adapters go on working.

        Raises ValueError for a pipeline of a family that ledits does not know.
        """
        return cls(from_pipe(pipe))

    def settings(
        self, *, source: str | None = None, steps: int | None = None, skip: float | None = None,
        seed: int | None = None, source_scale: float | None = None, negative: str | None = None,
        size: int | None = None, use_lora: str | None = None,
    ) -> Settings:  # fmt: skip
        """Settings with what is None taken from the model's defaults; `Settings` says what each means.

        `size` works at up to size * size pixels. Raises ValueError for a value out of its range.
        """
        asked = InvertOptions(
            source=source, steps=steps, skip=skip, seed=seed, source_scale=source_scale, negative=negative, size=size,
            use_lora=use_lora,
        )  # fmt: skip
        return Settings.resolve(self.backbone.defaults, self.backbone.area, asked)

    def invert(
        self, picture: Any, settings: Settings | None = None, *, source: str | None = None,
        steps: int | None = None, skip: float | None = None, seed: int | None = None,
        source_scale: float | None = None, negative: str | None = None, size: int | None = None,
        use_lora: str | None = None, progress: Progress | bool | None = None, anyway: bool = False,
    ) -> "Inversion":  # fmt: skip
        """Invert a picture once, for any number of edits (paper, Eq. 6 and 7).

        With a `source` caption edits rewrite the caption (mode "caption"). Without one they are by words alone, as in
        the paper (mode "words"). The other arguments are the fields of `Settings`; `settings` gives them all at once.
        `use_lora` chooses among loaded LoRAs, such as "detail:0.5, style", or "none". `progress` is a function that
        is told of network evaluations, (done, of how many); True draws a bar, and a notebook has one unasked.

        Raises ValueError for a picture or settings that can't be used, and FileNotFoundError for a path where nothing
        is. Without `anyway` it also raises ValueError for a picture or a word that a model of a small world does not
        know: edits of it would be smears.
        """
        if settings is None:
            settings = self.settings(
                source=source, steps=steps, skip=skip, seed=seed, source_scale=source_scale, negative=negative,
                size=size, use_lora=use_lora,
            )  # fmt: skip
        editor, shown = self.choosing(settings.use_lora), image.take(picture)
        backbone = editor.backbone
        height, width, _ = shown.rgb.shape
        frame = Frame.of(width, height, settings.area, backbone.multiple)
        pixels = frame.tensor(shown.rgb, backbone.multiple)
        schedule = backbone.schedule(settings.steps, settings.skip, pixels.shape[2], pixels.shape[3])
        if not anyway:
            self.check(shown, settings)
        x0 = backbone.encode(pixels)
        captioned = settings.mode == "caption"
        suits.warn_of_words(backbone, captioned=captioned)
        total = len(schedule) * (2 if settings.source_scale else 1)
        tell = bars.shown(progress, "inverting")

        def watch(done: int) -> None:
            if tell is not None:
                tell(done, total)

        with backbone.denoiser(schedule, maps=False, watch=watch) as denoise:
            path = core.invert(
                denoise, schedule, x0, noise(len(schedule), x0.shape[1:], settings.seed).to(x0.device),
                base_prompt=settings.source if captioned else settings.negative,
                source="" if captioned else settings.source, source_scale=settings.source_scale,
            )  # fmt: skip
            evaluations = denoise.evaluations
        now = state.of(backbone)
        provenance = Provenance(
            model=checkpoints.short(backbone.name), fingerprint=backbone.fingerprint, picture=shown.sha256,
            frame=frame, settings=settings, dtype=_short(backbone.dtype), device=backbone.device.type,
            state=now.predicts,
        )  # fmt: skip
        return Inversion(editor, shown, path, provenance, evaluations, now, anyway=anyway)

    @property
    def loras(self) -> dict[str, float]:
        """The LoRAs that were loaded, by the names that `use_lora` chooses them by, and their weights."""
        return {each.name: each.weight for each in getattr(self.backbone, "loras", ())}

    def choosing(self, use_lora: str) -> "Editor":
        """This editor with some of the LoRAs that were loaded; ValueError for one that was not. "": with all."""
        return Editor(lora_choice(self.backbone, use_lora)) if use_lora else self

    def check(self, picture: Any, settings: Settings, edits: Sequence[Edit] = ()) -> None:
        """Raise ValueError where a model of a small world, as the bundled one, knows neither the picture nor the words.

        `invert` and `edit` ask it themselves, for the result would be a smear; models for photographs suit any picture.
        """
        shown = image.take(picture)
        height, width, _ = shown.rgb.shape
        suits.check_words(self.backbone.name, suits.local(self.backbone.name), edits, settings.source)
        suits.check_picture(self.backbone, Frame.of(width, height, settings.area, self.backbone.multiple), shown.rgb)

    def caption(self, picture: Any, *, weights: str = florence.FLORENCE) -> str:
        """What a picture shows, in one English sentence by Florence-2, for `source`.

        Nothing is downloaded: ValueError says how to get the weights where they are not there.
        """
        return florence.caption(picture, self.backbone.device, weights)

    def where(self, picture: Any, phrase: str, *, weights: str = florence.FLORENCE) -> "np.ndarray[Any, Any]":
        """The region of what a phrase names, such as "the left cat", by Florence-2, for `region`.

        The array is (H W) of the picture's size, true inside. ValueError where the phrase names nothing
        that is seen, or where the weights are not there.
        """
        return florence.where(picture, phrase, self.backbone.device, weights)

    def select(
        self, picture: Any, *points: tuple[int, int], box: tuple[int, int, int, int] | None = None,
        weights: str = sam.SAM,
    ) -> "np.ndarray[Any, Any]":  # fmt: skip
        """The region of the thing under points (x, y), or within a box, by SAM 2, for `region`.

        Points and the box (left, top, width, height) are in pixels of the picture. The array is (H W), true inside.
        ValueError for a point outside of the picture, where nothing is found, or where the weights are not there.
        """
        return sam.selected(picture, self.backbone.device, points=points, box=box, name=weights)

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise ValueError where a recipe was made with other weights, or with other additions to them."""
        backbone = self.choosing(recipe.settings.use_lora).backbone
        if set(recipe.additions) != set(here := state.additions(backbone)):
            lacking = ", ".join(sorted(set(recipe.additions) - set(here)))
            said = f"with {lacking}, which is not loaded" if lacking else f"without {', '.join(here)}"
            raise ValueError(f"the recipe was made {said}: load the model as it was then")
        if recipe.fingerprint != self.backbone.fingerprint:
            raise ValueError(
                f"the recipe was made with another version of model {recipe.model!r}, {recipe.fingerprint[:8]}: its "
                "result can't be repeated"
            )

    def open_inversion(self, path: Path | str, picture: Any, *, anyway: bool = False) -> "Inversion":
        """An inversion that was saved, with the picture that it belongs to. The network is not asked.

        `anyway`: edit it with words that a model of a small world does not know, too. Raises ValueError where the file,
        the picture and the model don't belong together, and FileNotFoundError for a file that is not there.
        """
        path, shown = Path(path), image.take(picture)
        stored, provenance = artifact.load(path, self.backbone.device)
        editor = self.choosing(provenance.settings.use_lora)
        backbone = editor.backbone
        height, width, _ = shown.rgb.shape
        frame = Frame.of(width, height, provenance.settings.area, backbone.multiple)
        artifact.check(
            provenance, path, fingerprint=backbone.fingerprint, model=backbone.name, picture=shown.sha256, frame=frame
        )
        then = replace(state.of(backbone), predicts=provenance.state)
        return Inversion(editor, shown, stored, provenance, 0, then, anyway=anyway)

    def edit(
        self, picture: Any, *edits: Edit | str, region: Regions = None, mask: MaskRule | None = None,
        composite: bool = False, drop_source_late: bool = False, settings: Settings | None = None,
        source: str | None = None, steps: int | None = None, skip: float | None = None, seed: int | None = None,
        source_scale: float | None = None, negative: str | None = None, size: int | None = None,
        use_lora: str | None = None, anyway: bool = False, progress: Progress | bool | None = None,
    ) -> "Edited":  # fmt: skip
        """Invert and edit in one go: the arguments are those of `invert`, and of `Inversion.steps`.

        Raises ValueError for what is wrong with the edits before anything is computed, and as `invert` does.
        """
        if settings is None:
            settings = self.settings(
                source=source, steps=steps, skip=skip, seed=seed, source_scale=source_scale, negative=negative,
                size=size, use_lora=use_lora,
            )  # fmt: skip
        shown = image.take(picture)
        height, width, _ = shown.rgb.shape
        plan = Plan.of(
            edits, settings, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late,
            width=width, height=height, world=self.world,
        )  # fmt: skip
        plan.check(self.backbone.defaults)
        if not anyway:
            suits.check_words(self.backbone.name, suits.local(self.backbone.name), plan.edits, settings.source)
        inversion = self.invert(shown, settings, progress=progress, anyway=anyway)
        return _watched(inversion.replay(plan), progress)

    def repeat(self, picture: Any, recipe: Recipe) -> "Edited":
        """What a recipe made of a picture, made again: the same pixels on the same kind of device.

        Raises ValueError where the recipe was made with other weights, other additions or another reading of its edits.
        """
        self.check_recipe(recipe)
        inversion = self.invert(picture, recipe.settings, anyway=True)
        replay = (inversion if recipe.levels is None else inversion.only(recipe.levels)).steps(
            *map(parse, recipe.edits), region=recipe.masks(), mask=recipe.mask, composite=recipe.composite,
            drop_source_late=recipe.drop_source_late,
        )  # fmt: skip
        recipe.check_targets(replay.targets)
        return replay.result()


class Inversion:
    """A picture's inversion and the editor that made it: for any number of edits, from any thread.

    `Editor.invert` and `Editor.open_inversion` make it. `path` holds the noisy latents (levels + 1, 1, c, h, w) and
    what the network predicted along them; `network_evaluations` is how many samples went through the network.
    """

    def __init__(
        self, editor: Editor, picture: image.Picture, path: core.Inversion, provenance: Provenance, evaluations: int,
        then: state.State, *, anyway: bool = False,
    ) -> None:  # fmt: skip
        self.editor, self.picture, self.path, self.provenance = editor, picture, path, provenance
        self.network_evaluations, self.anyway = evaluations, anyway
        self.then = then  # what the network was when it predicted along the path
        self._again: Inversion | None = None
        # The path as last edited from, and how far each prompt's predictions on it differ from the caption's: a change
        # of scale does not ask again.
        self._asked: tuple[core.Inversion, Known] = (path, Known())

    def __repr__(self) -> str:
        s, frame = self.settings, self.frame
        told = f" of {s.source!r}" if s.source else ""
        return f"<Inversion{told}: {frame.width}x{frame.height}, {s.steps} steps, seed {s.seed}, mode {self.mode!r}>"

    @property
    def settings(self) -> Settings:
        """What it was made with, the model's defaults filled in."""
        return self.provenance.settings

    @property
    def mode(self) -> Mode:
        """ "words": edits by words, the paper. "caption": edits rewrite the source caption."""
        return self.settings.mode

    @property
    def frame(self) -> Frame:
        """How the picture lies on the network's grid: its size in pixels, and the size that is worked at."""
        return self.provenance.frame

    @cached_property
    def reconstruction(self) -> Image.Image:
        """The inverted picture through the autoencoder, at its own size: what an edit that changes nothing gives."""
        return Image.fromarray(self.decoded(self.path.x[-1]))

    @cached_property
    def suits(self) -> bool:
        """False where a model of a small world can't even give the picture back: edits of it will be smears."""
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
        drop_source_late: bool = False, progress: Progress | bool | None = None,
    ) -> "Edited":  # fmt: skip
        """The picture with these edits; the arguments are those of `steps`, and `progress` is `invert`'s.

        Raises ValueError as `steps` does.
        """
        replay = self.steps(*edits, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late)
        return _watched(replay, progress)

    def steps(
        self, *edits: Edit | str, region: Regions = None, mask: MaskRule | None = None, composite: bool = False,
        drop_source_late: bool = False,
    ) -> "Replay":  # fmt: skip
        """An edit step by step: iterate for progress and previews, stop iterating to cancel, `result()` at the end.

        Edits are texts ("+hat", "-hat", "cat->dog:8@0.9", "->a caption"), sentences ("make the cat a dog") or
        `recipe.Edit`; the result's recipe has what a sentence was read as. `region` is where they may act: a mask of
        the picture's size (white is open, black and transparent closed), a box in pixels (left, top, width, height),
        or a list with one for each edit. `composite` keeps the picture's own pixels away from the edits, and outside a
        `region` all of them, bit for bit. `mask` is the rule of implicit masks, by words.
        `drop_source_late` leaves the source caption out of later steps, with a caption: an approximation.

        By words each edit is guided as in Eq. 12 of the paper. Raises ValueError for an edit that can't be read or
        whose caption is not certain, and for a region that is not of the picture's size or lies outside of it.
        """
        height, width, _ = self.picture.rgb.shape
        plan = Plan.of(
            edits, self.settings, region=region, mask=mask, composite=composite, drop_source_late=drop_source_late,
            width=width, height=height, world=self.editor.world,
        )  # fmt: skip
        if not self.anyway:
            backbone = self.editor.backbone
            suits.check_words(backbone.name, suits.local(backbone.name), plan.edits, self.settings.source)
        return self.replay(plan)

    def replay(self, plan: Plan) -> "Replay":
        """The steps of a checked plan."""
        return Replay(self.current(), plan)

    def current(self) -> "Inversion":
        """This inversion for the network as it is now.

        Where its weights, adapters, learned words, scheduler or number format were changed since, its predictions along
        the path are made again, one network evaluation a level, and replays are as exact as before. Raises ValueError
        where the autoencoder is another one, for its latents are other pictures.
        """
        backbone = self.editor.backbone
        now, again = state.of(backbone), self._again
        if now.predicts == self.then.predicts:
            return self
        if again is not None and again.then.predicts == now.predicts:
            return again
        if not self.then.same_pictures(now):
            raise ValueError("the autoencoder is another one than the picture was inverted with: invert it again")
        logger.warning("the network is another one than the picture was inverted with: its path is predicted again")
        path, settings = self.path, self.settings
        with backbone.denoiser(path.schedule, maps=False) as denoise:
            path = core.predict(
                denoise, path.schedule, path.x, base_prompt=path.base_prompt, source=path.source,
                source_scale=settings.source_scale,
            )  # fmt: skip
            evaluations = denoise.evaluations
        kind, device = _short(backbone.dtype), backbone.device.type
        provenance = replace(self.provenance, state=now.predicts, dtype=kind, device=device)
        self._again = Inversion(self.editor, self.picture, path, provenance, evaluations, now, anyway=self.anyway)
        return self._again

    def sheet(
        self, *edits: Edit | str, scale: Sequence[float], threshold: Sequence[float | None] = (None,),
        region: Regions = None, composite: bool = False,
    ) -> "list[list[Edited]]":  # fmt: skip
        """Strengths side by side from one inversion: a row for each threshold, a column for each scale.

        A scale is how strong the edits are (0 changes nothing, 5 to 15 are usual). A threshold is the share of the
        picture that stays untouched, between 0 and 1; None keeps the edit's own. Raises ValueError as `steps` does.
        """
        asked = sentences.asked(edits, self.settings.source)

        def cell(s: float, t: float | None) -> Edited:
            changed = [replace(edit, scale=s, threshold=edit.threshold if t is None else t) for edit in asked]
            return self.edit(*changed, region=region, composite=composite)

        return [[cell(s, t) for s in scale] for t in threshold]

    def draft(self, steps: int) -> "Inversion":
        """The same path with only about `steps` of its levels: faster edits for a preview, at no network evaluation.

        Levels are noised independently of each other (paper, Eq. 6), so that any of them are a path of their own.
        Raises ValueError unless `steps` is between 1 and the number of the inversion's own.
        """
        n = len(self.path.schedule)
        if not 1 <= steps <= n:
            raise ValueError(f"a draft of {steps} steps: 1 to {n}, the inversion's own, are possible")
        levels = self.provenance.levels or range(n)
        return self.only([levels[i * n // steps] for i in range(steps)])

    def only(self, levels: Sequence[int]) -> "Inversion":
        """The same path with only these of the settings' steps, as a draft's recipe names them."""
        there, n = list(self.provenance.levels or range(self.settings.steps)), len(self.path.schedule)
        kept = [there.index(level) for level in levels]
        s = self.path.schedule

        def levels_of(values: Sequence[float]) -> tuple[float, ...]:
            return tuple(values[i] for i in [*kept, n])

        noised = (levels_of(s.noised[0]), levels_of(s.noised[1])) if s.noised else None
        t, alpha, sigma = tuple(s.t[i] for i in kept), levels_of(s.alpha), levels_of(s.sigma)
        schedule = core.Schedule(t, alpha, sigma, s.order, noised)
        denoised, base = self.path.denoised[kept], self.path.base_denoised[kept]
        path = replace(
            self.path, schedule=schedule, x=self.path.x[[*kept, n]], denoised=denoised,
            base_denoised=denoised if self.path.base_denoised is self.path.denoised else base,
        )  # fmt: skip
        whole = len(kept) == self.settings.steps
        provenance = replace(self.provenance, levels=None if whole else tuple(levels))
        return Inversion(self.editor, self.picture, path, provenance, 0, self.then, anyway=self.anyway)

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a .safetensors file that `Editor.open_inversion` reads, with the same picture.

        Raises FileExistsError without `overwrite`, and ValueError for another ending; each is a ValueError.
        """
        artifact.save(Path(path), self.path, self.provenance, overwrite=overwrite)

    def captioned(self, denoise: core.Denoiser, base_prompt: str) -> tuple[core.Inversion, Known]:
        """The path with its predictions for another base prompt, and what `regions.find` knows about it.

        The levels are noised whatever the network says, so that a caption found later is asked along the same path.
        """
        path, known = self._asked
        if path.base_prompt != base_prompt:
            path, known = self.path, Known()
            if path.base_prompt != base_prompt:
                path = core.predict(
                    denoise, path.schedule, path.x, base_prompt=base_prompt, source="", source_scale=0.0
                )
            self._asked = path, known
        return path, known

    def latent_error(self) -> float:
        """How exact the inversion is: |replayed - x0| / |x0| in latents; 1e-5 and less is usual in float32.

        The replay asks the network again at every level.

        Each step is handed back, so that none can be taken over from the inversion.
        """
        x0 = self.path.x[-1].float()
        return ((self.replayed() - x0).norm() / x0.norm()).item()

    def replayed(self) -> Tensor:
        """The latents (1 c h w) at the end of a replay without edits in which the network is asked at every level."""
        path = self.current().path
        with self.editor.backbone.denoiser(path.schedule, maps=False) as denoise:
            steps = core.edit(denoise, path, [], "none")
            x = next(steps).x
            for _ in range(len(path.schedule) - 1):
                x = steps.send(x).x
        return x


@dataclass(frozen=True)
class EditStep:
    """One step of an edit: how far it is, and what the picture looks like by now. `Replay` yields them."""

    index: int  # 0 to total - 1
    total: int
    network_evaluations: int  # so far
    step: Step
    inversion: Inversion
    drawn: Sequence[regions.Mask | None]  # the region of each of the step's masks

    def __repr__(self) -> str:
        return f"<EditStep {self.index + 1} of {self.total}; .preview()>"

    def preview(self) -> Image.Image:
        """The picture by now, at the original's size: where masks are open, it gives way to what the network sees.

        What the network sees early is a blur, which frightens whoever looks on: it fades in over half of the steps.
        """
        backbone, frame = self.inversion.editor.backbone, self.inversion.frame
        look = getattr(backbone, "preview", backbone.decode)  # by a small autoencoder, where one was loaded
        seen = frame.picture(look(self.step.x0)[0])
        share = composite.weights([self.step.masks[:, 0]], frame, self.drawn)
        share = share * min(1.0, 2 * (self.index + 1) / self.total)
        original = self.inversion.picture.rgb
        blended = original + share[..., None] * (seen.astype(np.float32) - original)
        return Image.fromarray(blended.round().astype(np.uint8))


class Replay:
    """The steps of one edit; `result` runs what is left of them. Drop or close it to cancel."""

    def __init__(self, inversion: Inversion, plan: Plan) -> None:
        self.inversion, self.plan = inversion, plan
        defaults = inversion.editor.backbone.defaults
        groups, self._captions = plan.grouped(defaults), plan.captions(defaults)
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

    @property
    def targets(self) -> list[str]:
        """The caption after each edit alone, as the network is told; none for the paper's edits, which have words."""
        return self._captions.targets if self._captions else []

    def close(self) -> None:
        """Leave the model now, and not when the last name of this is gone; `result` is then what was reached."""
        self._steps.close()

    def result(self) -> "Edited":
        """The edited picture, after the steps that are left."""
        for _ in self:
            pass
        # Where nothing was ever guided, as by a scale of 0, nothing was let through.
        masks = self._masks or [self._x.new_zeros(len(self.concepts), *self._x.shape[2:])]
        return Edited(self.inversion, self.plan, self._x, masks, self._edit_of, self._evaluations, self.targets)

    def _region(self, mask: regions.Mask | None) -> Tensor | None:
        frame, path = self.inversion.frame, self.inversion.path
        found = frame.inside(*path.x.shape[-2:]) if mask is None else frame.region(mask)
        return None if found is None else found.to(path.x.device)

    def _run(self) -> Generator[EditStep]:
        inversion, plan, asked = self.inversion, self.plan, self.concepts
        rule = plan.rule(inversion.editor.backbone.defaults)
        backbone, total = inversion.editor.backbone, len(inversion.path.schedule)
        drawn = [plan.masks[k] for k in self._edit_of]
        with backbone.denoiser(inversion.path.schedule, maps=rule in core.WITH_MAPS) as denoise:
            if captions := self._captions:
                path, known = inversion.captioned(denoise, captions.source)
                # Nobody is told of an edit that guides nothing, and it is told of nobody.
                source, after = captions.source, captions.targets
                heard = [bool(each.scale) and target != source for each, target in zip(asked, after, strict=True)]
                said = several.told(source, list(compress(after, heard)), plan.emptied)
                spoken, silent = iter(said), Told.of(source, source)
                told = [next(spoken) if guides else silent for guides in heard]
                steps = caption.edit(
                    denoise, path, asked, told, known=known, drop_source_late=plan.drop_source_late
                )  # fmt: skip
            else:
                steps = core.edit(denoise, inversion.path, asked, cast("core.MaskRule", rule))
            for step in steps:
                self._x, self._evaluations = step.x, denoise.evaluations
                if any(concept.active(step.i) for concept in asked):
                    self._masks.append(step.masks[:, 0])
                yield EditStep(step.i, total, denoise.evaluations, step, inversion, drawn)


class Edited:
    """An edited picture and how it came about; a notebook shows it.

    `rgb` is the picture (H W 3) in uint8, without alpha. `targets` has the caption after each edit, and is empty for
    edits by words. `network_evaluations` counts the samples of the edit alone.
    """

    def __init__(
        self, inversion: Inversion, plan: Plan, x: Tensor, masks: Sequence[Tensor], edit_of: Sequence[int],
        evaluations: int, targets: Sequence[str],
    ) -> None:  # fmt: skip
        self.inversion, self.plan, self.network_evaluations = inversion, plan, evaluations
        self.targets = list(targets)  # the caption after each edit alone, as was told; none without captions
        rgb, frame, picture = inversion.decoded(x), inversion.frame, inversion.picture
        if plan.composite:
            rebuilt = np.asarray(inversion.reconstruction)
            drawn = [plan.masks[k] for k in edit_of]
            rgb = composite.onto(picture.rgb, rgb, rebuilt, composite.weights(masks, frame, drawn))
        self.rgb = rgb  # (H W 3) uint8, without the picture's alpha
        mean = torch.stack(list(masks)).mean(0)
        of = torch.tensor(edit_of, device=mean.device)
        self._masks = [
            frame.smooth(mean[of == k].amax(0)).clip(0, 1 if region is None else region)
            for k, region in enumerate(plan.masks)
        ]

    def __repr__(self) -> str:
        height, width, _ = self.rgb.shape
        return f"<Edited {', '.join(map(str, self.plan.edits))}: {width}x{height}; .image, .masks, .save(path)>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()

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
    def idle(self) -> list[Idle | None]:
        """Why an edit changed nothing, in the order of the edits; None for one that did something.

        `str` of a reason is a sentence. Its `why` is "same_words", "no_strength" (a scale of 0), "contradicts" (another
        edit), "outside" (of the region that was given) or "no_region" (no place for it was found).
        """
        return idle.of(self.plan.edits, self.plan.masks, self._masks)

    @property
    def overlay(self) -> Image.Image:
        """The original in its own colours where any edit acted, dimmed elsewhere."""
        return Image.fromarray(overlay(self.inversion.picture.rgb, np.max(self._masks, axis=0)))

    @property
    def recipe(self) -> Recipe:
        """What makes the same result again from the same picture."""
        p, plan, backbone = self.inversion.provenance, self.plan, self.inversion.editor.backbone
        return Recipe(
            edits=tuple(map(str, plan.edits)), regions=tuple(map(regions.to_text, plan.masks)), model=p.model,
            fingerprint=p.fingerprint, settings=p.settings, mask=plan.rule(backbone.defaults),
            composite=plan.composite, drop_source_late=plan.drop_source_late, levels=p.levels,
            additions=state.additions(backbone), targets=tuple(self.targets), dtype=_short(backbone.dtype),
            device=backbone.device.type,
        )  # fmt: skip

    def save(self, path: Path | str, *, overwrite: bool = False, recipe: bool = True) -> None:
        """Write the result with its recipe; the ending names the format: PNG, JPEG, WebP or TIFF.

        The file appears whole or not at all. Raises FileExistsError without `overwrite`, and ValueError for an ending
        or a folder that can't be written; each is a ValueError.
        """
        written = self.recipe.to_json() if recipe else None
        image.write(Path(path), self.rgb, self.inversion.picture.alpha, written, overwrite=overwrite)


def edit(
    picture: Any, *edits: Edit | str, model: str = BUNDLED, device: str = "auto", dtype: str = "auto",
    region: Regions = None, composite: bool = False, source: str | None = None, steps: int | None = None,
    skip: float | None = None, seed: int | None = None, size: int | None = None, anyway: bool = False,
    assistant: str | None = None, progress: Progress | bool | None = None,
) -> Edited:  # fmt: skip
    """Edit a picture: `ledits.edit("photo.jpg", "cat->dog", source="a cat").save("dog.png")`.

    The arguments are those of `Editor` (model, device, dtype), `Editor.invert` and `Inversion.steps`; the model stays
    loaded. `anyway`: also a picture or words that the model, of a small world, does not know. Raises ValueError as they
    do. `assistant`, such as "http://127.0.0.1:11434/v1#qwen3-vl", is asked for what sentences mean that no rule reads;
    the caption and the edits that it answers with stand in the result's recipe.
    """
    if assistant is not None:
        edits, source = assistants.read(edits, source or "", assistant, picture)[:2]
    return _editor(model, device, dtype).edit(
        picture, *edits, region=region, composite=composite, source=source, steps=steps, skip=skip, seed=seed,
        size=size, anyway=anyway, progress=progress,
    )  # fmt: skip


def _watched(replay: Replay, progress: Progress | bool | None) -> Edited:
    """The result of a replay, its steps told of."""
    if (tell := bars.shown(progress, "editing")) is not None:
        for step in replay:
            tell(step.index + 1, step.total)
    return replay.result()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@cache
def _editor(model: str, device: str, dtype: str) -> Editor:
    return Editor(model, device=device, dtype=dtype)


def noise(levels: int, shape: Sequence[int], seed: int) -> Tensor:
    """One picture's noise (n 1 c h w), the same on every device; drawn from the least noisy level up, as theirs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(levels, 1, *shape, generator=generator).flip(0)

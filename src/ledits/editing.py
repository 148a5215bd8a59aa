"""From a picture to an edited picture: the few lines that the command line, the demo and every other surface share."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ledits.backbones import Backbone
from ledits.files import image
from ledits.files.artifact import Origin
from ledits.method import caption as described
from ledits.method import core
from ledits.method.core import Concept, Inversion, Schedule, Step
from ledits.method.thrift import Thrifty
from ledits.recipe import Edit


@dataclass(frozen=True)
class Settings:
    """How to invert; the defaults are the backbone's."""

    steps: int
    skip: float
    seed: int = 0
    source: str = ""
    source_scale: float = 0.0  # of guidance by the source prompt; 0: it describes the picture, and edits start from it
    negative: str = ""
    area: int | None = None  # work at no more than this many pixels

    @property
    def described(self) -> bool:
        """Whether edits start from the source prompt as the picture's description."""
        return bool(self.source) and not self.source_scale

    def __post_init__(self) -> None:
        if self.described and self.negative:
            raise ValueError(
                f"negative prompt {self.negative!r} with source {self.source!r}: edits of a described picture "
                "move away from its description, so leave the negative prompt out, or give the source a scale"
            )


def noise(schedule: Schedule, shape: Sequence[int], seed: int) -> Tensor:
    """One picture's noise (n 1 c h w), the same on every device; drawn from the least noisy level up, as the authors
    do.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(schedule), 1, *shape, generator=generator).flip(0)


def to_tensor(backbone: Backbone, rgb: NDArray[np.uint8], width: int, height: int) -> Tensor:
    """A picture (H W 3) uint8 as the backbone takes it: scaled to (width, height), padded to its multiple, (1 3 H' W')
    in -1..1.
    """
    if (width, height) != (rgb.shape[1], rgb.shape[0]):
        rgb = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))
    padded = image.pad(rgb, backbone.multiple)
    return torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_picture(backbone: Backbone, x: Tensor, origin: Origin) -> NDArray[np.uint8]:
    """Latents (1 c h w) as a picture of the original's size, (H W 3) uint8: decoded, cropped, scaled back."""
    rgb = ((backbone.decode(x)[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    rgb = rgb[: origin.working_height, : origin.working_width]
    if (origin.width, origin.height) != (origin.working_width, origin.working_height):
        rgb = np.asarray(Image.fromarray(rgb).resize((origin.width, origin.height), Image.Resampling.LANCZOS))
    return rgb


def invert(backbone: Backbone, picture: image.Picture, settings: Settings) -> tuple[Inversion, Origin, int]:
    """The inversion of a picture, where it comes from, and how many network evaluations it took."""
    height, width, _ = picture.rgb.shape
    working_width, working_height = image.fit(width, height, settings.area)
    schedule = backbone.schedule(settings.steps, settings.skip)
    pixels = to_tensor(backbone, picture.rgb, working_width, working_height)
    x0 = backbone.encode(pixels)
    with torch.inference_mode(), backbone.denoiser(schedule, maps=False) as denoise:
        inversion = core.invert(
            denoise, schedule, x0, noise(schedule, x0.shape[1:], settings.seed).to(x0.device),
            base_prompt=settings.source if settings.described else settings.negative,
            source="" if settings.described else settings.source, source_scale=settings.source_scale,
        )  # fmt: skip
        evaluations = denoise.evaluations
    origin = Origin(
        backbone.name, backbone.fingerprint, picture.sha256, width, height, working_width, working_height,
        pixels.shape[3], pixels.shape[2], settings.area, settings.seed, settings.skip, settings.source,
        inversion.source_scale, settings.negative, str(backbone.dtype).removeprefix("torch."), backbone.device.type,
    )  # fmt: skip
    return inversion, origin, evaluations


def on(backbone: Backbone, inversion: Inversion) -> Inversion:
    """The inversion on the backbone's device."""
    x, x0, base_denoised = (v.to(backbone.device) for v in (inversion.x, inversion.denoised, inversion.base_denoised))
    base_denoised = x0 if inversion.base_denoised is inversion.denoised else base_denoised
    s = inversion
    return Inversion(s.schedule, x, x0, base_denoised, s.base_prompt, s.source, s.source_scale)


def concepts(edits: Sequence[Edit], defaults: Mapping[str, float], source: str = "") -> list[Concept]:
    """What the core is asked for: one concept for an addition or a removal, two for a swap.

    With the `source` prompt that describes the picture, one concept for each edit: the description after it.
    """
    if source:
        return [_described(edit, defaults, source) for edit in edits]
    asked: list[Concept] = []
    for edit in edits:
        if edit.kind == "become":
            raise ValueError(f"edit '{edit}' says what the picture becomes: say what it shows now with --source")
        parts = {"add": ("add",), "remove": ("remove",), "swap": ("swap_old", "swap_new")}[edit.kind]
        for part in parts:
            scale = defaults[f"{part}_scale"]
            if edit.scale is not None:
                # One number for a swap: what comes gets it, what goes its usual share of it.
                scale = edit.scale * scale / defaults[f"{parts[-1]}_scale"]
            comes = part in ("add", "swap_new")
            asked.append(
                Concept(
                    edit.new if comes else edit.old,
                    scale if comes else -scale,
                    defaults[f"{part}_threshold"] if edit.threshold is None else edit.threshold,
                    int(defaults["warmup"]) if edit.warmup is None else edit.warmup,
                    edit.cooldown,
                )
            )
    return asked


def _described(edit: Edit, defaults: Mapping[str, float], source: str) -> Concept:
    return Concept(
        target(edit, source),
        defaults["described_scale"] if edit.scale is None else edit.scale,
        edit.threshold,  # None: found in each picture
        int(defaults["warmup"]) if edit.warmup is None else edit.warmup,
        edit.cooldown,
    )


def target(edit: Edit, source: str) -> str:
    """The description `source` after one edit, such as "a dog on a beach" after cat->dog in "a cat on a beach"."""
    if edit.kind == "become":
        return edit.new
    if edit.kind == "add":
        return f"{source}, {edit.new}"
    if not (found := re.search(rf"\b{re.escape(edit.old)}\b", source)):
        raise ValueError(
            f"edit '{edit}': {edit.old!r} is not in the source {source!r}; name it as the source does, or write "
            "'->' and what the picture becomes"
        )
    before, after = source[: found.start()], source[found.end() :]
    article = re.search(r"\b(an?|the) $", before, re.IGNORECASE)
    if edit.kind == "swap":
        if article and article[1].lower() != "the":
            letter = article[1][0]
            before = before[: article.start()] + letter + ("n " if edit.new[0].lower() in "aeiou" else " ")
        return before + edit.new + after
    # What goes takes its article along, and what joins it to the rest.
    before = before[: article.start()] if article else before
    joined = re.sub(r"(,? and|,|,? with|,? beside|,? next to) $", "", before)
    if joined == before:
        after = re.sub(r"^(,? and|,|,? with|,? beside|,? next to) ", " ", after)
    text = f"{joined.rstrip()} {after.strip()}".strip() if after.strip()[:1] not in {",", "."} else joined + after
    if not text:
        raise ValueError(f"edit '{edit}' leaves nothing of the source {source!r}: write '->' and what should be there")
    return text


def replay(
    backbone: Backbone,
    inversion: Inversion,
    asked: Sequence[Concept],
    mask: core.MaskRule | None = "intersect",
    *,
    thrifty: bool = False,
) -> Iterator[tuple[Step, int]]:
    """The steps of an edit, each with how many network evaluations there were so far.

    With a mask rule edits are by words, as in the paper. None is for those of a described picture, whose regions are
    found first; `thrifty` leaves the source's caption out of their later steps, an approximation.
    """
    maps = mask in ("intersect", "attention") and bool(asked)
    with torch.inference_mode(), backbone.denoiser(inversion.schedule, maps=maps) as denoise:
        if mask is None:
            asked = described.locate(denoise, inversion, asked)
            steps = described.edit(Thrifty(denoise, inversion, asked) if thrifty else denoise, inversion, asked)
        else:
            steps = core.edit(denoise, inversion, asked, mask)
        for step in steps:
            yield step, denoise.evaluations


def latent_error(backbone: Backbone, inversion: Inversion) -> float:
    """|replayed - x0| / |x0| in latents, over a replay in which the network is asked again at every level.

    The replay carries an edit of scale 0, so that no step can be taken over from the inversion.
    """
    x0 = inversion.x[-1].float()
    last = x0
    for step, _ in replay(backbone, inversion, [Concept("", 0.0)], "none"):
        last = step.x
    return ((last - x0).norm() / x0.norm()).item()


def overlay(rgb: NDArray[np.uint8], masks: Tensor, origin: Origin) -> NDArray[np.uint8]:
    """The picture (H W 3) with what masks (k h w) in 0..1 let through in its own colours, the rest dimmed to grey."""
    mask = masks.amax(0).clamp(0, 1).float().cpu().numpy()
    # The latent grid covers the padded picture; both sides of it were grown at the bottom and the right only.
    scale_x, scale_y = origin.working_width / origin.width, origin.working_height / origin.height
    cell_y, cell_x = origin.padded_height / mask.shape[0], origin.padded_width / mask.shape[1]
    rows = (np.arange(origin.height) * scale_y / cell_y).astype(int).clip(0, mask.shape[0] - 1)
    columns = (np.arange(origin.width) * scale_x / cell_x).astype(int).clip(0, mask.shape[1] - 1)
    share = mask[rows][:, columns, None]
    grey = 0.25 * rgb.mean(2, keepdims=True) + 40
    return (share * rgb + (1 - share) * grey).round().astype(np.uint8)

"""What callers of the pipelines hand in, in the forms that diffusers allows."""

import difflib
import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from torch import Tensor

from ledits.asked.regions import drawn
from ledits.backbones.texts import Text as PromptEmbedding
from ledits.method.core import MaskRule
from ledits.picture import image as images
from ledits.pipelines import compat

logger = logging.getLogger(__name__)

Callback = Callable[..., Mapping[str, Tensor] | None]
Picture = Any  # a path, PIL picture, array (H W 3) or (b H W 3), tensor (3 H W) or (b 3 H W), or a list of these
Function = TypeVar("Function", bound=Callable[..., Any])
_LARGEST = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class Edits:
    """The arguments that all pipelines' calls have, by the names of `core.Concept` where it has them."""

    prompts: str | Sequence[str | Sequence[str]] | None
    embedded: Sequence[PromptEmbedding] | None
    scale: float | Sequence[float]
    reverse: bool | Sequence[bool]
    threshold: float | Sequence[float]
    warmup: int | Sequence[int]
    cooldown: int | Sequence[int | None] | None
    user_mask: Any
    rule: MaskRule
    upsampling: compat.Upsampling
    noise_mask_below: float | None
    rescale: float
    sem_guidance: Sequence[Tensor] | None
    store_steps: Sequence[int]
    store_average: bool
    callback: Callback | None
    callback_inputs: Sequence[str]
    region_threshold: float | Sequence[float | None] | None  # caption mode's threshold; None: found in each picture


def strict(function: Function) -> Function:
    """Refuse an argument that the function does not have, and name the nearest that it has."""
    names = list(inspect.signature(function).parameters)[1:]

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        for name in given:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f": did you mean {near[0]!r}?" if near else f": it takes {', '.join(names)}"
                raise TypeError(f"{function.__name__} has no argument {name!r}{hint}")
        return function(*args, **given)

    return cast("Function", checked)


def check_mode(edits: Edits, captioned: bool) -> None:
    """Raise ValueError for arguments of the other mode: keyword edits have implicit masks, captioned ones regions."""
    if not captioned:
        if edits.region_threshold is not None:
            raise ValueError("region_threshold is for a picture inverted with a caption: edit_threshold is meant here")
        return
    given = {
        "edit_threshold": edits.threshold != 0.9, "use_cross_attn_mask": edits.rule == "attention",
        "mask_upsampling": edits.upsampling != "bilinear", "noise_mask_below": edits.noise_mask_below is not None,
        "guidance_rescale": edits.rescale != 0, "sem_guidance": edits.sem_guidance is not None,
        "attn_store_steps": bool(edits.store_steps),
    }  # fmt: skip
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise ValueError(
            f"{', '.join(wrong)}: not with a caption, whose edits have no implicit masks; region_threshold is the "
            "share of the picture that such an edit leaves alone"
        )


def read(
    given: Picture,
    height: int | None,
    width: int | None,
    resize_mode: str,
    crops_coords: tuple[int, int, int, int] | None,
) -> list[Tensor]:
    """Each picture (1 3 H W) in -1..1, at its own size or at (width, height)."""
    processor = VaeImageProcessor(vae_scale_factor=1)  # 1: sizes stay as they are, what a model needs is padded
    pictures: list[Tensor] = []
    for item in _each_picture(given):
        x = processor.preprocess(item, height, width, resize_mode, crops_coords)
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"an image of shape {tuple(x.shape)}: three colours are needed, (b 3 H W) as a tensor")
        if min(x.shape[2:]) < images.SMALLEST:
            raise ValueError(
                f"an image of {x.shape[3]}x{x.shape[2]} pixels: at least {images.SMALLEST}x{images.SMALLEST} are needed"
            )
        pictures += x.float().split(1)
    return pictures


def pad(pictures: Sequence[Tensor], multiple: int) -> Tensor:
    """All pictures (b 3 H W) at the size of the largest, to whole multiples, grown at the bottom and the right."""
    sides = [max(picture.shape[axis] for picture in pictures) for axis in (2, 3)]
    height, width = (-(-side // multiple) * multiple for side in sides)
    padded: list[Tensor] = []
    for x in pictures:
        down, right = height - x.shape[2], width - x.shape[3]
        # Reflection, as `ledits.picture.image.pad`; what is too short for it repeats its edge.
        x = F.pad(x, (0, 0, 0, down), mode="reflect" if down < x.shape[2] else "replicate")
        padded.append(F.pad(x, (0, right, 0, 0), mode="reflect" if right < x.shape[3] else "replicate"))
    return torch.cat(padded)


def per_edit(name: str, value: Any, edits: int) -> list[Any]:
    """One value for each edit, of one for all or of a sequence of as many."""
    if isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return [value] * edits
    values = list(cast("Sequence[Any]", value))
    if len(values) != edits:
        raise ValueError(f"{name} has {len(values)} values for {edits} edits: give one for all, or one for each")
    return values


def regions(
    given: Any, edits: int, sizes: Sequence[tuple[int, int]], grid: tuple[int, int], cell: int
) -> list[Tensor] | list[None]:
    """Each edit's region (b 1 H W) in 0..1 on the padded pictures, which have these sizes (H W) in pixels.

    `given` is one mask for all edits or a list with one for each: a PIL picture, an array or a tensor of any size,
    (H W), (1 or b, H, W) or (1 or b, 1, H, W). Without one it is each picture's own area, so that no quantile counts
    padding, and None where nothing is padded. `grid` are the latents' sides, `cell` the side of one of them in pixels.
    """
    if given is None:
        used = [tuple(-(-side // cell) for side in size) for size in sizes]
        if all(each == grid for each in used):
            return [None] * edits
        own = torch.zeros(len(sizes), 1, *grid)
        for i, (rows, columns) in enumerate(used):
            own[i, :, :rows, :columns] = 1
        return [own] * edits
    several = isinstance(given, list | tuple)
    found = [_on_pictures(_mask(m), sizes, grid, cell) for m in (given if several else [given])]
    return per_edit("user_mask", found if several else found[0], edits) if several else found * edits


def check_pooled(name: str, embeds: Tensor | None, pooled: Tensor | None) -> None:
    """Raise ValueError for embeddings without the pooled ones that belong to them."""
    if embeds is not None and pooled is None:
        other = name.replace("prompt_embed", "pooled_prompt_embed").replace("embeddings", "embeds")
        raise ValueError(f"{name} need {other} of the same prompts")


def check_safety_checker(checker: Any, feature_extractor: Any, *, required: bool) -> None:
    """Raise ValueError for a safety checker that can't work; warn where there is none and one is required."""
    if checker is not None and feature_extractor is None:
        raise ValueError("a safety_checker needs a feature_extractor: give both, or safety_checker=None")
    if checker is None and required:
        logger.warning("the safety checker is off: do not show unfiltered results to the public")


def rule(use_cross_attn_mask: bool, use_intersect_mask: bool) -> MaskRule:
    return "intersect" if use_intersect_mask else "attention" if use_cross_attn_mask else "noise"


def negative(prompt: Any, embeds: Tensor | None, pooled: Tensor | None) -> Any:
    """The negative prompt, of a text or one for each picture, or of embeddings (1 or b, tokens, d)."""
    if embeds is None:
        return prompt
    if prompt is not None:
        raise ValueError("negative_prompt and negative_prompt_embeds were both given: give one of them")
    none = torch.zeros(embeds.shape[1], dtype=torch.bool)
    return tuple(
        PromptEmbedding("negative_prompt_embeds", states, none, None if pooled is None else pooled[i])
        for i, states in enumerate(embeds)
    )


def embedded(
    embeds: Tensor | None, pooled: Tensor | None, counts: Sequence[int] | None, rule: MaskRule, start: int = 1
) -> list[PromptEmbedding] | None:
    """The editing prompts of embeddings (k tokens d); `counts` are their tokens without start, of which the text
    encoder has `start`, and end.
    """
    if embeds is None:
        return None
    if counts is None and rule != "noise":
        raise ValueError(
            "embedded editing prompts don't say how many tokens they have, and attention masks need to know: give "
            "editing_prompt_token_counts, or switch use_intersect_mask and use_cross_attn_mask off"
        )
    counts = [0] * len(embeds) if counts is None else counts
    if len(counts) != len(embeds):
        raise ValueError(f"editing_prompt_token_counts has {len(counts)} values for {len(embeds)} embedded prompts")
    place = torch.arange(embeds.shape[1])
    return [
        PromptEmbedding(
            f"editing prompt {k}",
            states,
            (place >= start) & (place < start + counts[k]),
            None if pooled is None else pooled[k],
        )  # fmt: skip
        for k, states in enumerate(embeds)
    ]


def _each_picture(given: Picture) -> list[Any]:
    items = list(given) if isinstance(given, list | tuple) else [given]
    if not items:
        raise ValueError("no image was given: one is needed, or a list of them")
    ready: list[Any] = []
    for item in items:
        if isinstance(item, str | Path):
            item = Image.fromarray(images.take(item).rgb)
        elif isinstance(item, Image.Image):
            item = Image.fromarray(images.pixels(item, "the image")[0])
        elif isinstance(item, np.ndarray | Tensor):
            item = _in_unit_range(item)
        else:
            raise ValueError(f"an image of type {type(item).__name__}: a path, PIL picture, array or tensor is needed")
        ready.append(item)
    return ready


def _in_unit_range(image: Any) -> Any:
    """An array or tensor of a picture as float32 in 0..1: integers over what their type holds, floats as they are."""
    try:
        x = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    except TypeError:
        raise ValueError(f"an image of {image.dtype}: floats in 0..1, or uint8 or uint16, are needed") from None
    if x.dtype in _LARGEST:
        x = x.float() / _LARGEST[x.dtype]
    elif x.dtype.is_floating_point:
        x = x.float()
    else:
        raise ValueError(f"an image of {x.dtype}: floats in 0..1, or uint8 or uint16, are needed")
    low, high = (x.min().item(), x.max().item()) if x.numel() else (0.0, 0.0)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"an image of floats from {low:g} to {high:g}: 0 to 1 is needed; uint8 may be 0 to 255")
    return x if isinstance(image, Tensor) else x.numpy()


def _mask(given: Any) -> Tensor:
    """A mask as (1 or b, 1, H, W) in 0..1."""
    if isinstance(given, Image.Image):
        given = drawn(given).copy()
    if not isinstance(given, np.ndarray | Tensor):
        raise ValueError(f"user_mask of type {type(given).__name__}: a PIL picture, an array or a tensor is needed")
    m = given if isinstance(given, Tensor) else torch.from_numpy(given.copy())
    m = m.float() / 255 if m.dtype == torch.uint8 and m.max() > 1 else m.float()
    if m.ndim not in (2, 3, 4) or (m.ndim == 4 and m.shape[1] != 1 and not (m == m[:, :1]).all()):
        raise ValueError(
            f"user_mask of shape {tuple(m.shape)}: (H W), (b H W) or (b 1 H W) is needed, and a list for one an edit"
        )
    m = m[None, None] if m.ndim == 2 else m[:, None] if m.ndim == 3 else m[:, :1]
    if not bool(((m >= 0) & (m <= 1)).all()):
        raise ValueError(f"user_mask has values from {m.min():g} to {m.max():g}: 0 (kept) to 1 (edited) is needed")
    return m


def _on_pictures(m: Tensor, sizes: Sequence[tuple[int, int]], grid: tuple[int, int], cell: int) -> Tensor:
    if m.shape[0] not in (1, len(sizes)):
        raise ValueError(f"user_mask for {m.shape[0]} pictures, and {len(sizes)} were inverted: give 1 or {len(sizes)}")
    placed = m.new_zeros(len(sizes), 1, grid[0] * cell, grid[1] * cell)
    for i, (h, w) in enumerate(sizes):
        own = m[i if len(m) > 1 else 0][None]
        # Shrunk by areas, grown by repetition: a mask at the latents' size comes back to them as it was.
        own = F.interpolate(own, (h, own.shape[3]), mode="area" if h < own.shape[2] else "nearest-exact")
        own = F.interpolate(own, (h, w), mode="area" if w < own.shape[3] else "nearest-exact")
        # A cell that holds some of the picture is as open as that part is.
        own = F.pad(own, (0, -w % cell, 0, -h % cell), mode="replicate")
        placed[i, :, : own.shape[2], : own.shape[3]] = own[0]
    return placed

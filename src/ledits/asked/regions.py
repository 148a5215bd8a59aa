"""Where an edit may act, as users say it: masks of any kind at the picture's size, or boxes.

White is open, black is closed, and so is what is transparent.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledits.asked.recipe import Edit
from ledits.picture import image

Mask = NDArray[np.float32]  # (H W) in 0..1, in steps of 1/255, so that a recipe can hold it exactly
Regions = Any  # None, a mask, a box, or a list with one of these for each edit


def each(region: Regions, edits: Sequence[Edit], width: int, height: int) -> tuple[Mask | None, ...]:
    """The mask of each edit: its own box, within what `region` says; None where nothing limits it.

    A region is a path, a file's bytes, a PIL image, an array or a tensor (H W) of the picture's size, or a box (left,
    top, width, height) in pixels. Raises ValueError for another size or kind.
    """
    given = list(region) if isinstance(region, list) else [region] * len(edits)
    if len(given) != len(edits):
        raise ValueError(f"{len(given)} regions for {len(edits)} edits: give one for all, or one for each")
    masks: list[Mask | None] = []
    for edit, value in zip(edits, given, strict=True):
        mask = None if value is None else mask_of(value, width, height)
        if edit.box is not None:
            box = _box(edit.box, width, height)
            mask = box if mask is None else np.minimum(mask, box)
        if mask is not None and not mask.any():
            raise ValueError(f"edit '{edit}': its region is empty, so it could change nothing: leave it out")
        masks.append(mask)
    return tuple(masks)


def to_text(mask: Mask | None) -> str | None:
    """A mask as a recipe holds it: base64 of a greyscale PNG."""
    if mask is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray((mask * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def mask_of(value: Any, width: int, height: int) -> Mask:
    """A mask of any kind, or a box, at the picture's size; ValueError for another size or kind."""
    if isinstance(value, tuple):
        return _box(value, width, height)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, bytes | str | Path | image.Picture):
        found = image.take(value)
        value = _open(found.rgb, found.alpha)
    elif isinstance(value, Image.Image):
        value = drawn(value)
    elif hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    values = np.asarray(value)
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.shape != (height, width):
        size = "x".join(map(str, reversed(values.shape)))
        raise ValueError(f"a region of {size} pixels for a picture of {width}x{height}: it must have the same size")
    if values.dtype == np.uint8:
        values = values / np.float32(255)
    values = values.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("a region's values must lie in 0..1, or be uint8: 0 is closed, 1 or 255 is open")
    return (values * 255).round() / np.float32(255)


def drawn(mask: Image.Image) -> NDArray[Any]:
    """A mask (H W) of any size that Pillow has opened or made: uint8, or floats where it holds floats."""
    return np.asarray(mask) if mask.mode == "F" else _open(*image.pixels(mask, "the mask"))


def _open(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """How far a drawn mask is open, (H W): as bright as its brightest colour is, and as opaque."""
    bright = rgb.max(2)
    return bright if alpha is None else (bright.astype(np.uint16) * alpha // 255).astype(np.uint8)


def _box(box: Sequence[Any], width: int, height: int) -> Mask:
    if len(box) != 4 or not all(isinstance(v, int) for v in box) or min(box[:2]) < 0 or min(box[2:]) < 1:
        raise ValueError(f"region {box!r} is no box: four whole numbers are needed, left, top, width, height in pixels")
    left, top, wide, high = box
    if left >= width or top >= height:
        raise ValueError(f"the region at {left},{top} lies outside the picture of {width}x{height} pixels")
    mask = np.zeros((height, width), np.float32)
    mask[top : top + high, left : left + wide] = 1
    return mask

"""Styles as filters: what a picture looks like as a pencil sketch, in black and white, or as pixel art.

A filter is a function of the picture alone, so that every scene has a true twin in every style. Pictures are uint8
arrays (side, side, 3).
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)
# As captions name them.
STYLES = ("pencil sketch", "black and white photo", "pixel art")
# Pixels of pixel art along a side; how far a pencil's line feels the picture, in 1/64 of its side.
CELLS, REACH = 32, 2


def restyle(picture: NDArray[np.uint8], style: str) -> NDArray[np.uint8]:
    """The picture in a style of STYLES; "" leaves it as it is."""
    if not style:
        return picture
    if style not in STYLES:
        raise ValueError(f'no style {style!r}: {", ".join(STYLES)}, or "" for none')
    values: NDArray[np.float32] = picture.astype(np.float32)
    if style == "pixel art":
        # Eleven levels of each colour.
        values = _enlarged(np.round(_cells(values).mean((1, 3)) / 25.5) * 25.5, len(picture))
    else:
        values = values @ np.array([0.299, 0.587, 0.114], np.float32)
        if style == "pencil sketch":
            # Dark where the picture is darker than around it (a colour dodge) by more than 2 %, which the steps of a
            # gradient in whole grey values are; the paper keeps a little of its tone.
            lines = 1.02 * (values + 8) / (_blurred(values, _reach(len(picture))) + 8)
            values = lines.clip(0, 1) ** 2 * (205 + 0.18 * values)
        values = np.repeat(values[..., None], 3, -1)
    return (values + 0.5).clip(0, 255).astype(np.uint8)


def spread(mask: NDArray[np.bool_], style: str) -> NDArray[np.bool_]:
    """The pixels of a picture in this style that depend on those under `mask`, (side, side) bool."""
    if style == "pixel art":
        return _enlarged(np.asarray(_cells(mask).any((1, 3))), len(mask))
    if style == "pencil sketch":
        reach = _reach(len(mask))
        for axis in (0, 1):
            padded = np.pad(mask, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)])
            mask = np.asarray(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis).any(-1))
    return mask


def _reach(side: int) -> int:
    return max(1, REACH * side // 64)


def _cells(values: NDArray[_Value]) -> NDArray[_Value]:
    """Rows and columns split into cells, (CELLS, n, CELLS, n, ...)."""
    n = len(values) // CELLS
    return values.reshape(CELLS, n, CELLS, n, *values.shape[2:])


def _enlarged(values: NDArray[_Value], side: int) -> NDArray[_Value]:
    n = side // CELLS
    return values.repeat(n, 0).repeat(n, 1)


def _blurred(values: NDArray[np.float32], reach: int) -> NDArray[np.float32]:
    """Means weighted by a triangle of `reach` pixels to either side, the picture's edges carried on."""
    weights = (reach + 1 - np.abs(np.arange(-reach, reach + 1))).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], "edge")
        values = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis) @ (weights / weights.sum())
    return values

"""Two pictures of the same scene brought into line: shift, scale and colours, from what they have in common.

What was changed in one of them is no obstacle: its pixels count less the worse they fit (Tukey's biweight).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

_COARSE = 48  # pixels of the shorter side at which the search begins: what lies pixels apart is one apart there
_FINE = 512  # pixels of the longer side at which it ends: a shift is known to hundredths of a pixel by then
_PIXELS = 30_000
_ROUNDS = 15
FAR = 0.08  # shares of the picture: what lies further off is another picture
_NEAR = 0.005  # pixels: closer than that, the search ends
_TUKEY = 4.685  # of the residual's standard deviation: what fits worse counts nothing
_LEAST = 0.5 / 255  # a residual below which pictures of 8 bits say nothing


class Place(NamedTuple):
    """Where the other picture's pixels lie, in shares of its size: x' = x0 + x * width, and the same for y."""

    left: float
    top: float
    width: float
    height: float


WHOLE = Place(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Colours:
    """What brings the other picture's colours to this one's: a matrix and an offset."""

    matrix: Floats  # (3 3)
    offset: Floats  # (3)

    def __call__(self, rgb: Floats) -> Floats:
        return rgb @ self.matrix.T + self.offset


SAME = Colours(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))


def place(
    before: Floats, after: Floats, near: Place | None = None, tint: Colours = SAME, changed: Floats | None = None
) -> Place:
    """Where `before` (H W 3) in 0..1 lies in `after`, which may have another size.

    `near`, `tint` and `changed` (h w): where it lies, how its colours differ and what is something else (> 0), as far
    as that is known. Where nothing near fits, it is taken to lie where it is known to.

    Gauss-Newton from a coarse picture to a fine one, over two shifts, two scales, and each colour's gain and offset.
    """
    height, width, _ = before.shape
    found = near or WHOLE
    finest = min(1.0, _FINE / max(height, width))
    scale = finest if near else min(finest, _COARSE / min(height, width))
    while True:
        size = max(8, round(width * scale)), max(8, round(height * scale))
        found = _refined(_resized(before, size), after, found, tint, changed) or found
        if scale >= finest:
            return found
        scale = min(finest, scale * 2)


def taken(after: Floats, at: Place, width: int, height: int) -> Floats:
    """`after` as `before` lies in it, (H W) or (H W 3) at `before`'s size; what lies outside of it repeats its edge."""
    if after.ndim == 3:
        return np.dstack([taken(after[..., c], at, width, height) for c in range(after.shape[2])])
    rows, columns = after.shape
    edge = 8 + round(0.1 * max(rows, columns))
    padded = Image.fromarray(np.pad(after, edge, mode="edge"))
    left, top = at.left * columns + edge, at.top * rows + edge
    box = (left, top, left + at.width * columns, top + at.height * rows)
    return np.asarray(padded.resize((width, height), Image.Resampling.LANCZOS, box))


def covered(at: Place, size: tuple[int, int], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Where the other picture, of this shape, has pixels of its own (H W), and not its edge repeated."""
    width, height = size
    x = at.left + at.width * (np.arange(width) + 0.5) / width
    y = at.top + at.height * (np.arange(height)[:, None] + 0.5) / height
    # The outermost pixel is mixed with the edge repeated. A picture that lies on the other one to the edge needs no
    # margin.
    margin_x = 0 if abs(at.left) + abs(at.width - 1) < 0.05 / width else 1 / shape[1]
    margin_y = 0 if abs(at.top) + abs(at.height - 1) < 0.05 / height else 1 / shape[0]
    return (x > margin_x) & (x < 1 - margin_x) & (y > margin_y) & (y < 1 - margin_y)


def colours(before: Floats, after: Floats, region: NDArray[np.bool_] | None = None) -> Colours:
    """The colours of `after`, which lies on `before` already (both H W 3), brought to `before`'s.

    `region`: where they may differ for another reason.
    """
    inside = ~clipped(after).any(2)
    inside = (inside if region is None else inside & ~region).reshape(-1)
    x = after.reshape(-1, 3)[inside]
    y = before.reshape(-1, 3)[inside]
    if len(x) < 100:
        return SAME
    stride = max(1, len(x) // 50_000)
    x, y = x[::stride].astype(np.float64), y[::stride].astype(np.float64)
    known = np.column_stack([x, np.ones(len(x))])
    # A picture of one colour says nothing of the others: those stay as they are.
    usual, pull = np.vstack([np.eye(3), np.zeros((1, 3))]), 1e-4 * len(x) * np.eye(4)
    solution = usual
    for _ in range(_ROUNDS):
        residual = np.sqrt(((known @ solution - y) ** 2).mean(1))
        weight = _tukey(residual, _deviation(residual))
        normal = known.T @ (weight[:, None] * known) + pull
        solution = np.linalg.solve(normal, known.T @ (weight[:, None] * y) + pull @ usual)
    return Colours(solution[:3].T.astype(np.float32), solution[3].astype(np.float32))


def clipped(rgb: Floats) -> NDArray[np.bool_]:
    """Where a channel is as dark or as bright as can be, and may have been more so."""
    return (rgb > 254.5 / 255) | (rgb < 0.5 / 255)


def _refined(before: Floats, after: Floats, found: Place, tint: Colours, changed: Floats | None) -> Place | None:
    """A better place, at the size of `before` (H W 3); None where there is none near."""
    height, width, _ = before.shape
    # Resampling draws sharp edges over a pixel or two, each filter in its own way. Blurred alike, edges fit that lie
    # in one place, and only those.
    before = blurred(before)
    down, across = np.gradient(before, axis=(0, 1))
    slope = np.asarray(np.hypot(down, across).mean(2))
    if changed is not None:
        slope[np.asarray(Image.fromarray(changed).resize((width, height), Image.Resampling.BICUBIC)) > 0] = 0
    if not slope.any():
        return found
    # Plain areas fit wherever they lie: pixels are drawn by how steep they are.
    chances = (slope / slope.sum(dtype=np.float64)).reshape(-1)
    picked = np.unique(np.random.default_rng(0).choice(chances.size, _PIXELS, p=chances / chances.sum()))
    rows, columns = np.divmod(picked, width)
    x, y = ((columns + 0.5) / width)[:, None], ((rows + 0.5) / height)[:, None]
    wanted = before[rows, columns].astype(np.float64)
    # As many pixels as are asked for, so that each of them is the mean of those that it stands for.
    after = blurred(_resized(after, (max(8, round(width / found.width)), max(8, round(height / found.height)))))
    gain, offset = np.ones(3), np.zeros(3)
    # A picture may say little of one of these. They are then taken to be as they mostly are, by so much.
    doubt = np.array([1.0, 1.0, 0.02, 0.005, *[0.2] * 3, *[0.1] * 3])
    for k in range(_ROUNDS):
        raw = taken(after, found, width, height)
        sure = covered(found, (width, height), after.shape)[rows, columns] & ~clipped(raw[rows, columns]).any(1)
        seen = tint(raw)
        down, across = np.gradient(seen, axis=(0, 1))
        dy = (gain * (height / found.height) * np.asarray(down)[rows, columns])[sure]
        dx = (gain * (width / found.width) * np.asarray(across)[rows, columns])[sure]
        here = seen[rows, columns][sure]
        residual = gain * here + offset - wanted[sure]
        apart = np.sqrt((residual**2).mean(1))
        deviation = _deviation(apart)
        # What is far off at first may be near yet.
        weight = np.sqrt(_tukey(apart, deviation * (1 + 4 * 0.5**k)))[:, None]
        wider, higher = dx * (x[sure] - 0.5), dy * (y[sure] - 0.5)
        slopes = np.stack([dx, dy, wider + higher, wider - higher], 2)
        channels = np.eye(3)[None] * np.ones_like(here)[..., None]
        slopes = np.concatenate([slopes, here[..., None] * channels, channels], 2)
        now = [0, 0, (found.width + found.height) / 2 - 1, (found.width - found.height) / 2, *(gain - 1), *offset]
        step = np.linalg.lstsq(
            np.vstack([(weight[..., None] * slopes).reshape(-1, 10), np.diag(deviation / doubt)]),
            -np.concatenate([(weight * residual).reshape(-1), deviation / doubt * now]),
        )[0]
        wide, high = found.width + step[2] + step[3], found.height + step[2] - step[3]
        left = found.left + step[0] - (wide - found.width) / 2
        top = found.top + step[1] - (high - found.height) / 2
        far = max(abs(left), abs(top), abs(left + wide - 1), abs(top + high - 1))
        if not far < FAR:
            return None
        found = Place(float(left), float(top), float(wide), float(high))
        gain, offset = gain + step[4:7], offset + step[7:]
        if k > 3 and np.abs(step[:4]).max() < _NEAR / max(width, height):
            break
    return found


def _deviation(residual: NDArray[np.floating]) -> float:
    """The standard deviation of what fits, from the median of all residuals (>= 0)."""
    return max(1.4826 * float(np.median(residual)) if residual.size else 0.0, _LEAST)


def _tukey(residual: NDArray[np.floating], deviation: float) -> NDArray[np.float64]:
    """The weight of each residual (>= 0): 1 where it is usual, 0 where it is no chance."""
    return (1 - np.minimum(residual / (_TUKEY * deviation), 1).astype(np.float64) ** 2) ** 2


def blurred(rgb: Floats) -> Floats:
    """Each pixel's mean with its neighbours, of binomial weights over 5 x 5: a Gaussian of one pixel."""
    for axis in (0, 1):
        padding = [(2, 2) if axis == k else (0, 0) for k in range(3)]
        padded, length = np.pad(rgb, padding, mode="edge"), rgb.shape[axis]
        parts = [weight * padded.take(range(k, k + length), axis) for k, weight in enumerate((1, 4, 6, 4, 1))]
        rgb = np.asarray(np.sum(parts, 0, dtype=np.float32) / 16, np.float32)
    return rgb


def _resized(rgb: Floats, size: tuple[int, int]) -> Floats:
    return rgb if size == (rgb.shape[1], rgb.shape[0]) else taken(rgb, WHOLE, *size)

"""The metrics of the public benchmarks, by the formulas they were published with, quirks included.

PIE-Bench's are those of its evaluation code (Ju et al. 2023, cure-lab/PnPInversion): the region that may change is set
to zero in both pictures, and the zeroed pixels count in every mean; pixels on the picture's edge always are region;
where the region is the whole picture the value is the string "nan". Pictures are (H W 3) uint8, regions (H W) bool.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Rgb = NDArray[np.uint8]
Distance = Callable[[Tensor, Tensor], float]  # of two pictures (1 3 H W) in 0..1
Value = float | Literal["nan"]

# What papers print: PIE-Bench's tables scale these columns.
SHOWN_TIMES = {"structure_distance": 1e3, "lpips": 1e3, "mse": 1e4, "ssim": 1e2}


@dataclass(frozen=True)
class Clip:
    """A CLIP model as two functions to vectors."""

    of_picture: Callable[[Rgb], Tensor]
    of_text: Callable[[str], Tensor]


@dataclass(frozen=True)
class Scorers:
    """Metrics that need weights, None for those that can't be had; `missing` says why, one sentence each."""

    structure: Distance | None = None  # of pictures in 0..255
    lpips: Distance | None = None
    efficientnet: Distance | None = None
    clip: Clip | None = None
    missing: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the weights in use


def measure(
    scorers: Scorers, source: Rgb, result: Rgb, region: NDArray[np.bool_] | None, source_text: str, target_text: str
) -> dict[str, Value]:
    """Every metric that can be computed, under the names of PIE-Bench's evaluation code.

    With a region: the background's and the region's own. Without one: the same metrics of the whole picture.
    """
    if source.shape != result.shape:
        raise ValueError(f"the result is of shape {result.shape}, its source of {source.shape}")
    values: dict[str, Value] = {}
    if scorers.structure is not None:
        values["structure_distance"] = scorers.structure(_tensor(source, 1.0), _tensor(result, 1.0))
    distances: dict[str, Distance | None] = {
        "psnr": psnr, "lpips": scorers.lpips, "mse": mse, "ssim": ssim, "efficientnet_lite0": scorers.efficientnet,
    }  # fmt: skip
    region = None if region is None else with_edge(region)
    keep = np.ones(source.shape[:2], dtype=bool) if region is None else ~region
    before, after = (_tensor(rgb * keep[:, :, None], 1 / 255) for rgb in (source, result))
    for name, distance in distances.items():
        if distance is not None:
            key = name if region is None else f"{name}_unedit_part"
            values[key] = distance(before, after) if keep.any() else "nan"
    if scorers.clip is not None:
        values |= _clip_scores(scorers.clip, source, result, region, source_text, target_text)
    return values


def _clip_scores(
    clip: Clip, source: Rgb, result: Rgb, region: NDArray[np.bool_] | None, source_text: str, target_text: str
) -> dict[str, Value]:
    """CLIP scores, and where there is a source text the direction score: of the picture's change with the prompt's."""
    picture, text = clip.of_picture(result), clip.of_text(target_text)
    values: dict[str, Value] = {"clip_similarity_target_image": clip_score(picture, text)}
    if region is not None:
        # The edge is region, so there always is one: the published "nan" for an empty region can't come up.
        inside = clip.of_picture(result * region[:, :, None])
        values["clip_similarity_target_image_edit_part"] = clip_score(inside, text)
    if source_text:
        old_picture, old_text = clip.of_picture(source), clip.of_text(source_text)
        moved, asked = _unit(picture) - _unit(old_picture), _unit(text) - _unit(old_text)
        values["clip_similarity_source_image"] = clip_score(old_picture, old_text)
        values["clip_direction"] = 100 * F.cosine_similarity(moved, asked, dim=0).item()
    return values


def with_edge(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region and the picture's outermost pixels, which PIE-Bench adds against annotation errors at the edge."""
    region = region.copy()
    region[[0, -1], :] = True
    region[:, [0, -1]] = True
    return region


def mse(a: Tensor, b: Tensor) -> float:
    """Mean squared error of pictures in 0..1."""
    return (a - b).square().mean().item()


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1; infinite where they are the same."""
    error = mse(a, b)
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of pictures (1 c H W) in 0..1: Gaussian window of 11, sigma 1.5.

    Averaged over whole windows only, as torchmetrics did until its pull request 2721 of 2024-09 and as the published
    tables therefore do; later versions average over reflected borders too and give other values.
    """
    size = 11
    if min(a.shape[-2:]) < size:
        raise ValueError(f"SSIM needs pictures of at least {size}x{size} pixels")
    x = torch.arange(size, dtype=a.dtype) - size // 2
    bell = torch.exp(-(x**2) / (2 * 1.5**2))
    window = torch.outer(bell, bell) / bell.sum() ** 2
    channels = a.shape[1]
    window = window.expand(channels, 1, size, size)

    def blur(v: Tensor) -> Tensor:
        return F.conv2d(v, window, groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a = (blur(a * a) - mean_a**2).clamp(min=0)
    var_b = (blur(b * b) - mean_b**2).clamp(min=0)
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (var_a + var_b + c2)).mean().item()


def clip_score(picture: Tensor, text: Tensor) -> float:
    """100 times the cosine of two CLIP vectors, and 0 where it is negative (Hessel et al. 2021, as in torchmetrics)."""
    return max(0.0, 100 * F.cosine_similarity(picture, text, dim=0).item())


def self_similarity(keys: Tensor) -> Tensor:
    """Cosines of all pairs of tokens (t t), from an attention layer's keys (t d), heads side by side (Splice, 2022)."""
    norm = keys.norm(dim=1, keepdim=True)
    return keys @ keys.T / (norm @ norm.T).clamp(min=1e-8)


def vit_input(picture: Tensor) -> Tensor:
    """What PIE-Bench shows DINO of a picture (1 3 H W) in 0..255: the shorter side 224, the longer at most 480.

    The quirk that its scale comes from: ImageNet's mean and deviation of 0..1 are applied to 0..255. Bilinear without
    antialiasing, the default for tensors in the torchvision 0.13 that its README installs.
    """
    height, width = picture.shape[-2:]
    short, long = min(height, width), max(height, width)
    new_short, new_long = 224, int(224 * long / short)
    if new_long > 480:
        new_short, new_long = int(480 * new_short / new_long), 480
    size = (new_short, new_long) if height <= width else (new_long, new_short)
    picture = F.interpolate(picture.float(), size, mode="bilinear", align_corners=False, antialias=False)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (picture - mean) / std


def _tensor(rgb: NDArray[np.uint8], scale: float) -> Tensor:
    """(1 3 H W) float64, so that a mean over a few pixels that differ is not lost in rounding."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].double() * scale


def _unit(v: Tensor) -> Tensor:
    return v / v.norm()

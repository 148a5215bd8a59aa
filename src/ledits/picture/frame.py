"""How a picture lies on a network's grid: scaled to the working size, then padded at the bottom and the right.

A `Frame` carries pictures, masks and regions from one to the other and back. Arrays are (H W) or (H W 3).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ledits.picture import image


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Sizes in pixels: of the picture, as it was encoded (working), and as the network sees it (padded)."""

    width: int
    height: int
    working_width: int
    working_height: int
    padded_width: int
    padded_height: int

    @classmethod
    def of(cls, width: int, height: int, area: int | None, multiple: int) -> "Frame":
        """The frame of a picture that is worked on at no more than `area` pixels, with sides of whole `multiple`s."""
        w, h = image.fit(width, height, area)
        return cls(
            width=width,
            height=height,
            working_width=w,
            working_height=h,
            padded_width=w + -w % multiple,
            padded_height=h + -h % multiple,
        )

    def tensor(self, rgb: NDArray[np.uint8], multiple: int) -> Tensor:
        """The picture (H W 3) uint8 as a backbone takes it, (1 3 H' W') in -1..1."""
        if (self.working_width, self.working_height) != (rgb.shape[1], rgb.shape[0]):
            size = (self.working_width, self.working_height)
            rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
        return torch.from_numpy(image.pad(rgb, multiple)).permute(2, 0, 1)[None].float() / 127.5 - 1

    def picture(self, decoded: Tensor) -> NDArray[np.uint8]:
        """A decoded picture (3 H' W') in -1..1 at the original's size, (H W 3) uint8: cropped, scaled back."""
        rgb = ((decoded + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        rgb = rgb[: self.working_height, : self.working_width]
        if (self.width, self.height) != (self.working_width, self.working_height):
            rgb = np.asarray(Image.fromarray(rgb).resize((self.width, self.height), Image.Resampling.LANCZOS))
        return rgb

    def region(self, mask: NDArray[np.float32]) -> Tensor:
        """A mask (H W) in 0..1 at the picture's size as a region (1 1 H' W') of a concept; 0 in the padding."""
        size = (self.working_width, self.working_height)
        scaled = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BOX))
        padded = np.zeros((self.padded_height, self.padded_width), dtype=np.float32)
        padded[: size[1], : size[0]] = scaled.clip(0, 1)
        return torch.from_numpy(padded)[None, None]

    def inside(self, rows: int, columns: int) -> Tensor | None:
        """1 in each cell of the latent grid that holds some of the picture, (1 1 rows columns); None without padding.

        Masks take quantiles over the picture, and what was padded is not part of it.
        """
        if (self.working_width, self.working_height) == (self.padded_width, self.padded_height):
            return None
        cells = torch.zeros(1, 1, rows, columns)
        used_rows = -(-self.working_height * rows // self.padded_height)
        used_columns = -(-self.working_width * columns // self.padded_width)
        cells[..., :used_rows, :used_columns] = 1
        return cells

    def smooth(self, mask: Tensor) -> NDArray[np.float32]:
        """A mask of the latent grid (h w) at the picture's size (H W), running smoothly from cell to cell."""
        # The corners of cells say nothing about the picture: each cell is first averaged with its neighbours.
        cells = F.avg_pool2d(F.pad(mask.clamp(0, 1).float().cpu()[None, None], (1, 1, 1, 1), "replicate"), 3, stride=1)
        padded = F.interpolate(cells, (self.padded_height, self.padded_width), mode="bilinear")[0, 0].numpy()
        shown = Image.fromarray(padded[: self.working_height, : self.working_width])
        return np.asarray(shown.resize((self.width, self.height), Image.Resampling.BILINEAR)).clip(0, 1)


def overlay(rgb: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture (H W 3) in its own colours where the mask (H W) in 0..1 is open, dimmed to grey elsewhere."""
    share = mask[..., None]
    grey = 0.25 * rgb.mean(2, keepdims=True) + 40
    return (share * rgb + (1 - share) * grey).round().astype(np.uint8)

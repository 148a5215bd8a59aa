"""Pictures whose captions are known: some of the small scenes that come with us, which are no photographs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ledits.scenes.samples import SIDE, UNLIKE


@dataclass(frozen=True)
class Known:
    """A picture whose caption is known, at the model's own size."""

    rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    caption: str
    sides: tuple[str, str] | None = None  # a word for what is on the left, and one for what is on the right

    @classmethod
    def scenes(cls, side: int) -> "list[Known]":
        """Scenes that differ in all that their captions say."""
        found = list[Known]()
        for scene in UNLIKE:
            rgb = Image.fromarray(scene.render(SIDE)).resize((side, side), Image.Resampling.BICUBIC)
            sides = (scene.objects[0].name, scene.objects[1].name) if len(scene.objects) > 1 else None
            found.append(cls(np.asarray(rgb), scene.caption(), sides))
        return found

    def tensor(self) -> Tensor:
        """(3 H W) in -1..1."""
        return torch.from_numpy(self.rgb.copy()).permute(2, 0, 1).float() / 127.5 - 1


def stacked(pictures: Sequence[Known]) -> Tensor:
    """(b 3 H W) in -1..1."""
    return torch.stack([each.tensor() for each in pictures])

"""Pictures whose captions are known: some of the small scenes that come with us, which are no photographs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ledits.scenes import Placed, Scene
from ledits.scenes.samples import PAIR, SAMPLES, SIDE

# Alike in nothing: each caption is wrong of all others. The first shows a thing on the left and one on the right.
_SCENES = (
    *(SAMPLES[name] for name in (PAIR, "cat", "gift", "tree", "rocket", "panda")),
    Scene((Placed("owl", 32, 33, 36),), "yellow", 201),
    Scene((Placed("donut", 31, 34, 34),), "gray", 202),
    Scene((Placed("strawberry", 33, 32, 36),), "white", 203),
    Scene((Placed("fish", 32, 34, 36),), "pink", 204),
    Scene((Placed("car", 33, 33, 38),), "green", 205),
    Scene((Placed("penguin", 31, 33, 36),), "purple", 206),
)


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
        for scene in _SCENES:
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

"""Whether a model of a small world can work on a picture at all, and knows the words: said before anything is edited.

The bundled model has seen 32 objects on 13 backgrounds. A photograph comes back as a smear and an unknown word as any
object, unless somebody asks first. Two things tell, of the picture that its autoencoder gives back. Its own scenes come
back with 25.6 dB at worst, most photographs with 15 to 23. And of the differences between neighbouring pixels, which a
smear has lost, scenes lose a share of 0.50 at most, pixel art 0.644 (300 of them), photographs of a cat and a rocket,
which are smooth enough for 25 dB, 0.65 and 0.66. What is smoother still, such as the moon, passes; 5 of 26 photographs
and scans did.
"""

import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ledits.asked.recipe import Edit
from ledits.errors import Unsuited
from ledits.files import checkpoints
from ledits.files.checkpoints import World

if TYPE_CHECKING:
    from torch import Tensor

    from ledits.backbones import Backbone
    from ledits.picture.frame import Frame

logger = logging.getLogger(__name__)


def warn_of_words(backbone: "Backbone", *, captioned: bool) -> None:
    """Warn where a picture is inverted without a caption for a model that was distilled to few steps."""
    if not captioned and getattr(backbone, "distilled", False):
        logger.warning(
            "model %r was distilled to few steps and knows no picture without a caption: say what the picture shows "
            "(source, or a pipeline's caption), for edits by words alone start from nothing that it was trained on",
            backbone.name,
        )


def check_words(model: str, folder: Path | None, edits: Iterable[Edit], source: str = "") -> None:
    """Raise ValueError for a word that a model of a small world does not know; `folder` None: not at hand, no check."""
    known = None if folder is None else checkpoints.world(folder)
    if known is None:
        return
    for text in [source, *(part for edit in edits for part in (edit.old, edit.new))]:
        for word in re.findall(r"[^\W\d_]+", text):
            if word.lower() not in known.words:
                raise Unsuited(
                    f"model {model!r} does not know the word {word!r}, and `ledits models` lists the words that it "
                    "knows", "name another model, or go on with this one by anyway=True", option="anyway", given=word,
                    accepted=", ".join(sorted(known.words)),
                )  # fmt: skip


def check_picture(backbone: "Backbone", frame: "Frame", rgb: NDArray[np.uint8]) -> None:
    """Raise ValueError for a picture (H W 3) that a model of a small world could not even give back unchanged."""
    if (known := world(backbone.name)) is None:
        return
    shown = frame.tensor(rgb, backbone.multiple)
    back = backbone.decode(backbone.encode(shown))
    error = float(((frame.picture(back[0]).astype(np.float32) - rgb) ** 2).mean())
    smeared = error and 10 * math.log10(255**2 / error) < known.least_psnr
    if smeared or _lost(shown, back.to(shown)) > known.most_lost:
        raise Unsuited(
            f"model {backbone.name!r} can't draw such a picture, as it knows small scenes of emoji, and a photograph "
            "becomes a smear", "name a model for photographs, or go on with this one by anyway=True", option="anyway",
        )  # fmt: skip


def _lost(shown: "Tensor", back: "Tensor") -> float:
    """The share of the differences between neighbouring pixels, squared, that `back` has not; pictures (1 3 H W)."""
    pairs = [(x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]) for x in (shown, back.clamp(-1, 1))]
    lost = sum(float((a - b).square().sum()) for a, b in zip(*pairs, strict=True))
    # A plain background has none to lose: 5 levels of 255 from pixel to pixel count as there.
    there = sum(float(a.square().sum()) + (5.5 / 127.5) ** 2 * a.numel() for a in pairs[0])
    return lost / there


def world(model: str) -> World | None:
    """The small world of a model on this machine; None for all other models."""
    folder = local(model)
    return None if folder is None else checkpoints.world(folder)


def local(model: str) -> Path | None:
    """The folder of a model on this machine, None where there is none."""
    try:
        return checkpoints.find(model)
    except ValueError:
        return None

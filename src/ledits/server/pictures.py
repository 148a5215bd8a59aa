"""Pictures as clients send them and get them back. Those that they send are opened by `decoder.py` alone."""

import base64
import binascii
import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.datastructures import UploadFile

from ledits.editor import Edited
from ledits.picture import image
from ledits.picture.image import Picture
from ledits.server.errors import Refused

Format = Literal["png", "jpeg", "webp"]
_PIECE = 3 * 2**18  # bytes that become base64 at once: a multiple of 3
_PREVIEW = 768  # pixels: the longer side of a preview


def content(file: UploadFile) -> bytes:
    """All of a file that was sent. It lies on disk until a job needs it, so that what waits takes no memory."""
    file.file.seek(0)
    return file.file.read()


def from_text(text: str, param: str) -> bytes:
    """A picture's file sent within JSON, as base64 or as a data URL."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"{param} is no base64 of a picture", param=param, code="invalid_image") from None


def openai_mask(mask: Picture) -> NDArray[np.uint8]:
    """A region (H W) from a mask as OpenAI has them: where it is transparent, the picture may change."""
    if mask.alpha is None or not (mask.alpha < 255).any():
        raise Refused(
            "the mask is opaque everywhere, so nothing could change: make it transparent (alpha 0) where the picture "
            "may change",
            param="mask", code="invalid_mask",
        )  # fmt: skip
    return 255 - mask.alpha


def check(picture: Picture, kind: Format) -> None:
    """Raise Refused, before an edit is drawn, for a format that can't hold the picture's transparency."""
    if picture.alpha is not None and kind == "jpeg":
        raise Refused(
            "JPEG can't hold the picture's transparency: ask for png or webp, or an opaque background",
            param="output_format", code="invalid_value",
        )  # fmt: skip


def encoded(edited: Edited, kind: Format, *, size: tuple[int, int] | None = None, quality: int | None = None,
            opaque: bool = False) -> bytes:  # fmt: skip
    """The result's file, as the command line writes it where no size is asked for."""
    rgb, alpha = edited.rgb, None if opaque else edited.inversion.picture.alpha
    if size is not None and size != (rgb.shape[1], rgb.shape[0]):
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
        alpha = None if alpha is None else np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.LANCZOS))
    # PNG has no quality. OpenAI's begin at 0, and those of files at 1.
    quality = None if quality is None or kind == "png" else max(quality, 1)
    name = Path(f"edited.{kind}")
    try:
        return image.encode(name, rgb, alpha, edited.recipe.to_json(), quality=quality)
    except ValueError:
        # A recipe with painted regions is longer than a JPEG can hold; the answer carries it beside the picture.
        return image.encode(name, rgb, alpha, None, quality=quality)


def text(data: bytes) -> str:
    """Bytes as JSON carries them; piece by piece, as the whole interpreter waits for each."""
    return "".join(base64.b64encode(data[k : k + _PIECE]).decode() for k in range(0, len(data), _PIECE))


def small(edited: Edited) -> tuple[int, int]:
    """The size of a picture to look at among others: its own, or smaller."""
    height, width, _ = edited.rgb.shape
    scale = min(1.0, _PREVIEW / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def png(picture: Image.Image) -> str:
    """Base64 of a PNG, for masks and reconstructions."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return text(buffer.getvalue())


def from_base64(data: str) -> bytes:
    """Bytes of what JSON carried."""
    return base64.b64decode(data)


def upright(picture: Picture) -> bytes:
    """A PNG of a picture as editors see it: upright, sRGB, 8 bits."""
    return image.encode(Path("picture.png"), picture.rgb, picture.alpha, None)


def file(picture: Image.Image, kind: Format, size: tuple[int, int] | None) -> bytes:
    """A preview's file, at a size where one is asked for."""
    buffer = io.BytesIO()
    shown = picture if size is None else picture.resize(size, Image.Resampling.LANCZOS)
    shown.save(buffer, kind.upper())
    return buffer.getvalue()


def preview(picture: Image.Image) -> str:
    """Base64 of a JPEG that is small and soon made."""
    buffer = io.BytesIO()
    if max(picture.size) > _PREVIEW:
        picture.thumbnail((_PREVIEW, _PREVIEW))
    picture.save(buffer, "JPEG", quality=80)
    return text(buffer.getvalue())

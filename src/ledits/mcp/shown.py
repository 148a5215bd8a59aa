"""Pictures small enough for a chat: hosts refuse answers of 1 MB, and some count a picture's base64 as text."""

import io
from collections.abc import Sequence

from mcp.server.mcpserver import Image as Content
from PIL import Image, ImageDraw, ImageFont

SIDE = 512  # pixels of the longer side
BYTES = 24_000  # of the file: 32,000 characters as base64
_LABEL = 18


def small(picture: Image.Image) -> Image.Image:
    """A picture at no more than `SIDE` pixels; transparency over white."""
    picture = picture.copy()
    if picture.mode != "RGB":
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def content(picture: Image.Image) -> Content:
    """A picture as an answer holds it: a JPEG of no more than `BYTES`."""
    picture = small(picture)
    while True:
        for quality in (85, 70, 55):
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= BYTES or max(picture.size) <= 64:
                return Content(data=buffer.getvalue(), format="jpeg")
        picture = picture.resize((max(1, picture.width * 3 // 4), max(1, picture.height * 3 // 4)))


def sheet(cells: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures side by side, three in a row, each with a line below it."""
    columns = min(3, len(cells))
    rows = -(-len(cells) // columns)
    side = SIDE // columns
    thumbs = [(label, small(picture)) for label, picture in cells]
    for _, thumb in thumbs:
        thumb.thumbnail((side, side), Image.Resampling.LANCZOS)
    width, height = (max(thumb.size[k] for _, thumb in thumbs) for k in (0, 1))
    whole = Image.new("RGB", (columns * width, rows * (height + _LABEL)), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for k, (label, thumb) in enumerate(thumbs):
        left, top = k % columns * width, k // columns * (height + _LABEL)
        whole.paste(thumb, (left, top))
        draw.text((left + 4, top + height + 2), label, "black", font)
    return whole

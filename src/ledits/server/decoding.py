"""The process that opens pictures of strangers, one after the other: `python -m ledits.server.decoding LIMITS`.

A file of a few kilobytes can keep a decoder busy for minutes or make it allocate gigabytes. Here it does so in a
process of its own, which `decoder.py` ends. Messages are frames: a length, JSON, and the bytes that the JSON announces.
"""

import contextlib
import io
import json
import struct
import sys
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from ledits.asked.recipe import Recipe
from ledits.picture import image

Image.init()
# Those that this Pillow has, as asking for another fails; HEIF is pillow-heif's, and MPO is opened as JPEG.
_WANTED = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF")
_OPENED = tuple(name for name in _WANTED if name in Image.OPEN)
_LYING = (5, 6, 7, 8)  # values of EXIF's orientation with which width and height change places
_PNG = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_TIFF_SIZE = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
_LENGTH = struct.Struct("<Q")


def send(pipe: BinaryIO, about: dict[str, Any], parts: Sequence[bytes | memoryview] = ()) -> None:
    """Write a frame."""
    head = json.dumps({**about, "parts": [len(part) for part in parts]}).encode()
    pipe.write(_LENGTH.pack(len(head)) + head)
    for part in parts:
        pipe.write(part)
    pipe.flush()


def receive(pipe: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
    """Read a frame; EOFError where the other side has gone."""
    about = json.loads(_whole(pipe, _LENGTH.unpack(_whole(pipe, _LENGTH.size))[0]))
    return about, [_whole(pipe, length) for length in about["parts"]]


def _whole(pipe: BinaryIO, length: int) -> bytes:
    data = pipe.read(length)
    if len(data) < length:
        raise EOFError
    return data


def look(data: bytes, limits: dict[str, int]) -> dict[str, Any]:
    """{"size": [width, height]} upright, as the header claims, or {"refused": a sentence, "large": is it too large}."""
    if data.startswith(_PNG) and _chunks(data, limits["chunks"]) > limits["chunks"]:
        return _refused(f"has more than {limits['chunks']:,} parts (chunks): save it again with another program")
    try:
        Image.MAX_IMAGE_PIXELS = None  # which would refuse without saying the size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_OPENED) as opened:
                width, height = _upright(opened, data)
    except Exception:
        return _refused("is no picture that this server can read: send PNG, JPEG, WebP, TIFF, BMP or GIF")
    smaller = ": send a smaller picture"
    if width * height > limits["pixels"]:
        claimed = f"has {width}x{height} pixels and this server takes {limits['pixels']:,} at most"
        return _refused(claimed + smaller, large=True)
    if max(width, height) > limits["side"]:
        claimed = f"is {width}x{height} pixels and this server takes sides of {limits['side']:,} at most"
        return _refused(claimed + smaller, large=True)
    if max(width, height) > limits["aspect"] * min(width, height):
        claimed = f"is {width}x{height} pixels, and one side may be {limits['aspect']} times the other at most"
        return _refused(f"{claimed}: crop it")
    return {"size": [width, height]}


def _upright(opened: Image.Image, data: bytes) -> tuple[int, int]:
    """Width and height as `image.read` will have them, by the header alone."""
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        # Pillow says the size of a TIFF lying or upright: that depends on its version.
        width, height = (int(opened.tag_v2[tag]) for tag in _TIFF_SIZE)
        lying = opened.tag_v2.get(ExifTags.Base.Orientation) in _LYING
    else:
        width, height = opened.size
        lying = _orientation(opened, data) in _LYING
    return (height, width) if lying else (width, height)


def _orientation(opened: Image.Image, data: bytes) -> object:
    """EXIF's orientation; None where there is none, or none that can be parsed, as `image.read` then has it too."""
    with contextlib.suppress(Exception):
        if opened.format != "PNG":
            return opened.getexif().get(ExifTags.Base.Orientation)
        # It may stand behind the pixels, which Pillow would decode to get there.
        with Image.open(io.BytesIO(_without_pixels(data)), formats=("PNG",)) as head:
            # PngImageFile's own getexif decodes, too, where it has found nothing.
            return Image.Image.getexif(head).get(ExifTags.Base.Orientation)
    return None


def _without_pixels(data: bytes) -> bytes:
    """A PNG's chunks but for those of pixels. Their sums are made anew: behind the pixels Pillow checks none."""
    at, kept = len(_PNG), [_PNG]
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"IDAT", b"fdAT", b"IEND"):
            kept += [data[at:end], zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")]
        at = end + 4
    return b"".join([*kept, _END])


def _refused(why: str, *, large: bool = False) -> dict[str, Any]:
    return {"refused": why, "large": large}


def _chunks(data: bytes, most: int) -> int:
    """How many chunks a PNG has, counted to one more than `most`."""
    at, number = len(_PNG), 0
    while at + 8 <= len(data) and number <= most:
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        number += 1
    return number


def read(data: bytes) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """The picture's pixels and alpha, or {"error": a sentence}."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = image.read(data)
    except ValueError as error:
        return {"error": str(error)}, []
    planes = [picture.rgb] if picture.alpha is None else [picture.rgb, picture.alpha]
    height, width, _ = picture.rgb.shape
    return {"size": [width, height], "sha256": picture.sha256}, [np.ascontiguousarray(p).data.cast("B") for p in planes]


def recipe(data: bytes) -> tuple[dict[str, Any], list[bytes | memoryview]]:
    """The recipe's JSON, nothing where there is none that this version reads, or {"error": a sentence}."""
    try:
        found = image.read_recipe(data)
    except ValueError as error:
        return {"error": str(error)}, []
    try:
        return {}, [] if found is None else [json.dumps(Recipe.from_json(found, "the picture").to_json()).encode()]
    except (ValueError, TypeError, RecursionError):
        return {}, []


def main() -> None:
    limits: dict[str, int] = json.loads(sys.argv[1])
    if sys.platform != "win32":
        import resource

        # Room for the interpreter, its libraries and all copies of the largest picture; a bomb ends here.
        most = 2**31 + 32 * limits["pixels"]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    asked, answered = sys.stdin.buffer, sys.stdout.buffer
    send(answered, {"ready": True})
    while True:
        try:
            question, (data,) = receive(asked)
        except EOFError:
            return
        Image.MAX_IMAGE_PIXELS = limits["pixels"]
        match question["what"]:
            case "look":
                send(answered, look(data, limits))
            case "read":
                send(answered, *read(data))
            case _:
                send(answered, *recipe(data))


if __name__ == "__main__":
    main()

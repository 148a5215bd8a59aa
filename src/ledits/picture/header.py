"""What an inversion file says of itself, read without torch and without its tensors."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ledits.errors import FileMissing

FORMAT = 3
ENDING = ".safetensors"


def header(path: Path) -> dict[str, Any]:
    """The header of an inversion; ValueError, one sentence, for a file that is none."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        raise FileMissing(path) from None
    if stat.S_ISDIR(kind):
        raise ValueError(f"{path} is a folder: pass an inversion that `ledits invert` wrote.")
    if not stat.S_ISREG(kind):
        raise ValueError(f"{path} is no regular file: pass an inversion that `ledits invert` wrote.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("ledits")
        value: object = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no whole .safetensors file ({error}): make it again with `ledits invert`"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no inversion of ledits: make one with `ledits invert`")
    if value.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise ValueError(f"{path} is an inversion of another format than this ledits reads ({FORMAT}): make it again")
    return value  # pyright: ignore[reportUnknownVariableType]

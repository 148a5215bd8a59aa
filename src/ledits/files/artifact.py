"""An inversion as one .safetensors file, with what it belongs to; anything that doesn't match is refused in one
sentence.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ledits.files import atomic as files
from ledits.method.core import Inversion, Schedule

FORMAT = 2


@dataclass(frozen=True)
class Origin:
    """Where an inversion comes from: the checkpoint, the picture and the settings that make it again."""

    model: str
    fingerprint: str  # of the checkpoint's files
    picture: str  # sha256 of the picture's pixels
    width: int  # of the picture, pixels
    height: int
    working_width: int  # at which it was encoded, before padding
    working_height: int
    padded_width: int  # at which the network sees it
    padded_height: int
    area: int | None  # largest area to work at that was asked for, pixels
    seed: int
    skip: float
    source: str
    source_scale: float
    negative: str
    dtype: str
    device: str
    format: int = FORMAT

    @property
    def described(self) -> bool:
        """Whether edits start from the source prompt as the picture's description."""
        return bool(self.source) and not self.source_scale


def save(path: Path, inversion: Inversion, origin: Origin, *, overwrite: bool = False) -> None:
    """Write one picture's inversion: path, predictions and schedule, in the dtype they are held in."""
    check_writable(path, overwrite=overwrite)
    tensors = {"x": inversion.x, "x0": inversion.denoised}
    if inversion.base_denoised is not inversion.denoised:
        tensors["null_x0"] = inversion.base_denoised
    s = inversion.schedule
    header = {**asdict(origin), "t": s.t, "alpha": s.alpha, "sigma": s.sigma, "order": s.order}
    with files.written(path, overwrite=overwrite) as temporary:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary, {"ledits": json.dumps(header)})


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raise the ValueError that `save` would, before any long computation."""
    files.check_writable(path, (".safetensors",), overwrite=overwrite)


def header(path: Path) -> dict[str, Any]:
    """What an inversion file says of itself, without reading its tensors."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: pass an inversion that `ledits invert` wrote.")
    if not path.exists():
        raise ValueError(f"There is no file {path}: check the name and the folder.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("ledits")
        value: object = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is no whole .safetensors file ({error}): make it again with `ledits invert`"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no inversion of ledits: make one with `ledits invert`")
    if value.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise ValueError(f"{path} is an inversion of another format than this ledits reads ({FORMAT}): make it again")
    return value  # pyright: ignore[reportUnknownVariableType]


def load(path: Path) -> tuple[Inversion, Origin]:
    """An inversion and its origin; ValueError for a foreign, damaged or incomplete file."""
    value = header(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        origin = Origin(**{field.name: value[field.name] for field in fields(Origin)})
        schedule = Schedule(tuple(value["t"]), tuple(value["alpha"]), tuple(value["sigma"]), value["order"])
        x, x0 = tensors["x"], tensors["x0"]
        null_x0 = tensors.get("null_x0", x0)
        if x.shape[0] != len(schedule) + 1 or x0.shape != x[1:].shape or null_x0.shape != x0.shape:
            raise ValueError("its tensors don't fit its schedule")
        if not all(bool(v.isfinite().all()) for v in tensors.values()):
            raise ValueError("it holds values that are not finite")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is a damaged inversion ({error}): make it again with `ledits invert`") from None
    null, source = (origin.source, "") if origin.described else (origin.negative, origin.source)
    return Inversion(schedule, x, x0, null_x0, null, source, origin.source_scale), origin


def check(origin: Origin, where: Path, *, fingerprint: str, model: str, picture: str) -> None:
    """Refuse an inversion that was made of another picture or with another checkpoint."""
    if origin.picture != picture:
        raise ValueError(
            f"{where} is the inversion of another picture ({origin.width}x{origin.height}): invert this one first"
        )
    if origin.fingerprint != fingerprint:
        raise ValueError(
            f"{where} was made with model {origin.model!r} ({origin.fingerprint[:8]}), "
            f"not with {model!r} ({fingerprint[:8]}): pass that model or invert again"
        )

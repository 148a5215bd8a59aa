"""An inversion as one .safetensors file, with what it belongs to; anything that doesn't match is refused in one
sentence.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ledits.asked.recipe import checked_levels
from ledits.asked.settings import Settings, checked
from ledits.files import atomic as files
from ledits.method.core import Inversion, Schedule
from ledits.picture.frame import Frame
from ledits.picture.header import ENDING, FORMAT, header

_STATE = "state"  # files from before it was kept have none: their path is predicted again
_NAMES = {"format", "model", "fingerprint", "picture", "dtype", "device", "settings", "frame"}
_SCHEDULE = {"t", "alpha", "sigma", "order"}
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an inversion comes from: the checkpoint, the picture and the settings that make it again."""

    model: str
    fingerprint: str  # of the checkpoint's files
    picture: str  # sha256 of the picture's pixels
    frame: Frame
    settings: Settings
    dtype: str
    device: str
    levels: tuple[int, ...] | None = None  # of a draft: which of the settings' steps it has
    state: str = ""  # a token of what the network was when it predicted along the path
    format: int = FORMAT


def save(path: Path, inversion: Inversion, provenance: Provenance, *, overwrite: bool = False) -> None:
    """Write one picture's inversion: path, predictions and schedule, in the dtype they are held in."""
    check_writable(path, overwrite=overwrite)
    tensors = {"x": inversion.x, "denoised": inversion.denoised}
    if inversion.base_denoised is not inversion.denoised:
        tensors["base_denoised"] = inversion.base_denoised
    s = inversion.schedule
    header = {**asdict(provenance), "t": s.t, "alpha": s.alpha, "sigma": s.sigma, "order": s.order}
    if provenance.levels is None:
        del header["levels"]
    if s.noised:
        header["noised"] = s.noised
    with files.written(path, overwrite=overwrite) as temporary:
        try:
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary, {"ledits": json.dumps(header)})
        except SafetensorError as error:
            raise ValueError(f"{path} cannot be written ({error}): choose another folder.") from None


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Raise the ValueError that `save` would, before any long computation."""
    files.check_writable(path, (ENDING,), overwrite=overwrite)


def load(path: Path, device: torch.device | None = None) -> tuple[Inversion, Provenance]:
    """An inversion on a device and its provenance; ValueError for a foreign, damaged or incomplete file.

    Sizes are compared before anything is allocated: a file can claim any.
    """
    value = header(path)
    try:
        if set(value) - {_STATE, "levels", "noised"} != _NAMES | _SCHEDULE:
            raise ValueError(f"it must hold exactly {', '.join(sorted(_NAMES | _SCHEDULE))}")
        value.setdefault(_STATE, "")
        for name in ("model", "fingerprint", "picture", "dtype", "device", _STATE):
            if not isinstance(value[name], str):
                raise ValueError(f"its {name} is {value[name]!r}, where a text is needed")
        settings = Settings.from_json(value["settings"])
        provenance = Provenance(
            model=value["model"],
            fingerprint=value["fingerprint"],
            picture=value["picture"],
            frame=checked(Frame, value["frame"], "frame"),
            settings=settings,
            levels=checked_levels(value.get("levels"), settings.steps),
            dtype=value["dtype"],
            device=value["device"],
            state=value[_STATE],
        )
        schedule = _schedule(value)
        steps = settings.steps if provenance.levels is None else len(provenance.levels)
        if len(schedule) != steps:
            raise ValueError(f"it has {len(schedule)} levels for {steps} steps")
        tensors = _tensors(path, schedule, provenance.frame)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"{path} is a damaged inversion ({error}): make it again with `ledits invert`") from None
    s = provenance.settings
    null, source = (s.source, "") if s.mode == "caption" else (s.negative, s.source)
    tensors = {name: each.to(device or "cpu") for name, each in tensors.items()}
    denoised = tensors["denoised"]
    return Inversion(
        schedule, tensors["x"], denoised, tensors.get("base_denoised", denoised), null, source, s.source_scale
    ), provenance


def _schedule(value: dict[str, Any]) -> Schedule:
    t, alpha, sigma = (_numbers(value[name], name) for name in ("t", "alpha", "sigma"))
    schedule = Schedule(t, alpha, sigma, value["order"])
    if (given := value.get("noised")) is None:
        return schedule
    if not isinstance(given, list) or len(cast("list[object]", given)) != 2:
        raise ValueError("its noised must be two lists of numbers")
    alphas, sigmas = (_numbers(each, "noised") for each in cast("list[object]", given))
    if not len(alphas) == len(sigmas) == len(alpha):
        raise ValueError("its noised has other levels than its schedule")
    return replace(schedule, noised=(alphas, sigmas))


def _numbers(listed: object, name: str) -> tuple[float, ...]:
    if not isinstance(listed, list) or not all(
        isinstance(v, int | float) and math.isfinite(v) for v in cast("list[object]", listed)
    ):
        raise ValueError(f"its {name} must be a list of finite numbers")
    return tuple(float(v) for v in cast("list[float]", listed))


def _tensors(path: Path, schedule: Schedule, frame: Frame) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        if not {"x", "denoised"} <= set(shapes) <= {"x", "denoised", "base_denoised"}:
            raise ValueError(
                f"it holds {', '.join(sorted(shapes))}, where x, denoised and perhaps base_denoised are needed"
            )
        x, n = shapes["x"], len(schedule)
        if len(x) != 5 or x[0] != n + 1 or x[1] != 1 or any(s != (n, *x[1:]) for k, s in shapes.items() if k != "x"):
            raise ValueError("its tensors don't fit its schedule")
        rows, columns = x[3:]
        if not rows or not columns or frame.padded_height % rows or frame.padded_width % columns:
            raise ValueError("its tensors don't fit the picture's size")
        if frame.padded_height // rows != frame.padded_width // columns:
            raise ValueError("its tensors don't fit the picture's size")
        if any(file.get_slice(key).get_dtype() not in _DTYPES for key in shapes):
            raise ValueError("its tensors must be of float32, float16 or bfloat16")
        tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key) for key in shapes}
    if not all(bool(v.isfinite().all()) for v in tensors.values()):
        raise ValueError("it holds values that are not finite")
    return tensors


def check(provenance: Provenance, where: Path, *, fingerprint: str, model: str, picture: str, frame: Frame) -> None:
    """Refuse an inversion of another picture, or with another checkpoint; `frame` is how the picture lies on it."""
    if provenance.picture != picture:
        size = f"{provenance.frame.width}x{provenance.frame.height}"
        raise ValueError(f"{where} is the inversion of another picture ({size}): invert this one first")
    if provenance.fingerprint != fingerprint:
        raise ValueError(
            f"{where} was made with model {provenance.model!r} ({provenance.fingerprint[:8]}), "
            f"not with {model!r} ({fingerprint[:8]}): pass that model or invert again"
        )
    if provenance.frame != frame:
        raise ValueError(f"{where} is a damaged inversion (its sizes are not the picture's): invert it again")

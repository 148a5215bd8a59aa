"""diffusers' own pipeline of a model's parts: it knows how additions to them are read, and what the network is told."""

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
from diffusers.schedulers.scheduling_ddim import DDIMScheduler


def pipeline(family: str, parts: Mapping[str, Any], index: Mapping[str, Any], scheduler: Any = None) -> Any:
    """The pipeline of a family, of these parts, which are shared; `index` is its model_index.json."""
    kind = getattr(diffusers, family)
    asked = inspect.signature(kind.__init__).parameters
    given = {name: parts.get(name) for name in asked if name not in ("self", "args", "kwargs")
             and (name in parts or asked[name].default is inspect.Parameter.empty)}  # fmt: skip
    # What it says beside its parts: [library, class] is one of those.
    given |= {name: value for name, value in index.items() if name in asked and not _is_part(value)}
    if "requires_safety_checker" in asked:
        given["requires_safety_checker"] = False
    if "add_watermarker" in asked:
        given["add_watermarker"] = False
    given["scheduler"] = scheduler or DDIMScheduler(clip_sample=False, steps_offset=1)
    return kind(**given)


def _is_part(value: object) -> bool:
    return value is None or (
        isinstance(value, list) and [type(each) for each in value] in ([str, str], [type(None)] * 2)
    )  # pyright: ignore[reportUnknownVariableType]

"""What a method of the comparison can be set to, and what tuning chose: settings.json, made by `ledits bench tune`."""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ledits.method.core import MaskRule

# Of the UNet's, and of flow transformers: noise levels of one are not those of the other.
FILE, FLOW_FILE = (Path(__file__).parent / name for name in ("settings.json", "settings_flow.json"))


@dataclass(frozen=True)
class Settings:
    """The same few numbers for every method; each reads those that it has."""

    steps: int = 25
    skip: float = 0.25  # share of the noisiest levels left out; 1 - strength of SDEdit
    scale: float | None = None  # of guidance: an edit's own, or classifier-free for rivals; None: the model's defaults
    threshold: float | None = None  # of masks; for attention control, the share of steps that it lasts
    mask: MaskRule = "intersect"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def file_of(*, flow: bool) -> Path:
    """Where the choices of tuning lie."""
    return FLOW_FILE if flow else FILE


def chosen(method: str, *, flow: bool = False) -> Settings:
    """What tuning chose for a method: one setting for all kinds of edits, as users have one."""
    return Settings(**_chosen(flow)[method.removesuffix("-composite")]["settings"])


def tuned_on(*, flow: bool = False) -> dict[str, int]:
    """On how many tuning cases the choice of each method was made; 0: it was set by hand."""
    return {name: each["cases"] for name, each in _chosen(flow).items()}


@cache
def _chosen(flow: bool) -> dict[str, Any]:
    return json.loads(file_of(flow=flow).read_text())

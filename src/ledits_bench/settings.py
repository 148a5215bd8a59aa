"""What a method of the comparison can be set to, and what tuning chose: settings.json, made by `ledits bench tune`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ledits.method.core import MaskRule
from ledits_bench.cases import Kind

FILE = Path(__file__).parent / "settings.json"


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


def chosen(method: str, kind: Kind) -> Settings:
    """What tuning chose for a method and a kind of edit."""
    return Settings(**_chosen()[method.removesuffix("-composite")][kind]["settings"])


def tuned_on(kinds: Sequence[Kind]) -> int:
    """The least number of tuning cases that a method's choice for one of these was made on; 0: it was set by hand."""
    return min(choices[kind]["cases"] for choices in _chosen().values() for kind in kinds)


def merged(tuned: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The present choices with those of a new tuning, which may be of some methods and kinds only."""
    return {name: {**kinds, **tuned.get(name, {})} for name, kinds in _chosen().items()}


@cache
def _chosen() -> dict[str, dict[str, Any]]:
    return json.loads(FILE.read_text())

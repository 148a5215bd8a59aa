"""What a model is asked for where nobody says otherwise; a checkpoint's ledits.json may name better values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

WHOLE = ("steps", "warmup")


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Steps, shares and scales. These are the presets of the authors' demo for objects, without its warm-up."""

    steps: int = 50  # noise levels
    skip: float = 0.15  # share of the noisiest levels left out
    warmup: int = 0  # steps before an edit acts
    add_scale: float = 12.0
    add_threshold: float = 0.9  # share of the picture that a mask leaves alone
    remove_scale: float = 8.0
    remove_threshold: float = 0.9
    swap_new_scale: float = 12.0
    swap_new_threshold: float = 0.9
    swap_old_scale: float = 8.0
    swap_old_threshold: float = 0.9
    described_scale: float = 7.5  # of edits with a caption
    described_skip: float = 0.15
    # Of edits by words whose regions are found as with a caption; None: they are the paper's, masked anew in each step.
    located_scale: float | None = None

    def changed(self, *said: Mapping[str, float]) -> "Defaults":
        """These with other values by name; of two that name one, the later counts."""
        values = {name: value for each in said for name, value in each.items()}
        return replace(self, **{name: int(value) if name in WHOLE else value for name, value in values.items()})  # pyright: ignore[reportArgumentType]

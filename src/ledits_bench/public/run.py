"""Edit and score the cases of a suite, one JSON line each; what is in the file already is not done again."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

import ledits
from ledits.asked.recipe import MaskRule
from ledits.asked.settings import Settings
from ledits.backbones import Backbone
from ledits.editor import Editor
from ledits.files.atomic import alone
from ledits.method.core import Concept
from ledits.picture import image
from ledits_bench.public import metrics
from ledits_bench.public.cases import Case, Wording, decode_mask, edits
from ledits_bench.stats import interval

Policy = Literal["none", "implicit", "given", "paste"]
Row = dict[str, Any]

# none: an edit may act anywhere. implicit: the masks of LEDITS++. given: the suite's mask and no other. paste: implicit
# masks, and the source's own pixels outside the suite's mask. Scores under different policies compare masks, not
# methods (gs3393/pie-bench-equalized-mask), so a file holds one policy and its name says which.
_RULES: dict[Policy, MaskRule] = {
    "none": "none",
    "implicit": "intersect",
    "given": "none",
    "paste": "intersect",
}


@dataclass(frozen=True)
class Plan:
    """How a suite is run; None leaves a setting to the case, and then to the model."""

    suite: str
    policy: Policy = "implicit"
    wording: Wording = "words"
    steps: int | None = None
    skip: float | None = None
    seed: int | None = None
    source_scale: float = 0.0  # of the suite's source prompt along the path; 0: it is not used
    area: int | None = None


def run(
    cases: Sequence[Case], backbone: Backbone, scorers: metrics.Scorers, plan: Plan, path: Path
) -> Iterator[tuple[Row, bool]]:
    """Rows in the order of the cases, each with whether it is new; results are put in a folder beside the file.

    A case that failed is tried again, its last row counts. Rows made with other settings are refused, not mixed.
    """
    with alone(path.with_suffix(""), "ledits bench"):
        yield from _run(cases, backbone, scorers, plan, path)


def _run(
    cases: Sequence[Case], backbone: Backbone, scorers: metrics.Scorers, plan: Plan, path: Path
) -> Iterator[tuple[Row, bool]]:
    # What is wrong with all cases alike is said once, before any of them.
    if plan.wording == "described" and (plan.source_scale or plan.policy in ("none", "given")):
        raise ValueError(
            f"described edits find their own regions from the source prompt: mask policy {plan.policy!r} with source "
            f"scale {plan.source_scale} is not theirs; use implicit or paste, and scale 0"
        )
    d = backbone.defaults
    side = math.isqrt(backbone.area)
    backbone.schedule(
        d.steps if plan.steps is None else plan.steps, d.skip if plan.skip is None else plan.skip, side, side
    )
    rows = read_rows(path)
    pictures = path.with_suffix("")
    pictures.mkdir(exist_ok=True)
    common = {
        **asdict(plan), "model": backbone.name, "fingerprint": backbone.fingerprint,
        "dtype": str(backbone.dtype).removeprefix("torch."), "device": backbone.device.type,
        "weights": list(scorers.names), "ledits": ledits.__version__,
    }  # fmt: skip
    wanted = [_settings(case, plan, backbone, common) for case in cases]
    for case, (_, settings) in zip(cases, wanted, strict=True):
        old = rows.get(case.id)
        if old and old["status"] != "failed" and old["settings"] != settings:
            changed = [name for name in settings if old["settings"].get(name) != settings[name]]
            raise ValueError(
                f"{path} holds case {case.id} made with other settings ({', '.join(changed)}): choose another --out"
            )
    with path.open("a", encoding="utf-8") as file:
        for i, (case, (inverting, settings)) in enumerate(zip(cases, wanted, strict=True)):
            old = rows.get(case.id)
            if old and old["status"] != "failed":
                yield old, False
                continue
            row: Row = {
                "id": case.id, "group": case.group, "status": "failed", "error": case.problem or None,
                "source_prompt": case.source, "target_prompt": case.target, "edits": [], "settings": settings,
                "metrics": {}, "picture": None,
            }  # fmt: skip
            if not case.problem:
                try:
                    row |= _row(case, inverting, backbone, scorers, plan, pictures / f"{i:04d}-{_slug(case.id)}.png")
                # One bad case, whatever is wrong with it, must not cost the others.
                except Exception as error:
                    what = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                    row["error"] = what + " ".join(str(error).split())
            file.write(json.dumps(row, allow_nan=False) + "\n")
            file.flush()
            yield row, True


def read_rows(path: Path) -> dict[str, Row]:
    """The last row of every case in the file, none where there is no file; a line cut off by a kill is removed."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    rows: dict[str, Row] = {}
    for i, line in enumerate(data[:whole].splitlines()):
        try:
            row: Row = json.loads(line)
            if not {"id", "status", "settings", "error", "metrics"} <= row.keys():
                raise ValueError
            rows[row["id"]] = row
        except (ValueError, AttributeError):
            raise ValueError(
                f"line {i + 1} of {path} is no row of this benchmark: choose another --out folder"
            ) from None
    return rows


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, and of every metric the mean with its 95 % bootstrap interval, over how many cases and "nan" left out."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    table: dict[str, dict[str, Any]] = {}
    for name in names:
        listed = [row["metrics"][name] for row in rows if name in row["metrics"]]
        values = [float(value) for value in listed if value != "nan"]
        entry: dict[str, Any] = {"mean": None, "low": None, "high": None, "n": len(values)}
        entry["nan"] = len(listed) - len(values)
        if any(map(math.isinf, values)):
            entry["mean"] = "inf"
        elif (found := interval(values)) is not None:
            entry |= {"mean": found.mean, "low": found.low, "high": found.high}
        table[name] = entry
    states = [row["status"] for row in rows]
    return {
        "cases": len(rows),
        "failed": states.count("failed"),
        "full_masks": states.count("nan"),
        "errors": sum(row["error"] is not None for row in rows),
        "metrics": table,
    }


def _settings(case: Case, plan: Plan, backbone: Backbone, common: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """How to invert a case, and every setting of its row. The command line's come first, then the case's own."""
    d = backbone.defaults

    def first(*values: Any) -> Any:
        return next(value for value in values if value is not None)

    described = plan.wording == "described"
    steps = first(plan.steps, case.steps, d.steps)
    skip = first(plan.skip, case.skip, d.described_skip if described else d.skip)
    source = case.source if plan.source_scale or described else ""
    area = first(plan.area, backbone.area)
    made = Settings(
        steps=steps, skip=skip, seed=first(plan.seed, case.seed, 0), source=source,
        source_scale=plan.source_scale if source else 0.0, area=area,
    )  # fmt: skip
    own = {"steps": steps, "skip": skip, "seed": made.seed, "area": area}
    return made, {**common, **own, "scale": case.scale, "threshold": case.threshold}


def _row(case: Case, inverting: Settings, backbone: Backbone, scorers: metrics.Scorers, plan: Plan, path: Path) -> Row:
    """What an edit adds to its case's row, seconds without those of scoring; the result is written to `path`."""
    began = time.perf_counter()
    shown = image.read(case.picture)
    height, width, _ = shown.rgb.shape
    asked = edits(case, plan.wording)
    region = None if case.mask is None else decode_mask(case.mask, height, width)
    acting = None
    if plan.policy in ("given", "paste"):
        if region is None or not region.any():
            raise ValueError(f"mask policy {plan.policy!r} needs a mask, and this case's is empty")
        acting = region if plan.policy == "given" else None
    captioned = inverting.mode == "caption"
    inversion = Editor(backbone).invert(shown, inverting, anyway=True)
    # Without an edit the result is the ceiling: the picture through the model, and nothing else.
    result, shares, concepts = np.asarray(inversion.reconstruction), list[float](), list[Concept]()
    evaluations = inversion.network_evaluations
    if asked:
        replay = inversion.steps(*asked, region=acting, mask=None if captioned else _RULES[plan.policy])
        shares = [step.step.masks.amax(0).mean().item() for step in replay]
        done = replay.result()
        result, concepts = done.rgb, replay.concepts
        evaluations += done.network_evaluations
    if plan.policy == "paste":
        result = np.where(cast("NDArray[np.bool_]", region)[:, :, None], result, shown.rgb)
    seconds = time.perf_counter() - began
    values = metrics.measure(scorers, shown.rgb, result, region, case.source, case.target)
    image.write(path, result, overwrite=True)
    full = "nan" in values.values()
    return {
        "status": "nan" if full else "done",
        "error": "its mask covers the whole picture, so the background's metrics are nan" if full else None,
        "edits": [str(edit) for edit in asked],
        "concepts": [
            {name: getattr(concept, name) for name in ("prompt", "scale", "threshold", "warmup", "cooldown")}
            for concept in concepts
        ],
        "metrics": {name: value if value == "nan" or math.isfinite(value) else "inf" for name, value in values.items()},
        "mask_share": sum(shares) / len(shares) if shares else 0.0,
        "evaluations": evaluations,
        "seconds": round(seconds, 3),
        "source_sha256": shown.sha256,
        "picture": f"{path.parent.name}/{path.name}",
    }


def _slug(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[:80]

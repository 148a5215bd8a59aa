"""Round trips: edits there and back, again and again, and what is left of the first picture.

Each swap of a split is done and undone: "cat->dog" of "a cat on a beach", then "dog->cat" of "a dog on a beach". From
each result anew, what an editor does to a picture besides the edit adds up, and each time the autoencoder adds its own.
From the inversion that was kept, the way back is an edit of the first picture to its own caption: nothing adds up.
FOLDER/trips.jsonl holds a row for each picture, method and trip.
"""

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ledits.asked.recipe import Edit
from ledits.backbones.network import NetworkBackbone
from ledits.files.atomic import alone, written
from ledits_bench.asked import Asked
from ledits_bench.cases import Case
from ledits_bench.methods import METHODS
from ledits_bench.run import Row, begin, decoded, laid_onto, tensor_of
from ledits_bench.score import psnr, ssim
from ledits_bench.settings import Settings, chosen

Way = Literal["kept", "anew"]


def perform(
    backbone: NetworkBackbone, folder: Path, cases: Sequence[Case], methods: Sequence[str], trips: int, command: str,
    about: Row,
) -> Generator[str]:  # fmt: skip
    """Do the trips that the folder does not hold yet; yields a line as each method is done."""
    with alone(folder, "ledits bench"):
        begin(backbone, folder, command, about)
        journeys = list[tuple[str, Way]]()
        if "ours" in methods:
            journeys.append(("ours", "kept"))
        for name in methods:
            journeys.append((name, "anew"))
        done = {(row["method"], row["way"], row["case"]) for row in results(folder) if row["trip"] == trips}
        for method, way in journeys:
            left = [case for case in cases if (method, way, case.id) not in done]
            settings = chosen(method, flow=bool(getattr(backbone, "flow", False)))
            size = METHODS[method].batch
            for start in range(0, len(left), size):
                rows = _journeys(backbone, folder, left[start : start + size], method, way, settings, trips)
                with (folder / "trips.jsonl").open("a") as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
            yield f"{method}, {way}: {len(cases)} pictures, {trips} trips"


def results(folder: Path) -> list[Row]:
    """The rows of a folder's trips; none where there were no trips."""
    path = folder / "trips.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _journeys(
    backbone: NetworkBackbone, folder: Path, cases: Sequence[Case], method: str, way: Way, settings: Settings,
    trips: int,
) -> list[Row]:  # fmt: skip
    side = round(backbone.area**0.5)
    first = np.stack([case.source.render(side) for case in cases])
    shown, rows = first, list[Row]()
    for trip in range(1, trips + 1):
        if way == "anew":
            there = [_asked(case, trip, case.source.caption(), case.edits[0]) for case in cases]
            shown = _edited(backbone, method, there, shown, settings)
            back = [_asked(case, -trip, case.twin.caption(), _undone(case.edits[0])) for case in cases]
            shown = _edited(backbone, method, back, shown, settings)
        elif trip == 1:
            back = [_asked(c, 0, c.source.caption(), Edit("become", new=c.source.caption())) for c in cases]
            shown = _edited(backbone, method, back, first, settings)
        everywhere = np.ones((side, side), bool)
        for case, before, after in zip(cases, first, shown, strict=True):
            measured = {"psnr": psnr(after, before, everywhere), "ssim": ssim(after, before, everywhere)}
            rows.append({"case": case.id, "method": method, "way": way, "trip": trip, **measured})
    for case, after in zip(cases, shown, strict=True):
        with written(folder / "pictures" / f"{case.id}--{method}-{way}.png", overwrite=True) as path:
            Image.fromarray(after).save(path, format="PNG")
    return rows


def _asked(case: Case, turn: int, source: str, edit: Edit) -> Asked:
    """One way of a trip, with noise of its own."""
    return Asked(replace(case, seed=(case.seed + turn) % 2**31), "typed", source, (edit,), None)


def _undone(edit: Edit) -> Edit:
    return replace(edit, old=edit.new, new=edit.old)


def _edited(
    backbone: NetworkBackbone, method: str, asked: Sequence[Asked], shown: NDArray[np.uint8], settings: Settings
) -> NDArray[np.uint8]:
    with torch.inference_mode():
        x0 = backbone.encode(tensor_of(shown))
        outcome = METHODS[method].run(backbone, asked, x0, settings)
        pictures = decoded(backbone.decode(outcome.x))
        if not METHODS[method].composite:
            return pictures
        rebuilt, acted = decoded(backbone.decode(x0)), outcome.acted
    if acted is None:
        raise ValueError(f"{method} says not where it acted, and can't be laid onto a picture")
    laid = (laid_onto(*each)[0] for each in zip(shown, pictures, rebuilt, acted, strict=True))
    return np.stack(list(laid))

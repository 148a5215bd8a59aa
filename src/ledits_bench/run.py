"""Running a suite: every case through every method, one JSON line each, and nothing twice.

FOLDER/run.json says what is being measured, FOLDER/results.jsonl holds a row for each case, method and settings, as
soon as it is known, FOLDER/pictures the results of the chosen settings.
"""

import json
import platform
import time
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ledits.backbones.network import NetworkBackbone
from ledits.files.atomic import alone, written
from ledits.files.checkpoints import World
from ledits.picture import composite
from ledits.scenes import Scene, suits
from ledits_bench.asked import Asked, Column, asked
from ledits_bench.cases import VERSION, Case
from ledits_bench.methods import METHODS
from ledits_bench.score import Score, score
from ledits_bench.settings import Settings, chosen, file_of, tuned_on

Row = dict[str, Any]
# Answers that need no network: the best and the worst there can be, and the best through the autoencoder.
CONTROLS = {"oracle": "oracle: the twin", "autoencoder": "the twin after the autoencoder", "none": "no edit"}


@dataclass(frozen=True)
class Job:
    """One case for one method; `asked` says in which column, None for what is told nothing."""

    case: Case
    asked: Asked | None
    method: str
    settings: Settings
    chosen: bool  # the settings that count in tables; the others are for curves

    @property
    def key(self) -> str:
        column = self.asked.column if self.asked else ""
        return json.dumps([self.case.id, column, self.method, self.settings.to_json()])


def plan(
    cases: Sequence[Case], methods: Iterable[str], columns: Sequence[Column], world: World | None, *, flow: bool = False
) -> list[Job]:
    """Each case with each method at its chosen settings, those for a flow or for a UNet, and the controls."""
    controls = [Job(case, None, name, Settings(), True) for name in CONTROLS for case in cases]
    settings = {name: (chosen(name, flow=flow),) for name in methods}
    return controls + _jobs(cases, settings, columns, world, chosen=True)


def sweep(cases: Sequence[Case], methods: Iterable[str], columns: Sequence[Column], world: World | None) -> list[Job]:
    """Each case with each method at every setting of its curve, and with every mask rule it has."""
    settings = {name: METHODS[name].curve() + METHODS[name].masks for name in methods}
    return _jobs(cases, settings, columns, world, chosen=False)


def trials(cases: Sequence[Case], methods: Iterable[str], world: World | None) -> list[Job]:
    """Each case, as typed, with each method at every setting that tuning chooses from."""
    settings = {name: METHODS[name].grid for name in methods}
    return _jobs(cases, settings, ("typed",), world, chosen=False)


def _jobs(
    cases: Sequence[Case], settings: Mapping[str, Sequence[Settings]], columns: Sequence[Column], world: World | None,
    *, chosen: bool,
) -> list[Job]:  # fmt: skip
    """Column by column, ours first; what is told no caption has nothing to say of a target that is given."""
    return [
        Job(each.case, each, name, s, chosen)
        for column in columns
        for told in [[asked(case, column, world) for case in cases]]
        for name, group in settings.items()
        if not (METHODS[name].by_words and column == "target")
        for s in group
        for each in told
    ]


def perform(
    backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job], command: str, about: Row
) -> Generator[tuple[int, int]]:
    """Do what of `jobs` the folder doesn't hold yet; yields (done, of) as it goes. A failed job is a row too.

    about: what the results depend on besides the model, such as the settings that were chosen.
    """
    with alone(folder, "ledits bench"):
        yield from _perform(backbone, folder, jobs, command, about)


def _perform(
    backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job], command: str, about: Row
) -> Generator[tuple[int, int]]:
    rows = begin(backbone, folder, command, about)
    done = {row["key"] for row in rows}
    unique = {job.key: job for job in reversed(jobs)}  # the first of equal jobs
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        if job.key not in done and unique[job.key] is job:
            # A batch shares its column and settings, and has one concept at each place.
            told = job.asked and (job.asked.column, tuple(edit.kind for edit in job.asked.edits))
            same = (job.method, job.settings, told)
            groups.setdefault(same, []).append(job)
    total, so_far = len(unique), len(done & set(unique))
    yield so_far, total
    with (folder / "results.jsonl").open("a") as file:
        for group in groups.values():
            size = METHODS[group[0].method].batch if group[0].method in METHODS else 25
            for start in range(0, len(group), size):
                for row in _rows(backbone, folder, group[start : start + size]):
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    so_far += 1
                yield so_far, total


def results(folder: Path) -> list[Row]:
    """The rows of a folder; a last line that was cut off when the run was killed is none."""
    path = folder / "results.jsonl"
    if not path.exists():
        raise ValueError(f"{folder} holds no results.jsonl: make one with `ledits bench scenes --out {folder}`")
    rows: list[Row] = []
    for number, line in enumerate(path.read_text().split("\n")[:-1], 1):
        try:
            row: Row = json.loads(line)
            if not {"key", "error", "method", "case", "kind"} <= row.keys():
                raise ValueError
            rows.append(row)
        except (ValueError, AttributeError, RecursionError):
            raise ValueError(f"{path}, line {number}, is no row of results: delete the line") from None
    return rows


def about_of(folder: Path) -> dict[str, Any]:
    """What a folder's results are of: run.json."""
    try:
        return json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / 'run.json'}, which says what the results are of, can't be read: {error}") from None


def begin(backbone: NetworkBackbone, folder: Path, command: str, about: Row) -> list[Row]:
    """Make the folder, or take up where it was left; its rows so far."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    file = folder / "run.json"
    now = {"suite": f"scenes {VERSION}", **about, "model": backbone.name, "fingerprint": backbone.fingerprint}
    commands: list[str] = []
    if file.exists():
        before = about_of(folder)
        commands = before["commands"]
        if other := [name for name, value in now.items() if before.get(name) != value]:
            raise ValueError(f"{folder} holds results of another {' and '.join(other)}: choose another folder")
    packages = ("ledits", "torch", "diffusers", "transformers", "numpy")
    with written(file, overwrite=True) as path:
        value = {
            **now,
            "flow": bool(getattr(backbone, "flow", False)),
            "device": f"{backbone.device}, {backbone.dtype}",
            "machine": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "commands": list(dict.fromkeys([*commands, command])),
        }
        path.write_text(json.dumps(value, indent=2) + "\n")
    file = folder / "results.jsonl"
    file.touch()
    with file.open("rb+") as raw:  # what was killed in the middle of a line goes on in a new one
        raw.truncate(raw.read().rfind(b"\n") + 1)
    return results(folder)


def _rows(backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job]) -> list[Row]:
    """The rows of a batch; where one case breaks it, each goes alone, so that only that one is an error.

    What the editor refuses, with a sentence that says what to write instead, is a failure as typed: no method that is
    told captions has any to be told.
    """
    world = suits.world(backbone.name)
    refused = [job.asked.refused(world) if job.asked and not METHODS[job.method].by_words else "" for job in jobs]
    if any(refused):
        done = _rows(backbone, folder, [job for job, why in zip(jobs, refused, strict=True) if not why])
        return done + [_head(job) | _nothing(why) for job, why in zip(jobs, refused, strict=True) if why]
    if not jobs:
        return []
    try:
        return _batch(backbone, folder, jobs)
    except Exception as error:  # a method may fail in any way; the others must go on
        if len(jobs) > 1:
            return [row for job in jobs for row in _rows(backbone, folder, [job])]
        return [_head(jobs[0]) | {"error": f"{type(error).__name__}: {error}"}]


def _batch(backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job]) -> list[Row]:
    cases, name, settings = [job.case for job in jobs], jobs[0].method, jobs[0].settings
    told = [job.asked for job in jobs if job.asked]
    side = round(backbone.area**0.5)
    sources, twins = (np.stack([scene.render(side) for scene in scenes]) for scenes in _scenes(cases))
    rebuilt = decoded(backbone.decode(backbone.encode(tensor_of(sources))))
    acted, evaluations, began = None, 0, time.perf_counter()
    if name in METHODS:
        with torch.inference_mode():
            outcome = METHODS[name].run(backbone, told, backbone.encode(tensor_of(sources)), settings)
            pictures = decoded(backbone.decode(outcome.x))
        acted, evaluations = outcome.acted, outcome.evaluations
    elif name == "autoencoder":
        pictures = decoded(backbone.decode(backbone.encode(tensor_of(twins))))
    else:
        pictures = {"oracle": twins, "none": sources}[name]
    seconds = (time.perf_counter() - began) / len(jobs)

    rows: list[Row] = []
    for k, job in enumerate(jobs):
        where, leaked = None, None
        if acted is not None:  # let through in at least half of the steps
            cell = len(pictures[k]) // acted.shape[-1]
            where = np.kron(acted[k].cpu().numpy() >= 0.5, np.ones((cell, cell), bool))
        if name in METHODS and METHODS[name].composite and acted is not None:
            pictures[k], weight = laid_onto(sources[k], pictures[k], rebuilt[k], acted[k])
            leaked = int((pictures[k] != sources[k]).any(2)[weight == 0].sum())
        judged = score(job.case, pictures[k], rebuilt[k], where)
        row = _head(job) | {"refused": "", "error": None, **asdict(judged), "worth": judged.worth}
        rows.append(row | {"leaked": leaked, "evaluations": evaluations / len(jobs), "seconds": round(seconds, 4)})
        if job.chosen:
            with written(picture_of(folder, row), overwrite=True) as path:
                Image.fromarray(pictures[k]).save(path, format="PNG")
    return rows


def laid_onto(
    source: NDArray[np.uint8], picture: NDArray[np.uint8], rebuilt: NDArray[np.uint8], acted: Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:  # fmt: skip
    """An edited picture laid onto its source where the edit acted, (h w), and how much of it each pixel takes."""
    weight = composite.spread(acted.cpu(), *source.shape[:2]).numpy()
    return composite.onto(source, picture, rebuilt, weight), weight


def picture_of(folder: Path, row: Row) -> Path:
    """Where the result of a row of chosen settings lies."""
    return folder / "pictures" / f"{row['case']}--{row['method']}{'-' * bool(row['column'])}{row['column']}.png"


def _nothing(why: str) -> Row:
    """The scores of a case that was refused."""
    empty = dict.fromkeys(field.name for field in fields(Score))
    unseen = {"leaked": None, "evaluations": 0, "seconds": 0}
    return {"refused": why, "error": None, **empty, "met": {}, "success": False, "worth": 0.0, **unseen}


def _head(job: Job) -> Row:
    case, told = job.case, job.asked
    return {
        "key": job.key,
        "case": case.id,
        "kind": case.kind,
        "held_out": case.held_out,
        "column": told.column if told else "",
        "wording": told.wording if told else None,
        "source": told.source if told else "",
        "edits": [str(edit) for edit in (told.edits if told else case.edits)],
        "method": job.method,
        "settings": job.settings.to_json(),
        "chosen": job.chosen,
    }


def _scenes(cases: Sequence[Case]) -> tuple[list[Scene], list[Scene]]:
    return [case.source for case in cases], [case.twin for case in cases]


def tensor_of(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def decoded(images: Tensor) -> NDArray[np.uint8]:
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def measured(split: str, seed: int | None, *, flow: bool) -> Row:
    """What results depend on besides the model: the split, which exam it is, and the settings that tuning chose."""
    stamp = sha256(file_of(flow=flow).read_bytes()).hexdigest()[:16]
    return {"split": split, "seed": seed, "settings": stamp, "tuned": tuned_on(flow=flow)}


def tuned(rows: Sequence[Row], methods: Iterable[str], cases: Collection[str]) -> tuple[dict[str, Row], list[str]]:
    """Of each method the settings of the highest mean worth over these cases, and the methods that have not done all.

    The measure, the cases and the number of settings are the same for all, or there is no choice.
    """
    best, waiting = dict[str, Row](), list[str]()
    for name in (name for name in methods if not METHODS[name].composite):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            if row["method"] == name and row["case"] in cases:
                groups.setdefault(json.dumps(row["settings"]), []).append(row)
        tried = [groups.get(json.dumps(settings.to_json()), []) for settings in METHODS[name].grid]
        if any({row["case"] for row in group} != set(cases) for group in tried):
            waiting.append(name)
            continue
        for settings, group in zip(METHODS[name].grid, tried, strict=True):
            success, worth = (
                float(np.mean([0.0 if row["error"] else row[of] for row in group])) for of in ("success", "worth")
            )
            if name not in best or worth > best[name]["worth"]:
                best[name] = {
                    "settings": settings.to_json(), "success": success, "worth": worth, "cases": len(group),
                    "tried": len(tried),
                }  # fmt: skip
    return best, waiting

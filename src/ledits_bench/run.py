"""Running a suite: every case through every method, one JSON line each, and nothing twice.

FOLDER/run.json says what is being measured, FOLDER/results.jsonl holds a row for each case, method and settings, as
soon as it is known, FOLDER/pictures the results of the chosen settings.
"""

import json
import platform
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
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
from ledits.picture import composite
from ledits.scenes import Scene
from ledits_bench.cases import VERSION, Case
from ledits_bench.methods import METHODS
from ledits_bench.score import score
from ledits_bench.settings import Settings, chosen, file_of

Row = dict[str, Any]
# Answers that need no network: the best and the worst there can be, and the best through the autoencoder.
CONTROLS = {"oracle": "oracle: the twin", "autoencoder": "the twin after the autoencoder", "none": "no edit"}


@dataclass(frozen=True)
class Job:
    """One case for one method."""

    case: Case
    method: str
    settings: Settings
    chosen: bool  # the settings that count in tables; the others are for curves

    @property
    def key(self) -> str:
        return json.dumps([self.case.id, self.method, self.settings.to_json()])


def plan(cases: Sequence[Case], methods: Iterable[str], *, flow: bool = False) -> list[Job]:
    """Each case with each method at its chosen settings, those for a flow or for a UNet, and the controls."""
    controls = [Job(case, name, Settings(), True) for name in CONTROLS for case in cases]
    return controls + [Job(case, name, chosen(name, flow=flow), True) for name in methods for case in cases]


def sweep(cases: Sequence[Case], methods: Iterable[str]) -> list[Job]:
    """Each case with each method at every setting of its curve, and with every mask rule it has."""
    settings = {name: METHODS[name].curve() + METHODS[name].masks for name in methods}
    return [Job(case, name, s, False) for name, group in settings.items() for s in group for case in cases]


def perform(
    backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job], command: str, stamp: str
) -> Generator[tuple[int, int]]:
    """Do what of `jobs` the folder doesn't hold yet; yields (done, of) as it goes. A failed job is a row too.

    stamp: what the results depend on besides the model, such as the settings that were chosen.
    """
    with alone(folder, "ledits bench"):
        yield from _perform(backbone, folder, jobs, command, stamp)


def _perform(
    backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job], command: str, stamp: str
) -> Generator[tuple[int, int]]:
    rows = _begin(backbone, folder, command, stamp)
    done = {row["key"] for row in rows}
    unique = {job.key: job for job in reversed(jobs)}  # the first of equal jobs
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        if job.key not in done and unique[job.key] is job:
            # A batch shares its settings and has one concept at each place.
            edits = (*job.case.edits, *job.case.described())
            same = (job.method, job.settings, tuple((edit.kind, edit.threshold) for edit in edits))
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


def _begin(backbone: NetworkBackbone, folder: Path, command: str, stamp: str) -> list[Row]:
    """Make the folder, or take up where it was left."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    about = folder / "run.json"
    now = {"suite": f"scenes {VERSION}", "model": backbone.name, "fingerprint": backbone.fingerprint, "settings": stamp}
    commands: list[str] = []
    if about.exists():
        before = about_of(folder)
        commands = before["commands"]
        if other := [name for name, value in now.items() if before.get(name) != value]:
            raise ValueError(f"{folder} holds results of another {' and '.join(other)}: choose another folder")
    packages = ("ledits", "torch", "diffusers", "transformers", "numpy")
    with written(about, overwrite=True) as path:
        value = {
            **now,
            "flow": bool(getattr(backbone, "flow", False)),
            "device": f"{backbone.device}, {backbone.dtype}",
            "machine": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in packages},
            "commands": [*commands, command],
        }
        path.write_text(json.dumps(value, indent=2) + "\n")
    file = folder / "results.jsonl"
    file.touch()
    with file.open("rb+") as raw:  # what was killed in the middle of a line goes on in a new one
        raw.truncate(raw.read().rfind(b"\n") + 1)
    return results(folder)


def _rows(backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job]) -> list[Row]:
    """The rows of a batch; where one case breaks it, each goes alone, so that only that one is an error."""
    try:
        return _batch(backbone, folder, jobs)
    except Exception as error:  # a method may fail in any way; the others must go on
        if len(jobs) > 1:
            return [row for job in jobs for row in _rows(backbone, folder, [job])]
        return [_head(jobs[0]) | {"error": f"{type(error).__name__}: {error}"}]


def _batch(backbone: NetworkBackbone, folder: Path, jobs: Sequence[Job]) -> list[Row]:
    cases, name, settings = [job.case for job in jobs], jobs[0].method, jobs[0].settings
    side = round(backbone.area**0.5)
    sources, twins = (np.stack([scene.render(side) for scene in scenes]) for scenes in _scenes(cases))
    rebuilt = _pictures(backbone.decode(backbone.encode(_images(sources))))
    acted, evaluations, began = None, 0, time.perf_counter()
    if name in METHODS:
        with torch.inference_mode():
            outcome = METHODS[name].run(backbone, cases, backbone.encode(_images(sources)), settings)
            pictures = _pictures(backbone.decode(outcome.x))
        acted, evaluations = outcome.acted, outcome.evaluations
    elif name == "autoencoder":
        pictures = _pictures(backbone.decode(backbone.encode(_images(twins))))
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
            weight = composite.spread(acted[k].cpu(), *sources.shape[1:3]).numpy()
            pictures[k] = composite.onto(sources[k], pictures[k], rebuilt[k], weight)
            leaked = int((pictures[k] != sources[k]).any(2)[weight == 0].sum())
        judged = score(job.case, pictures[k], rebuilt[k], where)
        row = _head(job) | {"error": None, **asdict(judged), "worth": judged.worth}
        rows.append(row | {"leaked": leaked, "evaluations": evaluations / len(jobs), "seconds": round(seconds, 4)})
        if job.chosen:
            with written(picture_of(folder, job.method, job.case.id), overwrite=True) as path:
                Image.fromarray(pictures[k]).save(path, format="PNG")
    return rows


def picture_of(folder: Path, method: str, case: str) -> Path:
    """Where the result of a method's chosen settings lies."""
    return folder / "pictures" / f"{case}--{method}.png"


def _head(job: Job) -> Row:
    case = job.case
    return {
        "key": job.key,
        "case": case.id,
        "kind": case.kind,
        "held_out": case.held_out,
        "edits": [str(edit) for edit in case.edits],
        "method": job.method,
        "settings": job.settings.to_json(),
        "chosen": job.chosen,
    }


def _scenes(cases: Sequence[Case]) -> tuple[list[Scene], list[Scene]]:
    return [case.source for case in cases], [case.twin for case in cases]


def _images(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def _pictures(images: Tensor) -> NDArray[np.uint8]:
    return ((images + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def stamp_of_settings(*, flow: bool = False) -> str:
    """A name for the settings that tuning chose."""
    return sha256(file_of(flow=flow).read_bytes()).hexdigest()[:16]


def tuned(rows: Sequence[Row]) -> dict[str, Row]:
    """For each method the settings of the highest mean worth over tuning rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["method"], json.dumps(row["settings"])), []).append(row)
    best: dict[str, Row] = {}
    for (method, settings), group in groups.items():
        success, worth = (
            float(np.mean([0.0 if row["error"] else row[of] for row in group])) for of in ("success", "worth")
        )
        before = best.get(method)
        if before is None or worth > before["worth"]:
            found = {"settings": json.loads(settings), "success": success, "worth": worth, "cases": len(group)}
            best[method] = found
    return best

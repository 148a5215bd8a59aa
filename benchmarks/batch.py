"""Batches, measured: rows a second over workers and recipes a picture, local against Ray; and planning a long manifest.

    python benchmarks/batch.py curve --out runs/batch            # a table on standard output, curve.jsonl in the folder
    python benchmarks/batch.py plan --rows 1000000 --out runs/plan

The rate counts from the first finished row to the last, so that loading the model is left out. Where other work shares
the cores, compare CPU seconds a row: what a row costs, whoever else runs.
"""

import argparse
import csv
import json
import os
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from ledits import scenes
from ledits.backbones import BUNDLED, fingerprint
from ledits.batch.digests import Digests
from ledits.batch.jobs import Ask, Model, Planner
from ledits.batch.local import Local
from ledits.batch.manifest import Source
from ledits.batch.on_ray import OnRay
from ledits.batch.places import Folder
from ledits.batch.planning import Finished, Group, Planning
from ledits.batch.run import Counts, Options, run
from ledits.files import checkpoints
from ledits.scenes.samples import SIDE

RECIPES = ("cat->dog", "+hat", "-cat", "cat->fox", "+star")


def manifest(folder: Path, pictures: int, recipes: int) -> Source:
    """A manifest of so many scenes, each with so many recipes; they come in turn, so that all manifests cost alike."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(pictures):
        Image.fromarray(scenes.sample(rng, 1).render(SIDE)).save(folder / f"{k}.png")
    path = folder / f"manifest-{pictures}-{recipes}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "edits"])
        writer.writerows([f"{k}.png", RECIPES[(k + r) % 5]] for k in range(pictures) for r in range(recipes))
    return Source(manifest=path, root=str(folder), ask=Ask(steps=10))


def measure(source: Source, output: Path, pool: Any, rows: int) -> dict[str, float]:
    """Seconds and CPU seconds of workers a row."""
    at, spent = list[float](), list[float]()

    def watch(counts: Counts) -> None:
        if counts.done > len(at):
            at.append(time.perf_counter())
            spent.append(sum(cpu(pid) for pid in pool.pids().values()))

    summary = run(Options(source=source, output=str(output)), watch, pool)
    assert summary.done == rows, summary
    return {
        "rows": rows, "seconds_a_row": (at[-1] - at[0]) / (len(at) - 1),
        "cpu_seconds_a_row": (spent[-1] - spent[0]) / (len(at) - 1), "evaluations": summary.evaluations,
    }  # fmt: skip


def cpu(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def curve(out: Path, pictures: int, ray: bool) -> None:
    cases = [("local", workers, recipes) for recipes in (1, 5) for workers in (1, 2)]
    cases += [("ray", workers, 1) for workers in (1, 2)] if ray else []
    print(
        "| where | workers | recipes a picture | rows/s | CPU s a row | evaluations a row |\n|---|---|---|---|---|---|"
    )
    for where, workers, recipes in cases:
        count = max(4, pictures // recipes)
        source, rows = manifest(out / f"in-{recipes}", count, recipes), count * recipes
        output = out / f"out-{where}-{workers}-{recipes}-{time.time_ns()}"
        if where == "local":
            pool: Any = Local("scenes", "cpu", "auto", str(output.absolute()), workers, 1)
        else:
            pool = OnRay("", "scenes", "cpu", "auto", str(output.absolute()), workers)
        found = {"where": where, "workers": workers, "recipes": recipes, **measure(source, output, pool, rows)}
        with (out / "curve.jsonl").open("a") as file:
            file.write(json.dumps(found) + "\n")
        each = found["evaluations"] / rows
        shown = f"{found['cpu_seconds_a_row']:.3f}" if where == "local" else ""
        print(
            f"| {where} | {workers} | {recipes} | {1 / found['seconds_a_row']:.2f} | {shown} | {each:.1f} |", flush=True
        )


def plan(out: Path, rows: int) -> None:
    """A dry run of `rows` rows on an empty folder, and again where all of them are done: seconds and memory."""
    folder, output, pictures = out / "in", out / "out", max(1, rows // 10)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "first.png").write_bytes(b"")
    Image.fromarray(scenes.sample(np.random.default_rng(0), 1).render(SIDE)).save(folder / "first.png")
    start = (folder / "first.png").read_bytes()
    for k in range(pictures):
        # Every file another picture, as far as a hash can tell.
        (folder / f"{k}.png").write_bytes(start + k.to_bytes(8, "little"))
    path = folder / "manifest.csv"
    with path.open("w") as file:
        file.write("picture,edits\n")
        file.writelines(f"{k}.png,cat->dog:{1 + r}\n" for k in range(pictures) for r in range(rows // pictures))
    command = ["batch", str(path), "-o", str(output), "--dry-run", "--steps", "1"]
    print("| rows | done before | seconds | CPU seconds | largest memory of a process, MB |\n|---|---|---|---|---|")
    for done in (0, rows):
        if done:
            finish(path, output)
        began = time.perf_counter()
        child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "ledits", *command])
        _, status, usage = os.wait4(child, 0)
        assert not status
        seconds = time.perf_counter() - began
        spent = usage.ru_utime + usage.ru_stime
        print(f"| {rows} | {done} | {seconds:.0f} | {spent:.0f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)


def finish(path: Path, output: Path) -> None:
    """Empty files in place of all outputs."""
    from ledits.backbones import load

    backbone = load()
    model = Model(
        name=BUNDLED, fingerprint=fingerprint(checkpoints.find(BUNDLED)),
        defaults=backbone.defaults, area=backbone.area, dtype="auto",
    )  # fmt: skip
    place = Folder(output)
    place.prepare()
    planning = Planning(
        source=Source(manifest=path, root=str(path.parent.absolute()), ask=Ask(steps=1)),
        planner=Planner(model, "{folder}/{stem}-{id}.png"), digests=Digests(place), finished=Finished.found(place),
        ids=array("Q"),
    )  # fmt: skip
    for item in planning.items():
        for job in item.jobs if isinstance(item, Group) else ():
            (output / job.output).touch()
    planning.digests.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=("curve", "plan"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--no-ray", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.what == "curve":
        curve(asked.out, asked.pictures, not asked.no_ray)
    else:
        plan(asked.out, asked.rows)

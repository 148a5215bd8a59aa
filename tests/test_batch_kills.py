"""SIGKILL at random moments, to the parent, to a worker, to both: nothing is lost, done twice, or half written.

LEDITS_KILLS=100 LEDITS_KILL_ROWS=200 pytest tests/test_batch_kills.py -s   # the long version, about 20 minutes
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from PIL import Image

import batch_cases
from ledits.batch import log
from ledits.batch.places import Folder
from ledits.batch.planning import finished_id

KILLS, ROWS = int(os.environ.get("LEDITS_KILLS", "3")), int(os.environ.get("LEDITS_KILL_ROWS", "40"))
FAILED = batch_cases.BROKEN + len(batch_cases.BAD)


def command(manifest: Path, output: Path) -> list[str]:
    words = ["batch", str(manifest), "-o", str(output), "--steps", "2", "--workers", "2", "--anyway"]
    return [sys.executable, "-m", "ledits", *words]


def outputs(output: Path) -> set[str]:
    return {found for name in Folder(output).names() if (found := finished_id(name))}


def times_done(output: Path) -> Counter[str]:
    return Counter(row["id"] for row in log.rows(Folder(output), "done"))


def kill(parent: subprocess.Popen[bytes], what: str) -> None:
    """SIGKILL; returns when whoever depends on the killed is gone too."""
    workers = psutil.Process(parent.pid).children()
    if what in ("worker", "both") and workers:
        os.kill(random.choice(workers).pid, signal.SIGKILL)
    if what in ("parent", "both"):
        parent.kill()
        parent.wait()
        psutil.wait_procs(workers, timeout=30)


def not_over(parent: "subprocess.Popen[bytes]", output: Path) -> bool:
    """Wait for a random moment, while the workers load or some rows later; False where the run is over before it."""
    rows = made(output) + random.choice((0, random.randint(1, 12)))
    end = time.monotonic() + random.uniform(0, 6)
    while (made(output) < rows or time.monotonic() < end) and parent.poll() is None:
        time.sleep(0.05)
        if made(output) >= rows > 0:
            end = min(end, time.monotonic() + random.uniform(0, 0.3))
    return parent.poll() is None


def made(output: Path) -> int:
    return len(outputs(output))


def check_whole(output: Path, manifest: Path) -> None:
    rows = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert Counter(row["status"] for row in rows) == {"done": ROWS - FAILED, "failed": FAILED}
    for row in rows:
        if row["status"] == "done":
            with Image.open(output / row["output"]) as picture:
                picture.load()


@pytest.mark.cluster
def test_killed_at_random_moments_it_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    manifest, killed, whole = batch_cases.write(tmp_path / "in", ROWS), Counter[str](), 0
    parent, output, before = None, tmp_path / "out-0", Counter[str]()
    finished = False  # the run on `output`; the last one is always brought to its end
    while sum(killed.values()) < KILLS or not finished:
        finished = False
        if parent is None:
            with (tmp_path / "errors").open("wb") as errors:
                parent = subprocess.Popen(command(manifest, output), stdout=subprocess.DEVNULL, stderr=errors)
        if sum(killed.values()) >= KILLS:
            parent.wait()
        elif not_over(parent, output):
            what = random.choice(("parent", "worker", "both"))
            kill(parent, what)
            killed[what] += 1
            if what == "worker":
                continue
            parent = None
        done, there = times_done(output), outputs(output)
        assert there <= set(done), "a picture without its row"
        assert {i: done[i] for i in before} == before, "a finished job was done again"
        before = Counter({i: done[i] for i in there})
        if parent is not None:
            assert parent.returncode == 1, (tmp_path / "errors").read_text()
            if any("its worker died" in row["error"] for row in log.rows(Folder(output), "failed")):
                # Two of our kills met the same job.
                subprocess.run([*command(manifest, output), "--retry-failed"], stdout=subprocess.DEVNULL)
                assert {i: times_done(output)[i] for i in before} == before
            check_whole(output, manifest)
            whole, parent, finished = whole + 1, None, True
            output, before = tmp_path / f"out-{whole}", Counter()
    assert whole
    print(f"{sum(killed.values())} kills ({dict(killed)}), {whole} whole runs of {ROWS} rows")

"""`ledits batch`: ids, manifests, planning, the dispatch loop, local workers, and what a person sees."""

import json
import os
import subprocess
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import batch_cases
from ledits.batch import log, results, work
from ledits.batch.digests import Digests, Ids
from ledits.batch.dispatch import Heard, Loop
from ledits.batch.jobs import Ask, Job, Model, Planner, Row, check_template, finished_id
from ledits.batch.local import Local
from ledits.batch.manifest import Source
from ledits.batch.places import Folder, PlaceError
from ledits.batch.planning import Ahead, Bad, Finished, Group, Item, Planning, Skipped
from ledits.batch.run import Options, run
from ledits.batch.work import Worker
from ledits.cli import main
from ledits.editor import Editor
from ledits.files.defaults import Defaults

from conftest import picture

MODEL = Model(name="m", fingerprint="f", defaults=Defaults(steps=50, skip=0.1, described_skip=0.2), area=4096, dtype="")
ROW = Row(1, "a/cat.png", "/x/a/cat.png", ("cat->dog",))


def planner(template: str = "{stem}-{id}.png", **changes: Any) -> Planner:
    return Planner(Model(**{**MODEL.__dict__, **changes}), template)


# Ids


def test_an_id_changes_with_picture_recipe_model_and_format_and_with_nothing_else() -> None:
    same = planner().job(ROW, "ab" * 32).id
    assert planner("{row}/{id}.png").job(Row(9, "b.png", "/b.png", ("cat -> dog",)), "ab" * 32).id == same
    # What is the default anyway may be said.
    assert planner().job(Row(1, "a", "a", ("cat->dog",), Ask(steps=50, seed=0)), "ab" * 32).id == same
    others = [
        planner().job(ROW, "cd" * 32),
        planner().job(Row(1, "a", "a", ("cat->fox",)), "ab" * 32),
        planner().job(Row(1, "a", "a", ("cat->dog:3",)), "ab" * 32),
        planner().job(Row(1, "a", "a", ("cat->dog",), Ask(seed=1)), "ab" * 32),
        planner().job(Row(1, "a", "a", ("cat->dog",), Ask(mask="none")), "ab" * 32),
        planner(fingerprint="g").job(ROW, "ab" * 32),
        planner("{id}.jpg").job(ROW, "ab" * 32),
        planner(dtype="float32").job(ROW, "ab" * 32),
    ]
    assert len({same, *(job.id for job in others)}) == 1 + len(others)


def test_the_id_of_a_finished_job_is_read_from_its_name() -> None:
    job = planner("{folder}/{stem}-{id}.png").job(Row(1, "../.x/0123456789abcdef.png", "p", ("+hat",)), "ab" * 32)
    assert finished_id(job.output) == job.id
    assert job.output == f"x/0123456789abcdef-{job.id}.png"
    assert finished_id("0123456789abcdef.txt") is None
    assert finished_id("cat-0123456789abcdef-2.png") is None


@pytest.mark.parametrize(
    "template",
    ["{stem}.png", "{id}", "{id}.txt", "../{id}.png", "/{id}.png", ".x/{id}.png", "{nope}-{id}.png", "{id}{"],
)
def test_a_template_that_would_lose_pictures_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"write one such as|must end in"):
        check_template(template)


# Manifests


def rows_of(path: Path, text: str | bytes, **source: Any) -> list[Row]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(Source(manifest=path, root=str(path.parent), **source).rows())


def check_of(path: Path, text: str | bytes) -> int:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Source(manifest=path, root=str(path.parent)).check()


def test_the_same_rows_come_from_csv_json_lines_and_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    cells = [
        {"picture": "a.png", "edits": ["cat->dog", "+hat"], "source": "a cat, asleep", "seed": 3, "composite": True},
        {"picture": "b.png", "edits": ["-hat"], "source": None, "seed": None, "composite": None},
    ]
    parquet.write_table(pa.Table.from_pylist(cells), tmp_path / "m.parquet")
    lines = rows_of(tmp_path / "m.jsonl", "\n".join(map(json.dumps, cells)))
    text = 'picture,edits,source,seed,composite\na.png,cat->dog; +hat,"a cat, asleep",3,true\nb.png,-hat,,,\n'
    table = rows_of(tmp_path / "m.csv", b"\xef\xbb\xbf" + text.encode())
    assert lines == table == list(Source(manifest=tmp_path / "m.parquet", root=str(tmp_path)).rows())
    assert lines[0].edits == ("cat->dog", "+hat")
    assert lines[0].ask == Ask(source="a cat, asleep", seed=3, composite=True)
    assert lines[1].ask == Ask()


def test_a_rows_own_settings_go_before_those_for_all_rows(tmp_path: Path) -> None:
    text = "picture,edits,seed\na.png,,5\nb.png,+hat,\n"
    first, second = rows_of(tmp_path / "m.csv", text, edits=("cat->dog",), ask=Ask(seed=1, skip=0.3))
    assert (first.edits, first.ask) == (("cat->dog",), Ask(seed=5, skip=0.3))
    assert (second.edits, second.ask) == (("+hat",), Ask(seed=1, skip=0.3))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", "image,edits\na,b\n", "did you mean 'picture'"),
        ("m.csv", "picture,edit_s\na,b\n", "did you mean 'edits'"),
        ("m.csv", "edits\n+hat\n", "no column 'picture'"),
        ("m.csv", "Bild;Änderung\na.png;+hat\n", "first line has 'Bild', 'Änderung'; name the column of pictures"),
        ("m.csv", "picture,picture\na,b\n", "twice"),
        ("m.csv", "", "is empty"),
        ("m.csv", "picture,edits\n", "has no rows"),
        ("m.jsonl", "", "has no rows"),
        ("m.csv", b"\xff\xfep", "is no text"),
        ("m.csv", "picture," + ",".join(f"c{k}" for k in range(1_000_000)) + "\n", "1000001 columns"),
        ("m.csv", "picture,edits\na.png,+hat,+more\n", "3 cells"),
        ("m.csv", "picture\n" + "x" * (2 << 20) + "\n", "no CSV"),
        ("m.jsonl", "[1]", "JSON object"),
        ("m.jsonl", '{"picture": ', "is no JSON"),
        ("m.jsonl", "[" * 100_000, "nested too deep"),
        ("m.parquet", "PAR1 nothing", "no parquet"),
    ],
)
def test_a_manifest_that_is_none_gets_one_sentence(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        check_of(tmp_path / name, text)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("picture", "said"),
    [("../../etc/passwd", "outside"), ("/etc/passwd", "outside"), ("s3://other/x.png", "outside"),
     ("a\0b", "zero byte"), ("b\udcff.png", "no UTF-8"), ("b\ud800.png", "half of a character")],
)  # fmt: skip
def test_a_picture_that_can_not_be_is_a_row_with_its_problem(tmp_path: Path, picture: str, said: str) -> None:
    for name in ("m.jsonl", "m.csv"):
        text = json.dumps({"picture": picture}) if name == "m.jsonl" else f"picture\n{picture}\n"
        if name == "m.csv" and picture.startswith("b"):  # there it would be Windows-1252, or nothing at all
            continue
        (row,) = rows_of(tmp_path / name, text)
        assert said in row.problem
        assert row.path == ""


@pytest.mark.parametrize(
    "cells",
    [{"seed": "many"}, {"steps": 2.5}, {"composite": "perhaps"}, {"mask": "round"}, {"edits": 5}, {"picture": ""},
     {"skip": "nan"}, {"source": 5}, {"edits": "[1"}],
)  # fmt: skip
def test_a_bad_cell_is_a_row_with_its_problem(tmp_path: Path, cells: dict[str, object]) -> None:
    good = {"picture": "a.png", "edits": "+hat"}
    lines = [json.dumps({**good, **cells}), json.dumps(good)]
    bad, fine = rows_of(tmp_path / "m.jsonl", "\n".join(lines))
    assert bad.problem
    assert not fine.problem


def test_pictures_come_from_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "notes.txt", "deep/c.webp", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(*given: str) -> list[str]:
        return [Path(row.path).name for row in Source(pictures=given, edits=("+hat",)).rows()]

    assert names(str(tmp_path)) == ["a.jpg", "b.png", "c.webp"]
    assert names(str(tmp_path / "*.png"), str(tmp_path / "no.png")) == ["b.png", "no.png"]
    with pytest.raises(ValueError, match="no pictures"):
        Source(pictures=(str(tmp_path / "*.gif"),)).check()


# Planning


def plan(folder: Path, out: Path, table: Sequence[str], **options: Any) -> tuple[list[Item], "array[int]"]:
    (folder / "m.csv").write_text("picture,edits,seed\n" + "\n".join(table) + "\n")
    source, place = Source(manifest=folder / "m.csv", root=str(folder)), Folder(out)
    planning = Planning(
        source=source, planner=planner(), digests=Digests(place), finished=Finished.found(place), **options
    )
    items = list(planning.items())
    planning.digests.close()
    return items, planning.ids


def jobs_of(items: Sequence[Item]) -> list[Job]:
    return [job for item in items if isinstance(item, Group) for job in item.jobs]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    for k in range(3):
        picture(k, 16, 16).save(tmp_path / f"{k}.png")
    return tmp_path


def test_recipes_of_one_picture_are_one_group_wherever_their_rows_stand(three: Path) -> None:
    (three / "copy.png").write_bytes((three / "0.png").read_bytes())
    table = ["0.png,+hat,", "1.png,+hat,", "0.png,-hat,", "1.png,+hat,7", "copy.png,+sun,"]
    items, _ = plan(three, three / "out", table)
    groups = sorted(sorted(job.row for job in item.jobs) for item in items if isinstance(item, Group))
    assert groups == [[1, 3, 5], [2], [4]]


def test_what_is_done_failed_or_repeated_is_not_done_again(three: Path) -> None:
    out, table = three / "out", ["0.png,+hat,", "1.png,+hat,", "2.png,nothing,", "0.png,+hat,", "none.png,+hat,"]
    items, ids = plan(three, out, table)
    assert sorted(job.row for job in jobs_of(items)) == [1, 2]
    assert sorted(item.row.number for item in items if isinstance(item, Bad)) == [3, 5]
    assert ids[0] == ids[3] != ids[1]
    first = next(job for job in jobs_of(items) if job.row == 1)
    Folder(out).create(first.output, b"picture")
    failed = log.Log(Folder(out), "failed")
    for item in items:
        if isinstance(item, Bad):
            failed.append({"id": item.id})
    again, _ = plan(three, out, table)
    assert [job.row for job in jobs_of(again)] == [2]
    assert [item for item in again if isinstance(item, Skipped)] == [Skipped(done=2, failed=2)]
    retried, _ = plan(three, out, table, retry_failed=True)
    assert [item.row.number for item in retried if isinstance(item, Bad)] == [3, 5]
    # A mended row is a new job, and so is a changed picture.
    picture(9, 16, 16).save(three / "none.png")
    picture(8, 16, 16).save(three / "0.png")
    assert sorted(job.row for job in jobs_of(plan(three, out, table)[0])) == [1, 2, 5]


def test_shards_share_out_every_row_and_keep_a_picture_together(three: Path) -> None:
    table = [f"{k % 3}.png,+hat,{k}" for k in range(12)]
    parts = [jobs_of(plan(three, three / "out", table, shard=(k, 4))[0]) for k in range(1, 5)]
    assert sorted(job.row for part in parts for job in part) == list(range(1, 13))
    assert all(sum(name in {job.picture for job in part} for part in parts) == 1 for name in ("0.png", "1.png"))


def test_a_limit_counts_jobs(three: Path) -> None:
    table = [f"{k % 3}.png,+hat,{k}" for k in range(12)]
    assert len(jobs_of(plan(three, three / "out", table, limit=5)[0])) == 5


def test_hashes_are_remembered_until_a_picture_changes(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, paths, read = Folder(three / "out"), [str(three / f"{k}.png") for k in range(3)], list[str]()
    from ledits.batch import places

    # As if they had been there for a while.
    monkeypatch.setattr(places, "_SETTLED", -1.0)
    original: Callable[[str], bytes] = places.read
    monkeypatch.setattr(places, "read", lambda path: (read.append(path), original(path))[1])
    for expected in (3, 0, 1):
        digests, read[:] = Digests(place), []
        first = digests.of([*paths, paths[0]])
        assert first[0] == first[3]
        assert len(read) == expected
        digests.close()
        picture(5, 16, 16 + expected).save(paths[2]) if expected == 0 else None


def test_a_set_of_ids_holds_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    names = [f"{int(v):016x}" for v in rng.integers(0, 2**64, 70_000, dtype=np.uint64)]
    ids = Ids(names[:1000])
    for name in names[1000:69_000]:
        ids.add(name)
    assert len(ids) == 69_000
    assert all(name in ids for name in names[:69_000:97])
    assert not any(name in ids for name in names[69_000:])


# Places


def test_of_two_writers_one_wins_and_the_file_is_whole(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    assert place.create("a/b.png", b"first")
    assert not place.create("a/b.png", b"second")
    assert place.get("a/b.png") == b"first"
    place.put("a/b.png", b"third")
    assert place.get("a/b.png") == b"third"
    assert list(place.names()) == ["a/b.png"]


def test_a_cut_off_row_is_no_row(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    writer = log.Log(place, "done")
    writer.append({"id": "0" * 16, "time": 1.0})
    (file,) = (tmp_path / log.FOLDER).iterdir()
    with file.open("ab") as out:
        out.write(b'{"id": "1111')
    assert [row["id"] for row in log.rows(place, "done")] == ["0" * 16]


# The loop


class FakePool:
    """Two workers that do what a script says: "die" kills the worker that has the job in hand."""

    def __init__(self, deadly: dict[str, int]) -> None:
        self.deadly, self.tried, self.count = deadly, list[str](), 2
        self.said = [Heard("0", "ready"), Heard("1", "ready")]

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None:
        for job in jobs:
            self.tried.append(job.id)
            self.said.append(Heard(worker, "begin", (job.id,)))
            if self.deadly.get(job.id, 0) > 0:
                self.deadly[job.id] -= 1
                self.said += [Heard(worker, "died", error="gone"), Heard(str(self.count), "ready")]
                self.count += 1
                return
            self.said.append(Heard(worker, "row", row={"id": job.id, "status": "done", "evaluations": 1}))
        self.said.append(Heard(worker, "end"))

    def hear(self, timeout: float) -> list[Heard]:
        said, self.said = self.said, []
        return said

    def finish(self) -> None: ...

    def close(self) -> None: ...


class FakeLedger:
    def __init__(self) -> None:
        self.done, self.given_up = list[str](), list[str]()

    def settled(self, row: dict[str, Any]) -> None:
        self.done.append(row["id"])

    def bad(self, bad: Bad) -> None: ...

    def skipped(self, skipped: Skipped) -> None: ...

    def lost(self, job: Job, error: str) -> None:
        assert "gone" in error
        self.given_up.append(job.id)

    def finished(self, job: Job) -> bool:
        return False


def loop(deadly: dict[str, int]) -> tuple[FakePool, FakeLedger]:
    template = planner().job(ROW, "ab" * 32).to_json()
    groups = [Group(tuple(Job.from_json({**template, "id": f"{g}{k}"}) for k in range(4))) for g in range(5)]
    pool, ledger = FakePool(deadly), FakeLedger()
    Loop(Ahead[Item](iter(groups), 2), pool, ledger).run()
    return pool, ledger


def test_a_job_whose_worker_dies_once_is_tried_again() -> None:
    pool, ledger = loop({"21": 1})
    assert sorted(ledger.done) == sorted(f"{g}{k}" for g in range(5) for k in range(4))
    assert not ledger.given_up
    assert len(pool.tried) == 21


def test_a_job_that_always_kills_its_worker_costs_itself_alone() -> None:
    pool, ledger = loop({"21": 99, "33": 99})
    assert sorted(ledger.given_up) == ["21", "33"]
    assert len(ledger.done) == len(set(ledger.done)) == 18
    assert len(pool.tried) == 22


def test_a_run_whose_workers_never_come_up_ends_with_a_sentence() -> None:
    class Dead(FakePool):
        def hear(self, timeout: float) -> list[Heard]:
            return [Heard("0", "died", error="no such model")]

    with pytest.raises(ValueError, match="no worker comes up: no such model"):
        Loop(Ahead[Item](iter([]), 2), Dead({}), FakeLedger()).run()


def test_an_error_of_the_planning_ends_the_run() -> None:
    def broken() -> Any:
        raise PlaceError("the disk is gone")
        yield

    with pytest.raises(PlaceError, match="the disk is gone"):
        Loop(Ahead[Item](broken(), 2), FakePool({}), FakeLedger()).run()


# A worker, with the random model


@pytest.fixture
def editor(random_model: Any) -> Editor:
    return Editor(random_model())


def task(folder: Path, *recipes: tuple[str, ...], seed: int = 0, **ask: Any) -> list[Job]:
    path = folder / f"{seed}.png"
    picture(seed).save(path)
    digest = Digests(Folder(folder / "digests")).of([str(path)])[0]
    assert isinstance(digest, str)
    ask = {"steps": 3, "mask": "none", **ask}
    defaults = Defaults(steps=3, skip=0.1, described_skip=0.1)
    made = planner(defaults=defaults, area=32 * 32)
    return [made.job(Row(k, path.name, str(path), edits, Ask(**ask)), digest) for k, edits in enumerate(recipes)]


def worked(editor: Editor, out: Path, jobs: list[Job]) -> dict[str, bytes]:
    events = list(Worker(editor, Folder(out), "w").work(jobs, previews=True, stopping=lambda: False))
    assert events[-1].kind == "end"
    return {job.id: (out / job.output).read_bytes() for job in jobs if (out / job.output).exists()}


def test_a_jobs_bytes_do_not_depend_on_the_jobs_before_it(editor: Editor, tmp_path: Path) -> None:
    for number, ask in enumerate(({}, {"source": "a cat", "mask": None})):
        jobs = task(tmp_path, ("+hat",), ("cat->dog",), ("+hat", "cat->dog"), **ask)
        together = worked(editor, tmp_path / f"together{number}", jobs)
        alone = {}
        for job in reversed(jobs):
            alone |= worked(editor, tmp_path / f"alone{number}", [job])
        assert len(together) == 3
        assert alone == together


def test_a_picture_is_inverted_once_for_all_its_recipes(editor: Editor, tmp_path: Path) -> None:
    jobs = task(tmp_path, ("+hat",), ("+sun",), ("-hat",))
    worker = Worker(editor, Folder(tmp_path / "out"), "w")
    rows = [event.row for event in worker.work(jobs, False, lambda: False) if event.row]
    assert [row["evaluations"] for row in rows] == [
        rows[1]["evaluations"] + 3,
        rows[1]["evaluations"],
        rows[2]["evaluations"],
    ]


def test_a_bad_recipe_and_a_changed_picture_are_rows_with_their_errors(editor: Editor, tmp_path: Path) -> None:
    jobs = task(tmp_path, ("+hat[9..]",), ("+hat",))
    out = Folder(tmp_path / "out")
    assert len(worked(editor, out.path, jobs)) == 1
    picture(5).save(tmp_path / "0.png")
    assert worked(editor, tmp_path / "changed", jobs) == {}
    assert "past the end" in next(log.rows(out, "failed"))["error"]
    assert "has changed" in next(log.rows(Folder(tmp_path / "changed"), "failed"))["error"]


class Shaky(Folder):
    """A store that refuses every third write, and all of them once it is full."""

    writes, full = 0, False

    def _write(self, name: str, content: bytes, *, overwrite: bool) -> bool:
        self.writes += 1
        if self.full or self.writes % 3 == 0:
            raise PlaceError(f"{name} can't be written: No space left on device")
        return super()._write(name, content, overwrite=overwrite)


def test_a_store_that_fails_now_and_then_is_tried_again(
    editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    jobs, place = task(tmp_path, ("+hat",), ("+sun",), ("-hat",)), Shaky(tmp_path / "out")
    events = list(Worker(editor, place, "w").work(jobs, True, lambda: False))
    assert [event.row["status"] for event in events if event.row] == ["done"] * 3
    place.full = True
    jobs = task(tmp_path, ("+hat",), seed=1)
    events = list(Worker(editor, place, "w").work(jobs, True, lambda: False))
    assert [event.kind for event in events] == ["begin", "begin", "place", "end"]
    assert not (place.path / jobs[0].output).exists()


def test_a_worker_stops_between_jobs(editor: Editor, tmp_path: Path) -> None:
    jobs, done = task(tmp_path, ("+hat",), ("+sun",), ("-hat",)), list[Any]()
    worker = Worker(editor, Folder(tmp_path / "out"), "w")
    stopping = done.__len__
    for event in worker.work(jobs, False, lambda: stopping() == 1):
        done += [event.row] if event.row else []
    assert len(done) == 1


# The whole, with local processes and the bundled model


def test_mixed_rows_end_in_pictures_and_errors_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, out = batch_cases.write(tmp_path / "in", 40), tmp_path / "out"

    def batch(*more: object) -> tuple[object, dict[str, Any]]:
        """Its exit code and what it says; the workers are processes of their own."""
        with pytest.raises(SystemExit) as ended:
            main(["batch", str(path), "-o", str(out), "--json", "--anyway", *map(str, more)])
        said, told = capfd.readouterr()
        assert said, told
        return ended.value.code, json.loads(said)

    code, summary = batch("--steps", 1, "--workers", 2)
    assert code == 1
    assert (summary["done"], summary["failed"], summary["to_do"]) == (25, 15, 0)
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(1, 41))
    assert all((out / row["output"]).exists() if row["status"] == "done" else row["error"] for row in rows)
    from pyarrow import parquet

    assert parquet.read_table(out / "results.parquet").to_pylist() == rows
    page = (out / "index.html").read_text()
    assert page.index("missing.<wbr>png") < page.index("before, after")
    code, summary = batch("--steps", 1, "--workers", 1)
    assert code == 1
    assert (summary["edited"], summary["evaluations"]) == (0, 0)
    code, estimate = batch("--steps", 2, "--dry-run")
    assert code == 0
    assert (estimate["rows"], estimate["done"]) == (40, 0)
    assert estimate["evaluations"] > 2 * estimate["jobs"]


def test_a_job_that_always_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    for k in range(3):
        picture(k, 16, 16).save(tmp_path / f"{k}.png")
    source = Source(pictures=tuple(str(tmp_path / f"{k}.png") for k in range(3)), edits=("+hat",), ask=Ask(steps=1))
    command = (sys.executable, str(Path(__file__).parent / "batch_deadly_worker.py"), "1.png")
    pool = Local("scenes", "cpu", "auto", str(tmp_path / "out"), 1, 1, command, anyway=True)
    summary = run(Options(source=source, output=str(tmp_path / "out")), pool=pool)
    assert (summary.done, summary.failed) == (2, 1)
    (row,) = log.rows(Folder(tmp_path / "out"), "failed")
    assert row["picture"].endswith("1.png")
    assert "killed by SIGKILL" in row["error"]


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    parent = (
        "import os, sys; from ledits.batch.local import Local; "
        f"p = Local('scenes', 'cpu', 'auto', {str(tmp_path)!r}, 1, 1); p.meet(); "
        "print(*p.pids().values(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=120)
    (pid,) = map(int, done.stdout.split())
    if psutil.pid_exists(pid):
        _, alive = psutil.wait_procs([psutil.Process(pid)], timeout=20)
        assert not alive


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "-o", "OUT"], "no edit is given"),
        (["jobs.xlsx", "-o", "OUT"], "save it as CSV"),
        (["m.csv", "b.png", "-o", "OUT"], "pass it alone"),
        (["a.png", "--edit", "+hat", "-o", "OUT", "--shard", "4/3"], "--shard"),
        (["a.png", "--edit", "+hat", "-o", "OUT", "--name", "{stem}.png"], "must end in {id}"),
        (["nothing.csv", "-o", "OUT"], "can't be read"),
        (["a.png", "--edit", "+hat", "-o", "ftp://x/y"], "s3://"),
        (["a.png", "--edit", "+hat", "-o", "OUT", "--model", "/nowhere"], "no such folder"),
        (["a.png", "--edit", "+hat", "-o", "FILE"], "can't be made"),
    ],
)
def test_a_command_that_can_not_run_gets_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    places = {"OUT": str(tmp_path / "out"), "FILE": str(tmp_path / "file")}
    with pytest.raises(SystemExit) as ended:
        main(["batch", *(places.get(word, word) for word in arguments)])
    assert ended.value.code == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_gets_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="can't be"):
        Folder(tmp_path).prepare()


def test_memory_of_a_table_does_not_hold_its_rows(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    writer = log.Log(place, "done")
    for k in (1, 2):
        writer.append({"id": f"{k:016x}", "status": "done", "output": f"{k}.png", "time": float(k)})
    log.Log(place, "failed").append({"id": f"{1:016x}", "status": "failed", "time": 9.0})
    recorded = results.Recorded(place, tmp_path)
    assert [recorded.row(k, True)["status"] for k in (1, 2)] == ["done", "done"]
    # A picture that is not there: its job failed, or is still to be done.
    assert recorded.row(1, False)["status"] == "failed"
    assert recorded.row(2, False) is None
    assert recorded.row(3, True) is None
    recorded.close()


def test_the_id_of_a_job_stays():
    """By it a batch that was begun with an older version knows what is done."""
    row = Row(1, "a.png", "/a.png", ("cat->dog",), Ask(source="a cat", steps=5))
    assert planner().identity(row, "ab" * 32) == "722ace2f1d62f6ee"
    assert planner().identity(Row(1, "a.png", "/a.png", ("+hat",)), "ab" * 32) == "2c51b21857841b36"

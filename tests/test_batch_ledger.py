"""Batch is a ledger: rows are read once, names and ids travel together, and one bad row is a row.

Whatever lies in a folder, changes while a run goes on, or stands in a cell: the table is right, the others are done.
"""

import csv
import json
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from batch_here import batch
from ledits.batch import log, places
from ledits.batch.digests import Digests
from ledits.batch.dispatch import Heard, Loop
from ledits.batch.jobs import Ask, Job, Row
from ledits.batch.manifest import Source
from ledits.batch.places import Folder
from ledits.batch.planning import Ahead, Group, Item
from ledits.batch.run import Summary
from ledits.files.defaults import Defaults
from ledits.picture import image
from test_batch import FakeLedger, FakePool, planner

from conftest import picture

QUICK = Ask(steps=2, mask="none")


def shown(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed, 16, 16).save(path)


def folder(path: Path, output: Path, **options: Any) -> Summary:
    return batch(Source(pictures=(str(path),), edits=("+hat",), ask=QUICK), output, **options)


def table(path: Path, output: Path, **options: Any) -> Summary:
    return batch(Source(manifest=path, root=str(path.parent), edits=("+hat",), ask=QUICK), output, **options)


def rows(output: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def check_table(output: Path) -> None:
    """Every finished row's output holds the edit of the picture that the row names."""
    for row in rows(output):
        assert row["status"] in ("done", "failed")
        if row["status"] == "done":
            assert row["id"] in row["output"]
            assert Path(row["picture"]).stem in row["output"]
            made = image.read_recipe(output / row["output"])
            assert made is not None
            assert made["edits"] == row["edits"]
            assert row["picture_sha256"] in digests(output)[row["picture"]]


def digests(output: Path) -> dict[str, set[str]]:
    """The hashes that finished pictures had, by their names, in the writers' own rows."""
    found: dict[str, set[str]] = {}
    for row in log.rows(Folder(output), "done"):
        found.setdefault(row["picture"], set()).add(row["sha256"])
    return found


# A10: what it wrote is no input


@pytest.mark.parametrize("out", ["in", "in/edited", "in/a/edited"])
def test_an_output_inside_the_input_is_no_input(tmp_path: Path, out: str) -> None:
    given, output = tmp_path / "in", tmp_path / out
    for k, name in enumerate(("b.png", "z/c.png", "a/d.png")):
        shown(given / name, k)
    for _ in range(3):
        summary = folder(given, output)
        assert (summary.done, summary.failed, summary.to_do) == (3, 0, 0)
        assert {Path(row["picture"]).name for row in rows(output)} == {"b.png", "c.png", "d.png"}
        check_table(output)
    assert summary.edited == 0
    assert len([name for name in Folder(output).names() if re.search(r"-[0-9a-f]{16}\.png$", name)]) == 3


def test_the_results_of_another_batch_are_no_inputs_unless_they_are_named(tmp_path: Path) -> None:
    given = tmp_path / "in"
    shown(given / "b.png", 1)
    folder(given, given / "first")
    assert folder(given, given / "second").done == 1
    assert folder(given, tmp_path / "third").done == 1
    assert batch(Source(pictures=(f"{given}/**/*.png",), edits=("+hat",), ask=QUICK), tmp_path / "third").done == 1
    named = folder(given / "first", tmp_path / "again")
    assert (named.done, named.edited) == (1, 1)
    (result,) = (given / "first").rglob("*.png")
    for pictures in ((str(result),), (f"{result.parent}/*.png",)):
        assert batch(Source(pictures=pictures, edits=("+hat",), ask=QUICK), tmp_path / "again").done == 1


def test_a_bucket_that_holds_its_own_output_lists_none_of_it() -> None:
    names = ["p/a.png", "p/out/.ledits/previews/0.jpg", "p/out/a-0123456789abcdef.png", "p/out/own.png",
             "p/older/.ledits/log/x.jsonl", "p/older/a-0123456789abcdef.png", "p/._b.png"]  # fmt: skip
    there = [f"s3://x/{name}" for name in names]
    source = Source(pictures=("s3://x/p",), edits=("+hat",), output="s3://x/p/out", listed=lambda url: iter(there))
    assert [row.picture for row in source.rows()] == ["s3://x/p/a.png", "s3://x/p/out/own.png"]


# D4: an id keeps its own row


def test_a_folder_that_grows_while_it_runs_keeps_its_rows(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    for k in range(4):
        shown(given / f"{k}.png", k)

    def grow(jobs: Sequence[Job]) -> None:
        number = len(list(given.iterdir()))
        shown(given / f"00-{number}.png", 100 + number)  # before all others

    summary = folder(given, output, before=grow)
    assert (summary.done, summary.to_do) == (4, 0)
    assert [Path(row["picture"]).name for row in rows(output)] == [f"{k}.png" for k in range(4)]
    check_table(output)
    again = folder(given, output)
    assert (again.done, again.edited) == (8, 4)
    check_table(output)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_manifest_that_changes_while_it_runs_keeps_its_rows(tmp_path: Path, kind: str) -> None:
    path, output = tmp_path / f"m.{kind}", tmp_path / "out"
    for k in range(9):
        shown(tmp_path / f"{k}.png", k)

    def write(order: Sequence[int]) -> None:
        cells = [{"picture": f"{k}.png", "edits": f"+word{k}"} for k in order]
        if kind == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["picture", "edits"])
                writer.writeheader()
                writer.writerows(cells)
        elif kind == "jsonl":
            path.write_text("\n".join(map(json.dumps, cells)))
        else:
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist(cells), path)

    write(range(4))
    summary = table(path, output, before=lambda jobs: write([8, 7, 6, 5, 4, 3, 2, 1, 0]))
    assert (summary.done, summary.failed, summary.to_do) == (4, 0, 0)
    assert [(row["picture"], row["edits"]) for row in rows(output)] == [(f"{k}.png", [f"+word{k}"]) for k in range(4)]
    check_table(output)


def test_a_manifest_that_goes_away_while_it_runs_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    shown(tmp_path / "a.png", 0)
    path.write_text("picture\na.png\n")
    assert table(path, tmp_path / "out", before=lambda jobs: path.unlink()).done == 1
    check_table(tmp_path / "out")


# D9, B3: regular files only, no hidden ones


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_hidden_files_and_links_to_nowhere_hold_nothing_up(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    shown(given / "a.png", 0)
    os.mkfifo(given / "pipe.png")
    (given / "._a.png").write_bytes(b"\0\5\26\7Mac OS X")
    (given / "gone.png").symlink_to(given / "nowhere.png")
    (given / "loop.png").symlink_to("loop.png")
    (given / "round").symlink_to(given)
    summary = folder(given, output)
    assert (summary.done, summary.failed) == (1, 2)
    assert {Path(row["picture"]).name for row in rows(output)} == {"a.png", "gone.png", "loop.png"}
    path = tmp_path / "m.csv"
    path.write_text("picture\nin/a.png\nin/pipe.png\n/dev/zero\nin\n")
    assert (table(path, tmp_path / "other").done, rows(tmp_path / "other")[1]["status"]) == (1, "failed")
    assert "no regular file" in rows(tmp_path / "other")[1]["error"]


def test_a_folder_that_can_not_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(tmp_path / "in" / "a.png", 0)
    shown(tmp_path / "in" / "closed" / "b.png", 1)
    real = os.scandir

    def scandir(path: str = ".") -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    summary = folder(tmp_path / "in", tmp_path / "out")
    assert (summary.done, summary.failed) == (1, 1)
    assert "Permission denied" in rows(tmp_path / "out")[1]["error"]


def test_folders_within_folders_without_end_are_walked(tmp_path: Path) -> None:
    deep = tmp_path / "in"
    deep.mkdir()
    here = os.getcwd()
    try:
        os.chdir(deep)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        picture(0, 16, 16).save("a.png")
    finally:
        os.chdir(here)
    shown(deep / "b.png", 1)
    try:
        summary = folder(deep, tmp_path / "out")
        assert summary.done >= 1
        assert summary.to_do == 0
    finally:
        subprocess.run(["rm", "-rf", deep], check=True)  # too deep for Python's own


# D10: names


def test_a_name_too_long_for_its_output_is_a_row(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    shown(given / ("é" * 60 + ".png"), 0)
    shown(given / ("d" * 250) / "a.png", 1)
    shown(given / "b.png", 2)
    summary = folder(given, output, template="{folder}-{stem}-{stem}-{id}.png")
    assert (summary.done, summary.failed, summary.to_do) == (1, 2, 0)
    assert all("255" in row["error"] for row in rows(output) if row["status"] == "failed")


def test_a_path_too_long_for_its_output_is_a_row(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path
    for k in range(15):
        output = output / (f"{k:02d}" + "o" * 230)
        os.mkdir(output)
    shown(given / "b.png", 0)
    part = given
    for _ in range(6):
        part = part / ("p" * 200)
    shown(part / "a.png", 1)
    path = tmp_path / "m.csv"
    path.write_text(f"picture\n{(part / 'a.png').relative_to(tmp_path)}\nin/b.png\n")
    summary = table(path, output)
    assert (summary.done, summary.failed, summary.to_do) == (1, 1, 0)


class DeadlyPool(FakePool):
    """A worker dies of a job before it has said that it begins."""

    def send(self, worker: str, jobs: Sequence[Job], previews: bool) -> None:
        if any(self.deadly.get(job.id, 0) > 0 for job in jobs):
            self.tried += [job.id for job in jobs]
            self.said += [Heard(worker, "died", error="gone"), Heard(str(self.count), "ready")]
            self.count += 1
            return
        super().send(worker, jobs, previews)


def test_a_death_before_the_work_begins_counts_too() -> None:
    template = planner().job(Row(1, "a.png", "/a.png", ("+hat",)), "ab" * 32).to_json()
    groups = [Group(tuple(Job.from_json({**template, "id": f"{g}{k}"}) for k in range(4))) for g in range(3)]
    pool, ledger = DeadlyPool({"12": 99}), FakeLedger()
    runs = threading.Thread(target=Loop(Ahead[Item](iter(groups), 2), pool, ledger).run, daemon=True)
    runs.start()
    runs.join(20)
    assert not runs.is_alive(), "workers are started again without end"
    assert ledger.given_up == ["12"]
    assert sorted(ledger.done) == sorted(f"{g}{k}" for g in range(3) for k in range(4) if (g, k) != (1, 2))


# D12: one poison row of each kind

POISON: dict[str, dict[str, Any]] = {
    "deep edits": {"edits": "[" * 100_000},
    "deep JSON in edits": {"edits": [[[["+hat"]]]]},
    "a surrogate in the name": {"picture": "a\ud800.png"},
    "a surrogate in an edit": {"edits": "+h\udfffat"},
    "a surrogate in the source": {"source": "a \ud83d cat"},
    "5,000 digits of seed": {"seed": "9" * 5000},
    "5,000 digits of scale": {"edits": "+hat:" + "9" * 5000},
    "a number of 400 digits": {"steps": 10**400},
    "infinite steps": {"steps": "1e999"},
    "steps of a list": {"steps": [1]},
    "a million edits": {"edits": ";".join(["+a"] * 100_000)},
    "zero byte": {"picture": "a\0b.png"},
    "outside": {"picture": "../../../etc/passwd"},
    "absolute": {"picture": "/etc/passwd"},
    "an address": {"picture": "https://a.org/cat.png"},
    "another bucket": {"picture": "s3://other/cat.png"},
    "no picture": {"picture": ""},
    "a name of 5,000 bytes": {"picture": "x" * 5000 + ".png"},
    "a path of 50,000": {"picture": "x/" * 25_000 + "a.png"},
    "negative skip": {"skip": -1},
    "a mask of no kind": {"mask": "round"},
    "contradicting edits": {"edits": "cat->dog; cat->fox"},
    "an object": {"edits": {"a": 1}},
    "past the end": {"edits": "+hat[9..]"},
}


@pytest.mark.parametrize("first", [False, True])
def test_one_poison_row_of_each_kind_is_a_row(tmp_path: Path, first: bool) -> None:
    good = [{"picture": f"{k}.png", "edits": "+hat"} for k in range(3)]
    for k in range(3):
        shown(tmp_path / f"{k}.png", k)
    lines = [json.dumps({"picture": "0.png", "edits": "+hat", **cells}) for cells in POISON.values()]
    # These are no rows of JSON at all.
    broken = ['{"picture": ', "[1]", "[" * 100_000, '{"picture": "0.png", "seed": ' + "9" * 5000 + "}", "null", "\\",
              '{"picture": "0.png", "picture ": "1.png"}']  # fmt: skip
    raw = [line.encode() for line in [*lines, *broken]] + [b'{"picture": "0\xff.png", "edits": "+hat"}']
    good_lines = [json.dumps(cells).encode() for cells in good]
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\n".join(raw + good_lines if first else good_lines + raw))
    summary = table(path, tmp_path / "out")
    assert (summary.done, summary.failed, summary.to_do) == (3, len(raw), 0)
    for row in rows(tmp_path / "out"):
        if row["status"] == "failed":
            assert row["error"]
            assert len(row["error"].splitlines()) == 1
            assert "Error" not in row["error"].split(":")[0], row["error"]
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "out" / "results.parquet").num_rows == 3 + len(raw)
    again = table(path, tmp_path / "out")
    assert (again.done, again.failed, again.edited) == (3, len(raw), 0)


def test_poison_in_a_csv_is_a_row_too(tmp_path: Path) -> None:
    for k in range(2):
        shown(tmp_path / f"{k}.png", k)
    path = tmp_path / "m.csv"
    lines = [b"picture,edits,seed", b"0.png,+hat,", b"1.png,+hat,+more,4", b"1.png", b"1.png," + b"[" * 100_000 + b",",
             b"1.png,+hat," + b"9" * 5000, b'"1.png","' + b"x" * (2 << 20) + b'",', b"1\xff.png,+hat,",
             "é.png,+hat,".encode(), b"", b",,", b"../x.png,+hat,", b"1.png,+hat,,,,", b"1.png,+hat,"]  # fmt: skip
    path.write_bytes(b"\n".join(lines) + b"\n")
    summary = table(path, tmp_path / "out")
    assert summary.done == 3  # the last two ask the same
    assert summary.to_do == 0
    assert [row["picture"] for row in rows(tmp_path / "out") if row["status"] == "done"] == ["0.png", "1.png", "1.png"]


def test_a_file_whose_name_is_no_utf8_is_edited(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    shown(given / "a.png", 0)
    try:
        os.rename(given / "a.png", os.fsencode(given) + b"/b\xff\n.png")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    shown(given / "a.png", 0)
    summary = folder(given, output)
    assert (summary.done, summary.failed) == (2, 0)
    assert (output / "index.html").read_bytes().decode()
    for name in Folder(output).names():
        name.encode()


def test_broken_pictures_of_all_kinds_are_rows(tmp_path: Path) -> None:
    import batch_cases

    given = tmp_path / "in"
    given.mkdir()
    names = batch_cases.pictures(given, 11)
    bad = batch_cases.broken(given)
    (given / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    summary = folder(given, tmp_path / "out")
    # A folder is no file, and what is missing is not listed.
    assert (summary.done, summary.failed) == (len(names), len(bad) - 2 + 1)
    (heic,) = [row for row in rows(tmp_path / "out") if row["picture"].endswith("heic")]
    assert "HEIC" in heic["error"]


# D14: what is seen of a change


def test_a_picture_replaced_with_the_same_size_and_time_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_SETTLED", -1.0)
    path = tmp_path / "in" / "a.bmp"
    shown(path, 1)
    os.utime(path, (1e9, 1e9))
    assert folder(path.parent, tmp_path / "out").edited == 1
    before = path.stat()
    shown(path, 2)
    os.utime(path, (1e9, 1e9))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    summary = folder(path.parent, tmp_path / "out")
    assert (summary.done, summary.edited) == (1, 1)
    check_table(tmp_path / "out")


def test_the_hash_of_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    """Its next change may come within one tick of the file system's clock."""
    shown(tmp_path / "a.png", 1)
    for _ in range(2):
        known = Digests(Folder(tmp_path / "out"))
        known.of([str(tmp_path / "a.png")])
        known.close()
    assert list(Folder(tmp_path / "out").names(".ledits/digests")) == []


def test_a_picture_that_changes_while_it_runs_fails_and_is_done_next_time(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    for k in range(2):
        shown(given / f"{k}.png", k)
    changed = list[str]()

    def change(jobs: Sequence[Job]) -> None:
        if not changed:
            shown(Path(jobs[0].path), 9)
            changed.append(jobs[0].picture)

    first = folder(given, output, before=change)
    assert (first.done, first.failed) == (1, 1)
    (failed,) = [row for row in rows(output) if row["status"] == "failed"]
    assert failed["picture"] == changed[0]
    assert "has changed" in failed["error"]
    second = folder(given, output)
    assert (second.done, second.failed, second.edited) == (2, 0, 1)
    check_table(output)


# Spreadsheets


@pytest.mark.parametrize(
    "content",
    [
        b"picture;edits;Skip\nphotos\\a.png;+hat;0,25\n",
        b"picture\tedits\tskip\nphotos\\a.png\t+hat\t0.25\n",
        b"Picture,Edits,skip\r\nphotos/a.png,+hat,0.25\r\n\r\n",
        b"sep=;\r\npicture;edits;skip\r\nphotos/a.png;+hat;0.25\r\n",
        "picture\tedits\tskip\r\nphotos/a.png\t+hat\t0.25\r\n".encode("utf-16"),
        b"\xef\xbb\xbfpicture;edits;skip;;\nphotos/a.png;+hat;0.25;;\n",
    ],
)  # fmt: skip
def test_tables_of_every_spreadsheet_are_read(tmp_path: Path, content: bytes) -> None:
    shown(tmp_path / "photos" / "a.png", 0)
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    source = Source(manifest=path, root=str(tmp_path))
    (row,) = source.rows()
    assert (row.picture, row.edits, row.ask, row.problem) == ("photos/a.png", ("+hat",), Ask(skip=0.25), "")
    assert Path(row.path).exists()


def test_windows_1252_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("picture;source\nMüller.png;ein Café\n".encode("cp1252"))
    source = Source(manifest=path, root=str(tmp_path), edits=("+hat",))
    with pytest.warns(UserWarning, match="Windows-1252"):
        assert source.check() == 1
    (row,) = source.rows()
    assert (row.picture, row.ask.source) == ("Müller.png", "ein Café")


def test_a_backslash_may_be_part_of_a_name_and_leads_nowhere(tmp_path: Path) -> None:
    shown(tmp_path / "a\\b.png", 0)
    path = tmp_path / "m.csv"
    path.write_text("picture\na\\b.png\n..\\..\\etc\\passwd\n")
    named, outside = Source(manifest=path, root=str(tmp_path), edits=("+hat",)).rows()
    assert Path(named.path).exists()
    assert "outside" in outside.problem
    assert outside.path == ""


def test_unknown_columns_are_kept_and_named_once(tmp_path: Path) -> None:
    path, output = tmp_path / "m.csv", tmp_path / "out"
    shown(tmp_path / "a.png", 0)
    path.write_text("picture,edits,Notes,sede,,\na.png,+hat,for Ann,3,,\na.png,+sun,,4,,x\n")
    with pytest.warns(UserWarning, match="'Notes'") as warned:
        summary = table(path, output)
    assert len(warned) == 1
    assert "did you mean 'seed'" in str(warned[0].message)
    assert summary.done == 2
    assert [json.loads(row["other"])["Notes"] for row in rows(output)] == ["for Ann", ""]


def test_a_row_names_no_model(tmp_path: Path) -> None:
    """Who writes a manifest does not choose what is loaded: such columns are kept in the table, and nothing more."""
    path, output = tmp_path / "m.csv", tmp_path / "out"
    shown(tmp_path / "a.png", 0)
    named = {"model": str(tmp_path / "none"), "lora": "owner/name", "device": "abacus"}
    path.write_text(f"picture,edits,{','.join(named)}\na.png,+hat,{','.join(named.values())}\n")
    with pytest.warns(UserWarning, match="'model'"):
        summary = table(path, output)
    assert (summary.done, summary.failed) == (1, 0)
    assert json.loads(rows(output)[0]["other"]).items() >= named.items()


def test_a_column_that_was_meant_as_edits_is_said(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("picture,prompt\na.png,+hat\n")
    with pytest.raises(ValueError, match="did you mean 'edits'"):
        Source(manifest=path, root=str(tmp_path)).check()


# What a person sees


def test_the_page_links_its_own_table_and_breaks_names_at_separators(tmp_path: Path) -> None:
    given, output = tmp_path / "in", tmp_path / "out"
    shown(given / "a_long-name.of.a.png", 0)
    (given / "bad_name-1.png").write_bytes(b"x")
    folder(given, output, shard=(1, 1))
    page = (output / "index.html").read_text()
    links = re.findall(r"href='?([^' >]+)", page)
    assert "results.jsonl" in links
    assert "bad_<wbr>name-<wbr>1.<wbr>png" in page
    folder(given, output, shard=(2, 2))
    page = (output / "index-2-of-2.html").read_text()
    assert "results-2-of-2.jsonl" in page
    assert "'results.jsonl'" not in page


def test_a_run_that_was_stopped_says_so_though_a_row_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledits.batch import run
    from ledits.cli import main

    summary = Summary(done=1, failed=1, to_do=3, edited=1, evaluations=1, seconds=1.0, stopped=True, files=())
    monkeypatch.setattr(run, "run", lambda options, watch: summary)
    with pytest.raises(SystemExit) as ended:
        main(["batch", str(tmp_path), "--edit", "+hat", "-o", str(tmp_path / "out")])
    assert ended.value.code == 130


def test_what_the_bundled_model_does_not_know_is_a_row_unless_told(tmp_path: Path) -> None:
    from ledits.batch.work import Worker
    from ledits.editor import Editor

    rng = np.random.default_rng(0)
    photograph = np.cumsum(rng.normal(size=(128, 128, 3)), 0)
    photograph = ((photograph - photograph.min()) / np.ptp(photograph) * 255).astype(np.uint8)
    Image.fromarray(photograph).save(tmp_path / "a.png")
    digest = Digests(Folder(tmp_path / "x")).of([str(tmp_path / "a.png")])[0]
    assert isinstance(digest, str)
    row = Row(1, "a.png", str(tmp_path / "a.png"), ("+hat",), Ask(steps=1))
    defaults = Defaults(steps=1, skip=0.1, described_skip=0.1)
    job = planner(defaults=defaults, area=64 * 64).job(row, digest)
    editor = Editor()
    for anyway, status in ((False, "failed"), (True, "done")):
        worker = Worker(editor, Folder(tmp_path / str(anyway)), "w", anyway=anyway)
        (told,) = [event.row for event in worker.work([job], False, lambda: False) if event.row]
        assert told["status"] == status
        assert anyway or "--anyway" in told["error"]


@pytest.mark.parametrize("given", ["empty", "zz*.png", "notes", "in/first"])
def test_a_folder_or_a_pattern_that_names_no_picture_is_refused_beside_others(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ledits.cli import main

    shown(tmp_path / "in" / "b.png", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    (tmp_path / "in" / "first" / ".ledits").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["batch", "in/b.png", given, "--edit", "+hat", "-o", "out"])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert "no pictures" in said
    assert given in said
    assert not (tmp_path / "out").exists()


def test_a_bucket_s_folder_without_pictures_is_refused() -> None:
    source = Source(pictures=("s3://x/p",), edits=("+hat",), listed=lambda url: iter(["s3://x/p/notes.txt"]))
    with pytest.raises(ValueError, match="no pictures in s3://x/p"):
        source.check()


def test_an_array_of_json_is_said_to_be_saved_as_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ledits.cli import main

    (tmp_path / "j.json").write_text('[{"picture": "p.png", "edits": "+hat"}]')
    for more in ([], ["--edit", "+hat"]):
        with pytest.raises(SystemExit) as ended:
            main(["batch", str(tmp_path / "j.json"), *more, "-o", str(tmp_path / "out")])
        assert ended.value.code == 2
        assert "save it as JSON lines" in capsys.readouterr().err

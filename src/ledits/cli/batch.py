"""`ledits batch`: a manifest or many pictures in, one folder or bucket of edited pictures and one table out."""

import json
import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ledits.asked.recipe import MaskRule
from ledits.asked.settings import InvertOptions
from ledits.cli.arguments import check_quoted
from ledits.cli.grouped import grouped
from ledits.cli.more_options import More
from ledits.cli.options import (
    AnywayOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    check,
)

if TYPE_CHECKING:
    from ledits.batch.manifest import Source
    from ledits.batch.run import Counts, Estimate, Options, Summary

_WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_LINE = 30.0  # seconds between lines of progress where there is no terminal
_ADDRESS = re.compile(r"auto$|local$|ray://|[\w.\-]+:\d+$|\[[0-9a-f:]+\]:\d+$")


class BatchCommand(TyperCommand):
    """Takes "--ray" without an address for Ray on this machine."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list[str]()
        for word, following in zip(args, [*args, ""][1:], strict=True):
            words.append(word)
            if word == "--ray" and not _ADDRESS.match(following):
                words.append("local")
        return super().parse_args(ctx, words)


@grouped
def batch_command(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST | PICTURES...",
            help="A .csv, .tsv, .jsonl or .parquet file with a row for each job; or pictures, folders and globs.",
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="A folder, or s3://bucket/prefix (also gs://, az://).")],
    edit: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="EDIT", help="An edit for rows that have none of their own; may be repeated."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="How outputs are named, with {folder} {stem} {row} {id}. \\[default: {folder}/{stem}-{id}.png]",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option("--root", help="The folder of the manifest's pictures. \\[default: the manifest's folder]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="How many processes work. \\[default: one for each GPU, or what cores and memory bear]",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", min=1, help="Threads of each worker. \\[default: the cores, divided among the workers]"
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="[ADDRESS]", help="Run on a Ray cluster; without an address, on this machine."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="K/N", help="Do the K-th of N parts, for N machines without Ray.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try rows again that failed in an earlier run.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Do no more than this many jobs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the rows, try three of them, and say what the rest will cost.")
    ] = False,
    model: ModelOption = None,
    mask: Annotated[
        MaskRule | None,
        typer.Option("--mask", help="Without a caption: how an edit is kept in place, as in `ledits edit`."),
    ] = None,
    composite: Annotated[
        bool, typer.Option("--composite", help="Keep the picture's own pixels outside of the edits.")
    ] = False,
    thrifty: Annotated[
        bool,
        typer.Option(
            "--thrifty", help="With --source: leave the caption out of later steps. Faster, and not quite the same."
        ),
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    anyway: AnywayOption = False,
    as_json: JsonOption = False,
    *,
    how: InvertOptions,
    more: More,
) -> None:
    """Edit many pictures: ledits batch photos/ --edit 'cat->dog' -o edited

    Run the same command again after anything: what is done is not done twice. Rows that fail are listed with their
    errors in results.jsonl (and .parquet), and the exit code is 1. Settings given here are for rows without their own.

    A manifest has the columns picture, edits ("cat->dog; +hat") and, named as the options, source, steps, skip, seed,
    source_scale, negative, size, use_lora, mask, composite, drop_source_late. Others are kept in the table.
    """
    from ledits.batch.jobs import TEMPLATE
    from ledits.batch.manifest import Ask
    from ledits.batch.run import Options, estimate, run

    loading = more.loading(model, device, dtype)
    check(model, device, dtype)
    check_quoted(edit or ())
    if how.source == "auto":
        raise ValueError("--source auto is for one picture at a time: write captions into a manifest, as its source")
    ask = Ask(
        **asdict(how), mask=mask, composite=composite or None, drop_source_late=thrifty or None,
    )  # fmt: skip
    options = Options(
        source=_source(inputs, root, tuple(edit or ()), ask), output=output, model=loading.to_text(),
        device=loading.device, dtype=loading.dtype, template=name or TEMPLATE, workers=workers, threads=threads,
        ray=None if ray is None else "" if ray == "local" else ray, shard=_shard(shard), retry_failed=retry_failed,
        limit=limit, anyway=anyway,
    )  # fmt: skip
    if dry_run:
        _say_estimate(estimate(options), as_json)
        return
    with _progress(as_json) as watch:
        summary = run(options, watch)
    _say_summary(summary, options, as_json)
    if summary.stopped:
        raise typer.Exit(130)
    if summary.failed:
        raise typer.Exit(1)


batch_command.command_class = BatchCommand  # pyright: ignore[reportFunctionMemberAccess]


def _source(inputs: list[str], root: str | None, edits: tuple[str, ...], ask: Any) -> "Source":
    from ledits.batch import places
    from ledits.batch.manifest import KINDS, Source

    if workbooks := [given for given in inputs if given.lower().endswith(_WORKBOOKS)]:
        raise ValueError(
            f"{workbooks[0]} is a spreadsheet's own file: save it as CSV, in Excel 'CSV UTF-8', and pass that"
        )
    if whole := [given for given in inputs if given.lower().endswith(".json")]:
        raise ValueError(
            f"{whole[0]} is one piece of JSON: save it as JSON lines, a .jsonl with one object a line, and pass that"
        )
    manifests = [given for given in inputs if given.lower().endswith(KINDS)]
    if not manifests:
        if root is not None:
            raise ValueError("--root is for the pictures of a manifest: leave it out")
        if not edits:
            raise ValueError("no edit is given: add --edit 'cat->dog', or pass a manifest with a column of edits")
        return Source(pictures=tuple(inputs), edits=edits, ask=ask, listed=places.listed)
    if len(inputs) > 1:
        raise ValueError(f"{manifests[0]} is a manifest, and {len(inputs)} inputs are given: pass it alone")
    given = manifests[0]
    where = root or (given.rpartition("/")[0] + "/" if "://" in given else str(Path(given).absolute().parent))
    where = where if "://" in where else str(Path(where).absolute())
    where = where.rstrip("/") + "/" if "://" in where else where
    path = Path(given)
    if "://" in given:
        import tempfile

        path = Path(tempfile.mkdtemp(prefix="ledits-")) / given.rpartition("/")[2]
        path.write_bytes(places.read(given))
    return Source(manifest=path, root=where, edits=edits, ask=ask)


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--shard {text!r}: write K/N with K from 1 to N, such as 3/16")
    return int(match[1]), int(match[2])


@contextmanager
def _progress(quiet: bool) -> Generator[Any]:
    """A bar with rate, remaining time and failures on a terminal; a line now and then elsewhere."""
    if quiet:
        yield lambda counts: None  # noqa: ARG005  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        return
    if not sys.stderr.isatty():
        last = [time.monotonic()]

        def line(counts: "Counts") -> None:
            if time.monotonic() - last[0] >= _LINE:
                last[0] = time.monotonic()
                typer.echo(f"{counts.settled} of {_counted(counts.total, 'row')}, {_rate(counts)}", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("loading the model", total=None)
        yield lambda counts: bar.update(  # pyright: ignore[reportUnknownLambdaType]
            task, total=counts.total, completed=counts.settled, description=_rate(counts)
        )


def _rate(counts: "Counts") -> str:
    worked, seconds = counts.done + counts.failed, time.monotonic() - counts.began
    rate = worked / seconds if seconds else 0.0
    left = f", {_duration((counts.total - counts.settled) / rate)} left" if rate else ""
    text = f"{rate:.2f} rows/s{left}, {_counted(counts.workers, 'worker')}"
    return text + (f", {counts.failed} failed" if counts.failed else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _say_summary(summary: "Summary", options: "Options", as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(summary), "files": list(summary.files)}))
        return
    typer.echo(
        f"{options.output}: {_counted(summary.done, 'row')} done ({summary.edited} now, "
        f"{_counted(summary.evaluations, 'network evaluation')}, "
        f"{_duration(summary.seconds)}), {summary.failed} failed; see {', '.join(summary.files)}"
    )
    if summary.failed:
        typer.echo("failed rows are in the table with their errors; --retry-failed tries them again", err=True)
    if summary.named_before:
        typer.echo(
            f"{_counted(summary.named_before, 'result')} of earlier runs kept the old name, where this command gives "
            "another (the table's column output has the old one): for new names use another folder with -o",
            err=True,
        )
    if summary.unlisted:
        typer.echo(
            f"{_counted(summary.unlisted, 'result')} of earlier runs, of other rows or settings, stayed in "
            f"{options.output} and left the table: run that command again for its table, or give each a folder with -o",
            err=True,
        )
    if summary.stopped or summary.to_do:
        typer.echo("not all rows are done: run the same command again to go on", err=True)


def _say_estimate(found: "Estimate", as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps({**asdict(found), "problems": list(found.problems)}))
        return
    typer.echo(
        f"{_counted(found.rows, 'row')}: {_counted(found.jobs, 'job')} on "
        f"{_counted(found.inversions, 'inversion')} to do, {found.done} done, "
        f"{found.failed} failed, {found.repeated} the same as another row"
    )
    for problem in found.problems:
        typer.echo(f"  {problem}")
    if found.seconds is not None:
        evaluations = _counted(found.evaluations or 0, "network evaluation")
        typer.echo(f"about {evaluations} and {_duration(found.seconds)} of one worker")

"""`ledits bench`: scenes with known answers, and public suites. Everything heavy is imported when one runs."""

import json
import secrets
import shlex
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledits.cli.invert_options import SeedOption, SizeOption, SkipOption, StepsOption
from ledits.cli.more_options import More
from ledits.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    load,
)

if TYPE_CHECKING:
    from ledits.backbones.network import NetworkBackbone
    from ledits_bench.asked import Column
    from ledits_bench.run import Job, Row


class MaskPolicy(StrEnum):
    none = "none"
    implicit = "implicit"
    given = "given"
    paste = "paste"


class Edits(StrEnum):
    words = "words"
    prompt = "prompt"
    described = "described"
    none = "none"


class Split(StrEnum):
    development = "development"
    exam = "exam"


app = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

FolderOption = Annotated[
    Path, typer.Option("--out", help="Where results are kept; a run that was stopped goes on from there.")
]
MethodsOption = Annotated[
    str | None, typer.Option("--methods", help="Some only, such as ours,sdedit. \\[default: all]")
]
InputOption = Annotated[
    str,
    typer.Option(
        "--input",
        help="What is told: typed (a caption and edits, as people type them), target (the captions before and after) "
        "or words (the edits alone); several by commas, each its own column.",
    ),
]
SplitOption = Annotated[
    Split, typer.Option("--split", help="The cases that may be looked at, or an exam that is drawn from a seed.")
]
SeedOfExamOption = Annotated[int | None, typer.Option("--seed", help="Of the exam. \\[default: a new one]", min=0)]
CountOption = Annotated[int | None, typer.Option("--count", help="The first so many cases. \\[default: all]")]
ScenesModelOption = Annotated[
    str | None, typer.Option("--model", help="A model that knows the scenes. \\[default: the bundled one]")
]


@app.callback()
def about() -> None:
    """Measure editors: on scenes whose answers are known, and on public collections."""


@app.command("scenes")
def scenes_command(
    out: FolderOption = Path("bench-scenes"),
    columns: InputOption = "typed",
    split: SplitOption = Split.development,
    seed: SeedOfExamOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="6 cases of each kind, and ours alone unless told.")] = False,
    count: CountOption = None,
    methods: MethodsOption = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Run every setting of the curves too.")] = False,
    model: ScenesModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Edit scenes with known answers by every method: ledits bench scenes --quick

    Exit code 1 says that a case failed; its row in results.jsonl says how.
    """
    _check_folder(out)
    if quick and count is not None:
        raise ValueError("--quick is a --count of its own: leave one of them out")
    from ledits.scenes import suits
    from ledits_bench import cases, run

    cases.checked(split.value, count)  # at best, before a model is loaded
    told = _columns(columns)
    flow = _is_flow(model)
    names = ["ours"] if quick and methods is None else _names(methods, flow=flow)
    seed = _seed(out, split, seed)
    backbone = _backbone(model, device, dtype, names)
    kinds, world = cases.kinds_of(backbone.prompts), suits.world(backbone.name)
    suite = cases.suite(split.value, cases.QUICK * len(kinds) if quick else count, kinds, seed)
    jobs = run.plan(suite, names, told, world, flow=flow)
    jobs += run.sweep(suite, names, told, world) if sweep else []
    errors = _perform(backbone, out, jobs, run.measured(split.value, seed, flow=flow))
    _report(out)
    if errors:
        raise typer.Exit(1)


@app.command("trips")
def trips_command(
    out: FolderOption = Path("bench-scenes"),
    split: SplitOption = Split.development,
    seed: SeedOfExamOption = None,
    count: Annotated[int, typer.Option("--count", help="The first so many swaps of the split.", min=1)] = 10,
    trips: Annotated[int, typer.Option("--trips", help="There and back so often.", min=1)] = 10,
    methods: MethodsOption = None,
    model: ScenesModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Edit there and back, again and again, and measure what is left of the first picture: ledits bench trips

    Ours twice: from the inversion that was kept, and from each result anew, as the others do it.
    """
    _check_folder(out)
    from ledits_bench import cases, run
    from ledits_bench import trips as journeys

    flow = _is_flow(model)
    names = [name for name in _names(methods, flow=flow) if methods or not run.METHODS[name].by_words]
    cases.checked(split.value, count, ("swap",))
    seed = _seed(out, split, seed)
    backbone = _backbone(model, device, dtype, names)
    suite = cases.suite(split.value, count, ("swap",), seed)
    about = run.measured(split.value, seed, flow=flow)
    for line in journeys.perform(backbone, out, suite, names, trips, _command(), about):
        typer.echo(line, err=True)
    _report(out)


@app.command("tune")
def tune_command(
    out: FolderOption = Path("bench-tune"),
    count: CountOption = None,
    methods: MethodsOption = None,
    model: ScenesModelOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
) -> None:
    """Try every setting of every method on the tuning split, and write the best of each to FOLDER/settings.json.

    Each method has as many settings and the same cases, as typed, and the best has the highest mean worth over all
    kinds of edits. The file is written once all methods are done, which may be one after another.

    Copied to src/ledits_bench/settings.json, of a flow to settings_flow.json, they are what `ledits bench scenes` runs
    with.
    """
    _check_folder(out)
    from ledits.files.atomic import written
    from ledits.scenes import suits
    from ledits_bench import cases, run

    cases.checked("tuning", count)
    flow = _is_flow(model)
    names = _names(methods, flow=flow)
    backbone = _backbone(model, device, dtype, names)
    suite = cases.suite("tuning", count, cases.kinds_of(backbone.prompts))
    # A composite has the settings of what it is laid on.
    tried = [name for name in names if not run.METHODS[name].composite]
    jobs = run.trials(suite, tried, suits.world(backbone.name))
    errors = _perform(backbone, out, jobs, {"split": "tuning"})
    found, waiting = run.tuned(run.results(out), _names(None, flow=flow), {case.id for case in suite})
    if waiting:
        typer.echo(f"no settings.json yet: {', '.join(waiting)} have not been tried on the same cases", err=True)
    else:
        with written(out / "settings.json", overwrite=True) as path:
            path.write_text(json.dumps(found, indent=1) + "\n")
        typer.echo(out / "settings.json")
    if errors:
        raise typer.Exit(1)


@app.command("report")
def report_command(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A folder of results, or the rows of a report.")],
    beside: Annotated[
        Path | None, typer.Option("--beside", help="Results of another model, for a table of both, case by case.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the report goes. \\[default: where the results are]")
    ] = None,
) -> None:
    """Write report.md, report.html and rows.jsonl.gz: tables, curves, best and worst cases, and what they are made of.

    From the rows alone anybody can make the tables again: ledits bench report rows.jsonl.gz --out again
    """
    _report(results, beside, out)


@app.command("editeval", help="EditEval_v1: 50 pictures, seven kinds of edits.")
@app.command("flowedit", help="FlowEdit's YAML: pictures with several target prompts each.")
@app.command("pie-bench++", help="PIE-Bench++: several changes in a target prompt.")
@app.command("pie-bench", help="PIE-Bench: 700 pictures with prompts and masks.")
@app.command("tedbench++", help="TEdBench++, each row with its own settings.")
@app.command("tedbench", help="TEdBench: 100 pictures with a target text.")
def bench_public_command(
    context: typer.Context,
    data: Annotated[str, typer.Option("--data", help="The suite's folder as published, or a data set of the hub.")],
    out: Annotated[Path, typer.Option("--out", help="Where rows and results go; what is there is not done again.")],
    mask_policy: Annotated[
        MaskPolicy,
        typer.Option("--mask-policy", help="No masks, implicit ones, the suite's, or the source pasted outside it."),
    ] = MaskPolicy.implicit,
    edits: Annotated[
        Edits,
        typer.Option("--edits", help="What differs in words, the target prompt, what the source becomes, or none."),
    ] = Edits.words,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first LIMIT cases.")] = None,
    source_scale: Annotated[
        float, typer.Option("--source-scale", help="Guide the inversion by the suite's source prompt; 3.5 is usual.")
    ] = 0.0,
    clip: Annotated[
        str, typer.Option("--clip", help="CLIP, a folder or a name in the cache.")
    ] = "openai/clip-vit-large-patch14",
    dino: Annotated[str, typer.Option("--dino", help="DINO, a folder or a name in the cache.")] = "facebook/dino-vitb8",
    model: ModelOption = None,
    steps: StepsOption = None,
    skip: SkipOption = None,
    seed: SeedOption = None,
    size: SizeOption = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a public benchmark: ledits bench pie-bench --data PIE-Bench --out runs"""
    from ledits.backbones import BUNDLED
    from ledits_bench.public.cli import run_public
    from ledits_bench.public.run import Plan

    if size is not None and size < 8:
        raise ValueError(f"--size {size}: at least 8 pixels are needed, 512 is usual")
    plan = Plan(
        str(context.info_name), mask_policy.value, edits.value, steps, skip, seed, source_scale,
        None if size is None else size**2,
    )  # fmt: skip
    errors = run_public(
        plan, data, out, model or BUNDLED, lambda: load(More().loading(model, device, dtype)).backbone,
        limit=limit, clip=clip, dino=dino, as_json=as_json,
    )  # fmt: skip
    if errors:
        raise typer.Exit(1)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file, and results need a folder: choose another name")


def _has_rows(file: Path) -> bool:
    return file.name.endswith(".jsonl.gz") and file.is_file()


def _report(results: Path, beside: Path | None = None, out: Path | None = None) -> None:
    for each in (results, beside):
        if each is not None and not _has_rows(each) and not (each / "run.json").is_file():
            raise ValueError(
                f"{each} holds no results of `ledits bench scenes`: name a folder that has run.json, or a rows.jsonl.gz"
            )
    from ledits_bench.report import write

    for path in write(results, beside, out):
        typer.echo(path)


def _columns(said: str) -> "tuple[Column, ...]":
    from ledits_bench.asked import COLUMNS

    names = [name.strip() for name in said.split(",")]
    if unknown := [name for name in names if name not in COLUMNS]:
        raise ValueError(f"--input {', '.join(unknown)}: {', '.join(COLUMNS)} are known, several by commas")
    return tuple(column for column in COLUMNS if column in names)


def _seed(out: Path, split: Split, seed: int | None) -> int | None:
    """The seed of an exam: the one that is given, that of the results which are there, or a new one, which is said."""
    if split is not Split.exam:
        if seed is not None:
            raise ValueError("--seed is of an exam: add --split exam, or leave it out")
        return None
    from ledits_bench.run import about_of

    if seed is None and (out / "run.json").is_file():
        seed = about_of(out).get("seed")
    if seed is None:
        seed = secrets.randbelow(2**31)
    typer.echo(f"exam of seed {seed}", err=True)
    return seed


def _is_flow(model: str | None) -> bool:
    """Whether a model is a flow transformer, by its model_index.json alone; ValueError for one that has to be loaded
    from a hub first, or that can't run scenes.
    """
    from ledits.files import checkpoints

    name = model or checkpoints.BUNDLED
    if (folder := checkpoints.find(name)) is None:
        raise ValueError(f"--model {name}: scenes are drawn by models of this machine: give a folder, or leave it out")
    kind = checkpoints.index(folder, name)["_class_name"]
    if kind not in ("StableDiffusionPipeline", "StableDiffusion3Pipeline"):
        raise ValueError(
            f"model {name!r} is a {kind}: scenes are edited by models in the layout of Stable Diffusion or of Stable "
            "Diffusion 3, such as scenes and scenes-flow"
        )
    return kind == "StableDiffusion3Pipeline"


def _names(methods: str | None, *, flow: bool) -> list[str]:
    from ledits_bench.methods import METHODS, running_on

    names = running_on(flow=flow) if methods is None else [name.strip() for name in methods.split(",")]
    if unknown := [name for name in names if name not in METHODS]:
        raise ValueError(f"--methods {', '.join(unknown)}: {', '.join(METHODS)} are known")
    if foreign := [name for name in names if name not in running_on(flow=flow)]:
        what = "flow transformers" if flow else "UNets"
        raise ValueError(
            f"--methods {', '.join(foreign)}: {', '.join(running_on(flow=flow))} are those that run on {what}"
        )
    return names


def _backbone(model: str | None, device: str | None, dtype: str | None, names: list[str]) -> "NetworkBackbone":
    """The model for these methods: its layers are diffusers' own, for all of them, where one needs that."""
    from ledits.backbones import BUNDLED, load
    from ledits.backbones.network import NetworkBackbone
    from ledits_bench.methods import METHODS

    own_attention = any(METHODS[name].own_attention for name in names)
    backbone = load(model or BUNDLED, device=device or "auto", dtype=dtype or "auto", packed=not own_attention)
    assert isinstance(backbone, NetworkBackbone)
    return backbone


def _command() -> str:
    return f"ledits {shlex.join(sys.argv[1:])}"


def _perform(backbone: "NetworkBackbone", folder: Path, jobs: "list[Job]", about: "Row") -> int:
    """Run the jobs under a progress bar; how many rows of them are errors."""
    from ledits_bench import run

    steps: Iterable[tuple[int, int]] = run.perform(backbone, folder, jobs, _command(), about)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("cases")
            for done, total in steps:
                bar.update(task, completed=done, total=total)
    else:
        for _ in steps:
            pass
    keys = {job.key for job in jobs}
    errors = [row for row in run.results(folder) if row["key"] in keys and row["error"]]
    if errors:
        typer.echo(f"{len(errors)} of {len(keys)} failed, the first: {errors[0]['error']}", err=True)
    return len(errors)

"""`ledits bench SUITE` for the public suites: read the cases, run them, print what came out."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from ledits.backbones import Backbone
from ledits.files import atomic as files
from ledits_bench.public import hub, metrics, weights
from ledits_bench.public.cases import Case
from ledits_bench.public.run import Plan, run, summarise
from ledits_bench.public.suites import MASKED, SUITES


def run_public(
    plan: Plan,
    data: str,
    out: Path,
    model: str,
    load: Callable[[], Backbone],
    *,
    limit: int | None = None,
    clip: str = weights.CLIP,
    dino: str = weights.DINO,
    as_json: bool = False,
) -> int:
    """Runs a suite into OUT/SUITE-MODEL-POLICY-WORDING.jsonl and returns how many cases have an error."""
    if plan.policy in ("given", "paste") and plan.suite not in MASKED:
        raise ValueError(f"--mask-policy {plan.policy}: {plan.suite} has no masks, {' and '.join(MASKED)} have")
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: at least one case is needed")
    cases = read_cases(plan.suite, hub.folder(data), limit)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out} can't be made a folder ({error.strerror}): choose another one") from None
    name = "".join(c if c.isalnum() or c in "-._" else "-" for c in model).strip("-.")
    path = out / f"{plan.suite}-{name}-{plan.policy}-{plan.wording}.jsonl"
    scorers = weights.load(clip, dino)
    for sentence in scorers.missing:
        typer.echo(f"ledits: {sentence}", err=True)
    rows = list[dict[str, Any]]()
    for row, new in run(cases, load(), scorers, plan, path):
        rows.append(row)
        if row["error"] is not None:
            typer.echo(f"ledits: {plan.suite} {row['id']}: {row['error']}", err=True)
        if new:
            typer.echo(f"{len(rows)}/{len(cases)} {row['id']} {row['status']}", err=True)
    summary: dict[str, Any] = {"file": str(path), **summarise(rows), "left_out": list(scorers.missing)}
    with files.written(path.with_suffix(".summary.json"), overwrite=True) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    typer.echo(json.dumps(summary) if as_json else table(summary))
    return summary["errors"]


def read_cases(suite: str, folder: Path, limit: int | None) -> list[Case]:
    """The first `limit` cases of a suite, all with different ids."""
    cases, seen = list[Case](), dict[str, int]()
    for case in SUITES[suite](folder):
        if limit is not None and len(cases) == limit:
            break
        seen[case.id] = seen.get(case.id, 0) + 1
        cases.append(case if seen[case.id] == 1 else replace(case, id=f"{case.id}#{seen[case.id]}"))
    if not cases:
        raise ValueError(f"{folder} holds no case of {suite}")
    return cases


def table(summary: dict[str, Any]) -> str:
    """The summary for people, metrics on the scale of the published tables."""
    lines = [
        f"{summary['file']}: {summary['cases']} cases, {summary['failed']} failed, "
        f"{summary['full_masks']} with a full mask"
    ]
    for name, entry in summary["metrics"].items():
        times = metrics.SHOWN_TIMES.get(name.removesuffix("_unedit_part"), 1.0)
        scale = f" x{times:g}" if times != 1 else ""
        mean = entry["mean"] if entry["mean"] in (None, "inf") else f"{times * entry['mean']:.2f}"
        between = f" [{times * entry['low']:.2f}, {times * entry['high']:.2f}]" if entry["low"] is not None else ""
        lines.append(f"  {name}{scale}: {mean or '-'}{between}, n = {entry['n']}, nan = {entry['nan']}")
    return "\n".join(lines)

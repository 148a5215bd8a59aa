"""The report of a run: the same tables, curves and pictures as Markdown and as one HTML file that needs no other.

It is made of rows alone, which are written beside it, in a file that the tables can be made of again.
"""

import base64
import gzip
import html
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledits.files.atomic import written
from ledits.scenes import SIDE
from ledits_bench import trips
from ledits_bench.asked import COLUMNS, WORDINGS, Column
from ledits_bench.cases import KINDS, Case, Kind, suite
from ledits_bench.methods import MASKS, METHODS, REGIONS, THRESHOLDS
from ledits_bench.run import CONTROLS, Row, about_of, picture_of, results
from ledits_bench.score import eye
from ledits_bench.stats import DECIBELS, Curve, curve, interval

TITLES = {**CONTROLS, **{name: method.title for name, method in METHODS.items()}}
SHOWN = 10  # best and worst cases of ours
HEADINGS: dict[Column, str] = {"typed": "as typed", "target": "target given", "words": "words alone"}
WORDED = {"list": "a plain list", "seen": "English, patterns that training saw", "held out": "English, held out"}
TOLD: dict[Column, str] = {
    "typed": "Told: a caption as a person writes it, and the edits as a person types them, such as -star, +sunglasses, "
    "cat->dog, beach->snow.",
    "target": "Told: the captions before and after, in plain lists.",
    "words": "Told: the edits as a person types them, and no caption.",
}
DIGITS = 4  # of the numbers that rows keep
# SSIM after ten round trips of five editors, commercial and open, as ConvergeBench published them.
CONVERGE_BENCH = (0.618, 0.601, 0.582, 0.451, 0.282)
MEASURES = (
    ("psnr_rebuilt", "PSNR to reconstruction, dB", 1),
    ("psnr_source", "PSNR to source, dB", 1),
    ("ssim_rebuilt", "SSIM to reconstruction", 3),
    ("ssim_source", "SSIM to source", 3),
    ("worst_rebuilt", "largest difference to reconstruction", 0),
    ("worst_source", "largest difference to source", 0),
    ("leaked", "pixels changed outside the used masks", 0),
    ("iou", "IoU of the mask", 2),
    ("twin_rms", "whole picture to twin, RMS", 1),
)


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True)
class Figure:
    """A PNG under a heading, kept beside report.md as `name`."""

    title: str
    note: str
    name: str
    png: bytes


@dataclass(frozen=True)
class Results:
    """Rows, what they are of, and the folder of their pictures where it is at hand."""

    about: Row
    rows: list[Row]
    trips: list[Row]
    folder: Path | None


def read(where: Path) -> Results:
    """Results of a folder, or of the rows that a report has written."""
    if not where.is_file():
        rows, journeys = results(where), trips.results(where)
        if not rows + journeys:
            raise ValueError(f"{where} holds no results yet")
        return Results(about_of(where), list(map(_rounded, rows)), list(map(_rounded, journeys)), where)
    try:
        with gzip.open(where, "rt") as file:
            about, *lines = [json.loads(line) for line in file]
        parts = {name: [line[name] for line in lines if name in line] for name in ("row", "trip")}
        return Results(about["about"], parts["row"], parts["trip"], None)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where} is no file of rows that a report has written: {error}") from None


def packed(found: Results) -> bytes:
    """The rows in a small file, the same bytes whenever it is written."""
    lines = [{"about": found.about}, *({"row": row} for row in found.rows), *({"trip": row} for row in found.trips)]
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode(), mtime=0)


def _rounded(row: Row) -> Row:
    """A row as it is kept: without its key, and its numbers with a few digits."""
    kept = {name: value for name, value in row.items() if name != "key"}
    return {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in kept.items()}


def write(where: Path, beside: Path | None = None, out: Path | None = None) -> list[Path]:
    """Write report.md, its pictures, report.html and the rows of both, for results in a folder or in such rows; with a
    table of what the results of another model, which lie in `beside`, are on the same cases.
    """
    found, other = read(where), read(beside) if beside is not None else None
    folder = out or (where if where.is_dir() else where.parent)
    folder.mkdir(parents=True, exist_ok=True)
    parts = _parts(found)
    made = {"rows.jsonl.gz": packed(found)}
    if other is not None:
        parts.insert(0, _beside(found, other))
        made["rows-beside.jsonl.gz"] = packed(other)
    abouts = [found.about, *([other.about] if other else [])]
    made |= {"report.md": _markdown(abouts, parts).encode(), "report.html": _html(abouts, parts).encode()}
    made |= {part.name: part.png for part in parts if isinstance(part, Figure)}
    for name, content in made.items():
        with written(folder / name, overwrite=True) as path:
            path.write_bytes(content)
    return [folder / "report.md", folder / "report.html", folder / "rows.jsonl.gz"]


def _parts(found: Results) -> list[Table | Figure]:
    good = [row for row in found.rows if not row["error"]]
    kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if any(row["kind"] == kind for row in found.rows))
    main = [row for row in good if row["chosen"]]
    parts: list[Table | Figure] = []
    for column in COLUMNS:
        rows = [row for row in main if row["column"] == column]
        methods = [name for name in METHODS if any(row["method"] == name for row in rows)]
        if not methods:
            continue
        parts += [_success(rows, methods, kinds, column), _measures(rows, methods, column)]
        if "ours" in methods:
            parts += [_differences(rows, methods, column)] if len(methods) > 1 else []
            parts += [_held_out(rows, kinds, column)]
            parts += [_by_wording(rows, kinds)] if column == "typed" else []
            if any(row["refused"] for row in rows):
                parts.append(_refused(rows))
            if found.folder is not None:
                parts += _pictures(found, rows, methods, column)
    if found.trips:
        parts.append(_trips(found.trips))
    controls = [row for row in main if row["method"] in CONTROLS]
    if controls:
        parts.append(_limits(controls, kinds))
        parts.append(_eye(_cases(found.about, controls)))
    return [*parts, *_curves(good), *_masks(good), _settings(found.about, main), _errors(found.rows)]


def _cases(about: Row, rows: Sequence[Row]) -> list[Case]:
    """The cases that rows are of."""
    ids = {row["case"] for row in rows}
    split = about["split"]
    return [case for case in suite(split, seed=about["seed"] if split == "exam" else None) if case.id in ids]


def _success(rows: Sequence[Row], methods: Sequence[str], kinds: Sequence[Kind], column: Column) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in methods:
        mine = [row for row in rows if row["method"] == name]
        by_kind = [_percent([row["success"] for row in mine if row["kind"] == kind]) for kind in kinds]
        refused = sum(bool(row["refused"]) for row in mine)
        ends = (_percent([row["kept"] for row in mine]), _number([row["worth"] for row in mine], 2))
        whole = _percent([row["success"] for row in mine])
        lines.append((TITLES[name], str(len(mine)), str(refused), whole, *by_kind, *ends))
    note = (
        f"{TOLD[column]} Share of cases that show all that was asked for, in %, with 95 % bootstrap intervals; each "
        "method has one setting for all kinds. Refused: no caption after the edits could be written with certainty, "
        "and the editor says what to type instead; it counts as a failure, of each method that is told captions. "
        "Bystanders: objects that had nothing to do with the edit are recognised where they were. Worth: success with "
        "its bystanders, times how well the rest was kept, from 0 at 15 dB to 1 at 35 dB; settings are tuned by it. "
        "Where all n cases agree, the bootstrap shows no width; the truth may be up to 3 / n away."
    )
    header = ("method", "cases", "refused", "all kinds", *kinds, "bystanders", "worth")
    return Table(f"Success, {HEADINGS[column]}", note, header, lines)


def _limits(rows: Sequence[Row], kinds: Sequence[Kind]) -> Table:
    lines: list[tuple[str, ...]] = []
    for name, title in CONTROLS.items():
        mine = [row for row in rows if row["method"] == name]
        by_kind = [_percent([row["success"] for row in mine if row["kind"] == kind]) for kind in kinds]
        lines.append((title, str(len(mine)), _percent([row["success"] for row in mine]), *by_kind))
    note = "Success of pictures that no network has edited: the best and the worst that there can be."
    return Table("What can be reached", note, ("picture", "cases", "all kinds", *kinds), lines)


def _by_wording(rows: Sequence[Row], kinds: Sequence[Kind]) -> Table:
    lines: list[tuple[str, ...]] = []
    for wording in WORDINGS:
        mine = [row for row in rows if row["method"] == "ours" and row["wording"] == wording]
        by_kind = [_percent([row["success"] for row in mine if row["kind"] == kind]) for kind in kinds]
        refused = sum(bool(row["refused"]) for row in mine)
        answered = _percent([row["success"] for row in mine if not row["refused"]])
        whole = _percent([row["success"] for row in mine])
        lines.append((WORDED[wording], str(len(mine)), str(refused), whole, answered, *by_kind))
    note = (
        "Success of ours by how the caption is worded: of every three cases of a kind one has a plain list, one "
        "English in a pattern that training saw, one English in a pattern that was held out. A caption with a word "
        "that the model does not know is drawn again; where none is found it is a plain list."
    )
    return Table("Captions", note, ("caption", "cases", "refused", "all", "all but refused", *kinds), lines)


def _refused(rows: Sequence[Row]) -> Table:
    mine = [row for row in rows if row["method"] == "ours" and row["refused"]]
    lines = [(row["case"], row["source"], ", ".join(row["edits"])) for row in mine]
    return Table(
        f"Refused, {HEADINGS[rows[0]['column']]}", "What ours did not do.", ("case", "caption", "edits"), lines
    )


def _trips(rows: Sequence[Row]) -> Table:
    last = max(row["trip"] for row in rows)
    ways = {"kept": "from the kept inversion", "anew": "from each result anew"}
    lines: list[tuple[str, ...]] = []
    for name in METHODS:
        for way, title in ways.items():
            mine = [row for row in rows if row["method"] == name and row["way"] == way]
            if not mine:
                continue
            cells = [
                _number([row[of] for row in mine if row["trip"] == trip], digits)
                for of, digits in (("ssim", 3), ("psnr", 1))
                for trip in dict.fromkeys((1, last))
            ]
            lines.append((TITLES[name], title, str(len({row["case"] for row in mine})), *cells))
    published = ", ".join(f"{value:.3f}" for value in CONVERGE_BENCH)
    note = (
        f"{last} edits there and back, such as cat->dog and dog->cat, each with its caption: the whole picture against "
        "the first one, the autoencoder's own loss included. From the kept inversion the way back is an edit of the "
        "first picture to its own caption, so nothing adds up. From each result anew the result is encoded, inverted "
        f"and edited again. ConvergeBench published SSIM of {published} after ten round trips of five commercial and "
        "open editors: of another set of pictures, photographs, and of edits of its own, so that only the order of "
        "size may be compared."
    )
    heads = [f"{of} after {trip}" for of in ("SSIM", "PSNR, dB,") for trip in dict.fromkeys((1, last))]
    return Table("Round trips", note, ("method", "way", "pictures", *heads), lines)


def _beside(one: Results, other: Results) -> Table:
    """Each method on two models, on the cases that both were given in the same words."""

    def told(found: Results) -> dict[tuple[str, ...], Row]:
        good = [row for row in found.rows if row["chosen"] and row["column"] and not row["error"]]
        return {(r["column"], r["method"], r["case"], r["source"], *r["edits"]): r for r in good}

    pair = [told(one), told(other)]
    both = pair[0].keys() & pair[1].keys()
    lines: list[tuple[str, ...]] = []
    for column in COLUMNS:
        for name in METHODS:
            for found, rows in zip((one, other), pair, strict=True):
                mine = [rows[key] for key in rows if key in both and key[:2] == (column, name)]
                if mine:
                    by_kind = [_percent([r["success"] for r in mine if r["kind"] == kind]) for kind in KINDS]
                    whole = _percent([r["success"] for r in mine])
                    decibels = _number([r["psnr_rebuilt"] for r in mine], 1)
                    model = str(found.about["model"])
                    lines.append((HEADINGS[column], TITLES[name], model, str(len(mine)), whole, *by_kind, decibels))
    note = (
        "Success, in %, and PSNR outside the true mask to the reconstruction, of each method on both models, on the "
        "cases that both were given in the same words."
    )
    header = ("told", "method", "model", "cases", "all kinds", *KINDS, "PSNR, dB")
    return Table("Two models", note, header, lines)


def _measures(rows: Sequence[Row], methods: Sequence[str], column: Column) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in methods:
        mine = [row for row in rows if row["method"] == name and not row["refused"]]
        values = [_number([row.get(key) for row in mine], digits) for key, _, digits in MEASURES]
        lines.append(
            (
                TITLES[name],
                *values,
                f"{sum(row['evaluations'] for row in mine) / max(len(mine), 1):.0f}",
                f"{sum(row['seconds'] for row in mine) / max(len(mine), 1):.2f}",
            )
        )
    note = (
        "Means outside the true mask, but for the last four, of what was not refused. Against the reconstruction is "
        "against the source after the autoencoder alone. The mask is where a method let its edit through in at least "
        "half of the steps. Evaluations are samples through the network, for one case; seconds are of batches of up to "
        "25 cases, and of one case at a time for diffusers' pipeline, which mixes up the pictures of a batch. That "
        "pipeline is given an encoder and eight-channel masks, without which it can't run here; as installed, it "
        "counts padding as words (transformers 5) and takes its attention maps at a quarter of the latents' side, 4x4 "
        "cells for these scenes."
    )
    header = ("method", *(title for _, title, _ in MEASURES), "evaluations", "seconds")
    return Table(f"Preservation and cost, {HEADINGS[column]}", note, header, lines)


def _differences(rows: Sequence[Row], methods: Sequence[str], column: Column) -> Table:
    by_method = {name: {row["case"]: row for row in rows if row["method"] == name} for name in methods}
    lines: list[tuple[str, ...]] = []
    for name in methods:
        if name == "ours":
            continue
        both = [(row, by_method[name][case]) for case, row in by_method["ours"].items() if case in by_method[name]]
        decibels = [
            None if None in (a["psnr_rebuilt"], b["psnr_rebuilt"]) else a["psnr_rebuilt"] - b["psnr_rebuilt"]
            for a, b in both
        ]
        lines.append(
            (
                TITLES[name],
                str(len(both)),
                _number([100.0 * (a["success"] - b["success"]) for a, b in both], 1),
                _number(decibels, 1),
                _number([a["worth"] - b["worth"] for a, b in both], 3),
            )
        )
    note = "Ours minus the other, case by case: an interval that holds 0 is no difference."
    header = ("method", "cases", "success, points", "PSNR, dB", "worth")
    return Table(f"Ours against each, {HEADINGS[column]}", note, header, lines)


def _held_out(rows: Sequence[Row], kinds: Sequence[Kind], column: Column) -> Table:
    names = {"": "pairs that training saw", "objects": "held-out objects", "background": "held-out background"}
    ours = [row for row in rows if row["method"] == "ours"]
    lines: list[tuple[str, ...]] = []
    for name, of in (("all kinds", kinds), *((kind, (kind,)) for kind in kinds)):
        each = [[r["success"] for r in ours if r["kind"] in of and r["held_out"] == held_out] for held_out in names]
        lines.append((name, *map(_percent, each)))
    note = (
        "Success of ours, where a pair of objects, an animal and what it wears, or an object and a background, was "
        "never seen in training."
    )
    return Table(f"Pairs held out of training, {HEADINGS[column]}", note, ("kind", *names.values()), lines)


def _eye(cases: Sequence[Case]) -> Table:
    seen = [("unedited scenes", [eye(case.source) for case in cases]), ("twins", [eye(case.twin) for case in cases])]
    lines: list[tuple[str, ...]] = []
    for name, counts in seen:
        right, total = (sum(values) for values in zip(*counts, strict=True))
        lines.append((name, f"{100 * right / total:.2f}", str(total)))
    note = "How often the recogniser is right about the objects and the background of pictures no editor touched."
    return Table("The recogniser itself", note, ("pictures", "right, %", "of"), lines)


def _curves(rows: Sequence[Row]) -> list[Table | Figure]:
    curves = {name: found for name in METHODS if (found := _curve([row for row in rows if row["method"] == name]))}
    if not curves:
        return []
    lines = [(TITLES[name], _text(c.area, 3), str(len(c.points)), str(c.area.n)) for name, c in curves.items()]
    note = (
        "The share of the plane under the best success at no less than so much PSNR, 15 to 35 dB, over all settings of "
        "scale, threshold, skip and steps."
    )
    header = ("method", "area", "settings", "cases")
    figure = _plot(
        lambda axes: _draw_curves(axes, curves), "PSNR outside the true mask to the reconstruction, dB", "success"
    )
    return [
        Table("Area under success against preservation", note, header, lines),
        Figure("Success against preservation", "Each dot is one setting over all cases.", "curves.png", figure),
    ]


def _curve(rows: Sequence[Row]) -> Curve | None:
    """Of every setting on the cases that all of them have; one setting alone, the tuned one, is no curve."""
    swept = {json.dumps(s.to_json()) for method in METHODS.values() for s in method.curve()}
    table: dict[str, dict[str, Row]] = {}
    for row in rows:
        if (settings := json.dumps(row["settings"])) in swept:
            table.setdefault(settings, {})[row["case"]] = row
    # Tables have more cases than curves: those that most settings were run on count here.
    runs = Counter(case for found in table.values() for case in found)
    often = {case for case, n in runs.items() if n >= max(runs.values()) / 2}
    settings = [found for found in table.values() if len(often & set(found)) >= len(often) / 2]
    shared = sorted(often.intersection(*settings))
    if len(settings) < 8 or not shared:
        return None
    success = np.array([[float(found[case]["success"]) for case in shared] for found in settings])
    decibels = [[found[case]["psnr_rebuilt"] for case in shared] for found in settings]
    return curve(success, np.array(decibels, float))


def _draw_curves(axes: Any, curves: dict[str, Curve]) -> None:
    for k, (name, found) in enumerate(curves.items()):
        x, y = zip(*found.points, strict=True)
        axes.scatter(x, y, s=8, alpha=0.4, color=f"C{k}")
        axes.step(DECIBELS, found.success, where="post", color=f"C{k}", label=TITLES[name], lw=2 if k == 0 else 1)


def _masks(rows: Sequence[Row]) -> list[Table]:
    masks = {(s.mask, s.threshold): s.to_json() for s in MASKS}
    regions = {s.threshold: s.to_json() for s in REGIONS}
    sets = [
        ("M1, attention", "words", [masks["attention", t] for t in THRESHOLDS]),
        ("M2, noise estimate", "words", [masks["noise", t] for t in THRESHOLDS]),
        ("both, by words", "words", [masks["intersect", t] for t in THRESHOLDS]),
        ("regions of ours", "ours", [regions[t] for t in (*THRESHOLDS, None)]),
    ]
    lines: list[tuple[str, ...]] = []
    for title, method, settings in sets:
        found = [[r["iou"] for r in rows if r["method"] == method and r["settings"] == each] for each in settings]
        if any(found):
            lines.append((title, *(_number(values, 3) for values in found), *[""] * (len(REGIONS) - len(found))))
    note = (
        "At the model's own scales, by threshold: the share of the picture that a mask leaves alone; by words a mask "
        "is new in each step and counts where it is open in half of them."
    )
    header = ("mask", *(f"{t:g}" for t in THRESHOLDS), "found in the picture")
    return [Table("IoU of the implicit mask with the true one", note, header, lines)] if lines else []


def _pictures(found: Results, rows: Sequence[Row], shown: Sequence[str], column: Column) -> list[Figure]:
    assert found.folder is not None
    folder = found.folder
    by_id = {case.id: case for case in _cases(found.about, rows)}
    # What was refused has no picture.
    mine = [row for row in rows if row["method"] == "ours" and not row["refused"]]
    ours = sorted(mine, key=lambda row: (-row["worth"], row["twin_rms"]))
    side = _side(folder)
    figures: list[Figure] = []
    for title, group in (("best", ours[:SHOWN]), ("worst", ours[-SHOWN:][::-1])) if ours else ():
        columns: list[NDArray[np.uint8]] = []
        for row in group:
            case = by_id[row["case"]]
            paths = [picture_of(folder, {**row, "method": name}) for name in shown]
            results = [
                np.asarray(Image.open(path).convert("RGB")) if path.exists() else np.zeros((side, side, 3), np.uint8)
                for path in paths
            ]
            columns.append(np.concatenate([case.source.render(side), *results, case.twin.render(side)]))
        sheet = Image.fromarray(np.concatenate(columns, 1))
        file = io.BytesIO()
        sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(file, "PNG")
        note = f"Rows: source, {', '.join(TITLES[name] for name in shown)}, twin. "
        told = [": ".join(filter(None, (row["case"], row["source"], ", ".join(row["edits"])))) for row in group]
        note += "; ".join(told) + "."
        name = f"{title}-{column}.png"
        figures.append(Figure(f"The {title} cases of ours, {HEADINGS[column]}", note, name, file.getvalue()))
    return figures


def _side(folder: Path) -> int:
    for path in (folder / "pictures").glob("*.png"):
        with Image.open(path) as picture:
            return picture.width
    return SIDE


def _settings(about: Row, rows: Sequence[Row]) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in METHODS:
        found = next((row["settings"] for row in rows if row["method"] == name), None)
        if found:
            tuned = str(about["tuned"].get(name.removesuffix("-composite")) or "by hand")
            lines.append((TITLES[name], tuned, *("" if value is None else f"{value}" for value in found.values())))
    note = (
        f"One for all kinds of edits and all columns, the best of {len(METHODS['ours'].grid)} for each method on so "
        "many cases of the tuning split, by worth."
    )
    return Table("Settings", note, ("method", "cases", "steps", "skip", "scale", "threshold", "mask"), lines)


def _errors(rows: Sequence[Row]) -> Table:
    failed = [row for row in rows if row["error"]]
    note = f"{len(failed)} of {len(rows)} rows are errors; they are in no mean." if failed else "There were none."
    lines = [(row["case"], TITLES[row["method"]], row["error"]) for row in failed[:50]]
    return Table("Errors", note, ("case", "method", "error"), lines)


def _plot(draw: Callable[[Any], None], x: str, y: str) -> bytes:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9, 5.5), dpi=110, layout="constrained")
    axes: Any = canvas.subplots()
    draw(axes)
    axes.set(xlabel=x, ylabel=y, xlim=(DECIBELS[0], DECIBELS[-1]), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    file = io.BytesIO()
    canvas.savefig(file, format="png")
    return file.getvalue()


def _percent(values: Sequence[bool | None]) -> str:
    return _number([None if value is None else 100.0 * value for value in values], 1)


def _number(values: Sequence[float | None], digits: int) -> str:
    found = interval(values)
    return "" if found is None else _text(found, digits)


def _text(found: Any, digits: int) -> str:
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _heading(about: dict[str, Any]) -> list[str]:
    exam = f", an exam of seed {about['seed']}" if about["split"] == "exam" else f", the {about['split']} split"
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return [
        f"Suite {about['suite']}{exam}; model {about['model']}, {about['fingerprint']};",
        f"{about['device']}, {about['machine']}.",
        f"Python {about['python']}, {versions}.",
    ]


def _markdown(abouts: Sequence[Row], parts: Sequence[Table | Figure]) -> str:
    lines = ["# Benchmark on scenes", ""]
    for about in abouts:
        lines += [*_heading(about), "", *(f"    {command}" for command in about["commands"]), ""]
    lines += [AGAIN, ""]
    for part in parts:
        lines += [f"## {part.title}", "", part.note, ""]
        if isinstance(part, Figure):
            lines += [f"![{part.title}]({part.name})", ""]
        elif part.rows:
            table = [part.header, ("---",) * len(part.header), *part.rows]
            lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table] + [""]
    return "\n".join(lines)


def _html(abouts: Sequence[Row], parts: Sequence[Table | Figure]) -> str:
    body = ["<h1>Benchmark on scenes</h1>"]
    for about in abouts:
        body.append(f"<p>{html.escape(' '.join(_heading(about)))}</p>")
        body.append(f"<pre tabindex=0>{html.escape(chr(10).join(about['commands']))}</pre>")
    body.append(f"<p>{html.escape(AGAIN)}</p>")
    for part in parts:
        body.append(f"<h2>{html.escape(part.title)}</h2><p>{html.escape(part.note)}</p>")
        if isinstance(part, Figure):
            data = base64.b64encode(part.png).decode()
            body.append(f'<img alt="{html.escape(part.title)}" src="data:image/png;base64,{data}">')
        elif part.rows:
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.header)
            lines = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in part.rows
            )
            body.append(f'<div class="wide" tabindex=0><table><tr>{head}</tr>{lines}</table></div>')
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>ledits bench scenes</title>{STYLE}{''.join(body)}\n"
    )


AGAIN = (
    "The tables are made of rows.jsonl.gz, a line a case, and of nothing else: "
    "`ledits bench report rows.jsonl.gz --out again` makes them again."
)
STYLE = """<meta name=viewport content="width=device-width"><style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 2em auto; padding: 0 1em;
  background: light-dark(#fff, #181818); color: light-dark(#222, #ddd) }
p { max-width: 60em; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px }
td, th { border-bottom: 1px solid light-dark(#ddd, #444); padding: 3px 8px; text-align: left; vertical-align: top }
td + td { font-variant-numeric: tabular-nums }
img { max-width: 100%; image-rendering: pixelated }
pre { background: light-dark(#f4f4f4, #262626); padding: 0.6em; overflow-x: auto }
</style>"""

"""The report of a run: the same tables, curves and pictures as Markdown and as one HTML file that needs no other."""

import base64
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
from ledits_bench.cases import KINDS, Case, Kind, suite
from ledits_bench.methods import MASKS, METHODS, REGIONS, THRESHOLDS
from ledits_bench.run import CONTROLS, Row, about_of, picture_of, results
from ledits_bench.score import eye
from ledits_bench.settings import tuned_on
from ledits_bench.stats import DECIBELS, Curve, curve, interval

TITLES = {**CONTROLS, **{name: method.title for name, method in METHODS.items()}}
SHOWN = 10  # best and worst cases of ours
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


def write(folder: Path, beside: Path | None = None) -> list[Path]:
    """Write FOLDER/report.md, its pictures, and FOLDER/report.html; with a table of what the results of another model,
    which lie in `beside`, are on the same cases.
    """
    rows, about = results(folder), about_of(folder)
    if not rows:
        raise ValueError(f"{folder} holds no results yet")
    parts = _parts(folder, rows, flow=bool(about.get("flow")))
    if beside is not None:
        parts.insert(1, _beside(rows, about, results(beside), about_of(beside)))
    made = {"report.md": _markdown(about, parts).encode(), "report.html": _html(about, parts).encode()}
    made |= {part.name: part.png for part in parts if isinstance(part, Figure)}
    for name, content in made.items():
        with written(folder / name, overwrite=True) as path:
            path.write_bytes(content)
    return [folder / "report.md", folder / "report.html"]


def _parts(folder: Path, rows: Sequence[Row], *, flow: bool) -> list[Table | Figure]:
    good = [row for row in rows if not row["error"]]
    kinds: tuple[Kind, ...] = tuple(kind for kind in KINDS if any(row["kind"] == kind for row in rows))
    main = [row for row in good if row["chosen"]]
    methods = [name for name in TITLES if any(row["method"] == name for row in main)]
    cases = [case for case in suite() if any(row["case"] == case.id for row in main)]
    parts: list[Table | Figure] = [_success(main, methods, kinds), _measures(main, methods)]
    if "ours" in methods:
        parts += [_differences(main, methods), _held_out(main, kinds)]
    parts += [_eye(cases), *_curves(good), *_masks(good)]
    if "ours" in methods:
        parts += _pictures(folder, main, cases, methods)
    parts += [_settings(main, methods, flow=flow), _errors(rows)]
    return parts


def _success(rows: Sequence[Row], methods: Sequence[str], kinds: Sequence[Kind]) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in methods:
        mine = [row for row in rows if row["method"] == name]
        by_kind = [_percent([row["success"] for row in mine if row["kind"] == kind]) for kind in kinds]
        lines.append(
            (
                TITLES[name],
                str(len(mine)),
                _percent([row["success"] for row in mine]),
                *by_kind,
                _percent([row["kept"] for row in mine]),
                _number([row["worth"] for row in mine], 2),
            )
        )
    note = (
        "Share of cases that show all that was asked for, in %, with 95 % bootstrap intervals. Bystanders: objects "
        "that had nothing to do with the edit are recognised where they were. Worth: success with its bystanders, "
        "times how well the rest was kept, from 0 at 15 dB to 1 at 35 dB; settings are tuned by it. Where all n "
        "cases agree, the bootstrap shows no width; the truth may be up to 3 / n away."
    )
    return Table("Success", note, ("method", "cases", "all kinds", *kinds, "bystanders", "worth"), lines)


def _beside(rows: Sequence[Row], about: Row, others: Sequence[Row], other: Row) -> Table:
    """One method, two models, on the cases that both were given."""
    keys = [{(r["method"], r["case"]) for r in group if r["chosen"] and not r["error"]} for group in (rows, others)]
    both = keys[0] & keys[1]
    lines: list[tuple[str, ...]] = []
    for name in METHODS:
        for model, group in ((about["model"], rows), (other["model"], others)):
            mine = [r for r in group if r["method"] == name and r["chosen"] and (name, r["case"]) in both]
            if mine:
                by_kind = [_percent([r["success"] for r in mine if r["kind"] == kind]) for kind in KINDS]
                whole = _percent([r["success"] for r in mine])
                decibels = _number([r["psnr_rebuilt"] for r in mine], 1)
                lines.append((TITLES[name], str(model), str(len(mine)), whole, *by_kind, decibels))
    note = (
        "Success, in %, and PSNR outside the true mask to the reconstruction, of each method on both models, on the "
        "cases that both were given."
    )
    header = ("method", "model", "cases", "all kinds", *KINDS, "PSNR, dB")
    return Table("Two models", note, header, lines)


def _measures(rows: Sequence[Row], methods: Sequence[str]) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in methods:
        mine = [row for row in rows if row["method"] == name]
        values = [_number([row.get(key) for row in mine], digits) for key, _, digits in MEASURES]
        lines.append(
            (
                TITLES[name],
                *values,
                f"{np.mean([row['evaluations'] for row in mine]):.0f}",
                f"{np.mean([row['seconds'] for row in mine]):.2f}",
            )
        )
    note = (
        "Means outside the true mask, but for the last four. Against the reconstruction is against the source after "
        "the autoencoder alone. The mask is where a method let its edit through in at least half of the steps. "
        "Evaluations are samples through the network, for one case; seconds are of batches of up to 25 cases, and of "
        "one case at a time for diffusers' pipeline, which mixes up the pictures of a batch. That pipeline is given an "
        "encoder and eight-channel masks, without which it can't run here; as installed, it counts padding as words "
        "(transformers 5) and takes its attention maps at a quarter of the latents' side, 4x4 cells for these scenes."
    )
    header = ("method", *(title for _, title, _ in MEASURES), "evaluations", "seconds")
    return Table("Preservation and cost", note, header, lines)


def _differences(rows: Sequence[Row], methods: Sequence[str]) -> Table:
    by_method = {name: {row["case"]: row for row in rows if row["method"] == name} for name in methods}
    lines: list[tuple[str, ...]] = []
    for name in methods:
        if name in ("ours", *CONTROLS):
            continue
        both = [(row, by_method[name][case]) for case, row in by_method["ours"].items() if case in by_method[name]]
        decibels = [a["psnr_rebuilt"] - b["psnr_rebuilt"] if a["psnr_rebuilt"] is not None else None for a, b in both]
        lines.append(
            (
                TITLES[name],
                _number([100.0 * (a["success"] - b["success"]) for a, b in both], 1),
                _number(decibels, 1),
                _number([a["worth"] - b["worth"] for a, b in both], 3),
            )
        )
    note = "Ours minus the other, case by case: an interval that holds 0 is no difference."
    return Table("Ours against each", note, ("method", "success, points", "PSNR, dB", "worth"), lines)


def _held_out(rows: Sequence[Row], kinds: Sequence[Kind]) -> Table:
    names = {"": "pairs that training saw", "objects": "held-out objects", "background": "held-out background"}
    lines = [
        (kind, *(_percent([row["success"] for row in rows if _is_ours(row, kind, held_out)]) for held_out in names))
        for kind in kinds
    ]
    note = (
        "Success of ours, where a pair of objects, an animal and what it wears, or an object and a background, was "
        "never seen in training."
    )
    return Table("Pairs held out of training", note, ("kind", *names.values()), lines)


def _is_ours(row: Row, kind: str, held_out: str) -> bool:
    return row["method"] == "ours" and row["kind"] == kind and row["held_out"] == held_out


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


def _pictures(folder: Path, rows: Sequence[Row], cases: Sequence[Case], methods: Sequence[str]) -> list[Figure]:
    by_id = {case.id: case for case in cases}
    ours = sorted((row for row in rows if row["method"] == "ours"), key=lambda row: (-row["worth"], row["twin_rms"]))
    shown = [name for name in methods if name not in CONTROLS]
    side = _side(folder)
    figures: list[Figure] = []
    for title, group in (("best", ours[:SHOWN]), ("worst", ours[-SHOWN:][::-1])):
        columns: list[NDArray[np.uint8]] = []
        for row in group:
            case = by_id[row["case"]]
            paths = [picture_of(folder, name, case.id) for name in shown]
            results = [
                np.asarray(Image.open(path).convert("RGB")) if path.exists() else np.zeros((side, side, 3), np.uint8)
                for path in paths
            ]
            columns.append(np.concatenate([case.source.render(side), *results, case.twin.render(side)]))
        sheet = Image.fromarray(np.concatenate(columns, 1))
        file = io.BytesIO()
        sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(file, "PNG")
        note = f"Rows: source, {', '.join(TITLES[name] for name in shown)}, twin. "
        note += "; ".join(f"{row['case']} {' '.join(row['edits'])}" for row in group) + "."
        figures.append(Figure(f"The {title} cases of ours", note, f"{title}.png", file.getvalue()))
    return figures


def _side(folder: Path) -> int:
    for path in (folder / "pictures").glob("*.png"):
        with Image.open(path) as picture:
            return picture.width
    return SIDE


def _settings(rows: Sequence[Row], methods: Sequence[str], *, flow: bool) -> Table:
    lines: list[tuple[str, ...]] = []
    for name in methods:
        found = next((row["settings"] for row in rows if row["method"] == name), None)
        if name not in CONTROLS and found:
            tuned = str(tuned_on(name, flow=flow) or "by hand")
            lines.append((TITLES[name], tuned, *("" if value is None else f"{value}" for value in found.values())))
    note = (
        f"One for all kinds of edits, the best of {len(METHODS['ours'].grid)} for each method on so many cases of the "
        "tuning split."
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
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return [
        f"Suite {about['suite']}; model {about['model']}, {about['fingerprint']};",
        f"{about['device']}, {about['machine']}.",
        f"Python {about['python']}, {versions}.",
    ]


def _markdown(about: dict[str, Any], parts: Sequence[Table | Figure]) -> str:
    lines = ["# Benchmark on scenes", "", *_heading(about), "", *(f"    {c}" for c in about["commands"]), ""]
    for part in parts:
        lines += [f"## {part.title}", "", part.note, ""]
        if isinstance(part, Figure):
            lines += [f"![{part.title}]({part.name})", ""]
        elif part.rows:
            table = [part.header, ("---",) * len(part.header), *part.rows]
            lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table] + [""]
    return "\n".join(lines)


def _html(about: dict[str, Any], parts: Sequence[Table | Figure]) -> str:
    body = [f"<h1>Benchmark on scenes</h1><p>{html.escape(' '.join(_heading(about)))}</p>"]
    body.append(f"<pre>{html.escape(chr(10).join(about['commands']))}</pre>")
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
            body.append(f'<div class="wide"><table><tr>{head}</tr>{lines}</table></div>')
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>ledits bench scenes</title>{STYLE}{''.join(body)}\n"
    )


STYLE = """<meta name=viewport content="width=device-width"><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1400px; margin: 2em auto; padding: 0 1em; color: #222 }
p { max-width: 60em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px }
td, th { border-bottom: 1px solid #ddd; padding: 3px 8px; text-align: left; vertical-align: top }
td + td { font-variant-numeric: tabular-nums }
img { max-width: 100%; image-rendering: pixelated }
pre { background: #f4f4f4; padding: 0.6em; overflow-x: auto }
</style>"""

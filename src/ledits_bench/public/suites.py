"""The public suites, each read from a folder as it was published; a broken row becomes a case with its problem.

tedbench      tedbench/input_list.json, originals/                     imagic-editing.github.io, 100 cases
tedbench++    tedbench++.csv, originals/; the settings of each row     hub: AIML-TUDA/TEdBench_plusplus, 127 rows
pie-bench     mapping_file.json, annotation_images/; masks             cure-lab/PnPInversion, 700 cases
pie-bench++   KIND/V1-*.parquet; masks                                 hub: UB-CVML-Group/PIE_Bench_pp, 700 cases
flowedit      flowedit.yaml (or edits.yaml), Images/                   fallenshock/FlowEdit, 281 cases
editeval      editing_prompts_collection.xlsx, KIND/N.jpg              SiatMMLab (EditEval_v1), 50 cases
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ledits_bench.public.cases import Case
from ledits_bench.public.xlsx import rows as xlsx_rows


def tedbench(folder: Path) -> Iterator[Case]:
    """TEdBench (Kawar et al. 2023): a picture and a target text; it has no source prompts and no masks."""
    path = _find(folder, "input_list.json", "tedbench/input_list.json")
    entries = _json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds no list: TEdBench's input_list.json is needed")
    for i, entry in enumerate(cast("list[object]", entries)):
        identity = f"{i:03d}"
        try:
            row = _mapping(entry)
            picture = _picture(path.parent, "originals", _text(row, "img_name"))
            yield Case(identity, picture, target=_text(row, "target_text"))
        except ValueError as error:
            yield Case(identity, problem=str(error))


def tedbench_plus_plus(folder: Path) -> Iterator[Case]:
    """TEdBench++ (Brack et al. 2024): as TEdBench, with the settings that LEDITS++ was run with in every row."""
    path = _find(folder, "tedbench++.csv")
    columns = ("img_name", "target_text", "skip", "threshold", "edit_guidance_scale", "seed", "steps")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or ()
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    if missing := [name for name in columns if name not in header]:
        raise ValueError(f"{path} has no column {', '.join(missing)}: TEdBench++ has {', '.join(columns)}")
    for i, row in enumerate(rows):
        identity = f"{i:03d}"
        try:
            if None in row or None in row.values():
                raise ValueError(f"the row has not the {len(header)} cells of the header")
            picture = _picture(path.parent, "originals", _text(row, "img_name"))
            yield Case(
                identity, picture, target=_text(row, "target_text"), scale=_number(row, "edit_guidance_scale"),
                threshold=_number(row, "threshold"), steps=_whole(row, "steps"), skip=_number(row, "skip"),
                seed=_whole(row, "seed"),
            )  # fmt: skip
        except ValueError as error:
            yield Case(identity, problem=str(error))


def pie_bench(folder: Path) -> Iterator[Case]:
    """PIE-Bench (Ju et al. 2023): source and target prompts with the difference in brackets, and a mask."""
    path = _find(folder, "mapping_file.json")
    entries = _json(path)
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds no object: PIE-Bench's mapping_file.json is needed")
    for identity, entry in cast("dict[str, object]", entries).items():
        try:
            row = _mapping(entry)
            yield Case(
                identity,
                _picture(path.parent, "annotation_images", _text(row, "image_path")),
                _bare(_text(row, "original_prompt")),
                _bare(_text(row, "editing_prompt")),
                str(row.get("editing_type_id", "")),
                _runs(row.get("mask")),
            )
        except ValueError as error:
            yield Case(identity, problem=str(error))


def pie_bench_plus_plus(folder: Path) -> Iterator[Case]:
    """PIE-Bench++ (Huang et al. 2024): PIE-Bench with several changes in a target prompt, in parquet files."""
    paths = sorted(folder.glob("*/*.parquet")) or sorted(folder.glob("*.parquet"))
    if not paths:
        raise ValueError(f"{folder} holds no KIND/V1-*.parquet: the hub's UB-CVML-Group/PIE_Bench_pp is needed")
    try:
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("PIE-Bench++ is stored as parquet: pip install 'ledits[bench]' to read it") from None
    for path in paths:
        kind = path.parent.name if path.parent != folder else path.stem
        try:
            rows = cast("Iterable[Mapping[str, object]]", parquet.read_table(path).to_pylist())
        except Exception as error:  # pyarrow's errors have no base of their own
            raise ValueError(f"{path} can't be read: {error}") from None
        for i, row in enumerate(rows):
            yield pie_bench_plus_plus_row(row, kind, i)


def pie_bench_plus_plus_row(row: Mapping[str, object], kind: str, i: int) -> Case:
    """The case in one row of PIE-Bench++; the mask is a string of numbers there, and the picture lies in the row."""
    identity = f"{kind}/{row.get('id') or i}"
    try:
        data = _mapping(row.get("image")).get("bytes")
        if not isinstance(data, bytes) or not data:
            raise ValueError("the row holds no picture")
        source, target = _bare(_text(row, "source_prompt")), _bare(_text(row, "target_prompt"))
        return Case(identity, data, source, target, kind.partition("_")[0], _runs(str(row.get("mask") or "").split()))
    except ValueError as error:
        return Case(identity, problem=str(error))


def flowedit(folder: Path) -> Iterator[Case]:
    """FlowEdit's list (Kulikov et al. 2024): pictures, a source prompt and any number of target prompts for each.

    `target_codes` are left aside: in the published file one entry has ten prompts and nine codes.
    """
    import yaml

    path = _find(folder, "flowedit.yaml", "Data/flowedit.yaml", "edits.yaml")
    try:
        entries: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} can't be read: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds no list: FlowEdit's YAML is needed")
    for i, entry in enumerate(cast("list[object]", entries)):
        identity = f"{i:03d}"
        try:
            row = _mapping(entry)
            name = _text(row, "init_img" if "init_img" in row else "input_img")
            # The YAML says flowedit_data/bear.png, and the repository keeps the picture as Images/bear.png.
            listed, kept = _picture(path.parent, name), _picture(path.parent, "Images", Path(name).name)
            picture, source = listed if listed.exists() else kept, _line(_text(row, "source_prompt"))
            targets = row.get("target_prompts")
            if not isinstance(targets, list) or not targets:
                raise ValueError("it has no list of target_prompts")
        except ValueError as error:
            yield Case(identity, problem=str(error))
            continue
        for k, target in enumerate(cast("list[object]", targets)):
            try:
                text = _text({"target_prompts": target}, "target_prompts")
                yield Case(f"{identity}/{k:02d}", picture, source, _line(text), Path(name).stem)
            except ValueError as error:
                yield Case(f"{identity}/{k:02d}", problem=str(error))


def editeval(folder: Path) -> Iterator[Case]:
    """EditEval_v1 (Huang et al. 2024): prompts in a workbook, the Nth row of a kind belongs to KIND/N.jpg or .jpeg."""
    path = _find(folder, "editing_prompts_collection.xlsx", "EditEval_v1/Dataset/editing_prompts_collection.xlsx")
    kind, n = "", 0
    for i, cells in enumerate(xlsx_rows(path)):
        first, source, target = (*cells, "", "", "")[:3]
        # A kind stands in the first row of its cases, and the first kind in the header, in place of a column's name.
        if first.strip():
            kind, n = first.strip(), 0
        if i == 0 or not any(cell.strip() for cell in cells[1:]):
            continue
        n += 1
        # The folder is called object_removel.
        name = kind.lower().replace(" ", "_").replace("object_removal", "object_removel")
        listed = {"Source Prompt": source, "Target Prompt": target}
        try:
            choices = [_picture(path.parent, name, f"{n}{ending}") for ending in (".jpg", ".jpeg", ".png")]
            picture = next((choice for choice in choices if choice.exists()), choices[0])
            yield Case(f"{name}/{n}", picture, _text(listed, "Source Prompt"), _text(listed, "Target Prompt"), name)
        except ValueError as error:
            yield Case(f"{name}/{n}", group=name, problem=str(error))


SUITES: dict[str, Callable[[Path], Iterator[Case]]] = {
    "tedbench": tedbench,
    "tedbench++": tedbench_plus_plus,
    "pie-bench": pie_bench,
    "pie-bench++": pie_bench_plus_plus,
    "flowedit": flowedit,
    "editeval": editeval,
}
MASKED = ("pie-bench", "pie-bench++")


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} holds no {' or '.join(names)}: pass the folder of the suite as it was published")


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} can't be read: {error}") from None


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"an object with names and values is needed where {_short(value)} stands")
    return cast("Mapping[str, object]", value)


def _text(row: Mapping[str, Any], name: str) -> str:
    value: object = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"its {name} is {'empty' if value in (None, '') or isinstance(value, str) else _short(value)}")
    return value.strip()


def _number(row: Mapping[str, Any], name: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"its {name} is {_short(row[name])}, no number")
    return value


def _whole(row: Mapping[str, Any], name: str) -> int:
    try:
        # Not by way of a float, which has not the digits of a seed such as 438926493876582659.
        return int(row[name])
    except (TypeError, ValueError):
        value = _number(row, name)
    if value != int(value) or value < 0:
        raise ValueError(f"its {name} is {_short(row[name])}, no whole number")
    return int(value)


def _runs(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("it has no mask")
    try:
        # By way of text, so that 1.5 and true are refused and not made 1.
        return tuple(int(str(number)) for number in cast("list[Any]", value))
    except (TypeError, ValueError):
        raise ValueError("its mask holds something that is no whole number") from None


def _bare(prompt: str) -> str:
    """A prompt without the brackets around what differs, which the published evaluation takes out as well."""
    bare = prompt.replace("[", "").replace("]", "").strip()
    if not bare:
        raise ValueError("one of its prompts is empty")
    return bare


def _line(text: str) -> str:
    return " ".join(text.split())


def _picture(folder: Path, *names: str) -> Path:
    path = Path(*names)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"its picture {_short(str(path))} is not inside the suite's folder")
    return folder / path


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Rows of a manifest (CSV, JSON lines or parquet), or of pictures and edits on the command line, read as a stream.

A manifest that is wrong as a whole (columns, encoding, a path outside) raises ValueError; one bad row is a `Row` with
its problem.
"""

import csv
import difflib
import glob
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

from ledits.asked.recipe import MASK_RULES
from ledits.batch.jobs import ENDINGS, Ask, Row

KINDS = (".csv", ".jsonl", ".ndjson", ".parquet")
_ASK = tuple(f.name for f in fields(Ask))
_OWN = frozenset(_ASK)
COLUMNS = ("picture", "edits", *_ASK)
# What other tools and lists call these columns, for the sentence that names the nearest.
_SYNONYMS = {
    "image": "picture", "img": "picture", "file": "picture", "filename": "picture", "path": "picture",
    "input": "picture", "edit": "edits", "prompt": "edits", "target": "edits", "instruction": "edits",
    "caption": "source", "thrifty": "drop_source_late",
}  # fmt: skip
_LONGEST_HEADER = 1000
# A cell of a row may hold long captions, but not a file that was mistaken for a table.
_LONGEST_CELL = 1 << 20
_LONGEST_LINE = 16 << 20
_PICTURES = (*ENDINGS, ".bmp", ".gif", ".ppm", ".pgm", ".psd", ".avif", ".heic", ".jp2")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from: one manifest, or pictures; with the edits and settings of rows that have none."""

    manifest: Path | None = None
    pictures: tuple[str, ...] = ()
    root: str = ""  # of relative paths in the manifest; none may lead out of it. A folder or a URL that ends in "/"
    edits: tuple[str, ...] = ()
    ask: Ask = Ask()
    listed: Callable[[str], Iterator[str]] | None = None  # pictures under a URL

    @property
    def title(self) -> str:
        return self.manifest.name if self.manifest else ", ".join(self.pictures)[:80]

    def rows(self) -> Iterator[Row]:
        """Every row, in order; the same rows each time."""
        if self.manifest is None:
            yield from self._of_pictures()
            return
        kind, number = self.manifest.suffix.lower(), 0
        read = {".csv": _csv, ".parquet": _parquet}.get(kind, _jsonl)
        for number, cells in enumerate(read(self.manifest), 1):
            yield self._row(number, cells)
        if not number:
            raise ValueError(f"{self.manifest} has no rows: give it one for each job, with a picture and its edits")

    def _of_pictures(self) -> Iterator[Row]:
        number = 0
        for path in chain.from_iterable(map(self._expanded, self.pictures)):
            number += 1
            yield Row(number, path, path if "://" in path else os.path.abspath(path), self.edits, self.ask)
        if not number:
            raise ValueError(
                f"no pictures in {', '.join(self.pictures)}: give files, folders, or globs such as '*.jpg'"
            )

    def _expanded(self, given: str) -> Iterator[str]:
        if "://" in given:
            listed = self.listed(given) if self.listed and not given.lower().endswith(_PICTURES) else iter([given])
            yield from (name for name in listed if name.lower().endswith(_PICTURES))
        elif os.path.isdir(given):
            for folder, below, names in os.walk(given):
                below[:] = sorted(name for name in below if not name.startswith("."))
                yield from (os.path.join(folder, n) for n in sorted(names) if n.lower().endswith(_PICTURES))
        elif os.path.exists(given) or not glob.has_magic(given):
            yield given  # one that is not there is a row with its error
        else:
            yield from (name for name in sorted(glob.glob(given, recursive=True)) if os.path.isfile(name))

    def _row(self, number: int, cells: Mapping[str, Any]) -> Row:
        picture = cells.get("picture")
        given = picture.strip() if isinstance(picture, str) else ""
        where = f"{self.manifest}, row {number}"
        path = self._path(given, where) if given else ""
        edits, ask, problem = self.edits, self.ask, ""
        try:
            if not given:
                raise ValueError("it names no picture")
            edits = _edits(cells.get("edits")) or self.edits
            own = {name: _value(name, cell) for name, cell in cells.items() if name in _OWN and cell not in (None, "")}
            ask = replace(self.ask, **{name: v for name, v in own.items() if v is not None}) if own else self.ask
        except ValueError as error:
            problem = str(error)
        return Row(number, given, path, edits, ask, problem)

    def _path(self, given: str, where: str) -> str:
        outside = f"{where}: {given!r} lies outside of {self.root}: move it there, or name another folder with --root"
        if "\0" in given:
            raise ValueError(f"{where}: the picture's name holds a zero byte")
        if "://" in self.root or "://" in given:
            path = given if "://" in given else self.root + given
            if ".." in path.split("/") or not path.startswith(self.root):
                raise ValueError(outside)
            return path
        # Most names are plain, and normalising each would cost more than the rest of its row.
        plain = given[0] != "/" and "." not in (given[0], given[-1]) and "/." not in given and "//" not in given
        path = f"{self.root}/{given}" if plain else os.path.normpath(os.path.join(self.root, given))
        if path != self.root and not path.startswith(self.root.rstrip("/") + "/"):
            raise ValueError(outside)
        return path


def check(source: Source) -> int:
    """How many rows there are; ValueError where the manifest as a whole can't be used."""
    return sum(1 for _ in source.rows())


def _columns(names: Sequence[str], where: str) -> list[str]:
    """Names of columns as they are known here; ValueError names the nearest for one that is not."""
    if len(names) > _LONGEST_HEADER:
        raise ValueError(f"{where} has {len(names)} columns: the known ones are {', '.join(COLUMNS)}")
    known = [name.strip().lower().replace("-", "_") for name in names]
    known = [name if name in COLUMNS else _synonym(name) for name in known]
    for given, name in zip(names, known, strict=True):
        if name not in COLUMNS:
            close = _SYNONYMS.get(name) or next(iter(difflib.get_close_matches(name, COLUMNS, 1)), "")
            hint = f"did you mean {close!r}? " if close else ""
            raise ValueError(f"{where}: column {given[:60]!r} is unknown: {hint}Known are {', '.join(COLUMNS)}")
    if len(set(known)) < len(known):
        twice = next(name for name in known if known.count(name) > 1)
        raise ValueError(f"{where} has column {twice!r} twice: give it once")
    return known


def _synonym(name: str) -> str:
    # Both are the command line's own words.
    return {"edit": "edits", "thrifty": "drop_source_late"}.get(name, name)


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    with _opened(path) as file:
        try:
            first = file.readline(_LONGEST_LINE)
            if not first.strip():
                raise ValueError(f"{path} is empty: a header such as 'picture,edits' and a row for each job are needed")
            names = _columns(next(csv.reader([first])), str(path))
            if "picture" not in names:
                raise ValueError(f"{path} has no column 'picture': its header needs picture, and mostly edits")
            for number, cells in enumerate(csv.reader(file), 1):
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise ValueError(
                        f"{path}, row {number}: {len(cells)} cells, where the header has {len(names)} columns: put "
                        "a cell that holds a comma in double quotes"
                    )
                yield dict(zip(names, cells, strict=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None
        except csv.Error as error:
            raise ValueError(f"{path} is no CSV that can be read: {error}") from None


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path) as file:
        number, names = 0, dict[tuple[str, ...], list[str]]()
        try:
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if not line.strip():
                    continue
                row: object = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f'{path}, line {number}: a JSON object is needed, such as {{"picture": ...}}')
                cells = cast("dict[str, Any]", row)
                keys = tuple(cells)
                if keys not in names:
                    names[keys] = _columns(keys, f"{path}, line {number}")
                yield dict(zip(names[keys], cells.values(), strict=True))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deep"
            raise ValueError(f"{path}, line {number} is no JSON ({reason}): one object a line is needed") from None


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path} needs pyarrow to be read: pip install 'ledits[batch]'") from None
    try:
        file = parquet.ParquetFile(path)
        names = _columns(file.schema_arrow.names, str(path))
        if "picture" not in names:
            raise ValueError(f"{path} has no column 'picture': it needs picture, and mostly edits")
        for batch in file.iter_batches(4096):
            columns = [column.to_pylist() for column in batch.columns]
            yield from (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}") from None
    except Exception as error:  # pyarrow's errors have no base of their own
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} is no parquet that can be read: {str(error).splitlines()[0][:200]}") from None


def _opened(path: Path) -> Any:
    try:
        return path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"manifest {path} can't be read: {error.strerror}") from None


def _edits(value: object) -> tuple[str, ...]:
    """The edits in a cell: a list, or a text with ";" between them, or that list as JSON."""
    if value is None:
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                return _edits(json.loads(text))
            except json.JSONDecodeError:
                raise ValueError(f"its edits {text[:80]!r} are no JSON list of texts") from None
        return tuple(part.strip() for part in text.split(";") if part.strip())
    if isinstance(value, list):
        texts = cast("list[object]", value)
        if all(isinstance(text, str) for text in texts):
            return tuple(str(text).strip() for text in texts)
    raise ValueError(f"its edits are {str(value)[:80]!r}, where a text such as 'cat->dog' or a list is needed")


def _value(name: str, value: object) -> Any:
    """A cell as the setting that it names; None for an empty one."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == "":
        return None
    text = str(value).strip()
    if name in ("source", "negative"):
        if not isinstance(value, str):
            raise ValueError(f"its {name} is {text[:80]!r}, where a text is needed")
        return text
    if name in ("composite", "drop_source_late"):
        if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
            raise ValueError(f"its {name} is {text[:80]!r}, where true or false is needed")
        return text.lower() in ("true", "1", "yes")
    if name == "mask":
        if text not in MASK_RULES:
            raise ValueError(f"its mask is {text[:80]!r}, where {', '.join(MASK_RULES)} are accepted")
        return text
    try:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError
    except ValueError:
        raise ValueError(f"its {name} is {text[:80]!r}, where a number is needed") from None
    if name in ("skip", "source_scale"):
        return number
    if number != int(number):
        raise ValueError(f"its {name} is {text[:80]!r}, where a whole number is needed")
    return int(text) if text.lstrip("+-").isdecimal() else int(number)

"""Rows of a manifest (CSV, JSON lines or parquet), or of pictures and edits on the command line.

What lies on the disk may change while a run goes on, so it is read once: `Source.settled` keeps a copy, and rows come
from that, the same each time. A manifest that is wrong as a whole (no column of pictures, no table at all) raises
ValueError; one bad row is a `Row` with its problem.
"""

import codecs
import csv
import difflib
import json
import math
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from ledits.asked.recipe import MASK_RULES
from ledits.batch import listing
from ledits.batch.jobs import Ask, Row
from ledits.batch.listing import Listed
from ledits.language import sentences

KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_ASK: dict[str, Any] = {each.name: each.type for each in fields(Ask)}
_OWN = frozenset(_ASK)
COLUMNS = ("picture", "edits", *_ASK)
# What other tools and lists call these columns, for the sentence that names the nearest.
_SYNONYMS = {
    "image": "picture", "img": "picture", "file": "picture", "filename": "picture", "path": "picture",
    "input": "picture", "edit": "edits", "prompt": "edits", "target": "edits", "instruction": "edits",
    "caption": "source", "thrifty": "drop_source_late",
}  # fmt: skip
_DELIMITERS = (",", ";", "\t")
_LONGEST_HEADER = 1000
# A cell of a row may hold long captions, but not a file that was mistaken for a table.
_LONGEST_CELL = 1 << 20
_LONGEST_LINE = 16 << 20
_MOST_EDITS = 100  # of a row
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1", "1.0"), True),  # a column with empty cells is often saved as 1.0 and 0.0
    **dict.fromkeys(("false", "no", "off", "0", "0.0"), False),
}
_HALF = re.compile("[\ud800-\udfff]")  # of a character: no text has one, bytes that are no UTF-8 are read as such


class _Broken(str):
    """What is wrong with a row that could not be read."""


class _Unfit(ValueError):
    """A row that is good JSON and no row of a table."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from: one manifest, or pictures; with the edits and settings of rows that have none."""

    manifest: Path | None = None
    pictures: tuple[str, ...] = ()
    root: str = ""  # of relative paths in the manifest; none may lead out of it. A folder or a URL that ends in "/"
    edits: tuple[str, ...] = ()
    ask: Ask = Ask()
    listed: Callable[[str], Iterator[str]] | None = None  # pictures under a URL
    output: str = ""  # where results go, which are no inputs
    copy: Path | None = None  # of the manifest, or of the list of pictures

    @property
    def title(self) -> str:
        return self.manifest.name if self.manifest else ", ".join(self.pictures)[:80]

    def settled(self, scratch: Path, output: str) -> "Source":
        """The source as it is now, with its rows kept in a folder of the caller's."""
        copy = scratch / "rows"
        if self.manifest is None:
            with copy.open("w", encoding="ascii") as file:
                for given in self.pictures:
                    file.writelines(json.dumps(each) + "\n" for each in listing.listed(given, output, self.listed))
        else:
            try:
                if not stat.S_ISREG(self.manifest.stat().st_mode):
                    raise ValueError(f"manifest {self.manifest} is no regular file: pass a .csv, .jsonl or .parquet")
                shutil.copyfile(self.manifest, copy)
            except OSError as error:
                raise ValueError(f"manifest {self.manifest} can't be read: {error.strerror}") from None
        return replace(self, output=output, copy=copy)

    def rows(self) -> Iterator[Row]:
        """Every row, in order; the same rows each time where the source is settled."""
        if self.manifest is None:
            for number, (path, problem) in enumerate(self._of_pictures(), 1):
                where = path if "://" in path else os.path.abspath(path)
                yield Row(number, path, where, self.edits, self.ask, problem)
            return
        kind = self.manifest.suffix.lower()
        read = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet}.get(kind, _jsonl)
        for number, cells in enumerate(read(self.copy or self.manifest, str(self.manifest)), 1):
            yield (
                Row(number, "", "", self.edits, self.ask, str(cells))
                if isinstance(cells, _Broken)
                else self._row(number, cells)
            )

    def check(self) -> int:
        """How many rows there are; ValueError where the source as a whole can't be used. Unknown columns are named."""
        count, useless, first, other = 0, 0, "", dict[str, None]()
        edits = bool(self.edits)
        for row in self.rows():
            count += 1
            useless += not row.picture
            first = first or (f"row {row.number}: {row.problem}" if row.problem else "")
            edits = edits or bool(row.edits)
            other.update(dict.fromkeys(row.other))
        if self.manifest is None:
            return count
        if not count:
            raise ValueError(f"{self.manifest} has no rows: give it one for each job, with a picture and its edits")
        if useless == count:
            raise ValueError(f"{self.manifest} names no picture in any row ({first})")
        hints = [f"{name[:60]!r}{_hint(name)}" for name in other]
        if not edits and (near := [hint for hint in hints if "'edits'" in hint]):
            raise ValueError(f"{self.manifest} has no column 'edits', and none are given by --edit: {', '.join(near)}")
        is_text = self.manifest.suffix.lower() in (".csv", ".tsv")
        if is_text and _encoding(self.copy or self.manifest) == "cp1252":
            warnings.warn(
                f"{self.manifest} is not UTF-8: it is read as Windows-1252, which spreadsheets on Windows save",
                stacklevel=2,
            )
        if hints:
            named = ", ".join(hints[:10]) + (f" and {len(hints) - 10} more" if len(hints) > 10 else "")
            warnings.warn(
                f"{self.manifest}: columns that mean nothing to ledits are kept in the table: {named}", stacklevel=2
            )
        return count

    def _of_pictures(self) -> Iterator[Listed]:
        if self.copy is None:
            for given in self.pictures:
                yield from listing.listed(given, self.output, self.listed)
            return
        with self.copy.open(encoding="ascii") as file:
            for line in file:
                yield Listed(*json.loads(line))

    def _row(self, number: int, cells: Mapping[str, Any]) -> Row:
        edits, ask, path, given, problem = self.edits, self.ask, "", "", ""
        other = {name: _plain(cell) for name, cell in cells.items() if name not in COLUMNS}
        try:
            picture = cells.get("picture")
            given = picture.strip() if isinstance(picture, str) else ""
            if not given:
                raise ValueError(_nameless(picture))
            _check_text("picture", given)
            given, path = self._path(given)
            own = {name: _value(name, cell) for name, cell in cells.items() if name in _OWN and cell not in (None, "")}
            ask = replace(self.ask, **{name: v for name, v in own.items() if v is not None}) if own else self.ask
            edits = _edits(cells.get("edits"), ask.source or "") or self.edits
        except (ValueError, ArithmeticError, RecursionError) as error:
            problem = str(error) or type(error).__name__
        return Row(number, given, path, edits, ask, problem, other)

    def _path(self, given: str) -> tuple[str, str]:
        """A picture's name as written, with "/" between its parts, and where it is."""
        if "\0" in given:
            raise ValueError("its picture's name holds a zero byte")
        if "://" in self.root or "://" in given:
            path = given if "://" in given else self.root + given
            if ".." in path.split("/") or not path.startswith(self.root):
                raise ValueError(self._outside(given))
            return given, path
        # As lists from Windows have it; a file may also be named so.
        if "\\" in given and not os.path.lexists(os.path.join(self.root, given)):
            given = given.replace("\\", "/")
        # Most names are plain, and normalising each would cost more than the rest of its row.
        plain = given[0] != "/" and "." not in (given[0], given[-1]) and "/." not in given and "//" not in given
        path = f"{self.root}/{given}" if plain else os.path.normpath(os.path.join(self.root, given))
        if path != self.root and not path.startswith(self.root.rstrip("/") + "/"):
            raise ValueError(self._outside(given))
        return given, path

    def _outside(self, given: str) -> str:
        return f"{given[:200]!r} lies outside of {self.root}: move it there, or name another folder with --root"


def _columns(names: Sequence[str], where: str) -> list[str]:
    """Names of columns, those that are known as they are known here; ValueError for a known one that is there twice."""
    if len(names) > _LONGEST_HEADER:
        raise _Unfit(f"{where} has {len(names)} columns: the known ones are {', '.join(COLUMNS)}")
    found = list[str]()
    for given in names:
        name = _canonical(given)
        if name not in COLUMNS:
            name = given.strip() or f"column {len(found) + 1}"
            while name in found:
                name += "'"
        elif name in found:
            raise _Unfit(f"{where} has column {name!r} twice: give it once")
        found.append(name)
    return found


def _canonical(name: str) -> str:
    name = name.strip().lower().replace("-", "_").replace(" ", "_")
    # Both are the command line's own words.
    return {"edit": "edits", "thrifty": "drop_source_late"}.get(name, name)


def _hint(name: str) -> str:
    known = name.strip().lower().replace("-", "_")
    close = _SYNONYMS.get(known) or next(iter(difflib.get_close_matches(known, COLUMNS, 1, 0.75)), "")
    return f" (did you mean {close!r}?)" if close else ""


def _needs_picture(names: Sequence[str], where: str) -> None:
    if "picture" not in names:
        hints = "".join(f": column {name[:60]!r}{hint}" for name in names if "'picture'" in (hint := _hint(name)))
        there = ", ".join(repr(name[:60]) for name in names)[:200]
        raise ValueError(
            f"{where} has no column 'picture'{hints[:200]}: its first line has {there or 'nothing'}; name the "
            "column of pictures picture and the column of edits edits"
        )


def _csv(path: Path, where: str) -> Iterator["dict[str, Any] | _Broken"]:
    csv.field_size_limit(_LONGEST_CELL)
    encoding = _encoding(path)
    # Bytes of no meaning become half characters, and these a row's problem.
    with path.open(
        newline="", encoding=encoding, errors="strict" if encoding == "utf-16" else "surrogateescape"
    ) as file:
        try:
            first = file.readline(_LONGEST_LINE)
            if first.strip().startswith("sep="):  # Excel's own
                first = file.readline(_LONGEST_LINE)
            if not first.strip():
                raise ValueError(
                    f"{where} is empty: a header such as 'picture,edits' and a row for each job are needed"
                )
            headers = [_header(first, mark) for mark in _DELIMITERS]
            named = [k for k, names in enumerate(headers) if "picture" in map(_canonical, names)]
            chosen = named[0] if named else max(range(len(headers)), key=lambda k: len(headers[k]))
            names = _columns(headers[chosen], where)
            _needs_picture(names, where)
            rows = csv.reader(file, delimiter=_DELIMITERS[chosen])
            while True:
                try:
                    cells = next(rows)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield _Broken(f"it is no CSV that can be read: {error}")
                    continue
                while len(cells) > len(names) and not cells[-1].strip():
                    cells.pop()
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    yield _Broken(
                        f"it has {len(cells)} cell{'s' * (len(cells) != 1)}, where the header has {len(names)}: put a "
                        "cell that holds the mark between cells in double quotes"
                    )
                    continue
                # Where ";" stands between cells, "," is the decimal point.
                own = dict(zip(names, cells, strict=True))
                yield (
                    {k: _decimal(v) if _ASK.get(k) == (float | None) else v for k, v in own.items()} if chosen else own
                )
        except csv.Error as error:
            raise ValueError(f"{where} is no CSV that can be read: {error}") from None
        except UnicodeError as error:
            raise ValueError(f"{where} is no text that can be read ({error}): save it as UTF-8") from None


def _header(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:  # one cell longer than any
        return []


def _decimal(cell: str) -> str:
    return cell.replace(",", ".") if re.fullmatch(r"\s*[+-]?\d*,\d+\s*", cell) else cell


def _encoding(path: Path) -> str:
    """What a table is written in: UTF-8; UTF-16 with its mark; or, where no line but ASCII is UTF-8, Windows-1252."""
    other = wide = False
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        file.seek(0)
        while block := file.read(1 << 20) + file.readline(_LONGEST_LINE):
            if block.isascii():
                continue
            for line in block.splitlines():
                if not line.isascii():
                    try:
                        line.removeprefix(codecs.BOM_UTF8).decode()
                        wide = wide or not line.removeprefix(codecs.BOM_UTF8).isascii()
                    except UnicodeDecodeError:
                        other = True
    if not other or wide:
        return "utf-8-sig"
    return "cp1252"


def _jsonl(path: Path, where: str) -> Iterator["dict[str, Any] | _Broken"]:
    del where
    names = dict[tuple[str, ...], list[str]]()
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        while line := file.readline(_LONGEST_LINE):
            if not line.strip():
                continue
            try:
                row: object = json.loads(line, object_pairs_hook=_once)
                if not isinstance(row, dict):
                    raise _Unfit(f"it is {line.strip()[:40]!r}, where one JSON object a line is needed")
                cells = cast("dict[str, Any]", row)
                keys = tuple(cells)
                if keys not in names and len(names) < 10_000:
                    names[keys] = _columns(keys, "it")
                yield dict(zip(names.get(keys) or _columns(keys, "it"), cells.values(), strict=True))
            except RecursionError:
                yield _Broken("it is nested too deep")
            except _Unfit as error:
                yield _Broken(str(error))
            except ValueError as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number has too many digits"
                broken = f"it is no JSON ({reason}): one object a line is needed"
                yield _Broken(f"it is not UTF-8; {broken}" if _HALF.search(line) else broken)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a key that is there twice Python keeps the last value, and whoever wrote it meant both."""
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise _Unfit(f"it has {name[:60]!r} twice: give it once")
        found[name] = value
    return found


def _parquet(path: Path, where: str) -> Iterator["dict[str, Any] | _Broken"]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{where} needs pyarrow to be read: pip install 'ledits[batch]'") from None
    try:
        file = parquet.ParquetFile(path)
        names, batches = list(file.schema_arrow.names), file.iter_batches(4096)
    except Exception as error:  # pyarrow's errors have no base of their own
        raise ValueError(f"{where} is no parquet that can be read: {str(error).splitlines()[0][:200]}") from None
    names = _columns(names, where)
    _needs_picture(names, where)
    while True:
        try:
            columns = [column.to_pylist() for column in next(batches).columns]
        except StopIteration:
            return
        except Exception as error:
            raise ValueError(f"{where} is no parquet that can be read: {str(error).splitlines()[0][:200]}") from None
        yield from (dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True))


def _nameless(picture: object) -> str:
    """What is wrong with a cell of a picture that names none."""
    if _is_empty(picture):
        return "it names no picture"
    if isinstance(picture, bytes):
        return (
            "its picture is bytes, where the path of a file is needed: save each picture to a file, and give its path"
        )
    return f"its picture is {str(picture)[:80]!r}, where the path of a file is needed, as a text"


def _check_text(name: str, text: str) -> None:
    if found := _HALF.search(text):
        what = "a byte that is no UTF-8" if "\udc80" <= found[0] <= "\udcff" else "half of a character"
        raise ValueError(f"its {name} holds {what}: write it again")


def _plain(cell: object) -> Any:
    """A cell of a column that is not ours, for the table."""
    if cell is None or isinstance(cell, bool | int | float):
        return cell
    if isinstance(cell, str):
        return cell
    try:
        return json.dumps(cell, default=str)
    except (ValueError, RecursionError):
        return str(type(cell).__name__)


def _is_empty(value: object) -> bool:
    """Whether a cell holds nothing that is seen: spaces are left behind in spreadsheets."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _edits(value: object, source: str) -> tuple[str, ...]:
    """The edits in a cell: a list, or a text with ";" between them, or that list as JSON."""
    if _is_empty(value):
        return ()
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                listed: object = json.loads(text)
            except (ValueError, RecursionError):
                listed = None
            if not isinstance(listed, list):
                raise ValueError(f"its edits {text[:80]!r} are no JSON list of texts")
            return _edits(cast("list[object]", listed), source)
        parts = [part.strip() for part in text.split(";") if part.strip()]
        return _checked_edits([text] if len(parts) > 1 and _is_one_text(text, source) else parts)
    if isinstance(value, list):
        texts = cast("list[object]", value)
        if all(isinstance(text, str) for text in texts):
            return _checked_edits([str(text).strip() for text in texts if not _is_empty(text)])
    raise ValueError(f"its edits are {str(value)[:80]!r}, where a text such as 'cat->dog' or a list is needed")


@lru_cache(maxsize=4096)
def _is_one_text(text: str, source: str) -> bool:
    """Whether a text with ";" in it is understood as sentences that belong together: "turn it red; leave the rest"."""
    if not all(map(sentences.is_sentence, filter(str.strip, text.split(";")))):
        return False
    try:
        sentences.read(text, source)
    except ValueError:  # its parts are asked one by one, and the one that is not understood is named
        return False
    return True


def _checked_edits(edits: Sequence[str]) -> tuple[str, ...]:
    if len(edits) > _MOST_EDITS:
        raise ValueError(f"it has {len(edits)} edits, where {_MOST_EDITS} are accepted")
    for edit in edits:
        _check_text("edits", edit)
    return tuple(edits)


def _value(name: str, value: object) -> Any:
    """A cell as the setting that it names; None for an empty one."""
    if _is_empty(value):
        return None
    if isinstance(value, list | dict):
        raise ValueError(f"its {name} is {json.dumps(value, default=str)[:80]}, where one value is needed")
    if isinstance(value, int) and abs(value) > 10**30:
        raise ValueError(f"its {name} is a number of over 30 digits")
    text = str(value).strip()
    kind = _ASK[name]
    if kind == (str | None):
        if not isinstance(value, str):
            raise ValueError(f"its {name} is {text[:80]!r}, where a text is needed")
        _check_text(name, text)
        return text
    if kind == (bool | None):
        if text.lower() not in _TRUTHS:
            raise ValueError(f"its {name} is {text[:80]!r}, where true or false is needed (or yes, no, on, off, 1, 0)")
        return _TRUTHS[text.lower()]
    if name == "mask":
        if text not in MASK_RULES:
            raise ValueError(f"its mask is {text[:80]!r}, where {', '.join(MASK_RULES)} are accepted")
        return text
    try:
        number = float(text)
        # Python reads 1_0 as 10, and nobody who writes a table means that.
        if "_" in text or not math.isfinite(number) or abs(number) > 1e30:
            raise ValueError
    except ValueError:
        raise ValueError(f"its {name} is {text[:80]!r}, where a number is needed") from None
    if kind == (float | None):
        return number
    if number != int(number):
        raise ValueError(f"its {name} is {text[:80]!r}, where a whole number is needed")
    return int(text) if text.lstrip("+-").isdecimal() else int(number)

"""The text of a workbook's first sheet: all that EditEval needs, for which a spreadsheet library would be a lot."""

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def rows(path: Path) -> list[list[str]]:
    """Cells of the first sheet's rows as text, "" where one is empty, without empty cells at the end."""
    try:
        with zipfile.ZipFile(path) as book:
            shared = list[str]()
            if "xl/sharedStrings.xml" in book.namelist():
                strings = ElementTree.fromstring(book.read("xl/sharedStrings.xml"))
                shared = [_text(item) for item in strings.iter(f"{_MAIN}si")]
            sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
        return [_cells(row, shared) for row in sheet.iter(f"{_MAIN}row")]
    except (OSError, LookupError, ValueError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise ValueError(f"{path} is no workbook (.xlsx) that can be read: {error}") from None


def _cells(row: ElementTree.Element, shared: Sequence[str]) -> list[str]:
    cells = list[str]()
    for cell in row.iter(f"{_MAIN}c"):
        # A cell says where it is, as in B2; empty ones before it may be left out of the file.
        place = re.match("[A-Z]{1,3}", cell.get("r", ""))
        column = _column(place[0]) if place else len(cells)
        cells += [""] * (column - len(cells))
        value = cell.find(f"{_MAIN}v")
        if cell.get("t") == "inlineStr":
            cells.append(_text(cell))
        elif value is None or not value.text:
            cells.append("")
        else:
            cells.append(shared[int(value.text)] if cell.get("t") == "s" else value.text)
    while cells and not cells[-1]:
        cells.pop()
    return cells


def _text(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1

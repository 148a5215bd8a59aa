"""The table of a run: a row for each row of the manifest, as JSON lines and as parquet, made from the writers' logs."""

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ledits.batch import log
from ledits.batch.digests import Ids
from ledits.batch.jobs import Row, output_name
from ledits.batch.manifest import Source
from ledits.batch.places import Folder, Place, PlaceError

TABLES = (".jsonl", ".parquet")
COLUMNS = (
    "row", "id", "picture", "picture_sha256", "output", "status", "error", "seconds", "evaluations", "edits",
    "targets", "recipe",
    "worker", "other",
)  # fmt: skip
_ROWS = 8192


class Recorded:
    """Every job's last row in the logs, found by id: 20 bytes a job in memory, rows are read where they lie."""

    def __init__(self, place: Place, scratch: Path) -> None:
        self._files = list[BinaryIO]()
        ids, files, offsets, ranks = array("Q"), array("I"), array("Q"), array("d")
        # Rows of finished jobs come last and win.
        for kind, rank in (("failed", 0.0), ("done", 1e12)):
            at = ""
            for name, offset, line in log.lines(place, kind):
                if name != at:
                    at = name
                    self._files.append(self._open(place, name, scratch / f"{len(self._files)}.jsonl"))
                ids.append(int(line[8:24], 16))
                files.append(len(self._files) - 1)
                offsets.append(offset)
                ranks.append(rank + _time(line))
        order = np.lexsort((np.array(ranks), np.array(ids, dtype=np.uint64)))
        self.ids = np.array(ids, dtype=np.uint64)[order]
        self._where = np.array(files, dtype=np.uint32)[order], np.array(offsets, dtype=np.uint64)[order]

    def row(self, identity: int, finished: bool) -> dict[str, Any] | None:
        """The last row of a job that is `finished`, whose picture is there; of any other the last one that failed."""
        i = int(self.ids.searchsorted(np.uint64(identity), side="right")) - 1
        while i >= 0 and int(self.ids[i]) == identity:
            file = self._files[int(self._where[0][i])]
            file.seek(int(self._where[1][i]))
            row = json.loads(file.readline())
            if finished or row.get("status") == "failed":
                return row
            i -= 1  # its row was written, and its picture was not
        return None

    def close(self) -> None:
        for file in self._files:
            file.close()

    @staticmethod
    def _open(place: Place, name: str, scratch: Path) -> BinaryIO:
        if isinstance(place, Folder):
            return (place.path / name).open("rb")
        scratch.write_bytes(place.get(name) or b"")
        return scratch.open("rb")


def _time(line: bytes) -> float:
    start = line.rfind(b'"time": ') + 8
    return float(line[start:].split(b",")[0].split(b"}")[0])


@dataclass(kw_only=True)
class Table:
    """The rows of a settled source that was planned, and what they don't show of the place of outputs."""

    source: Source
    ids: "array[int]"  # of each row; 0 for one of another shard
    recorded: Recorded
    finished: Ids
    template: str  # of the outputs' names
    named_before: int = 0  # outputs that keep an earlier name, where the template gives another one

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each row of the source, in its order."""
        # Outputs are named by the first row that asks for them.
        _, at = np.unique(np.array(self.ids, dtype=np.uint64), return_index=True)
        naming = np.zeros(len(self.ids), dtype=bool)
        naming[at] = True
        for row, identity, names in zip(self.source.rows(), self.ids, naming, strict=False):
            if not identity:
                continue
            name = f"{identity:016x}"
            came = self.recorded.row(identity, name in self.finished) or {}
            status = "done" if name in self.finished else "failed" if came else "to do"
            recipe = came.get("recipe")
            if names and status == "done":
                self.named_before += came.get("output") not in (None, self._name(row, name))
            yield {
                "row": row.number, "id": name, "picture": row.picture, "picture_sha256": came.get("sha256"),
                "output": came.get("output"), "status": status, "error": came.get("error"),
                "seconds": came.get("seconds"), "evaluations": came.get("evaluations"),
                "edits": came.get("edits") or list(row.edits), "targets": came.get("targets") or [],
                "recipe": None if recipe is None else json.dumps(recipe),
                "worker": came.get("worker"), "other": json.dumps(dict(row.other)) if row.other else None,
            }  # fmt: skip

    def _name(self, row: Row, identity: str) -> str:
        try:
            return output_name(self.template, row, identity)
        except ValueError:  # one that no file can have
            return ""

    def unlisted(self) -> int:
        """Outputs of earlier batches that no row asks for now."""
        others = np.setdiff1d(self.recorded.ids, np.array(self.ids, dtype=np.uint64))
        return sum(f"{int(identity):016x}" in self.finished for identity in others)


def write(place: Place, rows: Iterator[dict[str, Any]], name: str, seen: Callable[[dict[str, Any]], None]) -> list[str]:
    """Write NAME.jsonl and, where pyarrow is installed, NAME.parquet; their names. `seen` is told of every row."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        pa = parquet = None
    with tempfile.TemporaryDirectory(prefix="ledits-") as scratch:
        lines_path, table_path = Path(scratch, "table.jsonl"), Path(scratch, "table.parquet")
        writer: Any = None
        with lines_path.open("wb") as lines:
            while part := list(islice(rows, _ROWS)):
                for row in part:
                    lines.write(json.dumps(row).encode() + b"\n")
                    seen(row)
                if pa and parquet:
                    schema = _schema(pa)
                    writer = writer or parquet.ParquetWriter(table_path, schema, compression="zstd")
                    writer.write_table(pa.Table.from_pylist([_whole(row) for row in part], schema))
        if writer:
            writer.close()
        paths = (lines_path, table_path) if writer else (lines_path,)
        written = [(name + ending, path) for ending, path in zip(TABLES, paths, strict=False)]
        for file, path in written:
            _publish(place, file, path)
    return [file for file, _ in written]


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts can be written as UTF-8: names of files may be of other bytes."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value

    return {name: text(value) for name, value in row.items()}


def _publish(place: Place, name: str, path: Path) -> None:
    if not isinstance(place, Folder):
        place.put(name, path.read_bytes())
        return
    temporary = place.path / f".ledits-{os.getpid()}-{name}"
    try:
        with temporary.open("wb") as out, path.open("rb") as file:
            while block := file.read(1 << 20):
                out.write(block)
        os.replace(temporary, place.path / name)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise PlaceError(f"{place.path / name} can't be written: {error.strerror}") from None


def _schema(pa: Any) -> Any:
    texts = pa.list_(pa.string())
    kinds = {"row": pa.int64(), "seconds": pa.float64(), "evaluations": pa.int64(), "edits": texts, "targets": texts}
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])

"""Inversions kept on disk: within a number of bytes, the longest unused going first, and found again after a restart.

Each is three files under an id that nobody can guess: ID.safetensors, ID.picture (the file as it was sent) and ID.json,
which is written last, so that what has none was never finished. Names come from this file alone, never from a client.
"""

import errno
import json
import logging
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledits.asked.settings import Settings, checked
from ledits.editor import Editor, Inversion
from ledits.files import artifact, atomic
from ledits.picture.image import Picture
from ledits.server.claim import claim
from ledits.server.errors import Refused
from ledits.server.metrics import Metrics
from ledits.server.schemas import LONGEST_SOURCE
from ledits.server.settings import Limits

log = logging.getLogger("ledits.serve")

_LONGEST = 64 * 1024  # bytes of an entry: a caption and some numbers
_ID = re.compile(r"[0-9a-f]{32}")
_SPARE = 16 * 2**20  # bytes of the disk: with less it is full
_ENDINGS = (".json", ".safetensors", ".picture")
Read = Callable[[bytes], Picture]  # a picture's file
_EDITS = 200  # after so many a handle is opened anew: it remembers something of every prompt


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a kept inversion without opening it."""

    id: str
    owner: str  # of whose key; "" where there are no keys
    created: float
    bytes: int  # on disk
    model: str
    width: int
    height: int
    source: str
    mode: str
    steps: int
    skip: float
    seed: int
    network_evaluations: int
    seconds: float
    suits: bool = True  # False: of a picture that a model of a small world can't draw
    source_scale: float = 0.0
    negative: str = ""
    size: int | None = None  # worked at no more than size x size pixels; None: at the picture's own
    use_lora: str = ""  # which of the model's LoRAs; "": all, as loaded

    def shown(self) -> dict[str, Any]:
        """What the caller sees."""
        return {key: value for key, value in asdict(self).items() if key != "owner"}


class Store:
    """The kept inversions. `keep` and `open` are called from the device's thread, the rest from any."""

    def __init__(self, folder: Path, limits: Limits, metrics: Metrics) -> None:
        self._folder, self._limits, self._metrics = folder, limits, metrics
        self._lock = threading.Lock()
        self._damaged = set[str]()
        self._entries = OrderedDict[str, Entry]()  # the longest unused first
        self._open = OrderedDict[tuple[str, int | None], tuple[Inversion, int]]()  # at hand, and how often edited
        try:
            self._claimed = claim(folder)
            if self._claimed is None:
                raise ValueError(f"another server keeps its inversions in {folder}: choose another --store")
            self._find()
        except OSError as error:
            raise ValueError(
                f"inversions can't be kept in {folder} ({error.strerror}): choose another --store"
            ) from None

    def _find(self) -> None:
        """Take up what an earlier server kept, and remove what it left unfinished."""
        found: list[tuple[float, Entry]] = []
        for path in self._folder.glob("*.json"):
            try:
                if path.stat().st_size > _LONGEST:
                    raise ValueError(f"it has more than {_LONGEST:,} bytes")
                entry = checked(Entry, json.loads(path.read_bytes()), "entry")
                if not entry.source.isprintable() and re.search("[\ud800-\udfff]", entry.source):
                    raise ValueError("its source holds half a character")
                if entry.id != path.stem or not _ID.fullmatch(entry.id):
                    raise ValueError("its id is another")
            except (OSError, ValueError, TypeError, RecursionError) as error:
                # It stays for whoever may mend it, and no start fails because of it.
                self._damaged.add(path.stem)
                log.warning("a kept inversion is left out, as %s.json is damaged (%s)", path.stem, str(error)[:200])
                continue
            if self._path(entry.id, ".safetensors").exists():
                found.append((path.stat().st_mtime, entry))
        for _, entry in sorted(found, key=lambda pair: pair[0]):
            self._entries[entry.id] = entry
        self.tidy()
        self._shrink(0)

    def tidy(self) -> None:
        """Remove what was left unfinished."""
        for path in self._folder.iterdir():
            ours = path.suffix in _ENDINGS and _ID.fullmatch(path.stem)
            if (ours and path.stem not in {*self._entries, *self._damaged}) or path.name.startswith(".ledits-"):
                path.unlink(missing_ok=True)

    def keep(self, inversion: Inversion, picture: bytes, owner: str, seconds: float) -> Entry:
        """Write an inversion with its picture's file; 413 where it alone is more than the store may hold."""
        id, size = secrets.token_hex(16), _written(inversion) + len(picture)
        if size > self._limits.store_bytes:
            raise Refused(
                f"the inversion takes {size:,} bytes and this server keeps {self._limits.store_bytes:,} at most: "
                "ask for fewer steps or a smaller picture",
                413, code="too_large",
            )  # fmt: skip
        tensors, sent, about = (self._path(id, ending) for ending in (".safetensors", ".picture", ".json"))
        s, frame = inversion.settings, inversion.frame
        try:
            self._shrink(size)
            inversion.save(tensors)
            with atomic.written(sent, overwrite=False) as temporary:
                temporary.write_bytes(picture)
            size = tensors.stat().st_size + sent.stat().st_size
            entry = Entry(
                id=id, owner=owner, created=time.time(), bytes=size, model=inversion.editor.backbone.name,
                width=frame.width, height=frame.height, source=s.source, mode=s.mode, steps=s.steps, skip=s.skip,
                seed=s.seed, network_evaluations=inversion.network_evaluations, seconds=round(seconds, 3),
                suits=inversion.suits, source_scale=s.source_scale, negative=s.negative, use_lora=s.use_lora,
                size=None if s.area is None else math.isqrt(s.area),
            )  # fmt: skip
            self._shrink(size)
            with atomic.written(about, overwrite=False) as temporary:
                temporary.write_text(json.dumps(asdict(entry)))
        except Exception as error:
            with suppress(OSError):
                self._remove(id)
            if isinstance(error, OSError | ValueError):
                raise self._unwell(error) from None
            raise
        with self._lock:
            self._entries[id] = entry
        self._count()
        self._hold((id, None), inversion, 0)
        return entry

    def open(self, id: str, editor: Editor, draft: int | None, read: Read) -> Inversion:
        """The inversion, at hand or from disk, or a draft of it with so many steps; 404 where it is gone."""
        self.touch(id)
        inversion, edits = self._held(id, draft)
        if inversion is None or edits >= _EDITS:
            edits = 0
            inversion = (
                self._read(id, editor, read) if draft is None else self.open(id, editor, None, read).draft(draft)
            )
        self._hold((id, draft), inversion, edits + 1)
        return inversion

    def _read(self, id: str, editor: Editor, read: Read) -> Inversion:
        """The inversion from disk; 503 where its file is damaged."""
        try:
            return editor.open_inversion(self._path(id, ".safetensors"), read(self.picture(id)), anyway=True)
        except ValueError as error:
            self.entry(id)  # gone by now
            log.warning("the kept inversion %s can't be opened (%s)", id, error)
            raise Refused(
                "this inversion's file is damaged on the server: delete it, and invert the picture again",
                503, code="store_damaged",
            ) from None  # fmt: skip

    def entry(self, id: str) -> Entry:
        """What is known of one; 404 for any id that is not there, whatever it looks like."""
        with self._lock:
            if id not in self._entries:
                raise _gone()
            return self._entries[id]

    def listed(self, owner: str) -> list[Entry]:
        """Those of one owner, the newest first."""
        with self._lock:
            return sorted((e for e in self._entries.values() if e.owner == owner), key=lambda e: -e.created)

    def touch(self, id: str) -> None:
        """Note that it was used, on disk too, so that the order survives a restart."""
        self.entry(id)
        with self._lock, suppress(KeyError, OSError):
            self._entries.move_to_end(id)
            os.utime(self._path(id, ".json"))

    def file(self, id: str) -> Path:
        """Its .safetensors file."""
        self.touch(id)
        path = self._path(id, ".safetensors")
        if not path.is_file():
            raise _gone()
        return path

    def picture(self, id: str) -> bytes:
        """The picture's file as it was sent."""
        self.touch(id)
        try:
            return self._path(id, ".picture").read_bytes()
        except OSError:
            raise _gone() from None

    def delete(self, id: str) -> None:
        self.entry(id)
        try:
            self._remove(id)
        except OSError as error:
            raise self._unwell(error) from None
        self._count()

    @property
    def well(self) -> bool:
        """Whether an inversion could be kept: the folder is this server's own still, and has room."""
        try:
            assert self._claimed is not None
            ours = os.path.samestat(os.fstat(self._claimed.fileno()), os.stat(self._folder / "lock"))
            free = shutil.disk_usage(self._folder).free
        except (OSError, ValueError):  # the folder is gone, or the store closed
            return False
        return ours and os.access(self._folder, os.W_OK | os.X_OK) and free > _SPARE

    def _unwell(self, error: Exception) -> Refused:
        """What a client is told of a folder that fails; the log says more, and names it."""
        log.error("inversions can't be kept (%s)", error)
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return Refused("the server's disk is full: try again later", 507, code="store_full", retry_after=60)
        return Refused(
            "the server can't keep inversions now: try again later", 503, code="store_failed", retry_after=60
        )

    def received(self, file: bytes, made_with: Callable[[str], Editor], picture: Picture) -> Inversion:
        """An inversion's file that a client sent, opened under a name of the store's own by the editor of its model."""
        path = self._folder / f".ledits-{secrets.token_hex(8)}.safetensors"
        try:
            path.write_bytes(file)
            about = artifact.header(path)
            editor = made_with(str(about.get("fingerprint")))
            self._affordable(about, editor)
            inversion = editor.open_inversion(path, picture, anyway=True)
            _fitting(inversion)
        except OSError as error:
            raise self._unwell(error) from None
        except ValueError as error:
            # The name is this server's and means nothing to whoever sent the file.
            raise ValueError(str(error).replace(str(path), "the inversion")) from None
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return inversion

    def _affordable(self, about: dict[str, Any], editor: Editor) -> None:
        """Refuse, by a file's header alone, what would cost more than an inversion that is made here."""
        settings = Settings.from_json(about.get("settings"))
        if settings.steps > self._limits.steps:
            raise ValueError(f"it has {settings.steps} steps: this server allows {self._limits.steps}")
        if len(settings.source) > LONGEST_SOURCE or len(settings.negative) > LONGEST_SOURCE:
            raise ValueError(f"its source or negative prompt is longer than {LONGEST_SOURCE:,} letters")
        if settings.area is None or settings.area > editor.backbone.area:
            raise ValueError(
                f"it works at {settings.area or 'all'} pixels and this server's model at {editor.backbone.area:,} at "
                "most: invert the picture here"
            )

    @property
    def bytes(self) -> int:
        with self._lock:
            return sum(entry.bytes for entry in self._entries.values())

    def close(self) -> None:
        """Leave the folder to another server."""
        if self._claimed is not None:
            self._claimed.close()

    def _path(self, id: str, ending: str) -> Path:
        if not _ID.fullmatch(id):
            raise _gone()
        return self._folder / f"{id}{ending}"

    def _shrink(self, coming: int) -> None:
        """Make room by removing what was not used for longest."""
        while self.bytes + coming > self._limits.store_bytes and self._entries:
            self._remove(next(iter(self._entries)))
        self._count()

    def _remove(self, id: str) -> None:
        with self._lock:
            self._entries.pop(id, None)
            for held in [key for key in self._open if key[0] == id]:
                del self._open[held]
            for ending in _ENDINGS:  # .json first: what has none is not there
                self._path(id, ending).unlink(missing_ok=True)

    def _held(self, id: str, draft: int | None) -> tuple[Inversion | None, int]:
        with self._lock:
            return self._open.pop((id, draft), (None, 0))

    def _hold(self, key: tuple[str, int | None], inversion: Inversion, edits: int) -> None:
        """Keep a handle at hand, and let go of others while all of them are too large."""
        with self._lock:
            if key[0] in self._entries:
                self._open[key] = inversion, edits
            while self._open and sum(_size(held) for held, _ in self._open.values()) > self._limits.memory_bytes:
                self._open.popitem(last=False)

    def _count(self) -> None:
        self._metrics.store_bytes.set(self.bytes)
        self._metrics.inversions.set(len(self._entries))


def _fitting(inversion: Inversion) -> None:
    """Refuse latents and noise levels that the model would not have made of this picture."""
    path, frame, settings = inversion.path, inversion.frame, inversion.settings
    backbone = inversion.editor.backbone
    schedule = backbone.schedule(settings.steps, settings.skip, frame.padded_height, frame.padded_width)
    own = backbone.encode(frame.tensor(inversion.picture.rgb, backbone.multiple))
    levels = [(each.t, each.alpha, each.sigma) for each in (schedule, path.schedule)]
    close = all(
        len(a) == len(b) and all(math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-4) for x, y in zip(a, b, strict=True))
        for a, b in zip(*levels, strict=True)
    )
    if own.shape != path.x.shape[1:] or not close or path.schedule.order != schedule.order:
        raise ValueError("the inversion's sizes or noise levels are not those of this server's model: invert it here")


def _written(inversion: Inversion) -> int:
    """Bytes of its tensors in a file."""
    path = inversion.path
    return sum({id(tensor): tensor.nbytes for tensor in (path.x, path.denoised, path.base_denoised)}.values())


def _size(inversion: Inversion) -> int:
    path = inversion.path
    return sum(tensor.nbytes for tensor in (path.x, path.denoised, path.base_denoised)) + inversion.picture.rgb.nbytes


def _gone() -> Refused:
    return Refused(
        "there is no such inversion: it was deleted, or made room for newer ones", 404, param="id", code="not_found"
    )

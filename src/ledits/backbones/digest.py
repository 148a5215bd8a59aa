"""A name for a checkpoint's content: an inversion or a recipe belongs to one."""

import hashlib
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from ledits.files import atomic, cache
from ledits.files.weights import is_weights, variant_of

# What a checkpoint is made of: settings, weights, and the tokenizers' words, merges, sentence pieces and
# templates of chats.
_ENDINGS = (".json", ".safetensors", ".txt", ".model", ".jinja")
_SMALL = 2**20  # bytes; hashing these is faster than looking their digest up
_SETTLED = 2.0  # seconds after which a file's time tells whether it was changed


def fingerprint(
    folder: Path, *, kinds: Mapping[str, str | None] | None = None, beside: Sequence[Path] = (),
    apart: Mapping[str, Path] = MappingProxyType({}),
) -> str:  # fmt: skip
    """The first 32 digits of the SHA-256 of every file that loading reads: each one's name and content.

    `kinds` are the variants of each part's weights that are read, plain ones where nothing is said; `beside` are files
    that are read in place of the folder's.

    A large file's digest is kept in the user's cache folder under its path, size and times, so that only the first run
    reads it (1.4 GB/s on a processor with SHA instructions).
    """
    files = [(path.relative_to(folder).as_posix(), path) for path in _files(folder, kinds)]
    files += [(f"{part}/{path.name}", path) for part in sorted(apart) for path in _of_part(apart[part], part, kinds)]
    # What a file beside is called is nothing that it holds.
    files += [(f"file {i}", path) for i, path in enumerate(beside)]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(of_file, [path for _, path in files]))
    whole = hashlib.sha256()
    for (name, _), digest in zip(files, digests, strict=True):
        whole.update(f"{name} {digest}\n".encode())
    return whole.hexdigest()[:32]


def _files(folder: Path, kinds: Mapping[str, str | None] | None) -> Generator[Path]:
    """Settings beside and all known kinds in the parts' folders, in order; as `load` downloads them."""
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*")]):
        if _is_read(path, path.parent.name, kinds):
            yield path


def _of_part(folder: Path, part: str, kinds: Mapping[str, str | None] | None) -> Generator[Path]:
    for path in sorted(folder.glob("*")):
        if _is_read(path, part, kinds):
            yield path


def _is_read(path: Path, part: str, kinds: Mapping[str, str | None] | None) -> bool:
    """Of several kinds of weights those that are read, and none of a part that is read from elsewhere."""
    kept = not is_weights(path.name) or (
        variant_of(path.name) is None if kinds is None else part in kinds and variant_of(path.name) == kinds[part]
    )
    return path.suffix in _ENDINGS and path.name != "README.json" and kept and path.is_file()


def of_file(path: Path) -> str:
    """The SHA-256 of a file's content, remembered if it is large."""
    kept = _remembered(path)
    if kept is not None and kept.exists():
        with suppress(OSError, UnicodeDecodeError):
            if len(digest := kept.read_text("ascii")) == 64:
                return digest
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if kept is not None and kept == _remembered(path):  # not changed meanwhile
        # A full disk raises ValueError: the digest is computed again next time.
        with suppress(ValueError), atomic.written(kept, overwrite=True) as temporary:
            temporary.write_text(digest, "ascii")
    return digest


def _remembered(path: Path) -> Path | None:
    """Where the digest of this file, as large and as old as it is now, is or may be kept; None: nowhere.

    A file that changes within the clock's resolution keeps its times, so the digest of a young file is not kept.
    """
    found = path.stat()
    if found.st_size < _SMALL or time.time() - max(found.st_mtime, found.st_ctime) < _SETTLED:
        return None
    text = f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    try:
        return cache.folder() / f"digest-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    except OSError:
        return None

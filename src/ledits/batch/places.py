"""Where files lie: a local folder, or an object store (S3, GCS, Azure) through obstore. Four verbs on names.

A file appears whole or not at all, and `create` lets only one of two writers win.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ledits.files import atomic

# What is wrong with a name, and not with the place.
_OF_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EILSEQ)
_SETTLED = 2.0  # seconds after a change in which the next one may leave no trace
_STALE = 3600.0  # seconds after which a temporary file belongs to nobody


class PlaceError(Exception):
    """The place of outputs can't be used: the run stops, and no job is to blame. One sentence."""


class Place(Protocol):
    """A folder of named files. Names have "/" between their parts."""

    where: str  # as the user knows it

    def create(self, name: str, content: bytes) -> bool:
        """Write a new file; False where there is one of this name. PlaceError where it can't be written, ValueError
        where nothing can have this name.
        """
        ...

    def put(self, name: str, content: bytes) -> None:
        """Write a file, in place of one that is there. PlaceError where it can't be written."""
        ...

    def get(self, name: str) -> bytes | None:
        """A file's content; None where there is none."""
        ...

    def exists(self, name: str) -> bool: ...

    def names(self, below: str = "") -> Iterator[str]:
        """Every file below a folder, in no order: one listing."""
        ...


class Folder:
    """A local folder, or one on a file system that machines share."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.where = str(path)

    def prepare(self) -> None:
        """Make the folder and see that it can be written to."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"the output folder {self.where} can't be made: {error.strerror}") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ValueError(f"the output folder {self.where} can't be written to: change its permissions")

    def create(self, name: str, content: bytes) -> bool:
        return self._write(name, content, overwrite=False)

    def put(self, name: str, content: bytes) -> None:
        self._write(name, content, overwrite=True)

    def _write(self, name: str, content: bytes, *, overwrite: bool) -> bool:
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic.written(path, overwrite=overwrite) as temporary, temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except (ValueError, OSError) as error:
            if not overwrite and os.path.exists(path):
                return False
            cause = error if isinstance(error, OSError) else error.__cause__
            if isinstance(cause, OSError) and cause.errno in _OF_NAMES:
                raise ValueError(f"its output can't have the name {name[:80]!r}: {cause.strerror}") from None
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(error)
            raise PlaceError(f"{path} can't be written: {reason}") from None
        return True

    def get(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PlaceError(f"{self.path / name} can't be read: {error.strerror}") from None

    def exists(self, name: str) -> bool:
        return os.path.lexists(self.path / name)  # a link that leads nowhere is somebody's file too

    def names(self, below: str = "") -> Iterator[str]:
        start = self.path / below
        folders, cut, now = [str(start)], len(str(self.path)) + 1, time.time()
        while folders:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            if not entry.name.startswith(".") or below:
                                folders.append(entry.path)
                        elif entry.name.startswith(".ledits-"):
                            # What a killed worker was writing.
                            with suppress(OSError):
                                if now - entry.stat().st_mtime > _STALE:
                                    os.unlink(entry.path)
                        else:
                            yield entry.path[cut:]
            except FileNotFoundError:
                continue
            except OSError as error:
                raise PlaceError(f"{self.where} can't be listed: {error.strerror}") from None


class Bucket:
    """A prefix in an object store: s3://bucket/prefix, gs://..., az://..., memory and file URLs for tests.

    Credentials and the endpoint are the environment's (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...).
    """

    def __init__(self, url: str) -> None:
        self.where = url.rstrip("/")
        self._store, self._prefix = store(url)

    def create(self, name: str, content: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.put(self._key(name), content, mode="create")
        except AlreadyExistsError:
            # Also the answer to a try of ours that arrived although its own answer was lost: both are one file.
            return False
        except Exception as error:  # obstore's errors, and those of its credentials
            raise PlaceError(f"{self.where}/{name} can't be written: {_reason(error)}") from None
        return True

    def put(self, name: str, content: bytes) -> None:
        try:
            self._store.put(self._key(name), content)
        except Exception as error:
            raise PlaceError(f"{self.where}/{name} can't be written: {_reason(error)}") from None

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self._store.get(self._key(name)).bytes())
        except FileNotFoundError:
            return None
        except Exception as error:
            raise PlaceError(f"{self.where}/{name} can't be read: {_reason(error)}") from None

    def exists(self, name: str) -> bool:
        try:
            self._store.head(self._key(name))
        except FileNotFoundError:
            return False
        except Exception as error:
            raise PlaceError(f"{self.where}/{name} can't be looked up: {_reason(error)}") from None
        return True

    def names(self, below: str = "") -> Iterator[str]:
        hidden = below.startswith(".")
        cut = len(self._key(""))
        try:
            for page in self._store.list(self._key(below)):
                for entry in page:
                    name = entry["path"][cut:]
                    if hidden or not name.startswith("."):
                        yield name
        except Exception as error:
            raise PlaceError(f"{self.where} can't be listed: {_reason(error)}") from None

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def place(where: str) -> Folder | Bucket:
    """The place that a path or a URL names."""
    return Bucket(where) if "://" in where else Folder(where)


@cache
def store(url: str) -> tuple[Any, str]:
    """The object store of a URL and the prefix in it."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise ValueError(f"{url} needs obstore: pip install 'ledits[s3]'") from None
    parts = urlsplit(url)
    if parts.scheme not in ("s3", "s3a", "gs", "az", "abfs", "abfss"):
        raise ValueError(f"{url}: local paths, s3://, gs:// and az:// are accepted")
    try:
        return from_url(f"{parts.scheme}://{parts.netloc}"), parts.path.strip("/")
    except Exception as error:
        raise ValueError(f"{url} can't be used: {_reason(error)}") from None


def split(url: str) -> tuple[Any, str]:
    """The object store of a file's URL and its key."""
    parts = urlsplit(url)
    found, _ = store(f"{parts.scheme}://{parts.netloc}")
    # Names may hold "?" and "#", which are no part of a query here.
    return found, url.split("://", 1)[1].partition("/")[2]


def read(path: str) -> bytes:
    """A file's content, by its path or URL; ValueError where it can't be read."""
    try:
        if "://" in path:
            found, key = split(path)
            return bytes(found.get(key).bytes())
        # A pipe would be waited for, without end.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            _check_regular(path, os.fstat(file.fileno()).st_mode)
            return file.read()
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except ValueError:
        raise
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder: a picture is needed") from None
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or _reason(error)}") from None
    except Exception as error:
        raise ValueError(f"{path} can't be read: {_reason(error)}") from None


def version(path: str) -> tuple[str, bool]:
    """What changes whenever a file does, without reading it, and whether it is sure to. ValueError as `read`.

    Size and times, that of the last change of anything among them, which nobody can set; or size and tag.
    """
    try:
        if "://" in path:
            found, key = split(path)
            entry = found.head(key)
            return f"{entry['size']} {entry['e_tag']}", True
        s = os.stat(path)
        _check_regular(path, s.st_mode)
        settled = time.time() - max(s.st_mtime, s.st_ctime) > _SETTLED
        return f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}", settled
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except ValueError:
        raise
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or _reason(error)}") from None
    except Exception as error:
        raise ValueError(f"{path} can't be read: {_reason(error)}") from None


def listed(url: str) -> Iterator[str]:
    """The URLs of all files below a URL, sorted."""
    found, key = split(url)
    prefix = url[: len(url) - len(key)]
    try:
        names = sorted(entry["path"] for page in found.list(key.rstrip("/") or None) for entry in page)
    except Exception as error:
        raise ValueError(f"{url} can't be listed: {_reason(error)}") from None
    yield from (prefix + name for name in names)


def _check_regular(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path} is a folder: a picture is needed")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file: save the picture to one")


def _reason(error: Exception) -> str:
    """The first sentence of an object store's error, which may be pages long."""
    return " ".join(str(error).split())[:200] or type(error).__name__

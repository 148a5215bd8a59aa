"""Hashes of pictures, remembered; and sets of ids that take 8 bytes each. A million of either stay small."""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ledits.batch import places
from ledits.batch.places import Place

_FOLDER = ".ledits/digests"
_RECORD = np.dtype([("key", "<u8"), ("check", "<u8"), ("sha256", "V32")])
_FLUSH = 4096  # records a file: what a kill may cost is read again


class Ids:
    """A set of ids of 16 hex digits."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._sorted = np.unique(np.fromiter((int(i, 16) for i in ids), dtype=np.uint64))
        self._new: set[int] = set()

    def __contains__(self, identity: str) -> bool:
        value = int(identity, 16)
        return value in self._new or _index(self._sorted, value) >= 0

    def add(self, identity: str) -> None:
        self._new.add(int(identity, 16))
        if len(self._new) > 65536:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._new, dtype=np.uint64))
            self._new.clear()

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)


class Digests:
    """sha256 of pictures' bytes, known by path and version (`places.version`), kept in the place of outputs."""

    def __init__(self, place: Place, threads: int = 8) -> None:
        self._place, self._writer = place, secrets.token_hex(4)
        self._written, self._new = 0, bytearray()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="digests")
        parts = [place.get(name) or b"" for name in sorted(place.names(_FOLDER))]
        # A record that was cut off is read again.
        whole = [np.frombuffer(part[: len(part) // _RECORD.itemsize * _RECORD.itemsize], _RECORD) for part in parts]
        known = np.concatenate(whole) if whole else np.zeros(0, _RECORD)
        order = np.argsort(known["key"], kind="stable")
        self._known = known[order]
        self._keys = np.ascontiguousarray(self._known["key"])

    def of(self, paths: Sequence[str]) -> list[str | ValueError]:
        """The hash of each picture, or the error that says why it can't be read. Equal paths are asked once."""
        once = list(dict.fromkeys(paths))
        # Asking a local file costs less than handing it to a thread.
        remote = any("://" in path for path in once)
        versions = list(self._pool.map(_version, once) if remote else map(_version, once))
        found: dict[str, str | ValueError] = {}
        missing: list[tuple[str, bytes]] = []
        unsettled = set[str]()
        for path, version in zip(once, versions, strict=True):
            if isinstance(version, ValueError):
                found[path] = version
                continue
            text, settled = version
            if not settled:
                unsettled.add(path)
            key = hashlib.blake2b(f"{path}\n{text}".encode(errors="surrogatepass"), digest_size=16).digest()
            known = self._lookup(key)
            if known:
                found[path] = known
            else:
                missing.append((path, key))
        for (path, key), digest in zip(missing, self._pool.map(_digest, [p for p, _ in missing]), strict=True):
            found[path] = digest
            if isinstance(digest, str) and path not in unsettled:
                self._new += key + bytes.fromhex(digest)
                if len(self._new) >= _FLUSH * _RECORD.itemsize:
                    self.flush()
        return [found[path] for path in paths]

    def flush(self) -> None:
        """Write what is new. A file of its own each time: nothing that is being written can be torn."""
        if self._new:
            self._place.put(f"{_FOLDER}/{self._writer}-{self._written:06d}.bin", bytes(self._new))
            self._written += 1
            self._new.clear()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.flush()

    def _lookup(self, key: bytes) -> str:
        first, check = (int.from_bytes(part, "little") for part in (key[:8], key[8:]))
        i = _index(self._keys, first)
        while 0 <= i < len(self._keys) and self._keys[i] == first:
            if self._known["check"][i] == check:
                return self._known["sha256"][i].tobytes().hex()
            i += 1
        return ""


def _index(values: "NDArray[np.uint64]", value: int) -> int:
    """Where a value first stands in sorted values, -1 where it does not."""
    i = int(values.searchsorted(np.uint64(value)))
    return i if i < len(values) and int(values[i]) == value else -1


def _version(path: str) -> tuple[str, bool] | ValueError:
    try:
        return places.version(path)
    except ValueError as error:
        return error


def _digest(path: str) -> str | ValueError:
    try:
        return hashlib.sha256(places.read(path)).hexdigest()
    except ValueError as error:
        return error

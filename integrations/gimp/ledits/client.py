"""Ask `ledits serve` for an edit. Nothing of GIMP is known here, and nothing but the standard library is needed.

Whatever goes wrong is a Failed with one sentence. The connection is closed where a job is left, which stops it.
"""

import base64
import hashlib
import http.client
import json
import secrets
import struct
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ADDRESS = "http://127.0.0.1:8000"
_CONNECT, _SILENCE = 10, 900  # seconds to reach the server; and that it may be silent, as others may be in line

Tell = Callable[[str, float], None]  # what is being done, and the share of all that is done


class Failed(Exception):
    """One sentence for the person who asked."""


class Gone(Failed):
    """The server has no such inversion any more."""


@dataclass(frozen=True)
class Picture:
    """8-bit sRGB, row by row: RGB, or RGB and alpha."""

    width: int
    height: int
    pixels: bytes

    @property
    def channels(self) -> int:
        return len(self.pixels) // (self.width * self.height)


@dataclass(frozen=True)
class Answer:
    """What came of an edit."""

    understood: str  # the edits as the grammar writes them: "cat->dog, +crown"
    image: bytes  # a PNG
    notes: list[str]  # edits that changed nothing, and why
    inversion: str  # the id under which the server keeps what the edit was made from
    key: str  # what that was made of


class Server:
    """A server by its address, such as http://127.0.0.1:8000, and its key, "" where it has none."""

    def __init__(self, address: str, key: str = "") -> None:
        try:
            self._at = urlsplit(address.strip().rstrip("/"))
            known = self._at.scheme in ("http", "https") and self._at.hostname and self._at.port != 0
        except ValueError:
            known = False
        if not known:
            raise Failed(f"{address!r} is no address of a server: one such as {ADDRESS} is needed.")
        if not (key.isascii() and key.isprintable()):
            raise Failed("The key has signs that no key has: copy it again.")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def edit(
        self, picture: Picture, edit: str, caption: str, region: bytes | None, kept: dict[str, str], tell: Tell
    ) -> Answer:
        """The picture after an edit or a sentence, inside of a `region` (a byte a pixel, 255 where it may change).

        `kept` has `key` and `inversion` of an answer of before: if it was of this picture, it is not inverted again.
        """
        tell("Reading the edit", 0.0)
        read = self._json("/v1/parse", {"text": edit, "source": caption})
        if read["unknown"]:
            raise Failed(
                f"The server's model does not know the word {read['unknown'][0]!r}: use another word, or start the "
                "server with a model for photographs (ledits serve --model NAME)."
            )
        sent = png(picture)
        key = hashlib.sha256(sent + f"\n{self._at.geturl()}\n{caption}".encode()).hexdigest()
        inversion = kept.get("inversion", "") if kept.get("key") == key else ""
        asked: dict[str, Any] = {"edits": read["edits"], "composite": True, "previews": False}
        if region is not None:
            asked["region"] = base64.b64encode(png(Picture(picture.width, picture.height, region))).decode()
        try:
            done = self._edited(inversion, asked, tell) if inversion else None
        except Gone:
            done = None
        if done is None:
            inversion = self._inverted(sent, caption, tell)
            done = self._edited(inversion, asked, tell)
        notes = [
            f"Edit {k} of {read['grammar']} changed nothing: {each['text']}."
            for k, each in enumerate(done["idle"], 1)
            if each
        ]
        return Answer(read["grammar"], base64.b64decode(done["image"]), notes, inversion, key)

    def _inverted(self, sent: bytes, caption: str, tell: Tell) -> str:
        """The id of the picture's inversion, which the server keeps."""
        body, kind = form({"source": caption}, {"image": sent})
        for name, data in self._events("/v1/inversions", body, kind):
            if name == "progress":
                tell("Taking the picture apart", 0.6 * data["done"] / data["total"])
            elif name == "done":
                if not data["inversion"]["suits"]:
                    raise Failed(
                        "The server's model can't draw pictures like this one: start the server with a model for "
                        "photographs (ledits serve --model NAME)."
                    )
                return data["inversion"]["id"]
        raise Failed(_ENDED)

    def _edited(self, inversion: str, asked: dict[str, Any], tell: Tell) -> dict[str, Any]:
        """The event `done` of an edit; raises Gone where the server has that inversion no more."""
        tell("Editing", 0.6)
        body = json.dumps(asked).encode()
        for name, data in self._events(f"/v1/inversions/{inversion}/edits", body, "application/json"):
            if name == "step":
                tell("Editing", 0.6 + 0.4 * data["i"] / data["n"])
            elif name == "done":
                return data
        raise Failed(_ENDED)

    def _json(self, path: str, given: dict[str, Any]) -> dict[str, Any]:
        with self._post(path, json.dumps(given).encode(), "application/json", "application/json") as answer:
            return json.loads(answer.read())

    def _events(self, path: str, body: bytes, kind: str) -> Generator[tuple[str, dict[str, Any]], None, None]:
        """The events of a job, by their names."""
        name = ""
        with self._post(path, body, kind, "text/event-stream") as answer:
            for line in answer:
                field, _, value = line.decode().rstrip("\r\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data" and name == "error":
                    raise _refusal(json.loads(value))
                elif field == "data":
                    yield name, json.loads(value)

    @contextmanager
    def _post(self, path: str, body: bytes, kind: str, wanted: str) -> Generator[http.client.HTTPResponse, None, None]:
        """An answer that is no refusal. Neither redirects nor proxies are followed: the key goes to one server."""
        connections = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        connection = connections[self._at.scheme](self._at.hostname or "", self._at.port, timeout=_CONNECT)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise Failed(
                    f"No server of ledits is at {self._at.geturl()}: start one with `ledits serve`, or set its address."
                ) from error
            connection.sock.settimeout(_SILENCE)
            headers = {"Content-Type": kind, "Accept": wanted, **self._headers}
            connection.request("POST", self._at.path + path, body, headers)
            with connection.getresponse() as answer:
                if answer.status != 200:
                    raise _refusal(json.loads(answer.read()))
                yield answer
        except (OSError, http.client.HTTPException) as error:
            raise Failed(_ENDED) from error
        except (ValueError, LookupError, TypeError) as error:
            raise Failed(
                f"What answers at {self._at.geturl()} is no server of ledits: set the address of one."
            ) from error
        finally:
            connection.close()


_ENDED = "The server ended before the edit was done: look at what it printed, and try again."


def _refusal(error: dict[str, Any]) -> Failed:
    """What a refusal says."""
    told, code = error["error"]["message"], error["error"].get("code")
    if code == "not_found":
        return Gone("The server did not keep the picture for as long as the edit took: try again.")
    if code == "cancelled":
        return Failed("The edit was cancelled.")
    if code == "invalid_api_key":
        return Failed("The server wants its key: set it, or start GIMP with it as LEDITS_API_KEY.")
    return Failed(f"The server refused: {told.rstrip('.')}.")


def form(fields: dict[str, str], files: dict[str, bytes]) -> tuple[bytes, str]:
    """A form as multipart/form-data, and its content type."""
    border = secrets.token_hex(16)
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    for name, data in files.items():
        head = (
            f'Content-Disposition: form-data; name="{name}"; filename="{name}.png"\r\nContent-Type: image/png\r\n\r\n'
        )
        parts.append(head.encode() + data)
    body = b"".join(f"--{border}\r\n".encode() + part + b"\r\n" for part in parts)
    return body + f"--{border}--\r\n".encode(), f"multipart/form-data; boundary={border}"


_COLOURS = {1: 0, 3: 2, 4: 6}  # PNG's number for grey, RGB and RGBA


def png(picture: Picture) -> bytes:
    """A PNG of 8 bits; pixels of one byte are grey."""
    row = picture.width * picture.channels
    lines = b"".join(b"\0" + picture.pixels[k : k + row] for k in range(0, len(picture.pixels), row))
    head = struct.pack(">2I5B", picture.width, picture.height, 8, _COLOURS[picture.channels], 0, 0, 0)
    chunks = {b"IHDR": head, b"IDAT": zlib.compress(lines, 1), b"IEND": b""}
    written = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


_ANY = bytes([0]) + bytes([255]) * 255


def changed(before: bytes, after: bytes) -> bytes:
    """A byte for each pixel of two RGB pictures: 255 where they differ, else 0."""
    # Bytes as one large number: this is as fast as C, where a loop over pixels takes minutes.
    other = (int.from_bytes(before, "big") ^ int.from_bytes(after, "big")).to_bytes(len(before), "big")
    parts = [int.from_bytes(other[k::3], "big") for k in range(3)]
    return (parts[0] | parts[1] | parts[2]).to_bytes(len(before) // 3, "big").translate(_ANY)

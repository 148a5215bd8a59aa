"""What the server allows: who may ask, from where, and how much of everything."""

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ledits.server.claim import first_free

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """The most of everything that one request, or all of them together, may take: docs/serve.md has the same table."""

    upload_bytes: int = 50 * MIB  # of a form: OpenAI's own limit for a picture
    picture_json_bytes: int = 16 * MIB  # of JSON with a picture in it
    json_bytes: int = 4 * MIB  # of any other JSON
    json_values: int = 10_000  # in one JSON body: elements, fields and escapes
    fields: int = 100  # of a form
    files: int = 4  # of a form
    text_bytes: int = 2**18  # of one text in a form
    pixels: int = 40_000_000  # of a picture that is sent or asked for: more than a phone's camera makes
    side: int = 30_000  # pixels of a picture's longer side
    aspect: int = 24  # how many times longer a picture may be than wide
    chunks: int = 20_000  # parts of a PNG: 8 KiB each make 160 MiB
    decode_seconds: float = 15.0  # to look into a picture's file, and to decode it
    steps: int = 200
    enlarged: int = 2  # times the model's own side that a picture is worked at
    edits: int = 16  # in one request
    cells: int = 64  # of a sheet
    jobs: int = 32  # waiting for the device
    key_jobs: int = 16  # waiting or running for one key
    answers: int = 64  # kept for one key, of jobs that outlive their connection
    answers_bytes: int = 256 * MIB  # of kept answers on disk
    answers_seconds: float = 86_400.0  # that an answer is kept from when it was asked
    addresses: int = 64  # pictures under addresses, for response_format=url
    address_bytes: int = 64 * MIB  # of them, in memory
    address_seconds: float = 600.0  # that each of them is there
    assistants: int = 4  # questions to the assistant at once
    requests: int = 256  # open at once
    connections: int = 512  # open at once, with or without a request
    head_seconds: float = 10.0  # for the head of a request to arrive
    upload_seconds: float = 60.0  # for a request's body to arrive
    job_seconds: float = 300.0  # of one job on the device
    leave_seconds: float = 5.0  # for the job in hand, once the server is told to end
    store_bytes: int = 2048 * MIB  # of inversions on disk
    memory_bytes: int = 256 * MIB  # of inversions kept at hand


@dataclass(frozen=True)
class Settings:
    """How the server is set up; ValueError, one sentence, for a set-up that is not safe."""

    folder: Path  # where inversions are kept
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()  # bearer tokens; none: whoever reaches the address may ask
    origins: tuple[str, ...] = ()  # of other sites' pages that may call (CORS)
    hosts: tuple[str, ...] = ()  # names that the server is called by, beside its address
    strict: bool = False  # refuse what a chat program asks for in passing: a size of another shape
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])  # other names of models; "*": any other name
    assistant: str = ""  # who reads the sentences that no rule does: URL#MODEL, or a model of this machine; "": nobody
    florence: str = "florence-community/Florence-2-base-ft"  # writes captions and finds phrases, where it was fetched
    sam: str = "facebook/sam2.1-hiera-tiny"  # finds the thing under a click, where it was fetched
    limits: Limits = Limits()
    demo: bool = False  # for strangers without a key: nobody is told what others keep, and metrics stay inside
    tools: tuple[Path, ...] = ()  # folders that the tools at /mcp may read from and write to; none: there are no tools
    frames: tuple[str, ...] = ()  # sites that may show the page inside theirs, such as https://a.example

    def __post_init__(self) -> None:
        if self.demo and (self.keys or not self.hosts):
            raise ValueError("a demo is for strangers: it has no keys, and says by which names it is called (hosts)")
        if self.demo and self.tools:
            raise ValueError("a demo is for strangers: it opens no folder of this machine to them")
        if not self.loopback and not self.keys and not self.demo:
            raise ValueError(
                f"--host {self.host} can be reached from other machines: set LEDITS_API_KEY to a secret that callers "
                "send as a bearer token, or stay on 127.0.0.1"
            )
        if any(len(key) < 16 for key in self.keys):
            raise ValueError(
                "a key in LEDITS_API_KEY is shorter than 16 characters and could be guessed: make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def names(self) -> frozenset[str]:
        """What a request's Host may say; empty for anything, where a key keeps strangers out."""
        own = {"localhost", "127.0.0.1", "[::1]", self.host, f"[{self.host}]"}
        return frozenset({*own, *self.hosts}) if self.loopback or self.hosts else frozenset()


def folder() -> Path:
    """Where inversions are kept unless said otherwise: a folder in the user's cache that no other server has."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        return first_free(cache / "ledits" / "serve")
    except OSError as error:
        raise ValueError(f"inversions can't be kept in {cache} ({error.strerror}): choose a --store") from None


def owner(key: str) -> str:
    """What is kept of a key, to know its inversions again; the key can't be had back from it."""
    return hashlib.sha256(f"ledits owner {key}".encode()).hexdigest()[:32] if key else ""

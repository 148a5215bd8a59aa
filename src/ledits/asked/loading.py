"""How a model is loaded: where its parts come from, what is added to it, what it runs on. Checked without torch."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ledits.files import checkpoints, single

DTYPES = ("float32", "float16", "bfloat16")
OFFLOADS = ("model", "group", "sequential")
QUANTISED = ("int8", "fp8", "nf4")


@dataclass(frozen=True)
class Lora:
    """A LoRA: a file, or a hub's repository or file of one, owner/name/file.safetensors."""

    where: str
    weight: float = 1.0

    @classmethod
    def of(cls, text: "str | Lora") -> "Lora":
        """FILE_OR_ID[:WEIGHT]; ValueError for a weight that is none."""
        if isinstance(text, Lora):
            return text
        where, colon, weight = text.rpartition(":")
        if not colon or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", weight.strip()):
            return cls(_named(text, "LoRA", "detail.safetensors:0.8"))
        if abs(float(weight)) > 100:
            raise ValueError(f"LoRA {text!r}: a weight from -100 to 100 is needed, 0.5 to 1 is usual")
        return cls(_named(where, "LoRA", "detail.safetensors:0.8"), float(weight))

    @property
    def name(self) -> str:
        """What it is chosen by: the last part of where it is, without its ending."""
        return re.split(r"[/\\]", self.where.rstrip("/\\"))[-1].removesuffix(".safetensors")


NO_LORA = "none"  # in place of a name


def names(loras: Sequence[Lora]) -> list[str]:
    """What each of several LoRAs is chosen by: its name, numbered where another one before it has the same."""
    found = list[str]()
    for each in loras:
        name = own = each.name.replace(",", "_").replace(":", "_")
        count = 2
        while name in (*found, NO_LORA):
            name, count = f"{own}-{count}", count + 1
        found.append(name)
    return found


def chosen(text: str) -> list[tuple[str, float | None]]:
    """The LoRAs that "NAME[:WEIGHT], ..." chooses, None for the weight that one was loaded with; "none" chooses none.

    ValueError for a text that is no such list.
    """
    if text.strip() == NO_LORA:
        return []
    found = dict[str, float | None]()
    for part in text.split(","):
        each = Lora.of(part.strip()) if part.strip() else None
        if each is None or each.where in found:
            raise ValueError(f"LoRAs {text!r}: write NAME or NAME:WEIGHT, each once, with commas between, or none")
        found[each.where] = each.weight if each.where != part.strip() else None
    return list(found.items())


@dataclass(frozen=True)
class Embedding:
    """A textual inversion: a file, and the word that stands for it, the file's own name where none is given."""

    where: str
    token: str

    @classmethod
    def of(cls, text: "str | Embedding") -> "Embedding":
        """FILE[:TOKEN]."""
        if isinstance(text, Embedding):
            return text
        where, _, token = text.partition(":")
        if len(where) == 1 and "\\" in token:  # a drive's letter
            begun, _, token = token.partition(":")
            where = f"{where}:{begun}"
        token = token or Path(_named(where, "embedding", "style.safetensors")).stem
        if not token or any(letter.isspace() for letter in token):
            raise ValueError(
                f"embedding {text!r}: its word {token!r} must be one without spaces: FILE:WORD says another"
            )
        return cls(where, token)


def _named(where: str, what: str, such: str) -> str:
    if not where.strip():
        raise ValueError(f"{what} {where!r} names no file: write it as {such}")
    return where


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Everything that loading a model depends on; ValueError where two of it don't go together."""

    model: str = checkpoints.BUNDLED  # bundled, a folder, a hub id, or a file
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None  # of a hub's repository
    variant: str | None = None  # of weights files, such as "fp16"
    base: str | None = None  # folder or hub id of what a file leaves out
    transformer: str | None = None  # a file of the network, in place of the folder's
    text_encoders: tuple[str, ...] = ()  # files of text encoders, in place of the folder's
    vae: str | None = None  # a file or folder of an autoencoder, in place of the model's
    tiny_vae: str | None = None  # a small one, for previews alone
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    offload: str | None = None
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("auto", *DTYPES):
            raise ValueError(f"dtype {self.dtype!r}: auto, {', '.join(DTYPES)} are accepted")
        if self.offload not in (None, *OFFLOADS):
            raise ValueError(f"offload {self.offload!r}: {', '.join(OFFLOADS)} are accepted")
        if self.quantize not in (None, *QUANTISED):
            raise ValueError(f"quantize {self.quantize!r}: {', '.join(QUANTISED)} are accepted")
        if self.variant is not None and not re.fullmatch(r"\w+", self.variant):
            raise ValueError(f"variant {self.variant!r}: a word as in model.fp16.safetensors is needed, such as fp16")
        if self.quantize is not None and self.transformer is not None:
            raise ValueError(
                "quantize is for weights as they are read from a folder: a file of a transformer has its own"
            )
        if self.quantize is not None and self.loras:
            raise ValueError("quantize and LoRAs don't go together here: leave one of them out")
        if self.transformer is not None:
            path = Path(self.transformer)
            if path.suffix not in single.WEIGHTS or not path.is_file():
                raise ValueError(f"transformer {self.transformer!r}: a .gguf or .safetensors file is needed")
        tokens = [each.token for each in self.embeddings]
        for token in tokens:
            if tokens.count(token) > 1:
                raise ValueError(f"two embeddings are called {token!r}: FILE:WORD gives one of them another word")

    def to_text(self) -> str:
        """The model's name where nothing else is said of its parts, or all of it, for another process."""
        said = asdict(self)
        plain = asdict(Loading(model=self.model, device=self.device, dtype=self.dtype))
        return self.model if said == plain else json.dumps(said)

    @classmethod
    def of(cls, text: str, device: str, dtype: str) -> "Loading":
        """What `to_text` wrote, on this device and in this number format."""
        if not text.startswith("{"):
            return cls(model=text, device=device, dtype=dtype)
        said: dict[str, Any] = json.loads(text)
        said["text_encoders"] = tuple(said["text_encoders"])
        said["loras"] = tuple(Lora(**each) for each in said["loras"])
        said["embeddings"] = tuple(Embedding(**each) for each in said["embeddings"])
        said["device"], said["dtype"] = device, dtype
        return cls(**said)

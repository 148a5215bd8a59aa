"""CLIP's words, which a file of Stable Diffusion leaves out; all of its tokenizers have the same."""

import gzip
import importlib.util
import json
from pathlib import Path
from typing import Any

from ledits.files import atomic, cache

_WORDS = 49408
_FILES = ("vocab.json", "merges.txt")
_REPOSITORY = "openai/clip-vit-large-patch14"


def tokenizer(pad: str) -> Any:
    """CLIP's tokenizer for 77 tokens; ValueError where its words are nowhere to be had."""
    from transformers import CLIPTokenizer

    folder = _cached() or _packaged() or _downloaded()
    return CLIPTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, model_max_length=77, pad_token=pad,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>",
    )  # fmt: skip


def _cached() -> Path | None:
    """The folder of a tokenizer that some model in the hub's cache brought along."""
    for repository in cache.hub().glob("models--*"):
        for words in (
            *repository.glob("snapshots/*/vocab.json"),
            *repository.glob("snapshots/*/tokenizer*/vocab.json"),
        ):
            if (words.parent / "merges.txt").is_file() and words.stat().st_size < 2**22:
                try:
                    found = json.loads(words.read_text(encoding="utf-8"))
                except (OSError, ValueError):
                    continue
                if isinstance(found, dict) and len(found) == _WORDS and found.get("<|startoftext|>") == _WORDS - 2:
                    return words.parent
    return None


def _packaged() -> Path | None:
    """Made of OpenAI's list of merges, which open_clip ships; None where that package is not installed."""
    found = importlib.util.find_spec("open_clip")
    if found is None or found.origin is None:
        return None
    listed = Path(found.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    if not listed.is_file():
        return None
    home = cache.folder() / "clip-tokenizer"
    home.mkdir(exist_ok=True)
    made = [home / name for name in _FILES]
    if not all(path.is_file() for path in made):
        merges = gzip.decompress(listed.read_bytes()).decode().split("\n")[1 : _WORDS - 2 * 256 - 2 + 1]
        letters = _letters()
        words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
        words += ["<|startoftext|>", "<|endoftext|>"]
        texts = json.dumps({word: k for k, word in enumerate(words)}), "\n".join(["#version: 0.2", *merges, ""])
        for path, text in zip(made, texts, strict=True):
            with atomic.written(path, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return home


def _letters() -> list[str]:
    """The character that stands for each byte, those that can be printed first, as GPT-2 has them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + k) for k in range(len(others))]


def _downloaded() -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(_REPOSITORY, allow_patterns=list(_FILES)))
    except Exception:
        raise ValueError(
            "CLIP's words are not on this machine and the hub can't be reached: pip install --no-deps open_clip_torch "
            "brings them, or give the folder of any Stable Diffusion model as the base"
        ) from None

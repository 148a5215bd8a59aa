"""Teach a model's tokenizer the words of `ledits.scenes.captions` that it lacks, for the training to go on with.

    python training/grow.py --from src/ledits/models/scenes --to runs/grown

Every old token keeps its number, the end of a text too, by which its encoder finds the token that stands for the whole.
A new word begins as the mean of the words that it may stand for: "kitten" as "cat".
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTokenizer

from ledits.scenes import OBJECTS
from ledits.scenes import captions as english

# What a word begins as that stands for nothing in the picture.
FILLERS = ("a", "of", "and", "the", "on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", type=Path, dest="origin", required=True, help="a saved model")
    parser.add_argument("--to", type=Path, required=True, help="a new folder")
    args = parser.parse_args()
    shutil.copytree(args.origin, args.to)
    for folder in sorted(args.to.glob("tokenizer*")):
        old = CLIPTokenizer.from_pretrained(folder)
        new = extended(old, english.words())
        new.save_pretrained(folder)
        _grow(args.to / folder.name.replace("tokenizer", "text_encoder"), old, new)
        print(f"{folder.name}: {len(old)} tokens, now {len(new)}")


def extended(old: CLIPTokenizer, words: Iterable[str]) -> CLIPTokenizer:
    """The tokenizer with each of `words` as one token; the old tokens keep their numbers, old words their tokens."""
    # Padding would be merged too.
    state = json.loads(old.backend_tokenizer.to_str()) | {"padding": None, "truncation": None}
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    for word in words:
        pieces = Tokenizer.from_str(json.dumps(state)).encode(word, add_special_tokens=False).tokens
        # Later merges come after all earlier ones: what is one token already stays one.
        while len(pieces) > 1:
            joined = pieces[0] + pieces[1]
            merges.append(pieces[:2])
            vocabulary.setdefault(joined, len(vocabulary))
            pieces = [joined, *pieces[2:]]
    return CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(pair) for pair in merges], model_max_length=old.model_max_length
    )


def likenesses() -> dict[str, set[str]]:
    """For each word of the captions, those that it may stand for."""
    like: dict[str, set[str]] = {}
    tables: tuple[Mapping[str, Iterable[str]], ...] = (
        english.SYNONYMS, english.WORN, english.PLACES, english.NOUNS,
        {name: (english.plural(name),) for name in OBJECTS},
        {name: map(english.plural, others) for name, others in english.SYNONYMS.items()},
        {"big": english.BIG, "small": english.SMALL, "gray": ("grey",), "yellow": ("golden",), "orange": ("brown",)},
    )  # fmt: skip
    for table in tables:
        for meaning, texts in table.items():
            for word in (word for text in texts for word in text.split()):
                like.setdefault(word, set()).update(meaning.split())
    return like


def _grow(folder: Path, old: CLIPTokenizer, new: CLIPTokenizer) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] = len(new)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (path,) = folder.glob("*.safetensors")
    weights = load_file(path)
    (name,) = (key for key in weights if key.endswith("token_embedding.weight"))
    weights[name] = _embeddings(weights[name], old, new)
    save_file(weights, path, {"format": "pt"})


def _embeddings(table: Tensor, old: CLIPTokenizer, new: CLIPTokenizer) -> Tensor:
    """Embeddings (tokens d) with a row for each token of `new`."""
    known, like = old.get_vocab(), likenesses()

    def mean(words: Iterable[str]) -> Tensor:
        return torch.stack([table[known[f"{word}</w>"]].float() for word in words]).mean(0)

    rows = mean(FILLERS).repeat(len(new) - len(old), 1)
    for piece, number in new.get_vocab().items():
        words = sorted(word for word in like.get(re.sub("</w>$", "", piece), ()) if f"{word}</w>" in known)
        if number >= len(old) and piece.endswith("</w>") and words:
            rows[number - len(old)] = mean(words)
    return torch.cat([table, rows.to(table.dtype)])


if __name__ == "__main__":
    main()

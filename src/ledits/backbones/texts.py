"""Prompts as networks take them: embedded texts, and which of their tokens are words."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, Protocol

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_WEIGHT = re.compile(r"\([^()]+:\s*[+-]?\d*\.?\d+\s*\)")

# A fast tokenizer refuses to be used from two threads at once.
TOKENIZING = Lock()


@dataclass(eq=False)
class Text:
    """One embedded prompt. It is its own key: two of the same text are two prompts."""

    name: str
    states: Tensor = field(repr=False)  # (tokens, d)
    words: Tensor = field(repr=False)  # (tokens,) bool, on the CPU: true for words, false for start, end and padding
    pooled: Tensor | None = field(default=None, repr=False)  # (d',) where the network takes it
    mask: Tensor | None = field(default=None, repr=False)  # (tokens,) where the network takes it
    # An image prompt, (images, d'') for each adapter.
    image: tuple[Tensor, ...] | None = field(default=None, repr=False)


class Prompts(Protocol):
    """The text encoders of a family."""

    def embed(self, text: str) -> Text:
        """The prompt as the network takes it; ValueError for one that is too long."""
        ...


def tokenize(
    tokenizer: Any, text: str, longest: int | None = None, *, pad: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (1 n), attention mask (1 n) and which tokens are words (n,) bool.

    They are padded to `longest`, or to what the tokenizer says that its encoder reads. Raises ValueError for a text
    that is too long, for a cut one would edit something else than was asked for.
    """
    longest = longest or int(tokenizer.model_max_length)
    text = written_out(tokenizer, text)
    with TOKENIZING:
        out = tokenizer(
            text, padding="max_length" if pad else False, max_length=longest if pad else None,
            return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        marks = int(tokenizer.num_special_tokens_to_add())
    check_length(text, out.input_ids.shape[1] - marks, longest - marks)
    # Padding is often the end token again, and a fast tokenizer's length counts it: only mask and ids together tell
    # words.
    special = [mark for mark in (tokenizer.bos_token_id, tokenizer.eos_token_id) if mark is not None]
    words = out.attention_mask[0].bool() & ~torch.isin(out.input_ids[0], torch.tensor(special))
    return out.input_ids, out.attention_mask, words


def written_out(tokenizer: Any, text: str) -> str:
    """The text with each learned word of several vectors as many words: word, word_1, word_2, ..."""
    added = tokenizer.get_added_vocab()
    if not any(f"{word}_1" in added and word in text for word in added):
        return text
    from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin

    with TOKENIZING:
        return str(TextualInversionLoaderMixin().maybe_convert_prompt(text, tokenizer))


def check_length(text: str, given: int, longest: int) -> None:
    """Raise ValueError for a text of more tokens than a model reads. Weights of other programs are words."""
    if _WEIGHT.search(text):
        _say_weights_are_words(text)
    if given > longest:
        raise ValueError(f"prompt {text!r} has {given} tokens and the model reads {longest}: shorten it")


@lru_cache(maxsize=256)
def _say_weights_are_words(text: str) -> None:
    logger.warning(
        "prompt %r has a weight, such as (word:1.2): it is read as plain text here; give the edit a scale instead", text
    )


def stack(texts: Sequence[Text]) -> Tensor:
    """States (r tokens d) of texts of one length."""
    return torch.stack([text.states for text in texts])


def pooled(texts: Sequence[Text]) -> Tensor:
    """Pooled texts (r d)."""
    return torch.stack([text.pooled for text in texts if text.pooled is not None])

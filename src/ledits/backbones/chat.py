"""Prompts as a language model reads them: inside a chat template, where the words have to be found again."""

from typing import Any

import torch
from torch import Tensor

from ledits.backbones.texts import TOKENIZING, check_length


def tokens(tokenizer: Any, text: str, before: str, after: str, longest: int) -> tuple[Tensor, Tensor]:
    """Ids (1 n) of before + text + after, and which of them are of the text, (n,) bool; ValueError for too many.

    They are told by their place in the string: a token at a seam belongs to the text if it holds a character of it.
    """
    with TOKENIZING:
        out = tokenizer(before + text + after, return_tensors="pt", return_offsets_mapping=True)
    check_length(text, out.input_ids.shape[1], longest)
    start, stop = len(before), len(before) + len(text)
    words = torch.tensor([a < stop and b > start and b > a for a, b in out.offset_mapping[0].tolist()])
    return out.input_ids, words & bool(text.strip())


def around(tokenizer: Any, **options: Any) -> tuple[str, str]:
    """What the tokenizer's chat template puts before and after a user's message."""
    mark = "\ue000"  # of a private area of Unicode: in no template
    messages = [{"role": "user", "content": mark}]
    made: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
    before, _, after = made.partition(mark)
    return before, after

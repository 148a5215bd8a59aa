"""Prompts as a language model reads them: inside a chat template, where the words have to be found again."""

from typing import Any

import torch
from torch import Tensor

from ledits.backbones.texts import TOKENIZING, check_length


def tokens(
    tokenizer: Any, text: str, before: str, after: str, longest: int, *, pad: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (1 n) of before + text + after, their mask (1 n), and which of them are of the text, (n,) bool.

    They are padded to `longest` if asked to be. Raises ValueError for more than that.

    They are told by their place in the string: a token at a seam belongs to the text if it holds a character of it.
    """
    begun = bool(tokenizer.bos_token) and before.startswith(tokenizer.bos_token)  # by the template
    with TOKENIZING:
        out = tokenizer(
            before + text + after, add_special_tokens=not begun, padding="max_length" if pad else False,
            max_length=longest if pad else None, return_attention_mask=True, return_tensors="pt",
            return_offsets_mapping=True,
        )  # fmt: skip
    check_length(text, out.input_ids.shape[1], longest)
    start, stop = len(before), len(before) + len(text)
    places = out.offset_mapping[0].tolist()
    words = torch.tensor([a < stop and b > start and b > a for a, b in places], dtype=torch.bool)
    return out.input_ids, out.attention_mask, words & bool(text.strip())


def around(tokenizer: Any, *, system: str | None = None, **options: bool) -> tuple[str, str]:
    """What the tokenizer's chat template puts before and after a user's message; `options` go to the template.

    With a `system` message all messages are lists of parts, and the assistant's turn is not begun.
    """
    mark = "\ue000"  # of a private area of Unicode: in no template
    messages: list[dict[str, Any]] = [{"role": "user", "content": mark}]
    if system is not None:
        both = ("system", system), ("user", mark)
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in both]
    made: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=system is None, **options)
    before, _, after = made.partition(mark)
    return before, after

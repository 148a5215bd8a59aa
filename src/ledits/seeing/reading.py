"""Small vision-language models of the Qwen family (Apache-2.0): what one says about a picture, as plain text."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ledits.seeing import weights

_KINDS = ("qwen3_5", "qwen3_vl")
_TOKENS = 600  # of an answer
_PIXELS = 512 * 512  # of the picture, as the model sees it


def said(picture: Image.Image, task: str, wish: str, device: torch.device, name: str, seconds: float) -> str:
    """What the model answers to a wish about a picture. Nothing in the wish can end the task it was given."""
    model, tokenizer, pictures = weights.kept(_load, weights.found(name, *_KINDS), device)
    seen = pictures(images=[picture], return_tensors="pt", size={"shortest_edge": 64 * 64, "longest_edge": _PIXELS})
    places = int(seen["image_grid_thw"].prod()) // pictures.merge_size**2

    def own(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def foreign(text: str) -> list[int]:
        # A special token that is written out is read as its letters.
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    # The family's own form of a chat, with an empty thought: an answer is wanted, no reasoning.
    before = [*own("<|im_start|>system\n"), *foreign(task), *own("<|im_end|>\n<|im_start|>user\n<|vision_start|>")]
    after = [*own("<|vision_end|>"), *foreign(wish), *own("<|im_end|>\n<|im_start|>assistant\n")]
    if model.config.model_type == "qwen3_5":
        after += own("<think>\n\n</think>\n\n")
    tokens = torch.tensor([[*before, *[model.config.image_token_id] * places, *after]], device=device)
    inputs: dict[str, Any] = {
        "input_ids": tokens, "attention_mask": torch.ones_like(tokens),
        "mm_token_type_ids": (tokens == model.config.image_token_id).long(),
        "pixel_values": seen["pixel_values"].to(device, model.dtype),
        "image_grid_thw": seen["image_grid_thw"].to(device),
    }  # fmt: skip
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.inference_mode():
        answer = model.generate(
            **inputs, max_new_tokens=_TOKENS, max_time=seconds, do_sample=False, eos_token_id=ends, pad_token_id=ends
        )
    weights.freed_if_short(device)
    return str(tokenizer.decode(answer[0, tokens.shape[1] :], skip_special_tokens=True))


def _load(folder: Path, device: torch.device) -> tuple[Any, Any, Any]:
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5ForConditionalGeneration
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

    classes = (Qwen3_5ForConditionalGeneration, Qwen3VLForConditionalGeneration)
    kind = classes[_KINDS.index(weights.kind(folder))]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model: Any = kind.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    pictures = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return model.eval().to(device), tokenizer, pictures

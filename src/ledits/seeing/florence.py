"""Florence-2 (Microsoft, MIT): a caption of a picture, and the region that a phrase names."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ledits.picture import image
from ledits.seeing import weights

FLORENCE = "florence-community/Florence-2-base-ft"  # 0.23 billion parameters, 0.5 GB
_WHERE = "<REFERRING_EXPRESSION_SEGMENTATION>"


def caption(picture: Any, device: torch.device, name: str = FLORENCE) -> str:
    """What a picture shows, in one sentence."""
    said = str(_asked(picture, "<CAPTION>", device, name))
    plain = re.sub(r"^(?:in this (?:image|picture|photo),? |the image (?:shows|is of) )", "", said.strip(), flags=re.I)
    plain = " ".join("".join(c if c.isprintable() else " " for c in plain).split()).rstrip(".")[:400]
    if not plain:
        raise ValueError("Florence-2 has no word for the picture: write its caption yourself")
    # "A cat on a lawn" in the middle of a sentence; "Paris" keeps its letter.
    return plain[0].lower() + plain[1:] if re.match(r"(?:An?|The|Two|Three|Several|Some)\b", plain) else plain


def where(picture: Any, phrase: str, device: torch.device, name: str = FLORENCE) -> NDArray[np.bool_]:
    """The pixels (H W) of what a phrase names, such as "the left cat"."""
    if not phrase.strip() or len(phrase) > 200 or not phrase.isprintable() or "<" in phrase:
        raise ValueError("where: a few plain words are needed, such as 'the left cat'")
    shown = image.take(picture)
    height, width, _ = shown.rgb.shape
    found: Any = _asked(shown, f"{_WHERE}{phrase.strip()}", device, name)
    mask = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(mask)
    for polygons in found["polygons"]:
        for polygon in polygons:
            if len(polygon) >= 6:
                draw.polygon(polygon, fill=255)
    region = np.asarray(mask) > 0
    if not region.any():
        raise ValueError(f"Florence-2 finds no {phrase!r} in the picture: name it in other words, or draw a region")
    return region


def _asked(picture: Any, prompt: str, device: torch.device, name: str) -> Any:
    shown = Image.fromarray(image.take(picture).rgb)
    model, processor = weights.kept(_load, weights.found(name, "florence2"), device)
    inputs = processor(text=prompt, images=shown, return_tensors="pt").to(device, model.dtype)
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=512, num_beams=3, do_sample=False)
    text = processor.batch_decode(tokens, skip_special_tokens=False)[0]
    task = prompt[: prompt.index(">") + 1]
    answer = processor.post_process_generation(text, task=task, image_size=shown.size)[task]
    weights.freed_if_short(device)
    return answer


def _load(folder: Path, device: torch.device) -> tuple[Any, Any]:
    from transformers.models.florence2.modeling_florence2 import Florence2ForConditionalGeneration
    from transformers.models.florence2.processing_florence2 import Florence2Processor

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model: Any = Florence2ForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True
    )
    processor = Florence2Processor.from_pretrained(folder, local_files_only=True)
    return model.eval().to(device), processor

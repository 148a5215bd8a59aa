"""Ours against diffusers' LEDITS++ pipelines: the same network object, pictures, steps, dtype and run, A B A B.

    python benchmarks/compare.py [--quick] [--model scenes|sd15|sdxl] [--size 512] [--dtype float32] [--repeats 2]
    python benchmarks/compare.py --model sd15 --also float32 bfloat16   # and ours as it runs by itself, A B C D A B C D
    python benchmarks/compare.py --also float32 bfloat16 --captions     # and ours with a caption, as diffusers has none

Networks of sd15 and sdxl have the real shapes and random weights. An inversion is timed once a turn, and every edit
after it; a first edit is both. For each case: seconds (medians), their ratio, network evaluations, TFLOP, the share of
the matmul peak measured in the same run, peak memory and how much of it came on top of the loaded models, and how far
the result lies from diffusers'. diffusers gets its scheduler with final_sigmas_type "sigma_min" and a tokenizer that
counts words, so that both compute the same edit; ours gets diffusers' timesteps and masks.
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
)
from diffusers import LEditsPPPipelineStableDiffusion as TheirsSD
from diffusers import LEditsPPPipelineStableDiffusionXL as TheirsXL
from diffusers.configuration_utils import FrozenDict
from diffusers.pipelines.ledits_pp import pipeline_leditspp_stable_diffusion as published
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ledits import LEditsPPPipelineStableDiffusion as OursSD
from ledits import LEditsPPPipelineStableDiffusionXL as OursXL
from ledits.cpu import packed, precision
from ledits.files import checkpoints

SCENES = checkpoints.find("scenes")
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "steps_offset": 1, "algorithm_type": "sde-dpmsolver++", "solver_order": 2, "final_sigmas_type": "sigma_min",
}  # fmt: skip
WORDS = ["dog", "red heart", "snow", "crown"]
CAPTION = "a cat and a star on grass"  # and it after each edit
AFTER = ["a dog and a star on grass", "a cat and a red heart on grass", "a cat and a star on snow"]


class Counting:
    """A tokenizer whose `length` counts words and not padding, as it does in transformers 4."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: Any, **options: Any) -> Any:
        out = self.tokenizer(text, **options)
        out["length"] = out["attention_mask"].sum(1)
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def text_encoder(tokenizer: CLIPTokenizer, width: int, layers: int, projection: int | None = None) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=tokenizer.model_max_length,
        projection_dim=projection or width, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def random_parts(model: str, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The shapes of SD 1.5 (859.5 M) or SDXL (2567 M) over random weights; small text encoders, for they run once."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(SCENES / "tokenizer")
    if model == "sd15":
        shape = {
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8,
            "sample_size": 64,
        }  # fmt: skip
        parts = {"text_encoder": text_encoder(tokenizer, 768, 1), "tokenizer": tokenizer}
    else:
        shape = {
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "attention_head_dim": (5, 10, 20),
            "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "sample_size": 128,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }  # fmt: skip
        parts = {
            "text_encoder": text_encoder(tokenizer, 768, 2), "tokenizer": tokenizer,
            "text_encoder_2": text_encoder(tokenizer, 1280, 2, 1280), "tokenizer_2": tokenizer,
        }  # fmt: skip
    parts["unet"] = UNet2DConditionModel(in_channels=4, out_channels=4, **shape).eval()
    parts["vae"] = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    return {k: v.to(device, dtype) if isinstance(v, torch.nn.Module) else v for k, v in parts.items()}


def pipelines(model: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """diffusers' pipeline and ours over the same networks."""
    if model == "scenes":
        ours = OursSD.from_pretrained(SCENES, safety_checker=None, requires_safety_checker=False, dtype=dtype).to(
            device
        )
        parts = {name: getattr(ours, name) for name in ("vae", "text_encoder", "tokenizer", "unet")}
    else:
        parts = random_parts(model, device, dtype)
    prediction = {"prediction_type": "v_prediction" if model == "scenes" else "epsilon"}
    made = []
    for cls in (TheirsXL, OursXL) if model == "sdxl" else (TheirsSD, OursSD):
        scheduler = DPMSolverMultistepScheduler(**SCHEDULER, **prediction)
        extra: dict[str, Any] = {"add_watermarker": False} if model == "sdxl" else {
            "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False
        }  # fmt: skip
        if cls is OursSD:
            extra["map_scale"] = 4  # as diffusers, whatever a network does better with
        pipe = cls(**parts, scheduler=scheduler, **extra)
        pipe.set_progress_bar_config(disable=True)
        made.append(pipe)
    theirs, ours = made
    if model == "scenes":
        fit_diffusers_to(theirs)
    for name in ("tokenizer", "tokenizer_2"):
        if getattr(theirs, name, None) is not None:
            setattr(theirs, name, Counting(getattr(theirs, name)))
    theirs.maybe_convert_prompt = lambda prompt, _: prompt
    return theirs, ours


class Encoding:
    """A tiny autoencoder as diffusers' pipeline wants one: its latents stand for a distribution's mode."""

    def __init__(self, tiny: Any) -> None:
        self.tiny, self.config = tiny, FrozenDict({**tiny.config, "sample_size": 1 << 20})

    def encode(self, x: torch.Tensor) -> SimpleNamespace:
        latents = self.tiny.encode(x).latents
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, x: torch.Tensor, return_dict: bool = True, generator: Any = None) -> Any:  # noqa: ARG002
        return self.tiny.decode(x, return_dict=return_dict)


def fit_diffusers_to(pipe: Any) -> None:
    """What diffusers' pipeline lacks to run on the bundled model: its kind of encoder, masks of its 16 channels."""
    object.__setattr__(pipe, "vae", Encoding(pipe.vae))
    fours = pipe.unet.config.in_channels // 4
    published.F = SimpleNamespace(
        pad=F.pad, conv2d=F.conv2d,
        interpolate=lambda mask, size: F.interpolate(mask, tuple(size)).repeat(1, fours, 1, 1),
    )  # fmt: skip


class Meter:
    """Seconds, evaluations and peak memory of a call."""

    def __init__(self, unet: torch.nn.Module, device: torch.device) -> None:
        self.device, self.rows = device, 0
        unet.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.rows += len(args[0] if args else kwargs["sample"])

    def __call__(self, run: Callable[[], Any]) -> "Measured":
        gc.collect()
        self.rows = 0
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            out = run()
            end.record()
            torch.cuda.synchronize()
            seconds, peak = start.elapsed_time(end) / 1e3, torch.cuda.max_memory_allocated()
        else:
            before = resident("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of resident memory begins anew
            began = time.perf_counter()
            out = run()
            seconds, peak = time.perf_counter() - began, resident("VmHWM")
        return Measured(out, seconds, self.rows, peak / 2**30, (peak - before) / 2**30)


def resident(name: str) -> int:
    """Bytes of this process in memory: "VmRSS" now, "VmHWM" at most so far."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 2**10


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """The best of a few square products, FLOP/s."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def flop(unet: Any, side: int, tokens: int) -> float:
    """FLOP of one sample's pass, counted on a network without weights."""
    config = unet.config
    with torch.device("meta"):
        meta = UNet2DConditionModel.from_config(config)
        extra = {}
        if config.addition_embed_type == "text_time":
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            extra = {"added_cond_kwargs": {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            meta(
                torch.empty(1, config.in_channels, side, side), torch.empty(1),
                torch.empty(1, tokens, config.cross_attention_dim), **extra,
            )  # fmt: skip
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class Measured:
    """Of one call: what came out, seconds, evaluations, peak GiB and what of it was not there before."""

    out: Any
    seconds: float
    evaluations: int
    peak: float
    added: float


@dataclass(frozen=True)
class Contender:
    name: str
    pipe: Any
    ours: bool
    dtype: torch.dtype
    peak: float  # of its dtype's products, FLOP/s
    meter: "Meter"

    @property
    def xl(self) -> bool:
        return "XL" in type(self.pipe).__name__

    def invert(self, shown: list[Image.Image], steps: int) -> Measured:
        mine = {"timesteps": "diffusers"} if self.ours else {}
        zero = {"num_zero_noise_steps": 0} if self.xl else {}
        generator = torch.Generator().manual_seed(0)
        return self.meter(
            lambda: self.pipe.invert(image=shown, num_inversion_steps=steps, generator=generator, **zero, **mine)
        )

    def edit(self, count: int, warmup: int = 0) -> Measured:
        mine = {"mask_upsampling": "nearest", "noise_mask_below": None if self.xl else 800} if self.ours else {}
        return self.meter(
            lambda: self.pipe(
                editing_prompt=WORDS[:count], edit_warmup_steps=warmup, edit_threshold=0.8, use_intersect_mask=True,
                output_type="pt", **mine,
            ).images.float()
        )  # fmt: skip

    def captioned(self, shown: list[Image.Image], steps: int, count: int) -> Measured:
        """Inversion and edit with a caption, at the number of steps that a caption has by itself."""
        generator = torch.Generator().manual_seed(0)

        def run() -> torch.Tensor:
            self.pipe.invert(image=shown, caption=CAPTION, num_inversion_steps=steps, generator=generator)
            return self.pipe(editing_prompt=AFTER[:count], output_type="pt").images.float()

        return self.meter(run)

    def both(self, shown: list[Image.Image], steps: int, count: int = 1) -> Measured:
        # diffusers' SDXL crashes on a batch: it gets one picture after the other.
        groups = [[each] for each in shown] if self.xl and not self.ours else [shown]
        return together(*(part for group in groups for part in (self.invert(group, steps), self.edit(count))))


def together(*parts: Measured) -> Measured:
    most = (max(getattr(part, name) for part in parts) for name in ("peak", "added"))
    return Measured(
        torch.cat([part.out for part in parts if isinstance(part.out, torch.Tensor)]),
        sum(part.seconds for part in parts), sum(part.evaluations for part in parts), *most,
    )  # fmt: skip


def contenders(
    model: str, device: torch.device, dtype: torch.dtype, also: Sequence[torch.dtype] = ()
) -> list[Contender]:
    """diffusers, ours on the same network object, and ours as `ledits.load` runs it, in each of the dtypes `also`."""
    theirs, ours = pipelines(model, device, dtype)
    peak, meter = matmul_peak(device, dtype), Meter(ours.unet, device)
    field = [Contender("diffusers", theirs, False, dtype, peak, meter)]
    field.append(Contender("ours", ours, True, dtype, peak, meter))
    for kind in also:
        pipe, name = copy.deepcopy(ours).to(dtype=kind), str(kind).removeprefix("torch.")
        if packed.available(device, kind):
            name = f"packed {name}"
            packed.pack(pipe.unet)
            packed.pack(pipe.vae)
        else:
            pipe.unet.to(memory_format=torch.channels_last)
        field.append(Contender(f"ours, {name}", pipe, True, kind, matmul_peak(device, kind), Meter(pipe.unet, device)))
    return field


def noise_pictures(count: int, size: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(count)]


@dataclass(frozen=True)
class Case:
    """An edit, `first` with the inversion that it needs."""

    name: str
    first: bool
    edits: int
    warmup: int = 0


def cases(edits: list[int], steps: int) -> list[Case]:
    late = [Case("later edit, warm-up 5", False, 1, 5)] if steps > 5 else []
    return [
        *(Case(f"first edit, {count} at once", True, count) for count in edits),
        Case("later edit", False, 1),
        *late,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["scenes", "sd15", "sdxl"], default="scenes")
    parser.add_argument("--size", type=int, help="of the pictures in pixels; 128, 512 and 1024 are usual")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument(
        "--also", nargs="+", default=[], choices=["auto", "float32", "float16", "bfloat16"],
        help="ours once more in each of these, its layers packed where that can be done; auto: in what is fastest here",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=2, help="of each, in turns")
    parser.add_argument("--edits", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--pictures", type=int, default=4, help="of the case with several; 1 leaves it out")
    parser.add_argument(
        "--captions", action="store_true", help="ours with a caption too, beside diffusers' as many edits by words"
    )
    parser.add_argument("--quick", action="store_true", help="one edit, one picture, once")
    parser.add_argument("--out", type=Path, help="append the rows to this file, as JSON lines")
    args = parser.parse_args()
    if args.quick:
        args.edits, args.pictures, args.repeats = [1], 1, 1
    device = torch.device(args.device)
    size = args.size or {"scenes": 128, "sd15": 512, "sdxl": 1024}[args.model]
    widest = {"scenes": 192, "sd15": 1280, "sdxl": 1280}[args.model]
    kinds = [precision.best(device, widest) if name == "auto" else getattr(torch, name) for name in args.also]
    field = contenders(args.model, device, getattr(torch, args.dtype), kinds)
    ours, fused = field[1].pipe, dict(field[1].pipe.unet.attn_processors)
    pictures = noise_pictures(args.pictures, size)
    once = flop(ours.unet, size // ours.vae_scale_factor, ours.tokenizer.model_max_length)
    told = ", ".join(f"{c.name} {c.peak / 1e12:.2f}" for c in field)
    print(f"{args.model} {size}x{size} {device}: {once / 1e12:.4f} TFLOP a sample, matmul peak in TFLOP/s: {told}")

    found: dict[tuple[str, str], list[Measured]] = {}
    several = f"first edit of {args.pictures} pictures"
    for _ in range(args.repeats):
        for one in field:
            inverted, edits = one.invert(pictures[:1], args.steps), dict[tuple[int, int], Measured]()
            for case in cases(args.edits, args.steps):
                key = (case.edits, case.warmup)
                if key not in edits:
                    edits[key] = one.edit(*key)
                result = together(inverted, edits[key]) if case.first else edits[key]
                found.setdefault((case.name, one.name), []).append(result)
            for count in (1, 2, 3) if args.captions else ():
                # diffusers has no captions: as many edits by words stand in their place.
                result = (
                    one.captioned(pictures[:1], args.steps, count) if one.ours else together(inverted, one.edit(count))
                )
                found.setdefault((f"{count} with a caption", one.name), []).append(result)
            if args.pictures > 1:
                found.setdefault((several, one.name), []).append(one.both(pictures, args.steps))
            if not one.ours:  # which leaves its own attention behind
                one.pipe.unet.set_attn_processor(dict(fused))
    rows = []
    for case in dict.fromkeys(name for name, _ in found):
        base = found[case, "diffusers"]
        first = statistics.median(each.seconds for each in base)
        print(f"{case}\n  {'diffusers':22} {first:8.2f} s         {base[0].evaluations} evaluations, "
              f"{base[0].peak:.2f} GiB, {base[0].added:.2f} added")  # fmt: skip
        for one in field[1:]:
            runs = found[case, one.name]
            seconds = statistics.median(each.seconds for each in runs)
            row = {
                "case": case, "contender": one.name, "model": args.model, "size": size, "dtype_diffusers": args.dtype,
                "dtype": str(one.dtype).removeprefix("torch."), "device": str(device), "steps": args.steps,
                "seconds_diffusers": round(first, 3), "seconds": round(seconds, 3), "ratio": round(first / seconds, 2),
                "evaluations_diffusers": base[0].evaluations, "evaluations": runs[0].evaluations,
                "tflop": round(runs[0].evaluations * once / 1e12, 3),
                "share_of_peak": round(runs[0].evaluations * once / seconds / one.peak, 3),
                "gib_diffusers": round(max(each.peak for each in base), 2),
                "gib": round(max(each.peak for each in runs), 2),
                "gib_added_diffusers": round(max(each.added for each in base), 3),
                "gib_added": round(max(each.added for each in runs), 3),
                "largest_difference": round((base[0].out - runs[0].out).abs().max().item(), 8),
                "mean_difference": round((base[0].out - runs[0].out).abs().mean().item(), 8), "repeats": args.repeats,
            }  # fmt: skip
            rows.append(row)
            print(
                f"  {one.name:22} {seconds:8.2f} s {row['ratio']:6.2f}x {row['evaluations']} evaluations, "
                f"{row['gib']:.2f} GiB, {row['gib_added']:.2f} added, {100 * row['share_of_peak']:.0f} % of peak, "
                f"difference {row['largest_difference']:.1e}, mean {row['mean_difference']:.1e}",
                flush=True,
            )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()

"""Train a denoiser together with its text encoders: a UNet in SD's layout or a flow transformer in SD3's.

    python training/denoiser.py --pack runs/pack --vae runs/autoencoder/vae --out runs/unet [--kind flow]

The rate is constant after a warm-up, so that training can always go on; what is evaluated and shipped is the running
average of the weights. `--decay N` lets it fall to zero over the last N of --steps. Resumes to the sample from
RUN/last.pt (weights, optimiser, averages, position in the data); stop it at any time, or with --minutes, and run it
again. `--from src/ledits/models/scenes` starts from saved weights and fresh optimiser state. `--teacher` is a
saved model that is told the same in the plain grammar of the pack; what it predicts counts `--teach` times. Writes
RUN/log.jsonl, RUN/samples-STEP.png (one row a prompt, two seeds) and RUN/model, the averaged weights in diffusers'
layout.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from PIL import Image
from torch import Tensor
from transformers import CLIPTokenizer

from networks import LATENT_SIDE, Flow, Teacher, UNet
from precision import autocast, fastest

PROMPTS = (
    "a cat on a meadow", "a red heart on a blue background", "a rocket under a night sky", "an empty beach",
    "a pizza in the snow", "a dog and a star on a white background", "a tree to the left of a car at sunset", "a crown",
    "a cat wearing sunglasses on a beach", "a dog wearing a top hat on a green background", "sunglasses",
    "a penguin wearing a crown and a banana in the snow", "a pencil sketch of a fox on a meadow",
    "pixel art of a rabbit on a blue background", "a black and white photo of an owl wearing a bow at sunset",
    "a panda, a donut and a rocket on a pink background", "two stars under a night sky", "a kitten at the seaside",
    "there is a bunny with a red bow on its head", "on a beach, a fox beside a star",
    "a picture of a big red heart in the middle", "a puppy in a top hat and a penguin, in pixel art style",
    "a turtle on the right and an owl on the left", "a cat on a snow",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kind", choices=("unet", "flow"), default="unet")
    parser.add_argument("--from", type=Path, dest="origin", help="a saved model to start from")
    parser.add_argument(
        "--teacher", type=Path, help="a saved model of the pack's tokenizer that knows the plain grammar"
    )
    parser.add_argument("--teach", type=float, default=4.0, help="weight of what it says, beside the objective's one")
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--decay", type=int, default=0, help="steps at the end over which the rate falls to zero")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this long, having written a checkpoint")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--every", type=float, default=8, help="minutes between checkpoints")
    parser.add_argument("--compile", action="store_true", help="after a minute, flow is a third faster, a UNet a tenth")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    with np.load(args.pack / "pack.npz") as pack:
        latents, captions = pack["latents"], pack["captions"]
        plain = pack["plain"] if args.teacher else captions
    tokens = CLIPTokenizer.from_pretrained(args.pack / "tokenizer")
    vae = AutoencoderTiny.from_pretrained(args.vae).float()
    empty = torch.tensor(tokens("", padding="max_length", truncation=True).input_ids)
    denoiser = (UNet if args.kind == "unet" else Flow)(tokens, latents.shape[1])
    net = denoiser.parts.to(args.device)
    teaching = None
    if args.teacher:
        denoiser.read(args.teacher)
        teaching = copy.deepcopy(net).requires_grad_(False).eval()
    if args.origin:
        denoiser.read(args.origin)
    average = copy.deepcopy(net).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    start = 0
    if (last := args.out / "last.pt").exists():
        state = torch.load(last, map_location=args.device, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters, from step {start}", flush=True)

    def objective(step: int, dtype: torch.dtype) -> Tensor:
        # Everything a step draws follows from its number, so that a run that was stopped goes on as if it had not been.
        rng = np.random.default_rng([4, step])
        torch.manual_seed(step)
        rows = rng.integers(len(latents), size=args.batch)
        x0 = torch.from_numpy(latents[rows]).float().to(args.device)
        which = rng.integers(captions.shape[1], size=args.batch)
        ids, told = (torch.from_numpy(texts[rows, which]).long() for texts in (captions, plain))
        silent = torch.from_numpy(rng.random(args.batch) < 0.1)
        ids[silent] = told[silent] = empty
        teacher = None
        if teaching:
            # The plain grammar has no words for some captions; for no caption at all the teacher has none either.
            known = silent | (told != empty).any(1)
            teacher = Teacher(teaching, told.to(args.device), known.float().to(args.device), args.teach)
        with autocast(args.device, dtype):
            return denoiser.loss(x0, torch.randn_like(x0), ids.to(args.device), rng, teacher)

    dtype = fastest(args.device, lambda dtype: objective(start, dtype).backward())
    if args.compile:
        for part in net.children():
            part.compile()
    began = written = time.time()
    losses: list[float] = []
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 200, (args.steps - step) / max(args.decay, 1))
        loss = objective(step, dtype)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        weight = 1 - min(args.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), weight)
        losses.append(loss.item())

        stop = step + 1 == args.steps or time.time() - began > 60 * args.minutes
        if stop or time.time() - written > 60 * args.every:
            row = {"step": step + 1, "loss": float(np.mean(losses)), "lr": optimizer.param_groups[0]["lr"]}
            row |= {"samples": (step + 1) * args.batch, "format": str(dtype).removeprefix("torch.")}
            row |= {"samples_per_second": round(len(losses) * args.batch / (time.time() - written), 1)}
            with (args.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, args.out / "last.tmp")
            (args.out / "last.tmp").rename(last)
            pipe = denoiser.pipeline(average, vae, tokens)
            pipe.save_pretrained(args.out / "model")
            grid(pipe, args.out / f"samples-{step + 1:06d}.png", latents.shape[1])
            written, losses = time.time(), []
        if stop:
            break


@torch.inference_mode()
def grid(pipe: DiffusionPipeline, path: Path, channels: int) -> None:
    """Two samples of each of PROMPTS, drawn with plain guidance."""
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(2 * len(PROMPTS), channels, LATENT_SIDE, LATENT_SIDE, generator=torch.manual_seed(0))
    images = pipe(
        [prompt for prompt in PROMPTS for _ in range(2)],
        latents=noise.to(pipe.device), num_inference_steps=15, guidance_scale=4.0, output_type="np",
        height=8 * LATENT_SIDE, width=8 * LATENT_SIDE,
    ).images  # fmt: skip
    rows = [np.concatenate(list(images[i : i + 8]), 1) for i in range(0, len(images), 8)]
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(path)


if __name__ == "__main__":
    main()

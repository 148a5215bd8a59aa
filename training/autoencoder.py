"""Train the autoencoder of the 128-pixel models: scenes to 16x16 latents of 16 channels.

    python training/autoencoder.py --out runs/autoencoder [--steps 12000] [--device cuda]

The rate is constant, then falls over the last --decay steps; what is measured and kept is the running average of the
weights. Resumes from RUN/last.pt, to the sample: what a step draws follows from its number. Writes RUN/log.jsonl,
RUN/samples.png (scenes above, reconstructions below) and RUN/vae, in diffusers' layout. The decoder alone can be
trained on with --decoder-only: the latents, and with them a denoiser trained on them, stay valid. `--from
src/ledits/models/scenes/vae` starts from saved weights.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from torch import Tensor

from ledits import scenes
from precision import autocast, fastest

LATENT_CHANNELS = 16
CROP = 64


def build(width: int = 48) -> AutoencoderTiny:
    # No blocks at full resolution and one at half of it, where most of the cost would be: two convolutions at full
    # resolution already take a third.
    return AutoencoderTiny(
        encoder_block_out_channels=(width,) * 4,
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(0, 0, 2, 3),
        num_decoder_blocks=(3, 3, 1, 0),
        latent_channels=LATENT_CHANNELS,
    )


def batch(step: int, size: int, side: int) -> Tensor:
    """Training crops of one step, (b 3 CROP CROP) in -1..1; any step's can be drawn again.

    Backgrounds are learned in a minute, the art is what takes time: four crops of five are about an object, which at a
    quarter of the cost of a whole picture see most of what is new in it.
    """
    rng = np.random.default_rng([1, step])
    crops: list[np.ndarray] = []
    for count in rng.choice(4, (size + 1) // 2, p=[0.04, 0.40, 0.40, 0.16]):
        scene = scenes.dress(rng, scenes.sample(rng, int(count)))
        picture = scene.render(side)
        for _ in range(2):
            middle = rng.uniform(0, side, 2)
            if scene.objects and rng.random() < 0.8:
                placed = scene.objects[rng.integers(len(scene.objects))]
                middle = np.array([placed.y, placed.x]) * side / 64 + rng.normal(0, 8, 2)
            top, left = (middle - CROP / 2).clip(0, side - CROP).astype(int)
            crops.append(picture[top : top + CROP, left : left + CROP])
    return torch.from_numpy(np.stack(crops[:size])).permute(0, 3, 1, 2).float() / 127.5 - 1


def unseen(count: int, side: int) -> Tensor:
    """Test pictures, from seeds that training never draws, (b 3 side side) in -1..1."""
    rng = np.random.default_rng([2, 0])
    drawn = [scenes.dress(rng, scenes.sample(rng, held_out=None), held_out=None) for _ in range(count)]
    pictures = np.stack([scene.render(side) for scene in drawn])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB; pictures in -1..1."""
    return 10 * torch.log10(4 / (a - b).square().mean((1, 2, 3)))


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay", type=int, default=3000, help="steps at the end over which the rate falls to zero")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--every", type=float, default=4, help="minutes between checkpoints")
    parser.add_argument("--from", type=Path, dest="origin", help="a saved autoencoder to start from")
    parser.add_argument("--decoder-only", action="store_true", help="freeze the encoder")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    vae = AutoencoderTiny.from_pretrained(args.origin) if args.origin else build()
    vae = vae.to(args.device, torch.float32, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(not args.decoder_only)
    trained = [p for p in vae.parameters() if p.requires_grad]
    average = copy.deepcopy(vae).requires_grad_(False)
    optimizer = torch.optim.AdamW(trained, args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    start = 0
    if (last := args.out / "last.pt").exists():
        state = torch.load(last, map_location=args.device, weights_only=True)
        vae.load_state_dict(state["vae"])
        average.load_state_dict(state["average"])
        if state["decoder_only"] == args.decoder_only:
            optimizer.load_state_dict(state["optimizer"])
            start = state["step"]

    def objective(x: Tensor, dtype: torch.dtype) -> Tensor:
        with autocast(args.device, dtype):
            z = vae.encoder(x)
            # A decoder that has seen slightly wrong latents forgives a denoiser's small errors.
            out = vae.decoder(z + 0.02 * torch.randn_like(z))
        out, z = out.float(), z.float()
        loss = (out - x).abs().mean() + 2 * (out - x).square().mean() + 1e-4 * z.square().mean()
        return loss + 0.5 * sum((a - b).abs().mean() for a, b in zip(edges(out), edges(x), strict=True))

    def pictures(step: int) -> Tensor:
        x = batch(step + 10**6 * args.decoder_only, args.batch, args.side)
        return x.to(args.device, memory_format=torch.channels_last)

    dtype = fastest(args.device, lambda dtype: objective(pictures(start), dtype).backward())
    began = written = time.time()
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 100, (args.steps - step) / max(args.decay, 1))
        torch.manual_seed(step)
        loss = objective(pictures(step), dtype)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

        weight = 1 - min(args.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(vae.parameters()), weight)
        end = step + 1 == args.steps
        if end or time.time() - written > 60 * args.every:
            report(average, args, step + 1, loss.item(), time.time() - began, 500 if end else 60)
            state = {
                "vae": vae.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            torch.save({**state, "decoder_only": args.decoder_only}, args.out / "last.tmp")
            (args.out / "last.tmp").rename(last)
            written = time.time()


@torch.no_grad()
def report(vae: AutoencoderTiny, args: argparse.Namespace, step: int, loss: float, seconds: float, count: int) -> None:
    x = unseen(count, args.side).to(args.device)
    z = torch.cat([vae.encoder(part) for part in x.split(20)])
    out = torch.cat([vae.decoder(part) for part in z.split(20)]).clamp(-1, 1)
    # The denoiser works on latents of unit variance.
    vae.register_to_config(scaling_factor=round(1 / z.std().item(), 4))
    decibel = psnr(out, x)
    row = {"step": step, "loss": loss, "unseen": count, "psnr": decibel.mean().item(), "worst": decibel.min().item()}
    row |= {"std": z.std().item(), "largest": z.abs().max().item(), "seconds": round(seconds)}
    with (args.out / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    print(row, flush=True)
    sheet = torch.cat([torch.cat(list(x[:12]), 2), torch.cat(list(out[:12]), 2)], 1)
    sheet = ((sheet + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(sheet).save(args.out / "samples.png")
    vae.save_pretrained(args.out / "vae")


if __name__ == "__main__":
    main()

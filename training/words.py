"""Teach a UNet's text encoder new words for what it knows, without training the UNet.

    python training/words.py --pack runs/pack --from runs/grown --out runs/words

What cross-attention makes of a caption in new words should be what it makes of the same in the plain grammar (the pack
holds both). Only attention is computed, on inputs that the UNet once had there, so that a step costs a fortieth of one
of `denoiser.py`. What the plain grammar has no words for is not learnt here. Writes OUT, a model to go on from.
"""

import argparse
import copy
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from networks import UNet
from precision import autocast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--from", type=Path, dest="origin", required=True, help="a saved UNet of the pack's tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=2000, help="whose inputs to attention are kept in memory")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="another one takes other pictures of the pack")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    with np.load(args.pack / "pack.npz") as pack:
        rows = rng.choice(len(pack["latents"]), args.pictures, replace=False)
        x0, told, plain = (torch.from_numpy(pack[name][rows]) for name in ("latents", "captions", "plain"))
    tokens = CLIPTokenizer.from_pretrained(args.pack / "tokenizer")
    empty = torch.tensor(tokens("", padding="max_length", truncation=True).input_ids)
    # A caption that the plain grammar has no words for teaches nothing here. Each picture's first is then none at all.
    known = (plain != empty).any(-1)
    told[:, 0] = torch.where(known[:, :1], told[:, 0], empty)
    known[:, 0] = True

    denoiser = UNet(tokens, x0.shape[1])
    denoiser.read(args.origin)
    net, student = denoiser.parts["unet"].requires_grad_(False).eval(), denoiser.parts["text"]
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    began = time.time()
    layers, inputs = _inputs(denoiser, net, teacher, x0.float(), plain[:, 0].long())
    print(f"inputs of {len(layers)} layers: {time.time() - began:.0f} s", flush=True)

    optimizer = torch.optim.AdamW(student.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    losses: list[float] = []
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50, (args.steps - step) / (0.5 * args.steps))
        which = rng.integers(args.pictures, size=args.batch)
        caption = torch.from_numpy(np.array([rng.choice(np.flatnonzero(known[i].numpy())) for i in which]))
        with autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                old = teacher(plain[which, caption].long()).last_hidden_state
            new = student(told[which, caption].long()).last_hidden_state
            loss = torch.stack([
                _difference(layer, seen[which].float(), new, old) for layer, seen in zip(layers, inputs, strict=True)
            ]).mean()  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            passed = f"{time.time() - began:.0f} s"
            print(f"{step + 1}: {np.mean(losses[-100:]):.4f} of what captions change, {passed}", flush=True)
            _save(student, args.origin, args.out)


def _inputs(
    denoiser: UNet, net: nn.Module, text: nn.Module, x0: Tensor, ids: Tensor
) -> tuple[list[Attention], list[Tensor]]:
    """Every cross-attention of the UNet, and what pictures at random noise levels give to it, (n places width)."""
    layers = [part for name, part in net.named_modules() if name.endswith("attn2") and isinstance(part, Attention)]
    seen: list[list[Tensor]] = [[] for _ in layers]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, kept=kept: kept.append(given[0].bfloat16()))
        for layer, kept in zip(layers, seen, strict=True)
    ]
    with torch.inference_mode(), autocast("cpu", torch.bfloat16):
        for x, told in zip(x0.split(50), ids.split(50), strict=True):
            t = torch.randint(1000, (len(x),))
            share = denoiser.alphas[t][:, None, None, None]
            net(share.sqrt() * x + (1 - share).sqrt() * torch.randn_like(x), t, text(told).last_hidden_state)
    for hook in hooks:
        hook.remove()
    return layers, [torch.cat(kept).clone() for kept in seen]


def _difference(layer: Attention, seen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The mean square of what a layer makes of two captions, as a share of how much captions differ there."""
    run = AttnProcessor()
    with torch.no_grad():
        wanted = run(layer, seen, old).float()
    error = (run(layer, seen, new).float() - wanted).square().mean()
    return error / wanted.var(0).mean().clamp(min=1e-6)


def _save(student: nn.Module, origin: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(origin, out)
    (path,) = (out / "text_encoder").glob("*.safetensors")
    save_file({name: value.contiguous() for name, value in student.state_dict().items()}, path, {"format": "pt"})


if __name__ == "__main__":
    main()

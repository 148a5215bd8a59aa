"""Teach a model's text encoders new words for what it knows, without training the rest.

    python training/words.py --pack runs/pack --from runs/grown --out runs/words [--kind flow] [--teacher runs/grown]

The pack holds each caption as it is and in the plain grammar that the model knows. What the model makes of the first is
to be what it makes of the second, with no noise of an objective between. For a UNet only its cross-attention is
computed, on inputs that it once had there, so that a picture costs a ninth of what it costs `denoiser.py`; a flow
transformer, whose words go through it with the picture, is computed whole. What the plain grammar has no words for is
not learnt here. Writes OUT, a model to go on from.
"""

import argparse
import copy
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from networks import Flow, UNet
from precision import autocast

# Of pictures by their number, told in new words and in old ones (b l).
Difference = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--from", type=Path, dest="origin", required=True, help="a saved model of the pack's tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="who says what the plain grammar means; without it --from does")
    parser.add_argument("--kind", choices=("unet", "flow"), default="unet")
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

    denoiser = (UNet if args.kind == "unet" else Flow)(tokens, x0.shape[1])
    students = {name: part for name, part in denoiser.parts.items() if name.startswith("text")}
    # A second round that took its own word for the plain grammar would drift a little further from it.
    denoiser.read(args.teacher or args.origin)
    denoiser.parts.requires_grad_(False).eval()
    teachers = {name: copy.deepcopy(part) for name, part in students.items()}
    denoiser.read(args.origin)
    began = time.time()
    if isinstance(denoiser, UNet):
        difference = by_attention(denoiser, teachers["text"], x0.float(), plain[:, 0].long())
    else:
        difference = by_velocity(denoiser, teachers, x0.float())
    weights = [weight for part in students.values() for weight in part.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(weights, args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    losses: list[float] = []
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50, (args.steps - step) / (0.5 * args.steps))
        which = rng.integers(args.pictures, size=args.batch)
        caption = np.array([rng.choice(np.flatnonzero(known[i].numpy())) for i in which])
        with autocast("cpu", torch.bfloat16):
            loss = difference(torch.from_numpy(which), told[which, caption].long(), plain[which, caption].long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            passed = f"{time.time() - began:.0f} s"
            print(f"{step + 1}: {np.mean(losses[-100:]):.4f} of what captions change, {passed}", flush=True)
            _save(students, args.origin, args.out)


def by_attention(denoiser: UNet, teacher: nn.Module, x0: Tensor, ids: Tensor) -> Difference:
    """What the cross-attention of a UNet makes of two captions each, on inputs that pictures told `ids` gave to it."""
    layers, inputs = _inputs(denoiser, teacher, x0, ids)

    def difference(which: Tensor, told: Tensor, plain: Tensor) -> Tensor:
        with torch.no_grad():
            old = teacher(plain).last_hidden_state
        new = denoiser.parts["text"](told).last_hidden_state
        pairs = zip(layers, inputs, strict=True)
        return torch.stack([_at(layer, seen[which].float(), new, old) for layer, seen in pairs]).mean()

    return difference


def by_velocity(denoiser: Flow, teachers: dict[str, nn.Module], x0: Tensor) -> Difference:
    """What a flow transformer predicts told two captions each, at levels where captions matter most."""
    old = nn.ModuleDict({**denoiser.parts, **teachers})

    def difference(which: Tensor, told: Tensor, plain: Tensor) -> Tensor:
        sigma = 0.3 + 0.7 * torch.rand(len(which))
        share = sigma[:, None, None, None]
        x = (1 - share) * x0[which] + share * torch.randn_like(x0[which])
        with torch.no_grad():
            wanted = denoiser.predict(x, sigma, plain, old).float()
            # Each picture told the next one's caption: how much captions change.
            other = denoiser.predict(x, sigma, plain.roll(1, 0), old).float()
        error = (denoiser.predict(x, sigma, told).float() - wanted).square().mean()
        return error / (other - wanted).square().mean().clamp(min=1e-6)

    return difference


def _inputs(denoiser: UNet, text: nn.Module, x0: Tensor, ids: Tensor) -> tuple[list[Attention], list[Tensor]]:
    """Every cross-attention of the UNet, and what pictures at random noise levels give to it, (n places width)."""
    net = denoiser.parts["unet"]
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


def _at(layer: Attention, seen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The mean square of what a layer makes of two captions, as a share of how much captions differ there."""
    run = AttnProcessor()
    with torch.no_grad():
        wanted = run(layer, seen, old).float()
    error = (run(layer, seen, new).float() - wanted).square().mean()
    return error / wanted.var(0).mean().clamp(min=1e-6)


def _save(students: dict[str, nn.Module], origin: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(origin, out)
    for name, part in students.items():
        (path,) = (out / name.replace("text", "text_encoder")).glob("*.safetensors")
        save_file({key: value.contiguous() for key, value in part.state_dict().items()}, path, {"format": "pt"})


if __name__ == "__main__":
    main()

"""Teach a model's text encoders new words for what it knows, without training the rest.

    python training/words.py --pack runs/pack --from runs/grown --out runs/words [--kind flow] [--teacher runs/grown]

The pack holds each caption as it is and in the plain grammar that the model knows. What the model makes of the first is
to be what it makes of the second, with no noise of an objective between. For a UNet only its cross-attention is
computed first, on a few places of what it once had there: what a caption does at one place does not depend on any
other. With `--whole` it is computed whole, slower and to the end, as a flow transformer always is, whose words go
through it with the picture. What the plain grammar has no words for
is not learnt here. `--layers` makes the text encoders deeper first: the new layers come before the old ones, and change
nothing until they are trained. Writes OUT, a model to go on from.
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

from text import deepen

# Of pictures by their number, told in new words and in old ones (b l): a share for each, (b,).
Difference = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--from", type=Path, dest="origin", required=True, help="a saved model of the pack's tokenizer")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="who says what the plain grammar means; without it --from does")
    parser.add_argument("--kind", choices=("unet", "flow"), default="unet")
    parser.add_argument(
        "--whole", action="store_true", help="a UNet by what it predicts, and not by its attention alone"
    )
    parser.add_argument("--layers", type=int, help="of each text encoder; more than it has")
    parser.add_argument("--pictures", type=int, default=2000, help="whose inputs to attention are kept in memory")
    parser.add_argument("--places", type=int, default=16, help="of each picture and layer of attention")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0, help="another one takes other pictures of the pack")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    with np.load(args.pack / "pack.npz") as pack:
        rows = rng.choice(len(pack["latents"]), args.pictures, replace=False)
        x0 = torch.from_numpy(pack["latents"][rows]).float()
        told, plain = (torch.from_numpy(pack[name]) for name in ("captions", "plain"))
    tokens = CLIPTokenizer.from_pretrained(args.pack / "tokenizer")
    empty = torch.tensor(tokens("", padding="max_length", truncation=True).input_ids)
    # A caption that the plain grammar has no words for teaches nothing here.
    known = (plain != empty).any(-1).numpy()

    denoiser = (UNet if args.kind == "unet" else Flow)(tokens, x0.shape[1])
    # A second round that took its own word for the plain grammar would drift a little further from it.
    denoiser.read(args.teacher or args.origin)
    denoiser.parts.requires_grad_(False).eval()
    texts = [name for name in denoiser.parts if name.startswith("text")]
    teachers = {name: copy.deepcopy(denoiser.parts[name]) for name in texts}
    denoiser.read(args.origin)
    students = {name: denoiser.parts[name] for name in texts}
    for part in students.values():
        deepen(part, args.layers or part.config.num_hidden_layers)
    began = time.time()
    if isinstance(denoiser, UNet) and not args.whole:
        difference = by_attention(denoiser, teachers["text"], x0, plain[rows, 0].long(), args.places)
    else:
        difference = by_prediction(denoiser, teachers, x0)
    weights = [weight for part in students.values() for weight in part.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(weights, args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
    losses, middles = list[float](), list[float]()
    again = np.zeros((0, 2), int)  # the captions of the last step that were understood worst: they come once more
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50, (args.steps - step) / (0.5 * args.steps))
        which = rng.integers(args.pictures, size=args.batch)
        # Half of the pictures are told a caption of their own, half one of another: what is asked for may not be there.
        of = np.where(np.arange(args.batch) % 2, rows[which], rng.integers(len(plain), size=args.batch))
        caption = np.array([rng.choice(np.flatnonzero(known[i])) if known[i].any() else 0 for i in of])
        of[: len(again)], caption[: len(again)] = again.T
        said = torch.where(torch.from_numpy(known[of, caption])[:, None], told[of, caption], empty)
        with autocast("cpu", torch.bfloat16):
            share = difference(torch.from_numpy(which), said.long(), plain[of, caption].long())
        # Of what is nearly right the root asks more than the square: a colour is a small part of a caption.
        loss = (share + 1e-4).sqrt().mean() + share.mean()
        worst = share.detach().argsort(descending=True)[: args.batch // 4].numpy()
        again = np.stack([of[worst], caption[worst]], 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(share[args.batch // 4 :].mean().item())
        middles.append(share[args.batch // 4 :].median().item())
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            mean, middle, passed = np.mean(losses[-100:]), np.mean(middles[-100:]), f"{time.time() - began:.0f} s"
            print(f"{step + 1}: {mean:.4f} of what captions change, median {middle:.4f}, {passed}", flush=True)
            _save(students, args.origin, args.out)


def by_attention(denoiser: UNet, teacher: nn.Module, x0: Tensor, ids: Tensor, places: int) -> Difference:
    """What the cross-attention of a UNet makes of two captions each, on inputs that pictures told `ids` gave to it."""
    layers, inputs = _inputs(denoiser, teacher, x0, ids, places)
    with torch.no_grad(), autocast("cpu", torch.bfloat16):
        some = torch.arange(min(256, len(ids)))
        said = teacher(ids[some]).last_hidden_state
        apart = [
            AttnProcessor()(layer, seen[some].float(), said).float().var(0).mean()
            for layer, seen in zip(layers, inputs, strict=True)
        ]

    def difference(which: Tensor, told: Tensor, plain: Tensor) -> Tensor:
        with torch.no_grad():
            old = teacher(plain).last_hidden_state
        new = denoiser.parts["text"](told).last_hidden_state
        shares = list[Tensor]()
        for layer, seen, scale in zip(layers, inputs, apart, strict=True):
            with torch.no_grad():
                wanted = AttnProcessor()(layer, seen[which].float(), old).float()
            error = AttnProcessor()(layer, seen[which].float(), new).float() - wanted
            shares.append(error.square().mean((1, 2)) / scale)
        return torch.stack(shares).mean(0)

    return difference


def by_prediction(denoiser: UNet | Flow, teachers: dict[str, nn.Module], x0: Tensor) -> Difference:
    """What the whole network predicts told two captions each, at levels where captions matter most."""
    old = nn.ModuleDict({**denoiser.parts, **teachers})

    def difference(which: Tensor, told: Tensor, plain: Tensor) -> Tensor:
        x, level = denoiser.noised(x0[which])
        with torch.no_grad():
            wanted = denoiser.predict(x, level, plain, old).float()
            # Each picture told the next one's caption: how much captions change.
            other = denoiser.predict(x, level, plain.roll(1, 0), old).float()
        error = (denoiser.predict(x, level, told).float() - wanted).square().mean((1, 2, 3))
        return error / (other - wanted).square().mean().clamp(min=1e-6)

    return difference


def _inputs(
    denoiser: UNet, text: nn.Module, x0: Tensor, ids: Tensor, places: int
) -> tuple[list[Attention], list[Tensor]]:  # fmt: skip
    """Every cross-attention of the UNet, and what pictures at random noise levels give to it, (n places width)."""
    net = denoiser.parts["unet"]
    layers = [part for name, part in net.named_modules() if name.endswith("attn2") and isinstance(part, Attention)]
    seen: list[list[Tensor]] = [[] for _ in layers]
    hooks = [
        layer.register_forward_pre_hook(
            lambda _, given, kept=kept: kept.append(given[0][:, torch.randperm(given[0].shape[1])[:places]].bfloat16())
        )
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


def _save(students: dict[str, nn.Module], origin: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(origin, out)
    for name, part in students.items():
        (path,) = (out / name.replace("text", "text_encoder")).glob("*.safetensors")
        save_file({key: value.contiguous() for key, value in part.state_dict().items()}, path, {"format": "pt"})
        part.config.save_pretrained(path.parent)


if __name__ == "__main__":
    main()

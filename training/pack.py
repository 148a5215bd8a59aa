"""Encode scenes once: the denoiser trains on latents and on captions already split into tokens.

    python training/pack.py --vae runs/autoencoder/vae --out runs/pack --count 100000 [--device cuda]

To go on with a model, --tokenizer names its own: a new one numbers the words in another way. --keep-latents draws
captions anew for the scenes of a pack that is there already, of the same --seed and --count.
Writes RUN/pack.npz: latents float16 (n 16 16 16), scaled to unit variance, CAPTIONS captions of each as token ids int16
(n CAPTIONS 32), and the same captions in the plain grammar, for a teacher (`plain`; nothing where that lacks words).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from ledits import scenes
from ledits.scenes import captions, varied
from precision import autocast, fastest

from text import TOKENS, tokenizer

CAPTIONS = 8
# Of scenes with no object, one, two and three: what binds several words to several objects is learnt last.
SHARES = (0.08, 0.42, 0.34, 0.16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--tokenizer", type=Path, help="of the model to go on with [default: a new one]")
    parser.add_argument("--seed", type=int, default=3, help="another one draws other scenes: fresh ones to go on with")
    parser.add_argument("--keep-latents", action="store_true", help="of OUT/pack.npz; captions are drawn anew")
    parser.add_argument("--worn", type=float, default=0.0, help="share of scenes in which something must be worn")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    if args.tokenizer:
        tokens = CLIPTokenizer.from_pretrained(args.tokenizer)
        tokens.save_pretrained(args.out / "tokenizer")
    else:
        tokens = tokenizer(args.out / "tokenizer")
    vae = AutoencoderTiny.from_pretrained(args.vae).float().to(args.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def encoded(drawn: list[scenes.Scene], dtype: torch.dtype) -> Tensor:
        x = torch.from_numpy(np.stack([scene.render(args.side) for scene in drawn])).permute(0, 3, 1, 2)
        x = (x.to(args.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with autocast(args.device, dtype):
            return vae.encode(x).latents.float() * vae.config.scaling_factor

    told: list[np.ndarray] = []
    plain: list[np.ndarray] = []
    if args.keep_latents:
        with np.load(args.out / "pack.npz") as pack:
            latents = [pack["latents"]]
    else:
        some = [scenes.sample(np.random.default_rng([args.seed, 0])) for _ in range(20)]
        dtype = fastest(args.device, lambda dtype: encoded(some, dtype))
        latents = []
    for start in range(0, args.count, 100):
        rng = np.random.default_rng([args.seed, start])
        counts = rng.choice(len(SHARES), 100, p=SHARES)
        drawn = [draw(rng, int(count), args.worn) for count in counts]
        if not args.keep_latents:
            latents.append(encoded(drawn, dtype).half().cpu().numpy())
        # Of their own, so that other captions leave the scenes as they are.
        rng = np.random.default_rng([args.seed, start, 1])
        lessons = [captions.training(rng, scene) for scene in drawn for _ in range(CAPTIONS)]
        for texts, into in zip(zip(*lessons, strict=True), (told, plain), strict=True):
            ids = tokens(list(texts), padding="max_length", truncation=True, return_tensors="np").input_ids
            into.append(ids.reshape(-1, CAPTIONS, TOKENS).astype(np.int16))
    arrays = {"latents": latents, "captions": told, "plain": plain}
    np.savez(args.out / "pack.tmp.npz", **{name: np.concatenate(parts) for name, parts in arrays.items()})
    (args.out / "pack.tmp.npz").rename(args.out / "pack.npz")


def draw(rng: np.random.Generator, count: int, worn: float) -> scenes.Scene:
    """A scene of so many objects; a share `worn` of those that have any is drawn again until one wears something."""
    dressed = count > 0 and rng.random() < worn
    while True:
        scene = scenes.dress(rng, varied.sample(rng, count))
        if not dressed or any(placed.wearing for placed in scene.objects):
            return scene


if __name__ == "__main__":
    main()

r"""Keep a trained model: its averaged weights in half precision, in diffusers' layout.

    python training/export.py --run runs/unet/model --to src/ledits/models/scenes \
        --settings training/scenes.json --card training/scenes.md

--mean-with is another model of the same run, from an earlier end: the weights are then the mean of the two. The VAE may
be newer than the one in the run (--vae), where only its decoder was trained on. --settings becomes the checkpoint's
ledits.json: which attention maps to use, and the defaults of `ledits edit` that benchmarks/ found best. --card becomes
its README.md.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a model that denoiser.py has written")
    parser.add_argument("--to", type=Path, required=True, help="the folder to write; one that is there is replaced")
    parser.add_argument("--mean-with", type=Path, help="another model of the same run")
    parser.add_argument("--vae", type=Path, help="[default: the run's own]")
    parser.add_argument("--settings", type=Path, help="becomes ledits.json")
    parser.add_argument("--card", type=Path, help="becomes README.md")
    args = parser.parse_args()
    if not (args.run / "model_index.json").exists():
        parser.error(f"--run {args.run} holds no model_index.json: name the model folder of a run of denoiser.py")
    if args.to.exists() and not (args.to / "model_index.json").exists():
        parser.error(f"--to {args.to} is there and is no model: name a new folder, or that of an older model")

    shutil.rmtree(args.to, ignore_errors=True)
    shutil.copytree(args.run, args.to)
    if args.vae:
        shutil.rmtree(args.to / "vae")
        shutil.copytree(args.vae, args.to / "vae")
    # diffusers writes a key that it then warns about.
    config = json.loads((args.to / "vae/config.json").read_text())
    config.pop("block_out_channels", None)
    (args.to / "vae/config.json").write_text(json.dumps(config, indent=2) + "\n")
    for weights in args.to.rglob("*.safetensors"):
        values = load_file(weights)
        if args.mean_with:
            other = load_file(args.mean_with / weights.relative_to(args.to))
            values = {k: (v.float() + other[k].float()) / 2 if v.is_floating_point() else v for k, v in values.items()}
        halves = {k: v.half().contiguous() if v.dtype == torch.float32 else v for k, v in values.items()}
        save_file(halves, weights, {"format": "pt"})
    if args.settings:
        shutil.copy(args.settings, args.to / "ledits.json")
    if args.card:
        shutil.copy(args.card, args.to / "README.md")
    size = sum(path.stat().st_size for path in args.to.rglob("*") if path.is_file())
    print(f"{args.to}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

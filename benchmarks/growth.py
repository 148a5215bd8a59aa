"""How an edit's cost grows with steps, edits, pictures and size: the plots of docs/speed.md.

    python benchmarks/growth.py [--repeats 2] [--out docs/speed]

The bundled model, diffusers' in fp32 and ours, its layers packed as `ledits.load` does it, in fp32 and, where it is
faster here, bfloat16, in turns; a point is inversion and edit together, the median of the repeats. The floor is what
the samples that are due would take at the matmul peak of the same run in fp32.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib as mpl
import torch
from compare import Measured, contenders, flop, noise_pictures

mpl.use("Agg")
from matplotlib import pyplot as plt

from ledits.cpu import precision

USUAL = {"steps": 20, "edits at once": 1, "pictures": 1, "side of the picture, pixels": 128}
AXES = {
    "steps": [5, 10, 20, 40], "edits at once": [1, 2, 3, 4], "pictures": [1, 2, 4, 8],
    "side of the picture, pixels": [128, 192, 256, 384],
}  # fmt: skip
COLOURS = {
    "diffusers, float32": "#999999", "ours, float32": "#0b6e4f", "ours, bfloat16": "#3aa87c",
    "floor, float32": "#d08c00",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/speed"), help="folder of growth.png and growth.jsonl")
    args = parser.parse_args()
    cpu = torch.device("cpu")
    # bfloat16 where it is faster: where it is emulated it takes fifty times as long.
    kinds = list(dict.fromkeys((torch.float32, precision.best(cpu, 192))))
    theirs, _, ours, *brief = contenders("scenes", cpu, torch.float32, kinds)
    field, unet = dict(zip(COLOURS, (theirs, ours, *brief), strict=False)), theirs.pipe.unet
    fused, rows = dict(unet.attn_processors), list[dict[str, object]]()
    for axis, values in AXES.items():
        for value in values:
            at = USUAL | {axis: value}
            pictures = noise_pictures(at["pictures"], at["side of the picture, pixels"])
            runs: dict[str, list[Measured]] = {name: [] for name in field}
            for _ in range(args.repeats):
                for name, one in field.items():
                    runs[name].append(one.both(pictures, at["steps"], at["edits at once"]))
                    unet.set_attn_processor(dict(fused))
            seconds = {name: statistics.median(each.seconds for each in taken) for name, taken in runs.items()}
            evaluations = {name: taken[0].evaluations for name, taken in runs.items()}
            once = flop(unet, at["side of the picture, pixels"] // ours.pipe.vae_scale_factor, 32)
            seconds["floor, float32"] = evaluations["ours, float32"] * once / ours.peak
            rows.append({"axis": axis, "value": value, "seconds": seconds, "evaluations": evaluations})
            print(axis, value, {name: round(s, 2) for name, s in seconds.items()}, evaluations, flush=True)

    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "growth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    figure, panels = plt.subplots(1, len(AXES), figsize=(13, 3.2), layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        points = [row for row in rows if row["axis"] == axis]
        for name, colour in COLOURS.items():
            if name not in points[0]["seconds"]:
                continue
            style = "--" if name.startswith("floor") else "-"
            panel.plot([p["value"] for p in points], [p["seconds"][name] for p in points], style, color=colour,
                       marker="o", ms=4, label=name)  # fmt: skip
        panel.set(xlabel=axis, xticks=AXES[axis], ylim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds")
    panels[0].legend(frameon=False)
    figure.savefig(args.out / "growth.png", dpi=110)


if __name__ == "__main__":
    main()

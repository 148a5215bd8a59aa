"""What `--thrifty` gains and costs beside fewer steps, on the tuning split of scenes, case by case.

    python benchmarks/thrifty.py [--count 84] [--runs 25 20 15 13 12 10 25t 15t] [--dtype bfloat16]

A run is a number of steps, with a t where it is thrifty; differences are to the first run, with their standard error.
"""

import argparse
from dataclasses import replace

import numpy as np

from ledits import editing, load
from ledits.files import image
from ledits_bench.cases import SIZES, suite
from ledits_bench.score import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=SIZES["tuning"])
    parser.add_argument("--runs", nargs="+", default=["25", "20", "15", "13", "12", "10", "25t", "15t"])
    parser.add_argument("--dtype", default="bfloat16")
    args = parser.parse_args()
    backbone, first = load("scenes", dtype=args.dtype), None
    defaults, skip = backbone.defaults, backbone.defaults["described_skip"]
    for run in args.runs:
        rows = list[tuple[float, float, float]]()
        for case in suite("tuning", args.count):
            source, picture = case.source.caption(), image.Picture(case.source.render(), None, "")
            settings = editing.Settings(int(run.removesuffix("t")), skip, case.seed, source)
            inversion, origin, evaluations = editing.invert(backbone, picture, settings)
            asked = editing.concepts([replace(edit, scale=None) for edit in case.described()], defaults, source)
            *_, (step, more) = editing.replay(backbone, inversion, asked, None, thrifty=run.endswith("t"))
            result, rebuilt = (editing.to_picture(backbone, x, origin) for x in (step.x, inversion.x[-1]))
            judged = score(case, result, rebuilt, None)
            rows.append((evaluations + more, 100.0 * judged.success, judged.worth))
        values = np.array(rows)
        first = values if first is None else first
        error = (values - first).std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.full(3, np.nan)
        (cost, success, worth), (_, more_success, more_worth) = values.mean(0), (values - first).mean(0)
        print(
            f"{run:4s} {cost:5.1f} evaluations, success {success:5.1f} % ({more_success:+.1f}, {error[1]:.1f}), "
            f"worth {worth:.3f} ({more_worth:+.3f}, {error[2]:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()

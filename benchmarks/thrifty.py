"""What `--thrifty` gains and costs beside fewer steps, on the tuning split of scenes, case by case.

    python benchmarks/thrifty.py [--count 84] [--runs 25 20 15 13 12 10 25t 15t] [--dtype auto]

A run is a number of steps, with a t where it is thrifty; differences are to the first run, with their standard error.
"""

import argparse

import numpy as np

from ledits import Editor
from ledits.picture import image
from ledits.scenes.samples import SIDE
from ledits_bench.asked import asked
from ledits_bench.cases import PLAIN, SIZES, suite
from ledits_bench.score import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=SIZES["tuning"] * len(PLAIN))
    parser.add_argument("--runs", nargs="+", default=["25", "20", "15", "13", "12", "10", "25t", "15t"])
    parser.add_argument("--dtype", default="auto", help="auto: what is fastest here")
    args = parser.parse_args()
    editor, first = Editor("scenes", dtype=args.dtype), None
    for run in args.runs:
        rows = list[tuple[float, float, float]]()
        for case in suite("tuning", args.count, PLAIN):
            told, picture = asked(case, "target", None), image.Picture(case.source.render(SIDE), None, "")
            inversion = editor.invert(picture, source=told.source, steps=int(run.removesuffix("t")), seed=case.seed)
            done = inversion.edit(*told.edits, drop_source_late=run.endswith("t"))
            result, rebuilt = done.rgb, np.asarray(done.reconstruction)
            judged = score(case, result, rebuilt, None)
            rows.append(
                (inversion.network_evaluations + done.network_evaluations, 100.0 * judged.success, judged.worth)
            )
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

"""The manifest of a public benchmark, for `ledits batch`, from its list as it was published.

python examples/benchmark_manifest.py tedbench imagic-editing.github.io > imagic-editing.github.io/jobs.jsonl
"""

import json
import sys
from pathlib import Path

from ledits_bench.public import suites

LISTS = {"tedbench": suites.tedbench, "tedbench++": suites.tedbench_plus_plus, "flowedit": suites.flowedit}


def main(name: str, folder: Path) -> None:
    for case in LISTS[name](folder):
        if case.problem:
            sys.exit(f"case {case.id} of {name}: {case.problem}")
        # Without a caption of the picture the target is added, by words; with one the picture becomes it.
        edit = f"->{case.target}" if case.source else f"+{case.target}"
        row = {"picture": str(Path(str(case.picture)).relative_to(folder)), "edits": [edit]}
        settings = {"source": case.source, "steps": case.steps, "skip": case.skip, "seed": case.seed}
        print(json.dumps({**row, **{key: value for key, value in settings.items() if value not in (None, "")}}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

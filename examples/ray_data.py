"""Edits inside a Ray Data pipeline: a class is an actor, and the model loads once in each.

For a batch that must not lose work use `ledits batch --ray`. Here a row that always kills its worker, for want of
memory say, hangs or fails the whole job, and a job that is stopped begins again.

    pip install 'ledits[batch,ray]' 'ray[data]==2.60.0'
    python examples/ray_data.py examples/pictures edited
"""

import sys
from pathlib import Path
from typing import Any

import ray


class Edit:
    def __init__(self, output: str) -> None:
        import ledits

        self.editor, self.output = ledits.Editor(), Path(output)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = Path(row["picture"])
        try:
            # Caught here: one error would end the whole job.
            self.editor.edit(path, row["edit"]).save(self.output / f"{path.stem}.png")
        except ValueError as error:
            return {**row, "error": str(error)}
        return {**row, "error": ""}


def main(pictures: Path, output: Path) -> None:
    output.mkdir(exist_ok=True)
    rows = [{"picture": str(path.absolute()), "edit": "cat->dog"} for path in sorted(pictures.glob("*.png"))]
    # On GPUs: num_gpus=1. Pictures go to the shared folder, and only small rows through Ray.
    done = ray.data.from_items(rows).map(
        Edit,
        fn_constructor_args=(str(output.absolute()),),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=2),
        num_cpus=1,
    )
    for row in done.iter_rows():
        print(row["picture"], row["error"] or "done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

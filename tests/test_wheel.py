"""The wheel holds what an installed package reads, and nothing of how it is made."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Read at run time, so that a missing one is found by a user and not by an import.
NEEDED = (
    "ledits/py.typed",
    "ledits/cpu/kernels.c",
    "ledits/models/scenes/ledits.json",
    "ledits/models/scenes/model_index.json",
    "ledits/models/scenes/unet/diffusion_pytorch_model.safetensors",
    "ledits/models/scenes/vae/diffusion_pytorch_model.safetensors",
    "ledits/models/scenes/text_encoder/model.safetensors",
    "ledits/models/scenes/tokenizer/tokenizer.json",
    "ledits/scenes/art/cat.png",
    "ledits/studio/static/index.html",
    "ledits_bench/settings.json",
)


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> set[str]:
    """Built by the backend itself, which asks no network; in a process of its own, for it changes folder."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as wheel:
        return set(wheel.namelist())


def test_it_has_every_file_of_the_packages(names):
    """As git has them, so that a new kind of file can't be forgotten."""
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name.removeprefix("src/") for name in listed.stdout.splitlines()}
    assert set(NEEDED) <= tracked
    assert tracked <= names


def test_it_has_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    version = next(top for top in tops if top.endswith(".dist-info"))
    assert tops == {"ledits", "ledits_bench", "leditspp", version}
    assert {f"{version}/licenses/LICENSE", f"{version}/entry_points.txt"} <= names
    kinds = {Path(name).suffix for name in names if not name.startswith(version)}
    page = {".js", ".css", ".html", ".webmanifest", ".svg", ".png"}
    assert kinds <= {".py", ".typed", ".c", ".json", ".safetensors", ".md", "", *page}
    bare = {Path(name).name for name in names if not Path(name).suffix and not name.startswith(version)}
    assert bare == {"NOTICE"}

"""What is uploaded: `ledits` without weights, `ledits-scenes` with nothing else, each as a wheel and as an sdist."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import NamedTuple

import pytest

from ledits.files import checkpoints

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "src/ledits/models"
# Read at run time, so that a missing one is found by a user and not by an import.
NEEDED = (
    "ledits/py.typed",
    "ledits/cpu/kernels.c",
    "ledits/files/layouts/stable-diffusion-1/model_index.json",
    "ledits/scenes/art/cat.png",
    "ledits/studio/static/index.html",
    "ledits/studio/static/texts/en.json",
    "ledits_bench/settings.json",
)

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what belongs into a package is what git has")


class Built(NamedTuple):
    wheel: set[str]
    sdist: set[str]  # without the folder that all of it lies in
    about: Message
    folder: Path


def build(project: Path, folder: Path, repository: str = "") -> Built:
    """By the backend itself, which asks no network; in a process of its own, for it changes folder."""
    code = "import sys; from hatchling import build as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    for step in ("build_sdist", "build_wheel"):
        command = [sys.executable, "-c", code, step, str(folder)]
        subprocess.run(command, cwd=project, env={"REPOSITORY_URL": repository}, capture_output=True, check=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        about = message_from_bytes(file.read(next(name for name in names if name.endswith("/METADATA"))))
    with tarfile.open(sdist) as packed:
        return Built(set(names), {name.partition("/")[2] for name in packed.getnames()}, about, folder)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("library"), "https://host/owner/ledits/")


@pytest.fixture(scope="module")
def small_models(tmp_path_factory) -> Built:
    return build(MODELS, tmp_path_factory.mktemp("models"))


def tracked(folder: Path) -> set[str]:
    """As git has them, so that a new kind of file can't be forgotten, and what a build left can't come along."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=folder, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name}


def test_the_library_is_every_file_of_its_packages_and_no_weights(library):
    files = {name.removeprefix("src/") for name in tracked(ROOT) if name.startswith("src/")}
    files = {name for name in files if not name.startswith("ledits/models/")}
    about = {name for name in library.wheel if ".dist-info/" in name}
    assert set(NEEDED) <= files
    assert library.wheel - about == files
    licences = {name.partition("/licenses/")[2] for name in about if "/licenses/" in name}
    assert licences == {"LICENSE", "src/ledits/scenes/art/NOTICE"}
    assert not [name for name in library.wheel | library.sdist if name.endswith((".safetensors", ".pyc", ".so"))]


def test_the_librarys_sdist_is_the_repository_without_weights(library):
    files = {name for name in tracked(ROOT) if not name.startswith((".ci/", ".github/"))}
    weights = {name for name in files if name.endswith(".safetensors")} | {"src/ledits/models/pyproject.toml"}
    assert library.sdist - {"PKG-INFO"} == files - weights


def test_the_small_models_are_theirs_alone(small_models):
    files = tracked(MODELS)
    about = {name for name in small_models.wheel if ".dist-info/" in name}
    models = {name for name in files if "/" in name or name == "__init__.py"}
    assert {f"{name}/model_index.json" for name in checkpoints.IN_PACKAGE} <= models
    assert small_models.wheel - about == {f"ledits_scenes/{name}" for name in models}
    licences = {name.partition("/licenses/")[2] for name in about if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}
    assert small_models.sdist - {"PKG-INFO", ".gitignore"} == files


def test_the_extra_takes_the_small_models_of_this_checkout():
    """A later generation of weights needs a later ledits, which its extra says."""
    library = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = tomllib.loads((MODELS / "pyproject.toml").read_text())["project"]["version"]
    major = int(version.split(".")[0])
    assert library["optional-dependencies"]["demo"] == [f"ledits-scenes>={major},<{major + 1}"]


def test_licences_are_the_same_text_in_both():
    assert (MODELS / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (MODELS / "NOTICE").read_bytes() == (ROOT / "src/ledits/scenes/art/NOTICE").read_bytes()


def test_both_fit_what_an_index_takes(library, small_models):
    """PyPI's limit for a file is 100 MB where nobody asks for more."""
    for built, most in ((library, 10e6), (small_models, 100e6)):
        assert all(path.stat().st_size < most for path in built.folder.iterdir())


def test_the_page_on_pypi_leads_to_the_repository(library, small_models):
    page, version = library.about.get_payload(), library.about["Version"]
    assert f"](https://host/owner/ledits/raw/v{version}/examples/sheet.png)" in page
    assert f"](https://host/owner/ledits/blob/v{version}/docs/start.md)" in page
    assert f"](https://host/owner/ledits/blob/v{version}/README.md#photographs)" in page
    assert page.count("](") == page.count("](https://")
    assert "Source, https://host/owner/ledits" in library.about.get_all("Project-URL")
    assert "ledits[demo]" in small_models.about.get_payload()


def test_without_a_repository_the_page_on_pypi_has_no_dead_link(tmp_path):
    page = build(ROOT, tmp_path).about.get_payload()
    assert "the studio" in page
    assert page.count("](") == page.count("](https://")


def test_a_wheel_of_the_sdist_is_the_wheel(library, small_models, tmp_path):
    """Whoever builds from PyPI's source, as distributions do, gets the same."""
    for built in (library, small_models):
        with tarfile.open(next(built.folder.glob("*.tar.gz"))) as packed:
            packed.extractall(tmp_path, filter="data")
            (source,) = {name.split("/")[0] for name in packed.getnames()}
        (out := tmp_path / f"{source}-built").mkdir()
        code = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
        command = [sys.executable, "-c", code, str(out)]
        subprocess.run(command, cwd=tmp_path / source, env={"REPOSITORY_URL": ""}, capture_output=True, check=True)
        with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
            assert set(wheel.namelist()) == built.wheel

"""What ARCHITECTURE.md says, as far as the code can be asked."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEDITS = ROOT / "src/ledits"
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
ROOMS = {"asked", "language", "picture", "files"}
SURFACES = {"cli", "server", "studio", "batch", "mcp"}


def imported(file: Path) -> set[str]:
    """The modules of ledits that a file imports."""
    found = set[str]()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{each.name}" for each in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
    return {name for name in found if name.startswith("ledits.")}


def rooms() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    found = defaultdict[str, set[str]](set)
    for file in LEDITS.rglob("*.py"):
        parts = file.relative_to(LEDITS).parts
        found[parts[0].removesuffix(".py")] |= {name.split(".")[1] for name in imported(file)}
    return found


def test_each_layer_imports_only_what_is_above_it():
    found = rooms()
    above = ROOMS | {"method", "errors", "progress"}
    assert found["method"] <= {"method"}
    assert set[str]().union(*(found[room] for room in ROOMS)) <= above
    assert found["backbones"] <= above - {"language"} | {"backbones", "cpu"}
    assert not found["editor"] & (SURFACES | {"pipelines", "doctor"})
    assert not found["pipelines"] & (SURFACES | {"editor"})


def test_surfaces_hold_no_method_code():
    found = rooms()
    for surface in SURFACES:
        assert "method" not in found[surface], surface


def test_only_the_editor_and_the_pipelines_run_the_method():
    called = {
        file.relative_to(LEDITS).parts[0]
        for file in LEDITS.rglob("*.py")
        if re.search(r"\b(core|caption)\.(invert|edit)\(", file.read_text())
    }
    assert called - {"method"} == {"editor.py", "pipelines"}


def test_every_file_it_names_is_there():
    places = [
        ROOT,
        LEDITS,
        LEDITS / "backbones",
        LEDITS / "language",
        LEDITS / "server",
        LEDITS / "cpu",
        LEDITS / "method",
    ]
    named = re.findall(r"`([\w./-]+(?:\.py|\.c|\.md|\.yml|/))`", TEXT)
    assert len(named) > 60
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert not missing


def test_every_room_is_named():
    for room in LEDITS.iterdir():
        if room.is_dir() and room.name != "__pycache__":
            assert f"{room.name}/" in TEXT, room.name


def test_how_small_it_says_it_is():
    core, *others = (len((LEDITS / name).read_text().splitlines()) for name in
                     ("method/core.py", "method/caption.py", "method/regions.py", "editor.py"))  # fmt: skip
    assert core < 300
    assert core + sum(others) < 1475  # "about 1,450 lines": docstrings that name shapes and errors are among them
    for file in (LEDITS / "backbones").glob("*.py"):
        if re.search(r"^FAMILY\b", file.read_text(), re.MULTILINE):
            assert len(file.read_text().splitlines()) <= 80, file.name

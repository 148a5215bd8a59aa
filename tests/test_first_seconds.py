"""What somebody waits for before anything is edited. No time is measured: what costs it is not there."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from importlib import import_module
from pathlib import Path

import pytest

from ledits import cli
from ledits.cli import _HERE, openmp


def test_help_imports_no_command_and_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ledits", "--help"], capture_output=True, text=True, check=True
    )
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert not imported & {"numpy", "PIL", "torch", "fastapi", "ledits.cli.edit", "ledits.cli.batch"}
    for name in _HERE:
        said = import_module(f"ledits.cli.{name}")
        first = str(getattr(said, f"{name}_command").__doc__).split()[:3]
        assert " ".join(first) in " ".join(done.stdout.split()), name


def test_help_asks_the_installed_packages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    real = importlib.metadata.entry_points
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or real(group=group))
    cli._others.cache_clear()
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert asked == ["ledits.commands"]


def test_the_page_of_the_studio_is_there_before_its_model(tmp_path: os.PathLike[str]) -> None:
    # Importing what loads a model waits until the test has seen the page.
    gate = f"{tmp_path}/go"
    code = (
        "import os, sys, time, importlib.abc\n"
        "class Wait(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        while name == 'ledits.editor' and not os.path.exists({gate!r}): time.sleep(0.05)\n"
        "sys.meta_path.insert(0, Wait())\n"
        "from ledits.cli import main\n"
        f"main(['studio', '--no-browser', '--port', '0', '--store', {f'{tmp_path}/store'!r}])\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        address = running.stderr.readline().split(" is at ")[1].split()[0]

        def get(path: str) -> tuple[str, str]:
            with urllib.request.urlopen(address + path, timeout=60) as answer:
                return answer.read().decode(), str(answer.headers["content-security-policy"])

        page, policy = get("/")
        assert "main.js" in page
        assert policy.startswith("default-src 'self'")
        assert json.loads(get("/studio.json")[0]) == {"loading": True}
        Path(gate).touch()
        for _ in range(600):
            if not (said := json.loads(get("/studio.json")[0]))["loading"]:
                break
            time.sleep(0.1)
        assert "scenes" in said["models"]
        assert get("/") == (page, policy)
    finally:
        running.terminate()
        running.communicate(timeout=60)


@pytest.mark.parametrize(("load", "chosen"), [(0.1, None), (9.0, "passive")])
def test_threads_sleep_beside_other_load_alone(
    monkeypatch: pytest.MonkeyPatch, load: float, chosen: str | None
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    openmp.wait_politely()
    assert os.environ.get("OMP_WAIT_POLICY") == chosen
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    openmp.wait_politely()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_a_command_ends_without_a_last_look_at_all_that_was_made() -> None:
    """It took a second of an idle core, and a busy one let a server be killed that was asked to end."""
    told = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > 1000)); " \
           "from ledits.cli import main; sys.argv = ['ledits', '--version']; main()"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "True", done.stderr

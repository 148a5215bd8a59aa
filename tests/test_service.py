"""The files that run `ledits serve` as a service: systemd's unit, the compose file and the image's own command."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledits.cli import _own  # pyright: ignore[reportPrivateUsage]
from ledits.server.run import _FAREWELL  # pyright: ignore[reportPrivateUsage]
from ledits.server.settings import Limits

ROOT = Path(__file__).parent.parent
UNIT, COMPOSE = ROOT / "integrations/systemd/ledits.service", ROOT / "integrations/docker/compose.yaml"
IMAGE = ROOT / "integrations/docker/Dockerfile"
LONGEST = Limits().leave_seconds + _FAREWELL + 2  # from SIGTERM to the end, whatever runs


def unit() -> configparser.SectionProxy:
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]
    read.read(UNIT)
    return read["Service"]


def command(words: list[str]) -> dict[str, Any]:
    """The options of `ledits serve`, as the command line reads them."""
    assert Path(words[0]).name == "ledits"
    assert words[1] == "serve"
    return _own("serve").make_context("serve", words[2:]).params


def test_both_start_lines_are_commands_that_can_be_read() -> None:
    image = json.loads(re.search(r"^ENTRYPOINT (.*)$", IMAGE.read_text(), re.M).group(1))  # pyright: ignore[reportOptionalMemberAccess]
    for words, below in ((shlex.split(unit()["ExecStart"]), "/var/lib/ledits"), (image, "/data")):
        options = command(words)
        assert options["host"] == "0.0.0.0"
        assert options["store"].is_relative_to(below)


def test_both_wait_longer_than_a_stop_takes() -> None:
    waits = re.search(r"stop_grace_period: (\d+)s", COMPOSE.read_text())
    assert waits is not None
    assert min(int(unit()["TimeoutStopSec"]), int(waits[1])) > LONGEST


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """With a command that is there: the unit's own is where the unit says that it is to be put."""
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace("/opt/ledits/.venv/bin/ledits", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", str(there)], capture_output=True, text=True)
    assert said.stderr == ""


def test_the_compose_file_is_one() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed: make test installs it")
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    said = subprocess.run(check, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout
